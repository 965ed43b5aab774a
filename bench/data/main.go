// Command data measures parse, prepare and check on raw dialogues by the tens of thousands: wall time and the most
// resident memory of each command.
//
//	go run ./bench/data -program bin/persona-gguf
//
// The dialogues are made of random syllables in the shapes that real files have, about 3 KB each with prompt; the same
// ones every time.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

const card = `version: 1
id: snow_white
name: 백설공주
aliases: [백설공스]
user: {name: 사용자, aliases: [방문자], forbidden_address: [왕자님]}
cast:
  - {name: 난쟁이, aliases: [난쟁이들]}
  - {name: 왕비, aliases: [계모]}
persona: |
  당신은 백설공주입니다. 숲속 작은 집에서 일곱 난쟁이와 함께 살았어요.
  언제나 백설공주로서 공손하게 대답하세요.
  {REST}
forbidden: [Qwen, 언어 모델]
protective_topics: [스마트폰, 파이썬]
`

func main() {
	rows := flag.Int("n", 40_000, "dialogues")
	program := flag.String("program", filepath.Join("bin", "persona-gguf"), "the program to measure")
	model := flag.String("model", "", "count tokens with this tokenizer too")
	path := flag.String("json", "", "also write the figures as JSON to this `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *program, *rows, *model, *path); err != nil {
		fmt.Fprintln(os.Stderr, "data: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program string, rows int, model, path string) error {
	root, err := os.MkdirTemp("", "persona-gguf")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	cardPath := filepath.Join(root, "card.yaml")
	if err := os.WriteFile(cardPath, []byte(strings.Replace(card, "{REST}", strings.Repeat("숲의 아침과 작은 집을 늘 이야기합니다. ", 35), 1)), 0o644); err != nil {
		return err
	}
	size, err := writeRows(filepath.Join(root, "result", "2025-12-10", "gen_dialogue", "dialogue_m-temp-0.7-char-snow_white-korean.jsonl"), rows)
	if err != nil {
		return err
	}
	fmt.Printf("%d dialogues, %.0f MB\n", rows, float64(size)/1e6)
	commands := [][]string{{"parse", "dialogue"}, {"prepare"}, {"check", "--no-protective", "--html", filepath.Join(root, "check.html")}}
	if model != "" {
		commands = append(commands, []string{"prepare", "--model", model})
	}
	var all []figure.Stage
	for _, args := range commands {
		c, err := figure.Process(ctx, append(append([]string{program}, args...), "--root", root, "--persona", cardPath)...)
		if err != nil {
			return err
		}
		name := args[0]
		if slices.Contains(args, "--model") {
			name += " --model"
		}
		all = append(all, figure.Stage{Name: name, Rows: rows, Bytes: size, Costs: []figure.Cost{c}})
		fmt.Printf("%-16s %6.1f s  %6.1f s of CPU  %6.1f MB/s  peak %4d MiB\n", name, c.Wall, c.User+c.System, float64(size)/1e6/c.Wall, c.PeakRSS>>20)
	}
	return figure.Write(path, all)
}

// row is a raw row.
type row struct {
	ID          string            `json:"gen_answer_id"`
	Prompt      string            `json:"prompt"`
	Completions string            `json:"completions"`
	CheckResult bool              `json:"check_result"`
	Scene       map[string]string `json:"scene_data"`
}

func writeRows(path string, n int) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return 0, err
	}
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	m := maker{rand.New(rand.NewPCG(1, 2))}
	for i := range n {
		if err := e.Encode(m.row(i)); err != nil {
			return 0, err
		}
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), f.Close()
}

// maker makes rows.
type maker struct{ rng *rand.Rand }

func (m *maker) words(n int, end string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		for range 1 + m.rng.IntN(4) {
			b.WriteRune(rune('가' + 28*m.rng.IntN(399) + []int{0, 0, 4, 8, 16, 21}[m.rng.IntN(6)]))
		}
	}
	return b.String() + end
}

func (m *maker) row(i int) row {
	background := m.words(18, "다. ") + m.words(12, "다.")
	var b strings.Builder
	b.WriteString([]string{"배경:\n", "**배경:** ", "## 배경\n", ""}[i%4] + background + "\n\n")
	forms := []string{"%s (말하기)\n%s\n\n", "**%s (말하기)**\n%s\n\n", "## %s (말하기)\n\n%s\n\n", "**%s:** %s\n\n", "%s (미소 지으며): \"%s\"\n\n", "%s\n(말하기)\n%s\n"}
	for k := range 10 {
		who := []string{"사용자", "백설공주"}[k%2]
		if m.rng.IntN(12) == 0 {
			who = []string{"난쟁이들", "늑대", "캐릭터2"}[m.rng.IntN(3)]
		}
		text := m.words(5+m.rng.IntN(5), "요. ") + m.words(4+m.rng.IntN(5), "어요.")
		if k == 1 && i%3 == 0 {
			text = "저는 백설공주예요. " + text
		}
		if k == 0 && i%3 == 0 {
			text = "너는 누구야?"
		}
		fmt.Fprintf(&b, forms[i%len(forms)], who, text)
		if m.rng.IntN(8) == 0 {
			b.WriteString("(" + m.words(5, "다") + ".)\n\n")
		}
	}
	scene := map[string]string{"location": "숲 " + fmt.Sprint(i/20), "background": fmt.Sprint("장면 ", i/20), "type": []string{"일상", "만남", "대화"}[i/20%3]}
	return row{fmt.Sprintf("%08x", i), "맥락:\n" + m.words(90, "다.") + "\n\n- 유형: " + scene["type"] + "\n현재는 " + fmt.Sprint(i%20+1) + "번째 대화입니다.", b.String(), true, scene}
}
