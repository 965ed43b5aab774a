package safetensors

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeShard writes a file with F32 tensors of the given names.
func writeShard(t testing.TB, path string, names ...string) {
	t.Helper()
	var specs []Spec
	for i, name := range names {
		specs = append(specs, Spec{name, F32, []int64{int64(i + 1)}})
	}
	var b bytes.Buffer
	if err := Write(&b, nil, specs, WriteOptions{KeepOrder: true}, fillTelling(specs)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b.Bytes())
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// writeIndex writes an index of pairs tensor, file.
func writeIndex(t testing.TB, dir string, pairs ...string) {
	t.Helper()
	var entries []string
	for i := 0; i < len(pairs); i += 2 {
		entries = append(entries, fmt.Sprintf("%q: %q", pairs[i], pairs[i+1]))
	}
	text := `{"metadata": {"total_size": 1, "other": [{}, null]}, "weight_map": {` + strings.Join(entries, ", ") + "}}\n"
	writeFile(t, filepath.Join(dir, indexName), []byte(text))
}

func names(m *Model) string {
	var out []string
	for _, t := range m.Tensors() {
		out = append(out, filepath.Base(t.File.Path)+":"+t.Name)
	}
	return strings.Join(out, " ")
}

func TestOpenModel(t *testing.T) {
	for _, test := range []struct {
		name  string
		build func(dir string)
		want  string
	}{
		{"single", func(dir string) {
			writeShard(t, filepath.Join(dir, "model.safetensors"), "layers.2", "layers.10", "b", "a")
			writeShard(t, filepath.Join(dir, "optimizer.safetensors"), "a")
			writeFile(t, filepath.Join(dir, "pytorch_model.bin"), []byte("pickle"))
		}, "model.safetensors:a model.safetensors:b model.safetensors:layers.10 model.safetensors:layers.2"},
		{"index", func(dir string) {
			writeShard(t, filepath.Join(dir, "model-00001-of-00002.safetensors"), "z", "m")
			writeShard(t, filepath.Join(dir, "model-00002-of-00002.safetensors"), "a")
			writeShard(t, filepath.Join(dir, "model.safetensors"), "a") // not in the index
			writeIndex(t, dir, "a", "model-00002-of-00002.safetensors", "m", "model-00001-of-00002.safetensors", "z", "model-00001-of-00002.safetensors")
		}, "model-00001-of-00002.safetensors:m model-00001-of-00002.safetensors:z model-00002-of-00002.safetensors:a"},
		{"index with a folder and other names", func(dir string) {
			writeShard(t, filepath.Join(dir, "sub", "one.safetensors"), "a")
			writeShard(t, filepath.Join(dir, "part.safetensors"), "b")
			writeIndex(t, dir, "a", "sub/one.safetensors", "b", "part.safetensors")
		}, "part.safetensors:b one.safetensors:a"},
		{"files without index", func(dir string) {
			writeShard(t, filepath.Join(dir, "model-00002-of-00002.safetensors"), "a")
			writeShard(t, filepath.Join(dir, "model-00001-of-00002.safetensors"), "b")
			writeShard(t, filepath.Join(dir, "model-extra.safetensors"), "c")
		}, "model-00001-of-00002.safetensors:b model-00002-of-00002.safetensors:a model-extra.safetensors:c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			test.build(dir)
			m, err := OpenModel(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if got := names(m); got != test.want {
				t.Errorf("got %s\nwant %s", got, test.want)
			}
			var size int64
			for _, want := range m.Tensors() {
				got, ok := m.Tensor(want.Name)
				if !ok || got != want {
					t.Errorf("tensor %s: got %v, %v", want.Name, got, ok)
				}
				p := make([]byte, want.Bytes())
				if err := want.ReadAt(p, 0); err != nil || !bytes.Equal(p, telling(Spec{want.Name, want.DType, want.Shape})) {
					t.Errorf("tensor %s: got %v, %v", want.Name, p, err)
				}
				size += want.Bytes()
			}
			if m.Bytes() != size {
				t.Errorf("got %d bytes, want %d", m.Bytes(), size)
			}
			if _, ok := m.Tensor("none"); ok {
				t.Error("tensor none: got one")
			}
		})
	}
}

func TestOpenModelErrors(t *testing.T) {
	const one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	both := func(dir string) {
		writeShard(t, filepath.Join(dir, one), "a", "b")
		writeShard(t, filepath.Join(dir, two), "c")
	}
	indexed := func(pairs ...string) func(dir string) {
		return func(dir string) { both(dir); writeIndex(t, dir, pairs...) }
	}
	index := func(text string) func(dir string) {
		return func(dir string) { both(dir); writeFile(t, filepath.Join(dir, indexName), []byte(text)) }
	}
	link := func(target string) func(dir string) {
		return func(dir string) {
			writeShard(t, filepath.Join(dir, "..", "outside.safetensors"), "a")
			if err := os.Symlink(target, filepath.Join(dir, "model.safetensors")); err != nil {
				t.Fatal(err)
			}
			writeIndex(t, dir, "a", "model.safetensors")
		}
	}
	const open, idx = "open model {}: ", "open index {}/model.safetensors.index.json: "
	file := func(name string) string { return open + indexName + `: tensor "a": file "` + name + `": ` }
	for _, test := range []struct {
		name  string
		build func(dir string)
		want  string // {} stands for the folder, [] for the one above
	}{
		{"nothing", func(string) {}, open + "got no weights, want model.safetensors or " + indexName},
		{"pickle", func(dir string) { writeFile(t, filepath.Join(dir, "pytorch_model.bin"), nil) }, open + "got only pytorch_model.bin, want model*.safetensors (pickle is never read, because loading it can run any code; save the model again with save_pretrained(…, safe_serialization=True))"},
		{"adapter", func(dir string) { writeShard(t, filepath.Join(dir, "adapter_model.safetensors"), "a") }, open + "got only adapter_model.safetensors, want model*.safetensors or " + indexName},
		{"bad file", func(dir string) { writeFile(t, filepath.Join(dir, "model.safetensors"), []byte("x")) }, "open safetensors {}/model.safetensors: truncated: got a file of 1 bytes, want at least 8"},
		{"folder as file", func(dir string) { writeFile(t, filepath.Join(dir, "model.safetensors", "x"), nil) }, "open safetensors {}/model.safetensors: got d---------, want a regular file"},
		{"series with a gap", func(dir string) { both(dir); os.Remove(filepath.Join(dir, one)) }, open + "missing shard: got " + two + ", want " + one + " beside it"},
		{"series without end", func(dir string) { both(dir); os.Remove(filepath.Join(dir, two)) }, open + "missing shard: got " + one + ", want " + two + " beside it"},
		{"tensor in two files", func(dir string) { both(dir); writeShard(t, filepath.Join(dir, "model.safetensors"), "b") }, `open safetensors {}/model.safetensors: tensor "b": got it again, want it in {}/` + one + " only"},
		{"index: tensor in two files", func(dir string) {
			both(dir)
			writeShard(t, filepath.Join(dir, two), "c", "a")
			writeIndex(t, dir, "a", one, "b", one, "c", two)
		}, "open safetensors {}/" + two + `: tensor "a": got it again, want it in {}/` + one + " only"},
		{"index: missing shard", func(dir string) { indexed("a", one, "b", one, "c", two)(dir); os.Remove(filepath.Join(dir, two)) }, open + indexName + `: tensor "c": file "` + two + `": missing shard: got no such file in the folder, want it as the index says`},
		{"index: tensor not in file", indexed("a", one, "b", one, "c", two, "d", two), "open safetensors {}/" + two + `: tensor "d": not in the file, want it as ` + indexName + " says"},
		{"index: tensor in other file", indexed("a", one, "b", two, "c", two), "open safetensors {}/" + one + `: tensor "b": got it here, want it in {}/` + two + " as " + indexName + " says"},
		{"index: tensor not in index", indexed("a", one, "c", two), "open safetensors {}/" + one + `: tensor "b": not in ` + indexName + ", want every tensor of a file there"},
		{"index: parent", indexed("a", "../outside.safetensors"), file("../outside.safetensors") + "got a path that leaves the folder, want one inside it"},
		{"index: parent in the middle", indexed("a", "x/../../outside.safetensors"), file("x/../../outside.safetensors") + "got a path that leaves the folder, want one inside it"},
		{"index: absolute", indexed("a", "/tmp/outside.safetensors"), file("/tmp/outside.safetensors") + "got a path that leaves the folder, want one inside it"},
		{"index: empty name", indexed("a", ""), file("") + "got this name, want one that ends in .safetensors"},
		{"index: pickle", indexed("a", "pytorch_model.bin"), file("pytorch_model.bin") + "got this name, want one that ends in .safetensors"},
		{"index: link to parent", link("../outside.safetensors"), file("model.safetensors") + "got a symbolic link to []/outside.safetensors, which leaves the folder, want a file inside it"},
		{"index: no weight_map", index(`{"metadata": {}}`), idx + "got no weight_map, want an object of tensor and file names"},
		{"index: empty", index(`{"weight_map": {}}`), open + indexName + ": got 0 files, want 1 to 10000"},
		{"index: weight_map is list", index(`{"weight_map": []}`), idx + `"weight_map": got "[", want "{"`},
		{"index: file is number", index(`{"weight_map": {"a": 1}}`), idx + `"weight_map": "a": got the number 1, want a string`},
		{"index: tensor twice", index(`{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}`), idx + `"weight_map": key "a": got it a second time, want every key once`},
		{"index: weight_map twice", index(`{"weight_map": {}, "weight_map": {}}`), idx + `key "weight_map": got it a second time, want every key once`},
		{"index: not JSON", index(`{`), idx + `json at byte 1: unexpected EOF`},
		{"index: bad value", index(`{"metadata": }`), idx + `"metadata": json at byte 12: invalid character '}' looking for beginning of value`},
		{"index: not UTF-8", index("\xff"), idx + "got bytes that are not UTF-8, want UTF-8"},
		{"index: more after it", index(`{"weight_map": {}} 1`), idx + "got the number 1 after the object, want nothing"},
		{"index is a folder", func(dir string) { writeFile(t, filepath.Join(dir, indexName, "x"), nil) }, idx + "is a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			test.build(dir)
			m, err := OpenModel(dir)
			if err == nil {
				m.Close()
			}
			want := strings.NewReplacer("{}/", dir+"/", "{}:", dir+":", "[]/", filepath.Dir(dir)+"/").Replace(test.want)
			if err == nil || err.Error() != want {
				t.Errorf("got error %v\nwant      %s", err, want)
			}
		})
	}
}

