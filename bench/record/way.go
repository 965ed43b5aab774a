package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

// way is one of the things that people want done, in one or several steps.
type way struct {
	name  string
	tool  string
	tasks []string
	color int // of plots; negative: in tables only
}

// ways are the rows of the tables and the lines of the plots. A copy of the input is the yardstick.
var ways = []way{
	{"folder → f16", figure.Ours, []string{"convert f16"}, 0},
	{"folder → f16, reference", figure.Reference, []string{"convert f16"}, 1},
	{"folder → q4_0", figure.Ours, []string{"convert q4_0"}, 2},
	{"folder → q4_0, reference", figure.Reference, []string{"convert f16", "quantize q4_0"}, 3},
	{"folder + adapter → q4_0", figure.Ours, []string{"convert + adapter q4_0"}, 4},
	{"folder + adapter → q4_0, reference", figure.Reference, []string{"merge", "convert f16 of the merge", "quantize q4_0 of the merge"}, 5},
	{"f16 file → q4_0", figure.Ours, []string{"quantize q4_0"}, 6},
	{"f16 file → q4_0, reference", figure.Reference, []string{"quantize q4_0"}, 7},
	{"f16 file → q4_K_M", figure.Ours, []string{"quantize q4_K_M"}, 8},
	{"f16 file → q4_K_M, reference", figure.Reference, []string{"quantize q4_K_M"}, 9},
	{"f16 file → q4_0 in memory", figure.Ours, []string{"quantize q4_0 to memory"}, -1},
	{"f16 file → q4_0 in memory, reference", figure.Reference, []string{"quantize q4_0 to memory"}, -1},
	{"folder → q4_0 in memory", figure.Ours, []string{"convert q4_0 to memory"}, -1},
	{"folder → q4_0 in memory, reference", figure.Reference, []string{"convert f16", "quantize q4_0 to memory"}, -1},
	{"folder + adapter → q4_0 in memory", figure.Ours, []string{"convert + adapter q4_0 to memory"}, -1},
	{"folder + adapter → q4_0 in memory, reference", figure.Reference, []string{"merge", "convert f16 of the merge", "quantize q4_0 to memory"}, -1},
}

// pairs are ways of ours beside the reference's and the copy that reads the same.
var pairs = []struct {
	name         string
	ours, theirs int
	copy         string
}{
	{"folder → f16", 0, 1, "cp of the folder"},
	{"folder → q4_0", 2, 3, "cp of the folder, again"},
	{"folder → q4_0 in memory", 12, 13, "cp of the folder, again"},
	{"folder + adapter → q4_0", 4, 5, "cp of the folder, again"},
	{"folder + adapter → q4_0 in memory", 14, 15, "cp of the folder, again"},
	{"f16 file → q4_0", 6, 7, "cp of the f16 file"},
	{"f16 file → q4_0 in memory", 10, 11, "cp of the f16 file"},
	{"f16 file → q4_K_M", 8, 9, "cp of the f16 file"},
}

// shapes are those that were measured, in order of size.
func (r record) shapes() []string {
	var out []string
	for _, s := range r.Steps {
		if !s.Cold && !slices.Contains(out, s.Shape) {
			out = append(out, s.Shape)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return int(r.input(a) - r.input(b)) })
	return out
}

// input is the size of a shape's folder.
func (r record) input(shape string) int64 {
	if s := r.step(shape, figure.Copy, "cp of the folder"); s != nil {
		return s.Input
	}
	return 0
}

func (r record) step(shape, tool, task string) *figure.Step {
	for i, s := range r.Steps {
		if s.Shape == shape && s.Tool == tool && s.Task == task && !s.Cold {
			return &r.Steps[i]
		}
	}
	return nil
}

// sum gives the seconds and the most memory of a way; false if a step was not measured. The medians of its steps are
// added up, and so are the shortest and the longest times.
func (r record) sum(shape string, w way) (wall figure.Spread, rss float64, ok bool) {
	for _, task := range w.tasks {
		s := r.step(shape, w.tool, task)
		if s == nil || len(s.Costs) == 0 {
			return wall, rss, false
		}
		one := s.Of(figure.Wall)
		wall.Min, wall.Median, wall.Max = wall.Min+one.Min, wall.Median+one.Median, wall.Max+one.Max
		rss = max(rss, s.Of(peak).Max)
	}
	return wall, rss, true
}

// row is a line of a table: a way beside the reference's and beside a copy of its input.
type row struct {
	shape, name          string
	ours, theirs, copied string
	timesCopy, faster    string
	memory, theirMemory  string
	size                 int64
	repeated             bool // ours is of several runs
}

func (r record) rows() []row {
	var rows []row
	for _, shape := range r.shapes() {
		for _, p := range pairs {
			wall, rss, ok := r.sum(shape, ways[p.ours])
			if !ok {
				continue
			}
			one := row{shape: shape, name: p.name, repeated: wall.Min < wall.Max, ours: spread(wall, 2), memory: gigabytes(rss),
				theirs: "–", copied: "–", timesCopy: "–", faster: "–", theirMemory: "–"}
			if theirs, memory, ok := r.sum(shape, ways[p.theirs]); ok {
				one.theirs, one.theirMemory, one.faster = spread(theirs, 1), gigabytes(memory), fmt.Sprintf("%.1f×", theirs.Median/wall.Median)
			}
			if c := r.step(shape, figure.Copy, p.copy); c != nil {
				one.size, one.copied, one.timesCopy = c.Input, spread(c.Of(figure.Wall), 2), fmt.Sprintf("%.1f", wall.Median/c.Of(figure.Wall).Median)
			}
			rows = append(rows, one)
		}
	}
	return rows
}

func gigabytes(bytes float64) string { return fmt.Sprintf("%.2f", bytes/1e9) }

// wayTable is the comparison that matters.
func wayTable(r record) string {
	rows := r.rows()
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n### From a folder to a quantized file\n\nreference: convert_hf_to_gguf.py, then llama-quantize; with an adapter PEFT's merge before them; its seconds are the sum, " +
		"its memory the largest. persona-gguf waits until its output is on the disk before that takes its name; `cp` and the reference tools do not (see the row of `cp` with `sync` below). In memory: the q4_0 file goes to a file system in memory; the reference's files before it still go to the disk.\n\n| shape | what | GB | `cp` s | persona-gguf s | × `cp` | reference s | faster | GB of memory | reference |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, w := range rows {
		fmt.Fprintf(&b, "| %s | %s | %.2f | %s | %s | %s | %s | %s | %s | %s |\n",
			w.shape, w.name, float64(w.size)/1e9, w.copied, w.ours, w.timesCopy, w.theirs, w.faster, w.memory, w.theirMemory)
	}
	return b.String()
}
