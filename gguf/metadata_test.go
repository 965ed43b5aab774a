package gguf

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func keys(m *Metadata) []string {
	var ks []string
	for k := range m.All() {
		ks = append(ks, k)
	}
	return ks
}

func TestMetadataOrder(t *testing.T) {
	m := new(Metadata)
	set := func(f func(string, any) error, key string, v any) {
		t.Helper()
		if err := f(key, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"a", "b", "c", "d"} {
		set(m.Set, k, k)
	}
	before := m.Clone()
	set(m.Set, "b", "again")
	if got, want := keys(m), []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("after Set: got %v, want %v", got, want)
	}
	set(m.SetLast, "a", "again")
	set(m.SetLast, "e", "new")
	if got, want := keys(m), []string{"b", "c", "d", "a", "e"}; !slices.Equal(got, want) {
		t.Errorf("after SetLast: got %v, want %v", got, want)
	}
	if !m.Remove("c") || m.Remove("c") {
		t.Error("Remove: want true the first time, false the second")
	}
	for i, k := range []string{"b", "d", "a", "e"} {
		kv := m.At(i)
		if got, ok := m.Get(k); !ok || kv.Key != k || got != kv.Value {
			t.Errorf("at %d: got %v, and %v by key %q", i, kv, got, k)
		}
	}
	if _, ok := m.Get("c"); ok || m.Len() != 4 {
		t.Errorf("got key c: %v, %d keys, want none and 4", ok, m.Len())
	}
	if got, want := keys(before), []string{"a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("clone: got %v, want %v", got, want)
	}
	if v, _ := before.String("b"); v != "b" {
		t.Errorf("clone: got b = %q, want b", v)
	}
}

func TestMetadataGetters(t *testing.T) {
	m := new(Metadata)
	for k, v := range map[string]any{
		"u8": uint8(1), "u16": uint16(2), "u32": uint32(3), "u64": uint64(math.MaxUint64),
		"i8": int8(-1), "i16": int16(5), "i32": int32(-6), "i64": int64(7), "f32": float32(0.5), "f64": 0.25,
		"yes": true, "str": "s", "strs": []string{"x"},
	} {
		if err := m.Set(k, v); err != nil {
			t.Fatal(err)
		}
	}
	type result struct {
		v  any
		ok bool
	}
	pack := func(v any, ok bool) result { return result{v, ok} }
	uints := func(k string) result { v, ok := m.Uint(k); return pack(v, ok) }
	floats := func(k string) result { v, ok := m.Float(k); return pack(v, ok) }
	for _, test := range []struct{ got, want result }{
		{uints("u8"), result{uint64(1), true}}, {uints("u16"), result{uint64(2), true}}, {uints("u32"), result{uint64(3), true}},
		{uints("u64"), result{uint64(math.MaxUint64), true}}, {uints("i16"), result{uint64(5), true}}, {uints("i64"), result{uint64(7), true}},
		{floats("f32"), result{0.5, true}}, {floats("f64"), result{0.25, true}}, {floats("u8"), result{0.0, false}},
		{uints("str"), result{uint64(0), false}}, {uints("absent"), result{uint64(0), false}},
	} {
		if test.got != test.want {
			t.Errorf("got %v, want %v", test.got, test.want)
		}
	}
	for _, k := range []string{"i8", "i32"} {
		if _, ok := m.Uint(k); ok {
			t.Errorf("%s is negative: got ok, want not", k)
		}
	}
	if v, ok := m.Bool("yes"); !v || !ok {
		t.Error("yes: want true")
	}
	if _, ok := m.Bool("str"); ok {
		t.Error("str as bool: got ok, want not")
	}
	if v, ok := m.Strings("strs"); !ok || !reflect.DeepEqual(v, []string{"x"}) {
		t.Errorf("strs: got %v, %v", v, ok)
	}
}

func TestMetadataSetErrors(t *testing.T) {
	for _, test := range []struct {
		key  string
		v    any
		want string
	}{
		{"", "v", "set metadata: key: got an empty string, want 1 to 65535 bytes"},
		{strings.Repeat("k", 65536), "v", "got 65536 bytes, want at most 65535"},
		{"k\xff", "v", "not UTF-8"},
		{"k\x00", "v", "NUL byte"},
		{"k", 5, `set metadata: key "k": value: got Go type int, want a GGUF value type or a slice of one`},
		{"k", nil, "got Go type <nil>"},
		{"k", []any{"x"}, "got Go type []interface {}"},
		{"k", [][]string{}, "got Go type [][]string"},
		{"k", make([]uint8, MaxArrayLen+1), "array: got 16777217 elements, want at most 16777216"},
		{"k", strings.Repeat("s", MaxStringLen+1), "string: got 67108865 bytes, want at most 67108864"},
		{"k", []string{"", strings.Repeat("s", MaxStringLen+1)}, "element 1: string: got 67108865 bytes"},
		{"general.alignment", uint64(32), "got a value of type uint64, want uint32"},
		{"general.alignment", uint32(48), "alignment: got 48, want a power of two"},
	} {
		m := new(Metadata)
		for _, set := range []func(string, any) error{m.Set, m.SetLast} {
			if err := set(test.key, test.v); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("set %.20q: got error %.200v, want %s", test.key, err, test.want)
			}
		}
		if m.Len() != 0 {
			t.Errorf("set %.20q: got %d keys after the error, want 0", test.key, m.Len())
		}
	}
}

func TestValueTypes(t *testing.T) {
	m := allTypes(t)
	seen := map[ValueType]bool{}
	for k, v := range m.All() {
		vt, elem, n, ok := TypeOf(v)
		if !ok || (vt == TypeArray) != (reflect.TypeOf(v).Kind() == reflect.Slice) {
			t.Errorf("%s: got %v %v %d %v for %T", k, vt, elem, n, ok, v)
		}
		seen[vt], seen[elem] = true, true
	}
	if len(seen) != valueTypeCount {
		t.Errorf("got %d value types, want %d", len(seen), valueTypeCount)
	}
	if s := ValueType(13).String(); s != "value type 13" {
		t.Errorf("got %q", s)
	}
	if s := TypeUint32.String() + " " + TypeArray.String(); s != "u32 arr" {
		t.Errorf("got %q", s)
	}
}
