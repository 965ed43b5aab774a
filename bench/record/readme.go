package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// The tables of the README stand between these marks.
const (
	readmeBegin = "<!-- benchmarks: written by ./build.sh bench -->\n"
	readmeEnd   = "<!-- end of benchmarks -->\n"
)

// writeReadme puts the two tables that matter, of the first machine that has them, into the README.
func writeReadme(path string, records []record) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(text), readmeBegin)
	_, tail, closed := strings.Cut(rest, readmeEnd)
	if !found || !closed {
		return fmt.Errorf("%s: the marks of the benchmarks are missing: want %q and %q", path, readmeBegin, readmeEnd)
	}
	return os.WriteFile(path, []byte(head+readmeBegin+readmeTables(records)+readmeEnd+tail), 0o644)
}

func readmeTables(records []record) string {
	var b strings.Builder
	if i := slices.IndexFunc(records, func(r record) bool { return len(r.rows()) > 0 }); i >= 0 {
		r := records[i]
		fmt.Fprintf(&b, "\n%s, input in the page cache, seconds:\n\n| Qwen3 | | `cp` | persona-gguf | reference | faster | GB of memory | reference |\n|---|---|---|---|---|---|---|---|\n", r.title())
		for _, w := range r.rows() {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", w.shape, w.name, w.copied, w.ours, w.theirs, w.faster, w.memory, w.theirMemory)
		}
	}
	if i := slices.IndexFunc(records, func(r record) bool { return len(r.Rates) > 0 }); i >= 0 {
		r := records[i]
		fmt.Fprintf(&b, "\n%s, tokens per second; pp and tg beside llama-bench, N dialogues at once (whole answers, sampled) beside llama-batched-bench:\n\n| | | N | persona-gguf | reference | ratio |\n|---|---|---|---|---|---|\n", r.title())
		for _, line := range strings.Split(rateTable(r), "\n") {
			for _, test := range []string{" pp", " tg", " decode |"} {
				if f := strings.SplitN(line, "|", 4); len(f) == 4 && strings.HasPrefix(f[2]+"|", test) {
					b.WriteString(line + "\n")
				}
			}
		}
	}
	b.WriteString("\n    ./build.sh bench -shapes 0.6b,4b\n\nmakes the models, runs all of it on your machine and writes [docs/benchmarks.md](docs/benchmarks.md).\n")
	return b.String()
}
