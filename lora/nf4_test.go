package lora

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// nf4Values are the numbers of testdata/make_nf4_golden.py.
func nf4Values(kind string, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		h := uint32(uint64(i)*2654435761 + 12345)
		h ^= h >> 15
		v[i] = float32(float64(h)/2147483648 - 1)
		v[i] *= float32(float32(0.05) * float32(1+float32(i/64%37)))
		if kind != "odd" {
			continue
		}
		switch i / 64 % 8 {
		case 1:
			v[i] = 0
		case 2:
			v[i] = 0.75
		case 3:
			v[i] *= float32(math.Pow(2, -70))
		case 4:
			if i%64 == 5 {
				v[i] = 3e4
			}
		case 5:
			v[i] = float32(1 - 2*((i+1)%2))
		}
	}
	return v
}

type nf4Golden struct {
	Cases []struct {
		Kind        string
		N           int
		DType       safetensors.DType
		DoubleQuant bool `json:"double_quant"`
		Offset      uint32
		SHA256      string
	}
}

// TestNF4 compares with bitsandbytes bit for bit, in odd pieces.
func TestNF4(t *testing.T) {
	data, err := os.ReadFile("testdata/nf4.golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden nf4Golden
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Cases) < 90 {
		t.Fatalf("got %d cases, want all", len(golden.Cases))
	}
	for _, c := range golden.Cases {
		t.Run(fmt.Sprintf("%s/%d/%s/%v", c.Kind, c.N, c.DType, c.DoubleQuant), func(t *testing.T) {
			v := nf4Values(c.Kind, c.N)
			round(v, c.DType)
			read := func(dst []float32, first int64) error { copy(dst, v[first:]); return nil }
			options := NF4Options{DoubleQuant: c.DoubleQuant}
			q, err := NewNF4(int64(c.N), read, options)
			if err != nil {
				t.Fatal(err)
			}
			if c.DoubleQuant && c.N/64 < 32768 {
				if got := math.Float32bits(mean(q.absmax)); got != c.Offset {
					t.Errorf("offset: got bits %08x, want %08x", got, c.Offset)
				}
			}
			if c.DoubleQuant {
				offset := math.Float32frombits(c.Offset)
				options.Offset = &offset
				if q, err = NewNF4(int64(c.N), read, options); err != nil {
					t.Fatal(err)
				}
			}
			const piece = 1001 // no multiple of a block
			for first := 0; first < len(v); first += piece {
				q.Apply(v[first:min(first+piece, len(v))], int64(first), c.DType)
			}
			out := make([]byte, int64(len(v))*c.DType.Size())
			if err := encode(out, v, c.DType); err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(out); hex.EncodeToString(sum[:]) != c.SHA256 {
				t.Errorf("got other bytes than bitsandbytes")
			}
		})
	}
}

// TestNF4GPU: the exact middles differ from the CPU's table for some numbers, whose
// level is then no further away than by a step of that table.
func TestNF4GPU(t *testing.T) {
	differ := 0
	for i := range 1 << 16 {
		x := float32(math.Sin(float64(i)))
		a, b := mapLevels.nearest(x), tableLevel(x)
		if a != b {
			differ++
		}
		far := func(level int) float64 { return math.Abs(float64(x) - float64(mapLevels.at[level])) }
		if far(a) > far(b) || far(b) > far(a)+2.0/tableSize {
			t.Fatalf("%v: levels %d and %d: distances %v and %v", x, a, b, far(a), far(b))
		}
	}
	if differ == 0 {
		t.Error("got no difference, want some")
	}
}

// TestNF4ReadFails gives the error of the sweep.
func TestNF4ReadFails(t *testing.T) {
	if _, err := NewNF4(100, func([]float32, int64) error { return os.ErrClosed }, NF4Options{}); err != os.ErrClosed {
		t.Errorf("got %v, want the reader's error", err)
	}
}
