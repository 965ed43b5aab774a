package bench

import (
	"fmt"
	"strconv"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"
)

// Params is the grid of tests: every combination of the lists is one test. The defaults, from
// [DefaultParams], are llama-bench's.
type Params struct {
	Models    []string
	NPrompt   []int    // tokens of prompt processing tests (pp); 0 is no test
	NGen      []int    // tokens of text generation tests (tg); 0 is no test
	PG        [][2]int // prompt and generation in one timing
	NDepth    []int    // tokens in the KV cache before the test
	NBatch    []int
	NUBatch   []int
	NThreads  []int
	GPULayers []int // -1: all
	Reps      int
	NoWarmup  bool
}

// DefaultParams returns llama-bench's defaults, without a model: pp512 and tg128, five repetitions.
func DefaultParams() Params {
	return Params{
		NPrompt:   []int{512},
		NGen:      []int{128},
		NDepth:    []int{0},
		NBatch:    []int{2048},
		NUBatch:   []int{512},
		NThreads:  []int{llama.DefaultThreads()},
		GPULayers: []int{-1},
		Reps:      5,
	}
}

// Limits on what a test may ask for, so that a slip of the finger is an error and not a dead machine.
const (
	maxTokens  = 1 << 24
	maxThreads = 1 << 12
	maxList    = 1 << 10
)

// Check looks at every number, and that there is a model and a test. [Run] does it too.
func (p *Params) Check() error {
	for _, c := range []struct {
		name     string
		values   []int
		min, max int
	}{
		{"n_prompt", p.NPrompt, 0, maxTokens}, {"n_gen", p.NGen, 0, maxTokens}, {"n_depth", p.NDepth, 0, maxTokens},
		{"n_batch", p.NBatch, 1, maxTokens}, {"n_ubatch", p.NUBatch, 1, maxTokens},
		{"n_threads", p.NThreads, 1, maxThreads}, {"n_gpu_layers", p.GPULayers, -1, 1 << 16},
		{"repetitions", []int{p.Reps}, 1, 1 << 16},
	} {
		for _, v := range c.values {
			if v < c.min || v > c.max {
				return fmt.Errorf("bench: %s: got %d, want %d to %d", c.name, v, c.min, c.max)
			}
		}
	}
	for _, pg := range p.PG {
		if pg[0] < 0 || pg[0] > maxTokens || pg[1] < 0 || pg[1] > maxTokens {
			return fmt.Errorf("bench: pg: got %d,%d, want 0 to %d for both", pg[0], pg[1], maxTokens)
		}
	}
	if len(p.Models) == 0 {
		return fmt.Errorf("bench: models: got none, want at least one")
	}
	if len(p.instances()) == 0 {
		return fmt.Errorf("bench: tests: got none, want a prompt or a generation length above 0")
	}
	return nil
}

// instance is one test of the grid.
type instance struct {
	model                              string
	nPrompt, nGen, nDepth              int
	nBatch, nUBatch, nThreads, nLayers int
}

// sameModel tells whether a model loaded for i serves j.
func (i instance) sameModel(j instance) bool { return i.model == j.model && i.nLayers == j.nLayers }

// instances spans the grid in llama-bench's order, which loads each model as seldom as possible.
func (p *Params) instances() []instance {
	var all []instance
	for _, model := range p.Models {
		for _, layers := range p.GPULayers {
			for _, batch := range p.NBatch {
				for _, ubatch := range p.NUBatch {
					for _, threads := range p.NThreads {
						for _, depth := range p.NDepth {
							for _, test := range p.tests() {
								all = append(all, instance{model, test[0], test[1], depth, batch, ubatch, threads, layers})
							}
						}
					}
				}
			}
		}
	}
	return all
}

// tests lists prompt and generation lengths: first the pp tests, then tg, then both in one.
func (p *Params) tests() [][2]int {
	var tests [][2]int
	for _, n := range p.NPrompt {
		tests = append(tests, [2]int{n, 0})
	}
	for _, n := range p.NGen {
		tests = append(tests, [2]int{0, n})
	}
	tests = append(tests, p.PG...)
	kept := tests[:0]
	for _, t := range tests {
		if t != [2]int{} {
			kept = append(kept, t)
		}
	}
	return kept
}

// ParseRange reads a list of numbers and ranges as llama-bench does: "512", "128,512", "1-4" (1,2,3,4),
// "0-1024+256", "128-1024*2". Numbers are not negative; a leading "-1" is allowed when negative is.
func ParseRange(s string, negative bool) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(s, ",") {
		numbers, err := parsePart(part, negative)
		if err != nil {
			return nil, fmt.Errorf("range %q: %w", s, err)
		}
		if list = append(list, numbers...); len(list) > maxList {
			return nil, fmt.Errorf("range %q: got more than %d numbers", s, maxList)
		}
	}
	return list, nil
}

// parsePart reads first[-last[(+|*)step]].
func parsePart(s string, negative bool) ([]int, error) {
	if negative && strings.HasPrefix(s, "-") {
		n, err := parseNumber(s[1:])
		return []int{-n}, err
	}
	head, tail, ranged := strings.Cut(s, "-")
	first, err := parseNumber(head)
	if err != nil || !ranged {
		return []int{first}, err
	}
	op, step := byte('+'), 1
	if at := strings.IndexAny(tail, "+*"); at >= 0 {
		op = tail[at]
		if step, err = parseNumber(tail[at+1:]); err != nil {
			return nil, err
		}
		tail = tail[:at]
	}
	last, err := parseNumber(tail)
	if err != nil {
		return nil, err
	}
	var list []int
	for n := first; n <= last; {
		if list = append(list, n); len(list) > maxList {
			return nil, fmt.Errorf("got more than %d numbers", maxList)
		}
		next := n + step
		if op == '*' {
			next = n * step
		}
		if next <= n {
			return nil, fmt.Errorf("got step %c%d, want one that goes up", op, step)
		}
		n = next
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("got %d to %d, want the larger number last", first, last)
	}
	return list, nil
}

func parseNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("got %q, want a whole number", s)
	}
	return int(n), nil
}

// ParsePG reads llama-bench's -pg: "512,128" is a prompt of 512 tokens, then 128 generated ones.
func ParsePG(s string) ([2]int, error) {
	prompt, gen, ok := strings.Cut(s, ",")
	if !ok {
		return [2]int{}, fmt.Errorf("pg %q: got one number, want two, as in 512,128", s)
	}
	p, err := parseNumber(prompt)
	if err != nil {
		return [2]int{}, fmt.Errorf("pg %q: %w", s, err)
	}
	g, err := parseNumber(gen)
	if err != nil {
		return [2]int{}, fmt.Errorf("pg %q: %w", s, err)
	}
	return [2]int{p, g}, nil
}
