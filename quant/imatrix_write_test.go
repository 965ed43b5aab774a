package quant

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWriteImatrix reads back what was written: means per row, ones for experts that saw nothing.
func TestWriteImatrix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imatrix.gguf")
	entries := []Collected{
		{"blk.0.ffn_gate_exps.weight", []float32{2, 4, 5, 7, 9, 3}, []int64{2, 0, 3}},
		{"blk.0.attn_q.weight", []float32{8, 4}, []int64{4}},
	}
	if err := WriteImatrix(path, entries, []string{"a.jsonl", "b.jsonl"}, 3, 512); err != nil {
		t.Fatal(err)
	}
	m, err := LoadImatrix(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Entries["blk.0.attn_q.weight"], []float32{2, 1}) || !slices.Equal(m.Entries["blk.0.ffn_gate_exps.weight"], []float32{1, 2, 1, 1, 3, 1}) ||
		m.Chunks != 3 || !slices.Equal(m.Datasets, []string{"a.jsonl", "b.jsonl"}) {
		t.Errorf("got %+v", m)
	}
	if entries[0].Name != "blk.0.ffn_gate_exps.weight" {
		t.Error("the caller's entries were sorted")
	}
	for name, c := range map[string]struct {
		entry Collected
		want  string
	}{
		"no counts":  {Collected{"a", []float32{1}, nil}, "entry a: got 1 sums and 0 counts"},
		"not a row":  {Collected{"a", []float32{1, 2, 3}, []int64{1, 1}}, "got 3 sums and 2 counts"},
		"no number":  {Collected{"a", []float32{1, float32(math.NaN())}, []int64{1}}, "tensor a.in_sum2: value 1: got NaN"},
		"no folder":  {Collected{"a", []float32{1}, []int64{1}}, "none"},
		"name twice": {Collected{"blk.0.attn_q.weight", []float32{1}, []int64{1}}, "blk.0.attn_q.weight"},
	} {
		out, list := filepath.Join(t.TempDir(), "x.gguf"), []Collected{c.entry}
		switch name {
		case "no folder":
			out = filepath.Join(t.TempDir(), "none", "x.gguf")
		case "name twice":
			list = append(list, entries[1])
		}
		if err := WriteImatrix(out, list, nil, 1, 512); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: got a file", name)
		}
	}
}
