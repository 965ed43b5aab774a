// Command kernels compares the row encoders of native/kernels with ggml's own, on one thread: the bytes of every block,
// and the time for a weight. It prints a Markdown table.
//
//	go run ./bench/kernels                      # 16 million weights of every type
//	go run ./bench/kernels -weights 1000000000  # as many as a model's large tensor has; hours
//
// It is a benchmark, not a test: nothing in the test run calls it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/persona-gguf/persona-gguf/bench/figure"
)

const (
	rowLen  = 4096
	rows    = 8 // encoded by a call: in the second cache
	typeF32 = 0
)

// types have encoders in native/kernels.
var types = []llama.TensorType{2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30}

func main() {
	weights := flag.Int64("weights", 1<<24, "weights of each type")
	seed := flag.Uint64("seed", 1, "seed of the weights")
	only := flag.String("types", "", "types to compare, such as q3_K,q6_K; empty: all")
	path := flag.String("json", "", "also write the figures as JSON to this `file`")
	flag.Parse()
	if err := run(*weights, *seed, *path, *only); err != nil {
		fmt.Fprintln(os.Stderr, "kernels: error:", err)
		os.Exit(1)
	}
}

func run(weights int64, seed uint64, path, only string) error {
	var all []figure.Kernel
	runtime.LockOSThread()
	sets := llama.AvailableKernels()
	fmt.Printf("ns for a weight, and how many times ggml's speed; %d weights of each type, one thread\n\n| type | imatrix | ggml |", weights)
	for _, set := range sets[1:] {
		fmt.Printf(" %s |", set)
	}
	fmt.Print("\n|---|---|---|")
	for range sets[1:] {
		fmt.Print("---|")
	}
	fmt.Println()
	for _, t := range types {
		if only != "" && !slices.Contains(strings.Split(only, ","), t.String()) {
			continue
		}
		for _, weighted := range []bool{false, true} {
			if weighted && (t == 8 || t == 30) {
				continue // their encoders do not look at importances
			}
			times, err := measure(t, weighted, sets, weights, seed)
			if err != nil {
				return err
			}
			fmt.Printf("| %s | %v | %.2f |", t, weighted, times[0])
			for _, ns := range times[1:] {
				fmt.Printf(" %.2f (%.1f×) |", ns, times[0]/ns)
			}
			fmt.Println()
			k := figure.Kernel{Type: t.String(), Imatrix: weighted, Weights: weights, NS: map[string]float64{}}
			for i, set := range sets {
				k.NS[set] = times[i]
			}
			all = append(all, k)
		}
	}
	return errors.Join(llama.UseKernels(""), figure.Write(path, all))
}

// measure encodes the same rows with every set in turn, and gives the nanoseconds for a weight of each.
func measure(t llama.TensorType, weighted bool, sets []string, weights int64, seed uint64) ([]float64, error) {
	rng := rand.New(rand.NewPCG(seed, uint64(t)))
	x := make([]float32, rows*rowLen)
	var importance []float32
	if weighted {
		importance = make([]float32, rowLen)
		for i := range importance {
			importance[i] = float32(rng.ExpFloat64())
		}
	}
	size, err := t.RowSize(rowLen)
	if err != nil {
		return nil, err
	}
	want, got := make([]byte, rows*size), make([]byte, rows*size)
	total := make([]time.Duration, len(sets))
	done := int64(0)
	for ; done < weights; done += int64(len(x)) {
		for i := range x {
			x[i] = float32(rng.NormFloat64() * 0.02)
		}
		for i, set := range sets {
			if err := llama.UseKernels(set); err != nil {
				return nil, err
			}
			out := got
			if i == 0 {
				out = want
			}
			start := time.Now()
			if err := llama.EncodeFloats(out, uint32(t), x, rowLen, importance); err != nil {
				return nil, err
			}
			total[i] += time.Since(start)
			if !bytes.Equal(out, want) {
				return nil, fmt.Errorf("%s, %s: other bytes than ggml's after %d weights", t, set, done)
			}
		}
	}
	ns := make([]float64, len(sets))
	for i, d := range total {
		ns[i] = float64(d.Nanoseconds()) / float64(done)
	}
	return ns, nil
}
