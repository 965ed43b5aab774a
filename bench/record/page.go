package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

const pageHead = `# Benchmarks

Everything here comes from one command, ` + "`./build.sh bench`" + `, which makes checkpoints of Qwen3's shapes with random weights, runs
this program and the reference tools on the same files in turns, and writes this page; the raw figures are in
[benchmarks/](benchmarks/). Times are wall times, as median (min–max) of the runs; memory is the largest resident size, mapped file
pages included. Input is in the page cache unless the table says that it is not. Where both tools write the same kind of
file, the command has compared the bytes, and stops if they differ.
`

// writePage writes benchmarks.md with its plots, and the tables of the READMEs, a list with commas.
func writePage(docs, readmes string, records []record) error {
	var b bytes.Buffer
	b.WriteString(pageHead)
	for _, r := range records {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", r.title(), r.about())
		for _, part := range []func(record) string{wayTable, stepTable, coldTable, rateTable, kernelTable, stageTable} {
			b.WriteString(part(r))
		}
		plots, err := writePlots(docs, r)
		if err != nil {
			return err
		}
		for _, p := range plots {
			fmt.Fprintf(&b, "\n![%s](benchmarks/%s)\n", p.title, p.file)
		}
	}
	if err := os.WriteFile(filepath.Join(docs, "benchmarks.md"), b.Bytes(), 0o644); err != nil {
		return err
	}
	for readme := range strings.SplitSeq(readmes, ",") {
		if readme == "" {
			continue
		}
		if err := writeReadme(readme, records); err != nil {
			return err
		}
	}
	return nil
}

func (r record) title() string {
	if r.Machine.GPU != "" {
		return r.Machine.GPU
	}
	return fmt.Sprintf("%s with %s, %d cores", r.Machine.CPU, strings.ToUpper(r.Machine.Kernels), r.Machine.Cores)
}

// about is the machine and the versions.
func (r record) about() string {
	m := r.Machine
	lines := []string{fmt.Sprintf("%s with %d cores, %.0f GB of memory, %s; best row encoders: %s.", m.CPU, m.Cores, float64(m.Memory)/1e9, m.System, m.Kernels)}
	versions := []string{"llama.cpp " + m.LlamaCpp, m.Go}
	for _, name := range slices.Sorted(maps.Keys(m.Python)) {
		versions = append(versions, name+" "+m.Python[name])
	}
	lines = append(lines, "With "+strings.Join(versions, ", ")+".")
	var measured []string
	for _, name := range sectionNames {
		if s, ok := r.Stamps[name]; ok {
			measured = append(measured, fmt.Sprintf("%s on %s at %s", name, s.At.Format("2006-01-02"), s.Version))
		}
	}
	return strings.Join(append(lines, "Measured: "+strings.Join(measured, "; ")+"."), "\n")
}

// spread writes median (min–max).
func spread(s figure.Spread, digits int) string {
	if s.Min == s.Max {
		return fmt.Sprintf("%.*f", digits, s.Median)
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
}

// stepTable lists every process.
func stepTable(r record) string { return steps(r, false, "### Every step") }

func coldTable(r record) string {
	return steps(r, true, "### Input not in the page cache")
}

func steps(r record, cold bool, title string) string {
	var b strings.Builder
	for _, s := range r.Steps {
		if s.Cold != cold {
			continue
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "\n%s\n\n| shape | step | wall s | user s | system s | page faults | input MB/s | peak RSS MB |\n|---|---|---|---|---|---|---|---|\n", title)
		}
		wall := s.Of(figure.Wall)
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f | %.1f | %.0f | %.0f | %.0f |\n", s.Shape, label(s), spread(wall, 2),
			s.Of(func(c figure.Cost) float64 { return c.User }).Median, s.Of(func(c figure.Cost) float64 { return c.System }).Median,
			s.Of(func(c figure.Cost) float64 { return float64(c.MinorFaults + c.MajorFaults) }).Median,
			float64(s.Input)/1e6/wall.Median, s.Of(peak).Max/1e6)
	}
	return b.String()
}

func peak(c figure.Cost) float64 { return float64(c.PeakRSS) }

// rateTable puts our tokens per second beside the reference's.
func rateTable(r record) string {
	var b strings.Builder
	for _, ours := range r.Rates {
		if ours.Tool != figure.Ours {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\n### Tokens per second\n\nprompt, decode, whole: N dialogues at once beside llama-batched-bench, which samples nothing and makes no text; shared: " +
				"prompts that begin alike, in one cache (there -pps -kvu). computing alone, answer: one dialogue, without and with choosing a token and its text.\n\n" +
				"| model | test | N | persona-gguf | reference | ratio |\n|---|---|---|---|---|---|\n")
		}
		theirs, ratio := "–", "–"
		if i := slices.IndexFunc(r.Rates, func(f figure.Rate) bool {
			return f.Tool != figure.Ours && f.Model == ours.Model && f.Test == ours.Test && f.N == ours.N
		}); i >= 0 {
			theirs = spread(figure.Of(r.Rates[i].Samples), 1)
			ratio = fmt.Sprintf("%.2f", figure.Of(ours.Samples).Median/figure.Of(r.Rates[i].Samples).Median)
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s | %s |\n", ours.Model, ours.Test, ours.N, spread(figure.Of(ours.Samples), 1), theirs, ratio)
	}
	return b.String()
}

// kernelTable compares the row encoders with ggml's.
func kernelTable(r record) string {
	if len(r.Kernels) == 0 {
		return ""
	}
	var sets []string
	for _, set := range []string{"simd128", "avx2", "avx512"} {
		if _, ok := r.Kernels[0].NS[set]; ok {
			sets = append(sets, set)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n### Row encoders\n\nNanoseconds for a weight on one thread, and how many times ggml's speed; %d weights of each type, every byte equal to ggml's.\n\n| type | imatrix | ggml |", r.Kernels[0].Weights)
	for _, set := range sets {
		fmt.Fprintf(&b, " %s |", set)
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(sets)) + "\n")
	for _, k := range r.Kernels {
		fmt.Fprintf(&b, "| %s | %s | %.2f |", k.Type, map[bool]string{true: "yes", false: "no"}[k.Imatrix], k.NS["plain"])
		for _, set := range sets {
			fmt.Fprintf(&b, " %.2f (%.1f×) |", k.NS[set], k.NS["plain"]/k.NS[set])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// stageTable is the data pipeline.
func stageTable(r record) string {
	if len(r.Stages) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n### Data pipeline\n\n%d raw dialogues, %.0f MB.\n\n| command | wall s | CPU s | input MB/s | peak RSS MB |\n|---|---|---|---|---|\n",
		r.Stages[0].Rows, float64(r.Stages[0].Bytes)/1e6)
	for _, s := range r.Stages {
		c := s.Costs[0]
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.1f | %.0f |\n", s.Name, c.Wall, c.User+c.System, float64(s.Bytes)/1e6/c.Wall, float64(c.PeakRSS)/1e6)
	}
	return b.String()
}

// label is the name of a step with its tool, where the name alone does not say it.
func label(s figure.Step) string {
	if s.Tool == figure.Ours {
		return "**persona-gguf " + s.Name + "**"
	}
	return s.Name
}
