package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
)

// llm [KIND] starts a server that answers for the model "fake", until the script ends, and puts its address into the
// variable LLM. KIND is good, empty (answers without text), slow, secret (it answers 401 and repeats
// the key), or tale (it writes dialogues that a persona can be trained on).
func startLLM(ts *testscript.TestScript, _ bool, args []string) {
	s := &fakellm.Server{Context: 8192}
	switch args[0] {
	case "good":
	case "empty":
		s.Answer = func(c *fakellm.Call) fakellm.Answer {
			if c.Predict == 1 {
				return fakellm.Good(c)
			}
			return fakellm.Answer{}
		}
	case "tale":
		s.Answer = teller(readPairs(ts))
	case "slow":
		s.Latency = 50 * time.Millisecond
	case "secret":
		s.Answer = func(c *fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Status: 401, Content: "wrong key: " + c.Header.Get("Authorization")}
		}
	default:
		ts.Fatalf("llm: got %q", args[0])
	}
	ts.Check(s.Start())
	ts.Defer(s.Close)
	ts.Setenv("LLM", s.URL)
}

const killCard = `version: 1
id: snow_white
name: 백설공주
persona: 당신은 백설공주입니다.
profile: profile.txt
shares: {identity: 0, protective: 0.05}
protective_topics: [스마트폰]
`

// killWorld writes a root with a card and scenes, and gives the arguments of a run of n dialogues.
func killWorld(t *testing.T, n int) (root string, args []string) {
	t.Helper()
	root = t.TempDir()
	var scenes []map[string]string
	for i := range n {
		scenes = append(scenes, map[string]string{"type": "일상", "location": "방", "background": fmt.Sprint("아침이에요 ", i)})
	}
	text, err := json.Marshal(scenes)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"card.yaml": killCard, "profile.txt": "백설공주\n\n숲에 살았어요.\n", "scenes.json": string(text)} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return root, []string{"gen", "dialogue", "--root", root, "--persona", filepath.Join(root, "card.yaml"), "--data-path", filepath.Join(root, "scenes.json"), "--backoff", "10ms"}
}

// program runs the built program.
func program(args []string) *exec.Cmd {
	return exec.Command(filepath.Join(binary, "persona-gguf"), args...)
}

// successes gives the keys with a success, each as often as it has one, sorted.
func successes(t *testing.T, root string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "result", "*", journal.Name))
	if err != nil || len(files) != 1 {
		t.Fatalf("journals: got %v, %v, want one", files, err)
	}
	if err := journal.Read(files[0], 0, func(_ int64, r *journal.Row) error {
		if r.OK() {
			out = append(out, r.Key)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// killed runs the program and kills it after a time, times times; then it runs once more, undisturbed. after is called
// after each kill.
func killed(t *testing.T, args []string, times int, most time.Duration, after func()) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(times)))
	for i := range times {
		c := program(args)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(r.Int64N(int64(most))), func() { _ = c.Process.Kill() }) // Wait tells what became of it
		err := c.Wait()
		timer.Stop()
		if c.ProcessState.ExitCode() >= 0 {
			t.Fatalf("run %d ended by itself: %v", i+1, err)
		}
		after()
	}
	if out, err := program(args).CombinedOutput(); err != nil {
		t.Fatalf("last run: %v\n%s", err, out)
	}
}

// undisturbed makes n dialogues with a fast server, and gives the keys.
func undisturbed(t *testing.T, n int, flags ...string) []string {
	t.Helper()
	s := &fakellm.Server{}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root, args := killWorld(t, n)
	args = append(append(args, flags...), "--host", s.URL, "--parallel", "50")
	if out, err := program(args).CombinedOutput(); err != nil {
		t.Fatalf("undisturbed: %v\n%s", err, out)
	}
	return successes(t, root)
}

// sameKeys wants the keys, each once, in the journal, and as many rows in the only file.
func sameKeys(t *testing.T, root string, want []string) {
	t.Helper()
	if got := successes(t, root); !slices.Equal(got, want) {
		t.Errorf("keys: got %d, want the %d of the undisturbed run", len(got), len(want))
	}
	files, err := filepath.Glob(filepath.Join(root, "result", "*", "gen_dialogue", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files: got %v, %v, want one and nothing half-made", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil || strings.Count(string(data), "\n") != len(want) {
		t.Errorf("file: got %d rows, %v, want %d", strings.Count(string(data), "\n"), err, len(want))
	}
}

// TestKill kills the program 200 times at random moments, and wants the keys of an undisturbed run. The server answers
// so few calls between two kills that the work cannot be done before.
func TestKill(t *testing.T) {
	const n, kills, share = 450, 200, 4
	var mu sync.Mutex
	left := share
	s := &fakellm.Server{Latency: 5 * time.Millisecond, Answer: func(c *fakellm.Call) fakellm.Answer {
		mu.Lock()
		defer mu.Unlock()
		if c.Predict == 1 {
			return fakellm.Good(c)
		}
		left--
		a := fakellm.Good(c)
		a.Hang = left < 0
		return a
	}}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	flags := []string{"--model_name", "fake", "--count", "2"}
	want := undisturbed(t, n, flags...)
	root, args := killWorld(t, n)
	done := 0
	killed(t, append(append(args, flags...), "--host", s.URL, "--parallel", "2"), kills, 150*time.Millisecond, func() {
		mu.Lock()
		defer mu.Unlock()
		left = share
		if done++; done == kills {
			left = 1 << 30
		}
	})
	if len(want) != 2*n {
		t.Errorf("undisturbed: got %d keys, want %d", len(want), 2*n)
	}
	sameKeys(t, root, want)
}
