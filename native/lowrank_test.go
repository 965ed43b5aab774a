package llama

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestAddLowRank compares every set of kernels with plain Go, bit for bit: shapes around the
// width of vectors, and nothing written beyond.
func TestAddLowRank(t *testing.T) {
	defer useKernels(t, "")
	for _, set := range AvailableKernels() {
		useKernels(t, set)
		t.Run(set, testAddLowRank)
	}
}

func testAddLowRank(t *testing.T) {
	for _, shape := range [][3]int{{1, 1, 1}, {3, 7, 2}, {2, 255, 3}, {5, 256, 16}, {4, 257, 8}, {9, 1000, 4}, {7, 64, 16}, {5, 1100, 16}, {6, 530, 129}, {5, 300, 600}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			rows, cols, r := shape[0], shape[1], shape[2]
			rng := rand.New(rand.NewPCG(1, uint64(cols)))
			fill := func(n int) []float32 {
				v := make([]float32, n)
				for i := range v {
					v[i] = float32(rng.NormFloat64())
				}
				return v
			}
			const guard = 8
			w := fill(rows*cols + guard)
			b, a := fill(rows*r), fill(r*cols)
			want := append([]float32(nil), w...)
			const scale = float32(1.7)
			for i := range rows {
				for j := range cols {
					var sum float32
					for k := range r {
						sum += float32(b[i*r+k] * a[k*cols+j])
					}
					want[i*cols+j] += float32(scale * sum)
				}
			}
			testLowRankRows(t, w[:rows*cols], b, a, rows, cols, r, scale)
			if err := AddLowRank(w[:rows*cols], b, a, rows, cols, r, scale); err != nil {
				t.Fatal(err)
			}
			for i := range w {
				if math.Float32bits(w[i]) != math.Float32bits(want[i]) {
					t.Fatalf("element %d: got %v, want %v", i, w[i], want[i])
				}
			}
		})
	}
}

// testLowRankRows compares the rows that are updated where they lie with the three steps one after the other.
func testLowRankRows(t *testing.T, w, b, a []float32, rows, cols, r int, scale float32) {
	t.Helper()
	rowLen := int64(cols)
	for _, kind := range []struct {
		typ  uint32
		size int
	}{{0, 4}, {1, 2}, {30, 2}} { // F32, F16, BF16
		typ := kind.typ
		got := make([]byte, len(w)*kind.size)
		if err := EncodeFloats(got, typ, w, rowLen, nil); err != nil {
			t.Fatal(err)
		}
		v := make([]float32, len(w))
		if err := DecodeRows(v, got, typ, rowLen); err != nil {
			t.Fatal(err)
		}
		if err := AddLowRank(v, b, a, rows, cols, r, scale); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, len(got))
		if err := EncodeFloats(want, typ, v, rowLen, nil); err != nil {
			t.Fatal(err)
		}
		if err := AddLowRankRows(got, typ, b, a, rows, cols, r, scale); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: rows updated where they lie differ from decoded, updated and encoded ones", TensorType(typ))
		}
	}
}

// TestAddLowRankShapes refuses what does not fit.
func TestAddLowRankShapes(t *testing.T) {
	v := make([]float32, 12)
	for _, c := range []struct{ w, b, a, rows, cols, r int }{
		{12, 3, 4, 3, 4, 2}, {11, 3, 4, 3, 4, 1}, {12, 3, 5, 3, 4, 1}, {0, 0, 0, 0, 0, 0}, {12, 3, 4, -3, -4, 1},
	} {
		if AddLowRank(v[:c.w], v[:c.b], v[:c.a], c.rows, c.cols, c.r, 1) == nil {
			t.Errorf("%+v: got no error", c)
		}
		if AddLowRankRows(FloatBytes(v[:c.w]), 0, v[:c.b], v[:c.a], c.rows, c.cols, c.r, 1) == nil {
			t.Errorf("rows, %+v: got no error", c)
		}
	}
	if err := AddLowRank(nil, nil, v[:4], 0, 4, 1, 1); err != nil {
		t.Errorf("no rows: %v", err)
	}
	for _, c := range []struct {
		w int
		t uint32
	}{{7, 1}, {7, 30}, {18, 2}} {
		if AddLowRankRows(make([]byte, c.w), c.t, v[:1], v[:4], 1, 4, 1, 1) == nil {
			t.Errorf("%d bytes of type %s: got no error", c.w, TensorType(c.t))
		}
	}
}
