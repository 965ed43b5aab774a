package convert

import (
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseJSON(t *testing.T) {
	v, err := parseJSON([]byte(`{"b": 1, "a": [null, true, -2.5, "x\u00e9\ud83d\ude00\n"], "b": {"n": 123456789012345678901}, "z": 1e3}`))
	if err != nil {
		t.Fatal(err)
	}
	o := v.(*object)
	if want := []string{"b", "a", "z"}; !reflect.DeepEqual(o.keys, want) {
		t.Errorf("keys: got %v, want %v", o.keys, want)
	}
	big1, _ := new(big.Int).SetString("123456789012345678901", 10)
	if n, _ := o.object("b").get("n"); n.(*big.Int).Cmp(big1) != 0 {
		t.Errorf("second b: got %v, want %v", n, big1)
	}
	if a, _ := o.get("a"); !reflect.DeepEqual(a, []any{nil, true, -2.5, "xé😀\n"}) {
		t.Errorf("a: got %#v", a)
	}
	if z, _ := o.get("z"); z != 1000.0 {
		t.Errorf("z: got %#v, want 1000.0 as a float", z)
	}
}

// TestParseJSONBad holds one document per way to be wrong.
func TestParseJSONBad(t *testing.T) {
	for doc, want := range map[string]string{
		``:                       "unexpected end",
		`{`:                      "want a key",
		`{"a" 1}`:                "want ':'",
		`{"a": 1,}`:              "want a key",
		`[1 2]`:                  "want ',' or ']'",
		`[1,]`:                   "want a value",
		`{} {}`:                  "after the end",
		`NaN`:                    "want a value",
		`[-Infinity]`:            "want a number",
		`1e999`:                  "does not fit",
		`01`:                     "want a number",
		`1.`:                     "after the point",
		`1e`:                     "in the exponent",
		`"a`:                     "without end",
		`"\x"`:                   "unknown escape",
		`"\u12g4"`:               "bad escape",
		`"\ud800"`:               "lone surrogate",
		"\"\n\"":                 "control character",
		"\"\xff\"":               "not valid UTF-8",
		"\xef\xbb\xbf{}":         "want a value",
		strings.Repeat("[", 100): "nested deeper",
		strings.Repeat("9", 500): "digits",
		`{"a": tru}`:             "want a value",
	} {
		if v, err := parseJSON([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, %v, want an error with %q", doc, v, err, want)
		}
	}
}

func TestReadObjectNamesFileAndPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte("{\n  \"a\": nope\n}"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := readObject(path)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 2, column 8") {
		t.Errorf("got %v, want the file and line 2, column 8", err)
	}
	if err := os.WriteFile(path, []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readObject(path); err == nil || !strings.Contains(err.Error(), "want an object") {
		t.Errorf("array: got %v, want an error", err)
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, 2.5, "x\u0041", null]}`, `"\ud83d\ude00"`, `[[[]]]`, `-0`, `1e-400`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseJSON(data)
		if err == nil && jsonKind(v) == "" {
			t.Error("a value without a kind")
		}
	})
}

func FuzzModelCard(f *testing.F) {
	for _, s := range []string{"---\nname: x\ntags: [a, 1, no]\n---\n", "---\na: &x {b: *x}\n", "---\n- no\n---", "---\n<<: {a: b}\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseModelCard("README.md", text)
		if err == nil && o == nil {
			t.Error("neither a card nor an error")
		}
	})
}
