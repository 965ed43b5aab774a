package quant

import (
	"slices"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// TestInterleave: every piece once, both kinds in their own order, and at any time about as much done of the one as of the other.
func TestInterleave(t *testing.T) {
	embedding := &PlannedTensor{Name: "token_embd", Type: gguf.Q6_K, SourceType: gguf.F16}
	matrix := &PlannedTensor{Name: "ffn_up", Type: gguf.Q4_0, SourceType: gguf.F16}
	for _, c := range []struct{ slow, quick int }{{0, 0}, {0, 5}, {5, 0}, {100, 900}, {900, 100}, {1, 40}, {300, 310}} {
		var pieces []piece
		for i := range c.slow {
			pieces = append(pieces, piece{tensor: embedding, off: int64(i)})
		}
		for i := range c.quick {
			pieces = append(pieces, piece{tensor: matrix, off: int64(i)})
		}
		var done [2]int
		order := interleave(pieces)
		for _, p := range order {
			kind, all := 0, c.slow
			if p.tensor == matrix {
				kind, all = 1, c.quick
			}
			if p.off != int64(done[kind]) {
				t.Fatalf("%v: got piece %d of %s, want piece %d", c, p.off, p.tensor.Name, done[kind])
			}
			done[kind]++
			if other := []int{c.slow, c.quick}[1-kind]; other > 0 {
				ahead := float64(done[kind])/float64(all) - float64(done[1-kind])/float64(other)
				if most := 2 * runOfPieces / float64(min(all, other)); ahead > most {
					t.Fatalf("%v: got %s %.2f ahead, want %.2f at most", c, p.tensor.Name, ahead, most)
				}
			}
		}
		if done != [2]int{c.slow, c.quick} {
			t.Errorf("%v: got %v", c, done)
		}
	}
}

func TestSearches(t *testing.T) {
	weights := []float32{1}
	for _, c := range []struct {
		from, to   gguf.Type
		importance []float32
		want       bool
	}{
		{gguf.F16, gguf.Q4_0, nil, false}, {gguf.F16, gguf.Q4_0, weights, true}, {gguf.F16, gguf.Q8_0, weights, false},
		{gguf.F16, gguf.Q6_K, nil, true}, {gguf.Q6_K, gguf.Q6_K, nil, false}, {gguf.F32, gguf.IQ4_XS, nil, true}, {gguf.BF16, gguf.F32, nil, false},
	} {
		p := piece{tensor: &PlannedTensor{Type: c.to, SourceType: c.from}, importance: c.importance}
		if got := p.searches(); got != c.want {
			t.Errorf("%s to %s, importance %v: got %v, want %v", c.from, c.to, c.importance != nil, got, c.want)
		}
	}
}

// TestRanges: all of every tensor is announced, once.
func TestRanges(t *testing.T) {
	tensors := []PlannedTensor{
		{Name: "a", SourceName: "x", Type: gguf.Q6_K, SourceType: gguf.F16, NE: []int64{256, 5000}, SourceBytes: 256 * 5000 * 2},
		{Name: "b", SourceName: "y", Type: gguf.F32, SourceType: gguf.F32, NE: []int64{70}, SourceBytes: 280},
		{Name: "c", SourceName: "z", Type: gguf.Q4_0, SourceType: gguf.F16, NE: []int64{256, 9000}, SourceBytes: 256 * 9000 * 2},
	}
	got := map[string]int64{}
	list := ranges(interleave(cut(tensors)))
	slices.SortStableFunc(list, func(a, b gguf.Range) int { return int(a.Begin - b.Begin) })
	for _, r := range list {
		if r.Begin != got[r.Name] {
			t.Errorf("%s: got a range from %d, want one from %d", r.Name, r.Begin, got[r.Name])
		}
		got[r.Name] = r.End
	}
	for _, tensor := range tensors {
		if got[tensor.SourceName] != tensor.SourceBytes {
			t.Errorf("%s: got ranges to %d, want to %d", tensor.SourceName, got[tensor.SourceName], tensor.SourceBytes)
		}
	}
}
