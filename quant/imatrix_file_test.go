package quant

import (
	"encoding/binary"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// importances makes an importance matrix for a model: a row per matrix, or per expert, all greater than 0.
func importances(tensors []gguf.TensorInfo) map[string][]float32 {
	m := map[string][]float32{}
	for _, t := range tensors {
		if len(t.NE) < 2 || !strings.HasSuffix(t.Name, "weight") || t.Name == "token_embd.weight" {
			continue
		}
		n := t.NE[0]
		if len(t.NE) > 2 {
			n *= t.NE[2]
		}
		v := values("imatrix "+t.Name, n)
		for i := range v {
			v[i] = v[i]*v[i]*50 + 1e-4
		}
		m[t.Name] = v
	}
	return m
}

// writeImatrix writes an importance matrix in GGUF with the count 3 for all but one expert.
func writeImatrix(t *testing.T, path string, tensors []gguf.TensorInfo) string {
	t.Helper()
	meta := new(gguf.Metadata)
	for _, kv := range []gguf.KV{
		{Key: "general.type", Value: "imatrix"},
		{Key: "imatrix.datasets", Value: []string{"persona.txt", "second.txt"}},
		{Key: "imatrix.chunk_count", Value: uint32(7)},
		{Key: "imatrix.chunk_size", Value: uint32(512)},
	} {
		if err := meta.Set(kv.Key, kv.Value); err != nil {
			t.Fatal(err)
		}
	}
	entries := importances(tensors)
	var infos []gguf.TensorInfo
	var blobs [][]byte
	for _, info := range tensors {
		v, ok := entries[info.Name]
		if !ok {
			continue
		}
		experts := int64(len(v)) / info.NE[0]
		counts := make([]float32, experts)
		for i := range counts {
			counts[i] = 3
		}
		if experts > 1 {
			counts[1] = 0
		}
		infos = append(infos,
			gguf.TensorInfo{Name: info.Name + ".in_sum2", Type: gguf.F32, NE: []int64{info.NE[0], experts}},
			gguf.TensorInfo{Name: info.Name + ".counts", Type: gguf.F32, NE: []int64{1, experts}})
		blobs = append(blobs, f32Bytes(v), f32Bytes(counts))
	}
	l, err := gguf.NewLayout(meta, infos, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := l.NewWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	for i, info := range infos {
		if err := w.WriteTensor(info.Name, blobs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeDat writes the old format; chunks below 0 leaves the optional end out.
func writeDat(t *testing.T, path string, entries map[string][]float32, calls, chunks int32, dataset string) string {
	t.Helper()
	le := binary.LittleEndian
	p := le.AppendUint32(nil, uint32(len(entries)))
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		p = append(le.AppendUint32(p, uint32(len(name))), name...)
		p = le.AppendUint32(p, uint32(calls))
		p = le.AppendUint32(p, uint32(len(entries[name])))
		p = append(p, f32Bytes(entries[name])...)
	}
	if chunks >= 0 {
		p = append(le.AppendUint32(le.AppendUint32(p, uint32(chunks)), uint32(len(dataset))), dataset...)
	}
	if err := os.WriteFile(path, p, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}
