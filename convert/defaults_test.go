package convert

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// TestClassDefaults compares what we fill into config.json with transformers'
// classes, on the cases that testdata/make_defaults.py made.
func TestClassDefaults(t *testing.T) {
	v, err := readJSON("testdata/defaults.json")
	if err != nil {
		t.Fatal(err)
	}
	cases := v.([]any)
	if len(cases) < 100 {
		t.Errorf("defaults.json: got %d cases, want the whole table", len(cases))
	}
	for _, c := range cases {
		in, want := c.(*object).object("config"), c.(*object).object("want")
		text, err := json.Marshal(plain(in))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		warned := 0
		got, err := loadConfig(dir, func(string) { warned++ })
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got.class != (want != nil) || (warned > 0) == got.class {
			t.Errorf("%s: got class defaults %v and %d warnings, want defaults %v", text, got.class, warned, want != nil)
			continue
		}
		if want == nil {
			want = in
		}
		for key, w := range want.all() {
			if g, ok := got.get(key); !ok && w != nil || !reflect.DeepEqual(plain(g), plain(w)) {
				t.Errorf("%s: %s: got %v (there: %v), want %v", text, key, plain(g), ok, plain(w))
			}
		}
	}
}

// plain turns parsed JSON into Go maps, for comparison and marshalling; all
// numbers become floats.
func plain(v any) any {
	switch v := v.(type) {
	case *object:
		m := map[string]any{}
		for k, e := range v.all() {
			m[k] = plain(e)
		}
		return m
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, plain(e))
		}
		return out
	case int64:
		return float64(v)
	}
	return v
}