func TestOpenModelNoFolder(t *testing.T) {
	path := writeTemp(t, "model.safetensors", good())
	for dir, want := range map[string]string{
		path:        "open model " + path + ": got a file, want a folder",
		path + ".x": "open model " + path + ".x: no such file or directory",
	} {
		if _, err := OpenModel(dir); err == nil || err.Error() != want {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}

// TestOpenModelLinks opens the layout of the Hugging Face cache and links that stay inside.
func TestOpenModelLinks(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "models--Qwen--Qwen3-4B")
	dir := filepath.Join(repo, "snapshots", "0123abcd")
	writeShard(t, filepath.Join(repo, "blobs", "cafe"), "a")
	writeShard(t, filepath.Join(dir, "real.safetensors"), "b")
	for name, target := range map[string]string{"model-1.safetensors": "../../blobs/cafe", "model-2.safetensors": "real.safetensors"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	writeIndex(t, dir, "a", "model-1.safetensors", "b", "model-2.safetensors")
	m, err := OpenModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(m), "model-1.safetensors:a model-2.safetensors:b"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	m.Close()

	// The same link where the folder is no snapshot of the cache.
	other := filepath.Join(t.TempDir(), "models--x", "checkpoints", "1")
	if err := os.MkdirAll(other, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(repo, "blobs", "cafe"), filepath.Join(other, "model-1.safetensors")); err != nil {
		t.Fatal(err)
	}
	writeIndex(t, other, "a", "model-1.safetensors")
	if _, err := OpenModel(other); err == nil || !strings.Contains(err.Error(), "which leaves the folder") {
		t.Errorf("got error %v, want a refusal", err)
	}
}

// TestOpenModelClosesFiles opens a broken model many times; a leaked
// descriptor each time would show in the count.
func TestOpenModelClosesFiles(t *testing.T) {
	dir := t.TempDir()
	writeShard(t, filepath.Join(dir, "model-a.safetensors"), "a")
	writeShard(t, filepath.Join(dir, "model-b.safetensors"), "a")
	writeFile(t, filepath.Join(dir, "bad"), good()[:50])
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for range 20 {
		if _, err := OpenModel(dir); err == nil {
			t.Fatal("got no error")
		}
		if _, err := Open(filepath.Join(dir, "bad")); err == nil {
			t.Fatal("got no error")
		}
	}
	if after := count(); after > before {
		t.Errorf("got %d open files, want %d as before", after, before)
	}
}

// TestIndexTooLarge gives an index, as a sparse file, one byte more than the limit.
func TestIndexTooLarge(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, indexName), []byte("{"))
	if err := os.Truncate(filepath.Join(dir, indexName), MaxIndexLen+1); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenModel(dir); err == nil || !strings.Contains(err.Error(), "got more than 100000000 bytes, want at most that many") {
		t.Errorf("got error %v, want the limit", err)
	}
}
