package convert

import (
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// TestPartsOfRanges announces a file in ranges of odd lengths, over shards, experts and permuted heads: what is announced
// is what the tensors are made of, all of it.
func TestPartsOfRanges(t *testing.T) {
	for _, model := range []string{"llama-bpe", "qwen3moe", "qwen3-untied"} {
		p := newPlan(t, tinyModel(t, model), Options{OutType: "f16"})
		s := newF16Source(p)
		var ranges []gguf.Range
		for _, info := range s.TensorInfos() {
			for off := int64(0); off < info.Bytes(); off += 777 {
				ranges = append(ranges, gguf.Range{Name: info.Name, Begin: off, End: min(off+777, info.Bytes())})
			}
		}
		ranges = append(ranges, gguf.Range{Name: "none", End: 5})
		type where struct {
			tensor *safetensors.Tensor
			row    int64
		}
		rows := func(parts []safetensors.Part) map[where]bool {
			set := map[where]bool{}
			for _, part := range parts {
				row := segment{src: part.Tensor}.rowBytes()
				if part.Begin%row != 0 || part.End%row != 0 || part.Begin >= part.End || part.End > part.Tensor.Bytes() {
					t.Errorf("%s: got %d to %d of %s, want whole rows of %d bytes", model, part.Begin, part.End, part.Tensor.Name, row)
				}
				for i := part.Begin / row; i < part.End/row; i++ {
					set[where{part.Tensor, i}] = true
				}
			}
			return set
		}
		got, want := rows(s.parts(ranges)), rows(parts(p.tensors))
		if len(got) != len(want) || len(want) == 0 {
			t.Errorf("%s: got %d rows, want %d", model, len(got), len(want))
		}
		for w := range want {
			if !got[w] {
				t.Errorf("%s: row %d of %s is not announced", model, w.row, w.tensor.Name)
			}
		}
	}
}
