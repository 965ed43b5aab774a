package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

func step(shape, task, tool string, input int64, seconds ...float64) figure.Step {
	s := figure.Step{Shape: shape, Task: task, Tool: tool, Name: task, Input: input}
	for _, x := range seconds {
		s.Costs = append(s.Costs, figure.Cost{Wall: x, PeakRSS: int64(1e9 * x)})
	}
	return s
}

// twoShapes are figures that are easy to reckon with.
func twoShapes() record {
	return record{
		Machine: machine{CPU: "Some CPU", Cores: 2, Memory: 8e9, Kernels: "avx2"},
		Stamps:  map[string]stamp{"convert": {Version: "v1"}},
		Steps: []figure.Step{
			step("4b", "cp of the folder", figure.Copy, 8e9, 4), step("4b", "cp of the folder, again", figure.Copy, 8e9, 4), step("4b", "convert q4_0", figure.Ours, 8e9, 6),
			step("0.6b", "cp of the folder", figure.Copy, 1e9, 1), step("0.6b", "cp of the folder, again", figure.Copy, 1e9, 0.5, 1, 0.5), step("0.6b", "convert q4_0", figure.Ours, 1e9, 2, 1, 4),
			step("0.6b", "convert f16", figure.Reference, 1e9, 10, 20, 12), step("0.6b", "quantize q4_0", figure.Reference, 1e9, 8),
		},
		Rates: []figure.Rate{
			{Model: "0.6b q4_0", Test: "decode", N: 4, Tool: figure.Ours, Samples: []float64{90, 95, 92}},
			{Model: "0.6b q4_0", Test: "decode", N: 4, Tool: "llama-batched-bench", Samples: []float64{100}},
			{Model: "0.6b q4_0", Test: "decode", N: 8, Tool: figure.Ours, Samples: []float64{150}},
		},
	}
}

func TestPage(t *testing.T) {
	docs := t.TempDir()
	if err := os.MkdirAll(filepath.Join(docs, "benchmarks"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := figure.Write(filepath.Join(docs, "benchmarks", "box.json"), twoShapes()); err != nil {
		t.Fatal(err)
	}
	readmes := []string{filepath.Join(docs, "README.md"), filepath.Join(docs, "README.ko.md")}
	for _, readme := range readmes {
		if err := os.WriteFile(readme, []byte("before\n"+readmeBegin+"outdated\n"+readmeEnd+"after\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time over its own tables
		records, err := readRecords(docs)
		if err != nil {
			t.Fatal(err)
		}
		if err := writePage(docs, strings.Join(readmes, ","), records); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	page := read("benchmarks.md")
	for _, want := range []string{
		"## Some CPU with AVX2, 2 cores",
		// medians 2 and 0.5; the reference needs 12 + 8, and at most 20 + 8
		"| 0.6b | folder → q4_0 | 1.00 | 0.50 (0.50–1.00) | 2.00 (1.00–4.00) | 4.0 | 20.0 (18.0–28.0) | 10.0× | 4.00 | 20.00 |",
		"| 4b | folder → q4_0 | 8.00 | 4.00 | 6.00 | 1.5 | – | – | 6.00 | – |",
		"| 0.6b q4_0 | decode | 4 | 92.0 (90.0–95.0) | 100.0 | 0.92 |",
		"| 0.6b q4_0 | decode | 8 | 150.0 | – | – |",
		"(benchmarks/box-time.svg)", "(benchmarks/box-memory.svg)", "(benchmarks/box-dialogues.svg)",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("page: got\n%s\nwant in it %s", page, want)
		}
	}
	if strings.Index(page, "| 0.6b | folder") > strings.Index(page, "| 4b | folder") {
		t.Error("page: got 4b first, want the shapes in order of size")
	}
	if svg := read("benchmarks/box-time.svg"); !strings.Contains(svg, "folder to q4_0, reference") {
		t.Errorf("plot: got %s", svg)
	}
	if text := read("README.ko.md"); strings.Count(text, "| 0.6b | 폴더 → q4_0 |") != 1 || strings.Count(text, "| 0.6b q4_0 | decode | 4 |") != 1 {
		t.Errorf("README.ko: got\n%s", text)
	}
	text := read("README.md")
	if !strings.HasPrefix(text, "before\n"+readmeBegin) || !strings.HasSuffix(text, readmeEnd+"after\n") || strings.Contains(text, "outdated") ||
		strings.Count(text, "| 0.6b | folder → q4_0 |") != 1 || strings.Contains(text, "| 4b |") || strings.Count(text, "| 0.6b q4_0 | decode | 4 |") != 1 ||
		!strings.Contains(text, "\n    ./build.sh bench -shapes 0.6b\n") {
		t.Errorf("README: got\n%s", text)
	}
}

func TestMostCompared(t *testing.T) {
	one := func(shape, theirs string, repeated bool) row {
		return row{shape: shape, name: "f16", theirs: theirs, repeated: repeated}
	}
	for _, c := range []struct {
		rows []row
		want string
	}{
		{[]row{one("0.6b", "1", true), one("4b", "1", true), one("8b", "1", false)}, "4b"},
		{[]row{one("0.6b", "1", true), one("4b", "1", false), one("4b", "2", false), one("8b", "–", true)}, "4b"},
		{[]row{one("0.6b", "1", false), one("8b", "1", false)}, "8b"},
		{[]row{one("0.6b", "–", true)}, ""},
	} {
		got := ""
		if best := mostCompared(c.rows); len(best) > 0 {
			got = best[0].shape
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.rows, got, c.want)
		}
	}
}

func TestReadmeWithoutMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte("text\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeReadme(path, nil); err == nil || !strings.Contains(err.Error(), "marks") {
		t.Errorf("got %v, want an error about the marks", err)
	}
}

func TestSlug(t *testing.T) {
	if got := (machine{CPU: "AMD EPYC", GPU: "NVIDIA H100 80GB, NVIDIA H100 80GB"}).slug(); !strings.HasPrefix(got, "nvidia-h100-80gb-") {
		t.Errorf("got %s", got)
	}
}
