package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

// goldenTypes are the output types that every tiny model is converted to.
var goldenTypes = []string{"f32", "f16", "bf16", "q8_0", "auto"}

// TestGolden converts every tiny model to every type and compares the file
// with what llama.cpp's own converter wrote: the whole file, each key, each
// tensor, and the default file name. testdata/make_golden.py makes the golden
// files; nothing here can.
func TestGolden(t *testing.T) {
	covered := map[string]bool{}
	for _, spec := range testmodel.Specs() {
		for _, outType := range goldenTypes {
			covered[spec.Name+"."+outType+".golden"] = true
		}
		t.Run(spec.Name, func(t *testing.T) { goldenModel(t, spec) })
	}
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !covered[filepath.Base(f)] {
			t.Errorf("%s: golden file without a test", f)
		}
	}
}

func goldenModel(t *testing.T, spec testmodel.Spec) {
	dir := filepath.Join(t.TempDir(), spec.Name)
	if err := testmodel.Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	for _, outType := range goldenTypes {
		t.Run(outType, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", spec.Name+"."+outType+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			plan, err := NewPlan(context.Background(), dir, Options{OutFile: out, OutType: outType, Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer plan.Close()
			res, err := plan.Write(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if res.Bytes != plan.Size || res.Path != plan.OutFile || res.Tensors != len(plan.Tensors) {
				t.Errorf("result %+v does not match the plan: size %d, file %s, %d tensors", res, plan.Size, plan.OutFile, len(plan.Tensors))
			}
			compareGolden(t, describe(t, res.Path), string(want))
		})
	}
}

// compareGolden reports the lines that differ.
func compareGolden(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	shown := 0
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b && shown < 12 {
			t.Errorf("line %d:\n got %.200s\nwant %.200s", i+1, a, b)
			shown++
		}
	}
}

// describe words a GGUF file as make_golden.py does.
func describe(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "file %x %d\nname %s\n", sha256.Sum256(data), len(data), filepath.Base(path))
	for key, v := range f.Meta.All() {
		fmt.Fprintf(&b, "kv %s %s\n", key, describeValue(v))
	}
	for _, ti := range f.Tensors {
		start := f.DataOffset + int64(ti.Offset)
		ne := strings.Trim(fmt.Sprint(ti.NE), "[]")
		fmt.Fprintf(&b, "tensor %s %s %s %d %x\n", ti.Name, ti.Type, ne, ti.Offset, sha256.Sum256(data[start:start+ti.Bytes()]))
	}
	return b.String()
}

var valueNames = map[reflect.Kind]string{
	reflect.Uint8: "u8", reflect.Int8: "i8", reflect.Uint16: "u16", reflect.Int16: "i16", reflect.Uint32: "u32", reflect.Int32: "i32",
	reflect.Uint64: "u64", reflect.Int64: "i64", reflect.Float32: "f32", reflect.Float64: "f64", reflect.Bool: "bool", reflect.String: "str",
}

func describeValue(v any) string {
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Slice {
		var payload bytes.Buffer
		for i := range rv.Len() {
			if e := rv.Index(i); e.Kind() == reflect.String {
				binary.Write(&payload, binary.LittleEndian, uint64(e.Len()))
				payload.WriteString(e.String())
			} else {
				binary.Write(&payload, binary.LittleEndian, e.Interface())
			}
		}
		return fmt.Sprintf("arr[%s] %d %x", valueNames[rv.Type().Elem().Kind()], rv.Len(), sha256.Sum256(payload.Bytes()))
	}
	name := valueNames[rv.Kind()]
	switch v := v.(type) {
	case string:
		return name + " " + asciiJSON(v)
	case float32:
		return fmt.Sprintf("%s %08x", name, math.Float32bits(v))
	case float64:
		return fmt.Sprintf("%s %016x", name, math.Float64bits(v))
	}
	return fmt.Sprintf("%s %v", name, v)
}

// asciiJSON writes a JSON string as Python's json.dumps does.
func asciiJSON(s string) string {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err)
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(buf.String(), "\n") {
		switch {
		case r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
