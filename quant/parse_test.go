package quant

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// Patterns mean what they mean in std::regex: llama-quantize's dry run is asked
// which of these tensors a pattern matches.
func TestPatternsEqualReference(t *testing.T) {
	names := []string{
		"blk.0.attn_k.weight", "blk.1.attn_k.weight", "blk.10.ffn_up.weight", "blk.11.ffn_down.weight",
		"a-b.weight", "a\\b.weight", "A.weight", "q.weight", "}.weight", "].weight", "[x].weight", "a\tb.weight", "a\vb.weight",
		"a\rb.weight", "a\nb.weight", "é.weight", "백.weight", "a b.weight", "x^y$.weight", "aaa.weight", "b\x08.weight", "0.weight", "_.weight",
	}
	var infos []gguf.TensorInfo
	for _, n := range names {
		infos = append(infos, gguf.TensorInfo{Name: n, Type: gguf.F16, NE: []int64{256, 2}})
	}
	s := tied
	s.sparse = true
	in := writeModel(t, filepath.Join(t.TempDir(), "names.gguf"), s.meta(t), infos, s)
	for _, pattern := range []string{
		"attn", "ATTN_K", ".", "^a", "a$", `\.`, `blk\.(0|1)\.`, `blk\.1[01]?\.`, `blk\.\d+\.attn`, `[0-9]{2}`, `1{2}`, `a{3}`, `a{2,}`, `a{1,2}\.`, `a{4}`,
		"a|b", "(a)(b)", "(?:a|x)\\^", "a*?b", "a+?", "a??-", "()", "|", "a||b", "x*", ".*weight", "^(?!)", "[]", "[^]", "[a-c]-", "[-a]-", "[a-]b", "[^a-z._]",
		"[]a]", `[\]]`, `[\[]`, `[\-]`, `[\b]`, `\bb\b`, `\Bk`, `a\sb`, `a\tb`, `a[\s]b`, `a\vb`, `a\rb`, `a\nb`, "a.b", `a[^x]b`, `\w\.`, `[\w]\.`, `[\d]\.`, `\x61`, `\u0061`, `\xe9`,
		"é", "[é]", "백", "^.\\.", "^..\\.", "^...\\.", `\cA`, `\q`, `\a`, `\z`, `\A`, `\Q`, `\e`, `\p`, `\_`, `\-`, `\/`, "[[:alpha:]]-", "[[:digit:]]", "[[:space:]]", "[[:upper:]]", "^[[:punct:]]", "[[:bogus:]]",
		"}", "]", "x{", "{", "a{,3}", "a{2", "a{2,1}", "*a", "+", "?", "^*", "$+", "(", ")", "(a", "a)", "[a", "[z-a]", "\\", "(?i)a", "(?<n>a)", "(?P<n>a)", "(*)", "a|*", `\b+`, `[\w-z]`, `[a-\w]`,
		"[a-c-e]", "[--a]", "[+--]", "[a-z-9]", "[!--/]", "[.]", "[$^]", "x\\^y\\$", "[(*+?{}|)]", "^$", "^", "$", "(^a|b$)", "^^a", "(|a)+b", "((a))", "(a*)*b", `\0`, `\x4`, `\u12`, `\xg0`, "[[.a.]]", "[[=a=]]", "[:alpha:]", "[[:alpha:]",
	} {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			r, err := ParseTensorTypeRule(pattern + "=q8_0")
			if err != nil {
				if out, refErr := runReference(t, "--dry-run", "--tensor-type", pattern+"=q8_0", in, "q4_0"); refErr == nil && !unsupported[pattern] {
					t.Errorf("got %v, but llama-quantize accepts the pattern:\n%.3000s", err, out[strings.Index(out, "[ "):])
				}
				return
			}
			if unsupported[pattern] {
				t.Error("no error, but the pattern is listed as unsupported")
			}
			sameTypes(t, in, "q4_0", Options{DryRun: true, TensorTypes: []TensorTypeRule{r}}, "--tensor-type", pattern+"=q8_0")
		})
	}
}

// unsupported patterns are refused by us though libstdc++ has a meaning for them.
var unsupported = map[string]bool{"^(?!)": true, "[[.a.]]": true, "[[=a=]]": true}

