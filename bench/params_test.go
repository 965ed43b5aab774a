package bench

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	for s, want := range map[string][]int{
		"512": {512}, "0": {0}, "128,512": {128, 512}, "1-4": {1, 2, 3, 4}, "0-1024+256": {0, 256, 512, 768, 1024},
		"128-1024*2": {128, 256, 512, 1024}, "1-8*3,5": {1, 3, 5}, "7-7": {7}, "10-14+3": {10, 13},
	} {
		if got, err := ParseRange(s, false); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	if got, err := ParseRange("-1,99,0-2", true); err != nil || !reflect.DeepEqual(got, []int{-1, 99, 0, 1, 2}) {
		t.Errorf("with -1: got %v, %v", got, err)
	}
	for _, s := range []string{"", "x", "1,", "-1", "4-1", "1-", "1-4+0", "0-4*2", "1-4*1", "1-4/2", "1.5", "99999999999", "1--2", "0-5000"} {
		if got, err := ParseRange(s, false); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", s)) {
			t.Errorf("%q: got %v, %v, want an error that names it", s, got, err)
		}
	}
}

func TestParsePG(t *testing.T) {
	if got, err := ParsePG("512,128"); err != nil || got != [2]int{512, 128} {
		t.Errorf("got %v, %v", got, err)
	}
	for _, s := range []string{"", "512", "a,1", "1,b", "1,2,3", "-1,2"} {
		if got, err := ParsePG(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, got)
		}
	}
}

// TestGrid compares the order of the tests with llama-bench's: models outermost, pp before tg before both.
func TestGrid(t *testing.T) {
	p := DefaultParams()
	p.Models, p.NPrompt, p.NGen, p.PG, p.NThreads, p.NDepth = []string{"a", "b"}, []int{512, 0}, []int{128, 64}, [][2]int{{16, 4}, {0, 0}}, []int{1, 2}, []int{0, 32}
	var got []string
	for _, in := range p.instances() {
		got = append(got, fmt.Sprintf("%s t%d d%d %d+%d", in.model, in.nThreads, in.nDepth, in.nPrompt, in.nGen))
	}
	want := []string{}
	for _, model := range p.Models {
		for _, threads := range p.NThreads {
			for _, depth := range p.NDepth {
				for _, test := range []string{"512+0", "0+128", "0+64", "16+4"} {
					want = append(want, fmt.Sprintf("%s t%d d%d %s", model, threads, depth, test))
				}
			}
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCheck(t *testing.T) {
	good := DefaultParams()
	good.Models = []string{"m.gguf"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(p *Params){
		"models":       func(p *Params) { p.Models = nil },
		"tests":        func(p *Params) { p.NPrompt, p.NGen = []int{0}, nil },
		"n_prompt":     func(p *Params) { p.NPrompt = []int{-1} },
		"n_gen":        func(p *Params) { p.NGen = []int{maxTokens + 1} },
		"n_depth":      func(p *Params) { p.NDepth = []int{-1} },
		"n_batch":      func(p *Params) { p.NBatch = []int{0} },
		"n_ubatch":     func(p *Params) { p.NUBatch = []int{0} },
		"n_threads":    func(p *Params) { p.NThreads = []int{0} },
		"n_gpu_layers": func(p *Params) { p.GPULayers = []int{-2} },
		"repetitions":  func(p *Params) { p.Reps = 0 },
		"pg":           func(p *Params) { p.PG = [][2]int{{1, -1}} },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "bench: "+want+":") {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
