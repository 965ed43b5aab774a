package summary

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// writeGGUF writes a file with two tensors and a KV of every kind that is shown differently.
func writeGGUF(t *testing.T, path string) {
	t.Helper()
	var meta gguf.Metadata
	for _, kv := range []gguf.KV{
		{Key: "general.architecture", Value: "qwen3"}, {Key: "general.name", Value: "Snow White"}, {Key: "general.file_type", Value: uint32(2)},
		{Key: "bytes", Value: []uint8{1, 2, 3}}, {Key: "tokens", Value: []string{"a", "b", "c"}},
	} {
		if err := meta.Set(kv.Key, kv.Value); err != nil {
			t.Fatal(err)
		}
	}
	tensors := []gguf.TensorInfo{{Name: "token_embd.weight", Type: gguf.Q4_0, NE: []int64{64, 3}}, {Name: "output_norm.weight", Type: gguf.F32, NE: []int64{64}}}
	layout, err := gguf.NewLayout(&meta, tensors, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = atomicfile.WriteFile(path, func(w io.Writer) error {
		out, err := layout.NewWriter(w)
		if err != nil {
			return err
		}
		for _, tensor := range tensors {
			if err := out.WriteTensor(tensor.Name, make([]byte, tensor.Bytes())); err != nil {
				return err
			}
		}
		return out.Finish()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func writeSafetensors(t *testing.T, path string) {
	t.Helper()
	specs := []safetensors.Spec{{Name: "model.norm.weight", DType: "F32", Shape: []int64{4}}, {Name: "model.embed_tokens.weight", DType: "BF16", Shape: []int64{3, 4}}}
	err := atomicfile.WriteFile(path, func(w io.Writer) error {
		return safetensors.Write(w, map[string]string{"format": "pt"}, specs, safetensors.WriteOptions{}, func(i int, w io.Writer) error {
			_, err := w.Write(make([]byte, specs[i].Bytes()))
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestGGUF(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	writeGGUF(t, path)
	s, err := Read(path, Options{MaxArray: 2, FileTypeName: func(n uint32) string { return map[uint32]string{2: "Q4_0"}[n] }})
	if err != nil {
		t.Fatal(err)
	}
	if s.Format != GGUF || s.Arch != "qwen3" || s.Name != "Snow White" || s.FileType != "Q4_0" || s.Version != 3 || s.Alignment != 32 {
		t.Errorf("got %+v", s)
	}
	if s.Parameters != 256 || s.TensorBytes != 108+256 || s.TensorCount != 2 || s.BPW != 8*364./256 {
		t.Errorf("sums: got %d parameters, %d bytes, %d tensors, %v bpw", s.Parameters, s.TensorBytes, s.TensorCount, s.BPW)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.Size != info.Size() || len(s.Files) != 1 || s.Files[0].Size != info.Size() {
		t.Errorf("size: got %d in %v, want %d", s.Size, s.Files, info.Size())
	}
	wantTypes := []Type{{"f32", 1, 64, 256, 32}, {"q4_0", 1, 192, 108, 4.5}}
	if !reflect.DeepEqual(s.Types, wantTypes) {
		t.Errorf("types: got %v, want %v", s.Types, wantTypes)
	}
	data := s.Files[0].DataOffset
	wantTensors := []Tensor{
		{Name: "token_embd.weight", Type: "q4_0", NE: []int64{64, 3}, Bytes: 108, Offset: data},
		{Name: "output_norm.weight", Type: "f32", NE: []int64{64}, Bytes: 256, Offset: data + 128},
	}
	if !reflect.DeepEqual(s.Tensors, wantTensors) {
		t.Errorf("tensors: got %v, want %v", s.Tensors, wantTensors)
	}
	if got := kv(t, s, "tokens"); got.Type != "arr[str]" || *got.Count != 3 || !reflect.DeepEqual(got.Value, []any{"a", "b"}) {
		t.Errorf("a long array: got %+v, want two of three", got)
	}
	encoded, err := json.Marshal(kv(t, s, "bytes"))
	if err != nil || string(encoded) != `{"key":"bytes","type":"arr[u8]","count":3,"value":[1,2]}` {
		t.Errorf("bytes in JSON: got %s, %v", encoded, err)
	}
}

func TestGGUFKeepsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	writeGGUF(t, path)
	s, err := Read(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := kv(t, s, "tokens"); !reflect.DeepEqual(got.Value, []any{"a", "b", "c"}) {
		t.Errorf("without a limit: got %v, want all three", got.Value)
	}
	if s.FileType != "2" {
		t.Errorf("without names: got ftype %q, want its number", s.FileType)
	}
}

func kv(t *testing.T, s *Summary, key string) KV {
	t.Helper()
	for _, kv := range s.KV {
		if kv.Key == key {
			return kv
		}
	}
	t.Fatalf("key %q: not there", key)
	return KV{}
}

func TestSafetensors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weights") // told by content, not by name
	writeSafetensors(t, path)
	s, err := Read(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Format != Safetensors || s.Parameters != 16 || s.TensorBytes != 40 || kv(t, s, "format").Value != "pt" {
		t.Errorf("got %+v", s)
	}
	data := s.Files[0].DataOffset
	for _, tensor := range s.Tensors {
		if tensor.Offset < data || tensor.Shape == nil || tensor.NE != nil {
			t.Errorf("tensor: got %+v with data from %d", tensor, data)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	writeSafetensors(t, filepath.Join(dir, "model.safetensors"))
	config := `{"vocab_size": 12345678901234567890, "architectures": ["Qwen3ForCausalLM"], "rope": {"a": 1}, "tie": true, "x": null}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Read(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Format != Folder || s.HFArch != "Qwen3ForCausalLM" || s.Parameters != 16 {
		t.Errorf("got %+v", s)
	}
	var keys []string
	for _, kv := range s.KV {
		keys = append(keys, kv.Key+" "+kv.Type)
	}
	if got, want := strings.Join(keys, ", "), "vocab_size number, architectures array, rope object, tie bool, x null"; got != want {
		t.Errorf("config.json: got %s, want %s", got, want)
	}
	if got := kv(t, s, "vocab_size").Value; got != json.Number("12345678901234567890") {
		t.Errorf("a large number: got %v", got)
	}
}

func TestFolderWithoutConfig(t *testing.T) {
	dir := t.TempDir()
	writeSafetensors(t, filepath.Join(dir, "model.safetensors"))
	if s, err := Read(dir, Options{}); err != nil || s.TensorCount != 2 || s.HFArch != "" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct{ name, path, want string }{
		{"missing", filepath.Join(dir, "none"), "no such file"},
		{"empty", write("empty", ""), "neither GGUF nor safetensors"},
		{"text", write("text", "hello, world"), `begins with "hello, wo"`},
		{"truncated GGUF", write("cut.gguf", "GGUF\x03\x00\x00\x00"), "cut.gguf"},
		{"empty safetensors", write("e.safetensors", ""), "e.safetensors"},
		{"device", "/dev/null", "want a file or a folder"},
		{"empty folder", filepath.Dir(write("folder/readme", "")), "folder"},
		{"config is a list", filepath.Dir(write("list/config.json", "[]")), "want a JSON object"},
		{"config is cut", filepath.Dir(write("cut/config.json", `{"a": [1, `)), `key "a"`},
		{"config goes on", filepath.Dir(write("more/config.json", `{"a": 1} {}`)), "want its end"},
		{"config is huge", filepath.Dir(write("huge/config.json", strings.Repeat(" ", maxConfig+1))), "want at most"},
	} {
		if _, err := Read(c.path, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
	if _, err := Read(filepath.Join(dir, "text"), Options{}); !errors.Is(err, ErrFormat) {
		t.Errorf("text: got %v, want ErrFormat", err)
	}
}
