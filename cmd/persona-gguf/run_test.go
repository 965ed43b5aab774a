package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/persona-gguf/persona-gguf/internal/fakellm"
)

// pair is a question with the character's answer.
type pair struct{ question, answer string }

// readPairs reads the questions and answers that the example's persona was trained on.
func readPairs(ts *testscript.TestScript) (out []pair) {
	f, err := os.Open(filepath.Join(ts.Getenv("EXAMPLE"), "data", "persona.jsonl"))
	ts.Check(err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var row struct {
			Messages []struct{ Role, Content string }
		}
		ts.Check(json.Unmarshal(lines.Bytes(), &row))
		var last pair
		for _, m := range row.Messages {
			switch m.Role {
			case "user":
				last.question = m.Content
			case "assistant":
				last.answer = m.Content
				out = append(out, last)
			}
		}
	}
	ts.Check(lines.Err())
	return out
}

// teller writes dialogues as a good generator would: each begins with who she is, tells of what the example's persona
// tells, and ends with what she cannot know.
func teller(pairs []pair) func(c *fakellm.Call) fakellm.Answer {
	return func(c *fakellm.Call) fakellm.Answer {
		if !strings.Contains(string(c.Schema), `"turns"`) {
			return fakellm.Good(c)
		}
		h := fnv.New64a()
		_, _ = io.WriteString(h, c.Prompt)
		r := rand.New(rand.NewPCG(uint64(c.Seed), h.Sum64()))
		said := []pair{{[]string{"너는 누구야?", "당신의 이름이 뭐예요?", "누구세요?"}[r.IntN(3)], "저는 백설공주예요. 숲속 작은 집에서 일곱 난쟁이와 함께 살았어요."}}
		for range 2 {
			said = append(said, pairs[r.IntN(len(pairs))])
		}
		said = append(said, pair{"스마트폰은 어떤 걸 써요?", "그건 처음 듣는 말이에요. 숲속에는 그런 것이 없어요."})
		var turns []map[string]string
		for _, p := range said {
			turns = append(turns, map[string]string{"role": "사용자", "action": "말하기", "content": p.question}, map[string]string{"role": "백설공주", "action": "말하기", "content": p.answer})
		}
		text, err := json.Marshal(map[string]any{"background": fakellm.Sentence(r, 10), "turns": turns})
		if err != nil {
			panic(err) // it is made of texts
		}
		return fakellm.Answer{Content: string(text), Wait: 10 * time.Millisecond}
	}
}

// killed GLOB LINES ARG... starts the program, kills it once a file that matches GLOB has so many lines, and checks
// that it had no chance to say anything about that.
func killedAt(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	output, err := os.Create(ts.MkAbs("killed.out"))
	ts.Check(err)
	defer output.Close()
	c := exec.Command(filepath.Join(binary, "persona-gguf"), args[2:]...)
	c.Dir, c.Stdout, c.Stderr = ts.MkAbs("."), output, output
	c.Env = append(os.Environ(), "OLLAMA_HOST="+ts.Getenv("OLLAMA_HOST"))
	ts.Check(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for {
		matches, err := filepath.Glob(ts.MkAbs(args[0]))
		ts.Check(err)
		if len(matches) > 0 {
			if data, err := os.ReadFile(matches[0]); err == nil && strings.Count(string(data), "\n") >= want {
				break
			}
		}
		select {
		case err := <-ended:
			ts.Fatalf("%v: ended before %s had %d lines: %v\n%s", args, args[0], want, err, ts.ReadFile("killed.out"))
		case <-time.After(time.Millisecond):
		}
	}
	ts.Check(c.Process.Kill())
	var exit *exec.ExitError
	if err := <-ended; !errors.As(err, &exit) || exit.ExitCode() != -1 {
		ts.Fatalf("%v: got %v, want it to be killed\n%s", args, err, ts.ReadFile("killed.out"))
	}
}
