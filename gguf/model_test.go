package gguf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/prefetch"
)

// shardFile is one file of a split model to be written.
type shardFile struct {
	name    string
	kvs     []KV
	tensors []string
}

func split(no, count uint16, total int32) []KV {
	return []KV{{"split.no", no}, {"split.count", count}, {"split.tensors.count", total}}
}

func writeShards(t *testing.T, files []shardFile) string {
	t.Helper()
	dir := t.TempDir()
	for _, file := range files {
		m := new(Metadata)
		for _, kv := range file.kvs {
			if err := m.Set(kv.Key, kv.Value); err != nil {
				t.Fatal(err)
			}
		}
		var tensors []TensorInfo
		for _, name := range file.tensors {
			tensors = append(tensors, TensorInfo{Name: name, Type: F32, NE: []int64{5}})
		}
		var b bytes.Buffer
		if err := write(&b, m, tensors, telling, 100); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file.name), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpenModelSplit(t *testing.T) {
	dir := writeShards(t, []shardFile{
		{"m-00001-of-00003.gguf", append([]KV{{"general.architecture", "qwen3"}}, split(0, 3, 4)...), []string{"zz", "a"}},
		{"m-00002-of-00003.gguf", split(1, 3, 4), []string{"bbb"}},
		{"m-00003-of-00003.gguf", split(2, 3, 4), []string{"c"}},
	})
	m, err := OpenModel(filepath.Join(dir, "m-00001-of-00003.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if s, _ := m.Meta.String("general.architecture"); s != "qwen3" || len(m.Files) != 3 || m.Bytes() != 80 {
		t.Errorf("got architecture %q, %d files, %d bytes, want qwen3, 3, 80", s, len(m.Files), m.Bytes())
	}
	for i, want := range []struct {
		name  string
		shard int
	}{{"zz", 0}, {"a", 0}, {"bbb", 1}, {"c", 2}} {
		ti, ok := m.Tensor(want.name)
		if !ok || m.Tensors[i].Name != want.name || m.Shard(want.name) != want.shard {
			t.Fatalf("tensor %d: got %s in shard %d, want %s in %d", i, m.Tensors[i].Name, m.Shard(want.name), want.name, want.shard)
		}
		p := make([]byte, 20)
		if err := m.ReadTensorAt(want.name, p, 0); err != nil || !bytes.Equal(p, telling(ti)) {
			t.Errorf("%s: got %v, %v, want what was written", want.name, p, err)
		}
		if data, err := m.Data(want.name); err != nil || !bytes.Equal(data, telling(ti)) {
			t.Errorf("%s mapped: got %v, %v, want what was written", want.name, data, err)
		}
	}
	if _, ok := m.Tensor("none"); ok || m.Shard("none") != -1 {
		t.Error("tensor none: got one")
	}
	begin := func(i int) int64 { return m.Files[i].DataOffset }
	want := []prefetch.Span{{File: m.Files[2].file, Begin: begin(2) + 3, End: begin(2) + 20}, {File: m.Files[0].file, Begin: begin(0) + 32, End: begin(0) + 51}}
	ranges := []Range{{"c", 3, 99}, {"none", 0, 20}, {"a", 0, 19}}
	if got := m.spans(ranges); !slices.Equal(got, want) {
		t.Errorf("to be read ahead: got %v, want %v", got, want)
	}
	_, stop := m.ReadAhead(ranges, 2, 64<<20)
	defer stop()
	for _, name := range []string{"c", "a", "zz"} {
		ti, _ := m.Tensor(name)
		p := make([]byte, 20)
		if err := m.ReadTensorAt(name, p, 0); err != nil || !bytes.Equal(p, telling(ti)) {
			t.Errorf("%s, announced: got %v, %v, want what was written", name, p, err)
		}
	}
	if err := m.ReadTensorAt("none", nil, 0); err == nil || !strings.Contains(err.Error(), `tensor "none": not in the model`) {
		t.Errorf("got error %v", err)
	}
	if _, err := m.Data("none"); err == nil {
		t.Error("data of tensor none: got no error")
	}
}

func TestOpenModelSingle(t *testing.T) {
	for _, kvs := range [][]KV{nil, split(0, 1, 1), split(0, 0, 0)} {
		dir := writeShards(t, []shardFile{{"x.gguf", kvs, []string{"a"}}})
		m, err := OpenModel(filepath.Join(dir, "x.gguf"))
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Files) != 1 || len(m.Tensors) != 1 {
			t.Errorf("got %d files, %d tensors, want 1 and 1", len(m.Files), len(m.Tensors))
		}
		m.Close()
	}
}

func TestOpenModelErrors(t *testing.T) {
	one := shardFile{"m-00001-of-00002.gguf", split(0, 2, 2), []string{"a"}}
	two := shardFile{"m-00002-of-00002.gguf", split(1, 2, 2), []string{"b"}}
	with := func(f shardFile, change func(*shardFile)) shardFile { change(&f); return f }
	for _, test := range []struct {
		name  string
		files []shardFile
		open  string
		want  string // {} stands for the folder
	}{
		{"missing", []shardFile{one}, one.name, "open split model {}/m-00001-of-00002.gguf: open gguf {}/m-00002-of-00002.gguf: no such file or directory"},
		{"second", []shardFile{one, two}, two.name, "open gguf {}/m-00002-of-00002.gguf: got file 2 of a split model, want the first one, {}/m-00001-of-00002.gguf"},
		{"renamed", []shardFile{with(one, func(f *shardFile) { f.name = "x.gguf" }), two}, "x.gguf", "open gguf {}/x.gguf: file name: got none that ends in -00001-of-00002.gguf, want it for split.no 0 of 2"},
		{"no twice", []shardFile{one, with(two, func(f *shardFile) { f.kvs = split(0, 2, 2) })}, one.name, "open gguf {}/m-00002-of-00002.gguf: split.no: got 0, want 1"},
		{"no absent", []shardFile{one, with(two, func(f *shardFile) { f.kvs = nil })}, one.name, "open gguf {}/m-00002-of-00002.gguf: split.no: got 0, want 1"},
		{"count", []shardFile{one, with(two, func(f *shardFile) { f.kvs = split(1, 3, 2) })}, one.name, "open gguf {}/m-00002-of-00002.gguf: split.count: got 3, want 2 as in {}/m-00001-of-00002.gguf"},
		{"too many", []shardFile{with(one, func(f *shardFile) { f.kvs = []KV{{"split.count", uint32(70000)}} })}, one.name, "open gguf {}/m-00001-of-00002.gguf: split.count: got 70000, want at most 65535"},
		{"tensor twice", []shardFile{one, with(two, func(f *shardFile) { f.tensors = []string{"a"} })}, one.name, `open gguf {}/m-00002-of-00002.gguf: tensor "a": got it again, want it in {}/m-00001-of-00002.gguf only`},
		{"tensor missing", []shardFile{one, with(two, func(f *shardFile) { f.tensors = nil })}, one.name, "open gguf {}/m-00001-of-00002.gguf: split.tensors.count: got 1 tensors in 2 files, want 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := writeShards(t, test.files)
			m, err := OpenModel(filepath.Join(dir, test.open))
			if err == nil {
				m.Close()
			}
			if want := strings.ReplaceAll(test.want, "{}", dir); err == nil || err.Error() != want {
				t.Errorf("got error %v\nwant %s", err, want)
			}
		})
	}
}

// TestOpenModelClosesFiles opens a broken model many times; a leaked
// descriptor each time would show in the count.
func TestOpenModelClosesFiles(t *testing.T) {
	dir := writeShards(t, []shardFile{{"m-00001-of-00002.gguf", split(0, 2, 2), []string{"a"}}})
	bad := writeTemp(t, "bad.gguf", good()[:100])
	before := openFiles(t)
	for range 20 {
		if _, err := OpenModel(filepath.Join(dir, "m-00001-of-00002.gguf")); err == nil {
			t.Fatal("got no error")
		}
		if _, err := Open(bad); err == nil {
			t.Fatal("got no error")
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("got %d open files, want %d as before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