func TestPatternErrors(t *testing.T) {
	for pattern, want := range map[string]string{
		"a(?=b)": "look-ahead", "a(?!b)": "look-ahead", `(a)\1`: "back-reference", "a{1001}": "repeat", "a**": "repetition", "a+{2}": "repetition",
		`[\D]`: `\D`, "a\x00": "zero byte", strings.Repeat("(", 300): "groups", `[a-`: "end", `\`: "end", `\u1234`: "one byte", "a{99999999999999999999}": "number",
	} {
		if _, err := compilePattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want an error with %q", pattern, err, want)
		}
	}
}

func TestParseTensorTypeRule(t *testing.T) {
	got, err := ParseTensorTypeRule(`Attn_V=Q8_0`)
	if want := (TensorTypeRule{"attn_v", gguf.Q8_0}); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, s := range []string{"", "a", "=q8_0", "a=", "a=q9", "a=q8_0=q4_0", "(=q8_0"} {
		if _, err := ParseTensorTypeRule(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
	path := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(path, []byte("attn_v=q8_0\n\n ffn=Q4_K\tx=bf16\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := ReadTensorTypeRules(path)
	if want := []TensorTypeRule{{"attn_v", gguf.Q8_0}, {"ffn", gguf.Q4_K}, {"x", gguf.BF16}}; err != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("got %v, %v; want %v", list, err, want)
	}
	if err := os.WriteFile(path, []byte("attn_v"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTensorTypeRules(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error with the file's name", err)
	}
}

func TestParseKVOverride(t *testing.T) {
	for s, want := range map[string]KVOverride{
		"a=int:-5": {"a", int64(-5)}, "a.b=float:1e-3": {"a.b", 1e-3}, "x=bool:true": {"x", true}, "x=bool:false": {"x", false},
		"k=str:": {"k", ""}, "k=str:a:b=c": {"k", "a:b=c"}, "k=str:" + strings.Repeat("x", 127): {"k", strings.Repeat("x", 127)},
	} {
		if got, err := ParseKVOverride(s); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "a", "a=", "a=5", "=int:5", "a=int:", "a=int:5x", "a=int:0x5", "a=int:4294967296", "a=int:-4294967296", "a=int:99999999999999999999",
		"a=float:", "a=float:x", "a=bool:1", "a=bool:", "a=bool:TRUE", "a=Int:5", "a=u32:5", "k=str:" + strings.Repeat("x", 128), strings.Repeat("k", 128) + "=int:1",
	} {
		if o, err := ParseKVOverride(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, o)
		}
	}
}

// legacy builds .dat files from numbers, strings and f32 slices.
func legacy(parts ...any) []byte {
	var p []byte
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			p = binary.LittleEndian.AppendUint32(p, uint32(v))
		case string:
			p = append(p, v...)
		case []float32:
			p = append(p, f32Bytes(v)...)
		}
	}
	return p
}

func TestLegacyImatrix(t *testing.T) {
	v := []float32{2, 4}
	for name, p := range map[string][]byte{
		"cut in the count":         legacy(1)[:3],
		"no entries":               legacy(0),
		"negative entries":         legacy(-1, 0, 0),
		"more entries than bytes":  legacy(1<<30, 1, "a", 1, 2, v),
		"negative name length":     legacy(1, -1, "a", 1, 2, v),
		"name longer than file":    legacy(1, 1<<30, "a", 1, 2, v),
		"no values":                legacy(1, 1, "a", 1, 0, v),
		"negative value count":     legacy(1, 1, "a", 1, -2, v),
		"more values than bytes":   legacy(1, 1, "a", 1, 3, v),
		"value count overflows":    legacy(1, 1, "a", 1, 1<<30, v),
		"entry missing":            legacy(2, 1, "a", 1, 2, v),
		"cut in the chunk count":   legacy(1, 1, "a", 1, 2, v, "xy"),
		"cut in the dataset":       legacy(1, 1, "a", 1, 2, v, 7, 9, "short"),
		"negative dataset length":  legacy(1, 1, "a", 1, 2, v, 7, -9, "short"),
		"bytes after the dataset":  legacy(1, 1, "a", 1, 2, v, 7, 2, "dsx"),
		"infinite value":           legacy(1, 1, "a", 1, 2, []float32{1, float32(math.Inf(-1))}),
		"not a number":             legacy(1, 1, "a", 1, 2, []float32{float32(math.NaN()), 1}),
		"GGUF magic and no header": []byte("GGUF"),
	} {
		path := filepath.Join(t.TempDir(), "x.dat")
		if err := os.WriteFile(path, p, 0o644); err != nil {
			t.Fatal(err)
		}
		if m, err := LoadImatrix(path); err == nil {
			t.Errorf("%s: got %v, want an error", name, m.Entries)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %q, want the file's name in it", name, err)
		}
	}
	m := &Imatrix{Entries: map[string][]float32{}}
	if err := m.readLegacy(legacy(3, 1, "a", 2, 2, v, 3, "b\x00c", 0, 1, []float32{5}, 1, "a", -1, 1, []float32{7}, 6, 4, "d\x00xx")); err != nil {
		t.Fatal(err)
	}
	if want := map[string][]float32{"a": {7}, "b": {5}}; !reflect.DeepEqual(m.Entries, want) || m.Chunks != 6 || !reflect.DeepEqual(m.Datasets, []string{"d"}) {
		t.Errorf("got %+v", m)
	}
}

func TestGGUFImatrixErrors(t *testing.T) {
	meta := func(keys ...any) *gguf.Metadata {
		m := new(gguf.Metadata)
		for i := 0; i < len(keys); i += 2 {
			if err := m.Set(keys[i].(string), keys[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	good := meta("imatrix.datasets", []string{"a"}, "imatrix.chunk_count", uint32(1), "imatrix.chunk_size", uint32(1))
	sums := gguf.TensorInfo{Name: "a.in_sum2", Type: gguf.F32, NE: []int64{4}}
	counts := gguf.TensorInfo{Name: "a.counts", Type: gguf.F32, NE: []int64{1}}
	half := gguf.TensorInfo{Name: "a.counts", Type: gguf.F16, NE: []int64{1}}
	for name, tt := range map[string]struct {
		meta *gguf.Metadata
		ts   []gguf.TensorInfo
	}{
		"no datasets":   {meta("imatrix.chunk_count", uint32(1), "imatrix.chunk_size", uint32(1)), []gguf.TensorInfo{sums, counts}},
		"no chunk size": {meta("imatrix.datasets", []string{"a"}, "imatrix.chunk_count", uint32(1)), []gguf.TensorInfo{sums, counts}},
		"count of i32":  {meta("imatrix.datasets", []string{"a"}, "imatrix.chunk_count", int32(1), "imatrix.chunk_size", uint32(1)), []gguf.TensorInfo{sums, counts}},
		"no tensors":    {good, nil},
		"no counts":     {good, []gguf.TensorInfo{sums}},
		"no sums":       {good, []gguf.TensorInfo{counts}},
		"half counts":   {good, []gguf.TensorInfo{sums, half}},
	} {
		path := filepath.Join(t.TempDir(), "im.gguf")
		writeFile(t, path, tt.meta, tt.ts, false)
		if m, err := LoadImatrix(path); err == nil {
			t.Errorf("%s: got %v, want an error", name, m.Entries)
		}
	}
	if _, err := mean([]float32{1}, []float32{float32(math.NaN())}); err == nil {
		t.Error("a count that is no number: no error")
	}
	// Counts are rounded, rows never used become ones, what is left over zeros.
	got, err := mean([]float32{2, 4, 6, 8, 9}, []float32{1.6, 0.4})
	if want := []float32{1, 2, 1, 1, 0}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("mean: got %v, %v; want %v", got, err, want)
	}
}

func FuzzLegacyImatrix(f *testing.F) {
	f.Add(legacy(1, 1, "a", 2, 2, []float32{1, 2}, 6, 1, "d"))
	f.Add(legacy(2, 1, "a", 2, 2, []float32{1, 2}, 0, 1, 1, []float32{1}))
	f.Fuzz(func(t *testing.T, p []byte) {
		m := &Imatrix{Entries: map[string][]float32{}}
		if m.readLegacy(p) != nil {
			return
		}
		n := 0
		for name, v := range m.Entries {
			n += len(name) + 4*len(v)
		}
		if n == 0 || n > len(p) || strings.Contains(fmt.Sprint(m.Datasets), "\x00") {
			t.Errorf("%d bytes of entries out of %d, datasets %q", n, len(p), m.Datasets)
		}
	})
}

func FuzzTensorTypeRule(f *testing.F) {
	for _, s := range []string{"attn=q8_0", `blk\.[0-9]+\.(ffn|attn)_\w{2,3}?$=q6_k`, "[^]a-z\\b-]|()=f16", `\x41\u0042\cC\0=f32`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseTensorTypeRule(s)
		if err != nil {
			return
		}
		rs, err := compileRules([]TensorTypeRule{r})
		if err != nil {
			t.Fatalf("parsed %q, but: %v", s, err)
		}
		rs.find("blk.0.attn_q.weight")
		if again, err := ParseTensorTypeRule(r.Pattern + "=" + r.Type.String()); err != nil || again != r {
			t.Errorf("%q: again %v, %v; want %v", s, again, err, r)
		}
	})
}

func FuzzKVOverride(f *testing.F) {
	for _, s := range []string{"a=int:5", "b=float:-1e5", "c=bool:true", "d=str:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseKVOverride(s)
		if err != nil {
			return
		}
		if o.check() != nil {
			t.Errorf("%q: parsed, but %v", s, o.check())
		}
		if _, _, _, ok := gguf.TypeOf(o.stored()); !ok || len(o.Key) > 127 || bytes.IndexByte([]byte(o.Key), 0) >= 0 {
			t.Errorf("%q: got %v", s, o)
		}
	})
}
