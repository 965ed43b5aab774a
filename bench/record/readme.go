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

// writeReadme puts the two tables that matter into a README.
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
	return os.WriteFile(path, []byte(head+readmeBegin+readmeTables(path, records)+readmeEnd+tail), 0o644)
}

// words are what a README says around the tables.
type words struct{ times, rates, command string }

var english = words{
	times: "%s, input in the page cache, seconds:\n\n| Qwen3 | | `cp` | persona-gguf | reference | faster | GB of memory | reference |",
	rates: "%s, tokens per second; pp and tg beside llama-bench, N dialogues at once (whole answers, sampled) beside llama-batched-bench:\n\n" +
		"| | | N | persona-gguf | reference | ratio |",
	command: "makes the models, runs all of it on your machine and writes [docs/benchmarks.md](docs/benchmarks.md).",
}

var korean = words{
	times: "%s, 입력은 페이지 캐시에 있음, 초:\n\n| Qwen3 | | `cp` | persona-gguf | 기준 도구 | 배 | 메모리 GB | 기준 도구 |",
	rates: "%s, 초당 토큰. pp와 tg는 llama-bench와, 한꺼번에 N개의 대화(전체 답, 샘플링 포함)는 llama-batched-bench와 비교:\n\n" +
		"| | | N | persona-gguf | 기준 도구 | 비율 |",
	command: "이 명령은 모델을 만들고 모든 비교를 이 컴퓨터에서 실행한 뒤 [docs/benchmarks.md](docs/benchmarks.md)를 씁니다.",
}

// koreanWays are the rows' names in the Korean README.
var koreanWays = strings.NewReplacer("folder + adapter", "폴더 + 어댑터", "folder", "폴더", "f16 file", "f16 파일")

// readmeTables are those of the machines with most figures, in the language of the file.
func readmeTables(path string, records []record) string {
	w, ways := english, strings.NewReplacer()
	if strings.HasSuffix(path, ".ko.md") {
		w, ways = korean, koreanWays
	}
	var b strings.Builder
	var shapes []string // of the figures shown, for the command under them
	if r := most(records, func(r record) int { return len(r.rows()) }); r != nil {
		fmt.Fprintf(&b, "\n"+w.times+"\n|---|---|---|---|---|---|---|---|\n", r.title())
		for _, x := range mostCompared(r.rows()) {
			shapes = append(shapes, x.shape)
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", x.shape, ways.Replace(x.name), x.copied, x.ours, x.theirs, x.faster, x.memory, x.theirMemory)
		}
	}
	if r := most(records, func(r record) int { return len(r.Rates) }); r != nil {
		for _, rate := range r.Rates {
			shape, _, _ := strings.Cut(rate.Model, " ")
			shapes = append(shapes, shape)
		}
		fmt.Fprintf(&b, "\n"+w.rates+"\n|---|---|---|---|---|---|\n", r.title())
		for _, line := range strings.Split(rateTable(*r), "\n") {
			for _, test := range []string{" pp", " tg", " decode |"} {
				if f := strings.SplitN(line, "|", 4); len(f) == 4 && strings.HasPrefix(f[2]+"|", test) {
					b.WriteString(line + "\n")
				}
			}
		}
	}
	slices.Sort(shapes)
	b.WriteString("\n    ./build.sh bench -shapes " + strings.Join(slices.Compact(shapes), ",") + "\n\n" + w.command + "\n")
	return b.String()
}

// mostCompared are the rows of the shape with most figures of the reference, of several one that was measured more than
// once, then the last one, without those that leave the disk out.
func mostCompared(rows []row) []row {
	shapes, most := map[string][]row{}, 0
	var best []row
	for _, x := range rows {
		if x.theirs != "–" && !strings.HasSuffix(x.name, "in memory") {
			shapes[x.shape] = append(shapes[x.shape], x)
		}
		figures := 2 * len(shapes[x.shape])
		if figures > 0 && shapes[x.shape][0].repeated {
			figures++
		}
		if figures > 0 && figures >= most {
			best, most = shapes[x.shape], figures
		}
	}
	return best
}

// most is the first record with the largest number, nil if all have none.
func most(records []record, number func(record) int) *record {
	var best *record
	for i := range records {
		if n := number(records[i]); n > 0 && (best == nil || n > number(*best)) {
			best = &records[i]
		}
	}
	return best
}
