package gen

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
	"github.com/persona-gguf/persona-gguf/persona"
)

// TestBadAnswers has a server that answers each call wrongly in one way: no loop without end, a failure row with the
// reason for every key, and all tries in it.
func TestBadAnswers(t *testing.T) {
	good := func(c *fakellm.Call) string { return fakellm.Good(c).Content }
	for reason, answer := range map[string]func(c *fakellm.Call) fakellm.Answer{
		"empty": func(*fakellm.Call) fakellm.Answer { return fakellm.Answer{Content: " \n"} },
		"schema": func(*fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Content: `{"background": "가", "turns": "없음"}`}
		},
		"truncated": func(c *fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Content: good(c)[:60], DoneReason: "length"}
		},
		"repetition": func(c *fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Content: strings.Replace(good(c), "요.", strings.Repeat("따", 40), 3)}
		},
		"wrong_language": func(c *fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Content: `{"background":"x","turns":[{"role":"사용자","action":"말하기","content":"What is this?"},{"role":"백설공주","action":"말하기","content":"It is an apple."}]}`}
		},
		"unknown_speaker": func(c *fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Content: strings.ReplaceAll(good(c), `"role":"사용자"`, `"role":"캐릭터1"`)}
		},
		"too_short": func(c *fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Content: strings.ReplaceAll(good(c), `"role":"백설공주"`, `"role":"난쟁이"`)}
		},
		"no_name": func(*fakellm.Call) fakellm.Answer {
			return fakellm.Answer{Content: `{"background":"숲","turns":[{"role":"사용자","action":"말하기","content":"너는 누구야?"},{"role":"백설공주","action":"말하기","content":"저는 하얀색을 좋아해요."}]}`}
		},
		"server_error": func(c *fakellm.Call) fakellm.Answer { return fakellm.Answer{Status: 503, Content: "server busy"} },
		"timeout":      func(c *fakellm.Call) fakellm.Answer { return fakellm.Answer{Hang: true} },
	} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t)
			w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
				if c.Predict == 1 {
					return fakellm.Good(c)
				}
				return answer(c)
			}
			w.start(t)
			o := w.options(t, prompt.Dialogue)
			o.Count, o.Tries, o.ServerTries, o.Timeout, o.Parallel = 1, 2, 3, time.Minute, 8
			if reason == "timeout" {
				o.Timeout = 50 * time.Millisecond
			}
			report, err := Run(t.Context(), o)
			if !errors.Is(err, ErrOpen) || report.Open != 6 || len(report.Keys) != 6 || report.Reasons[reason] != 6 {
				t.Fatalf("got %+v, %v, want 6 keys open for %s", report, err, reason)
			}
			tries := map[bool]int{false: 2, true: 3}[reason == "server_error" || reason == "timeout"]
			rows := w.rows(t, "2025-12-10")
			for _, r := range rows {
				if r.Reason != reason || len(r.Tries) != tries || r.Attempt != tries || r.Tries[0].Reason != reason || r.PromptSHA256 == "" {
					t.Errorf("got %+v", r)
				}
				if reason == "truncated" && (r.DoneReason != "length" || r.Tokens == 0) {
					t.Errorf("got done_reason %q, %d tokens", r.DoneReason, r.Tokens)
				}
			}
			if n, _ := w.server.Calls(); len(rows) != 6 || n != 6*tries+1 {
				t.Errorf("got %d rows and %d calls, want 6 and %d", len(rows), n, 6*tries+1)
			}
			// The next run of a server that works fills them all.
			w.server.Close()
			w.server = &fakellm.Server{}
			w.start(t)
			o.Engines = []Engine{w.ollama(t, w.server.URL)}
			o.Timeout = time.Minute
			if report := mustRun(t, o); report.Done != 6 {
				t.Errorf("next run: got %+v", report)
			}
		})
	}
}

// TestPartialAnswers has a server that gives 4 good scenes of 5, and wants 4 rows and a question for the fifth only.
func TestPartialAnswers(t *testing.T) {
	w := newWorld(t)
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		a := fakellm.Good(c)
		var object struct{ Scenes []map[string]string }
		if json.Unmarshal([]byte(a.Content), &object) == nil && len(object.Scenes) == 5 {
			object.Scenes[2]["background"] = "..."
			a.Content = mustJSON(map[string]any{"scenes": object.Scenes})
		}
		return a
	}
	w.start(t)
	o := w.options(t, prompt.Scene)
	o.Count, o.Tries = 5, 1
	report := mustRun(t, o)
	if n, _ := w.server.Calls(); report.Done != 15 || n != 7 {
		t.Errorf("got %d of 15 in %d calls, want 7 calls", report.Done, n)
	}
	asked := map[string]int{}
	for _, body := range w.server.Bodies() {
		asked[fmt.Sprint(strings.Contains(string(body), `"minItems":1`))]++
	}
	if asked["true"] != 3 {
		t.Errorf("calls for one scene: got %d, want 3", asked["true"])
	}
}

// TestTruncatedScenes takes the complete scenes of an answer that breaks off.
func TestTruncatedScenes(t *testing.T) {
	w := newWorld(t)
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		a := fakellm.Good(c)
		if len(a.Content) > 400 {
			a.Content, a.DoneReason = a.Content[:len(a.Content)*2/3], "length"
		}
		return a
	}
	w.start(t)
	o := w.options(t, prompt.Scene)
	report := mustRun(t, o)
	if report.Done != 21 {
		t.Errorf("got %+v", report)
	}
	for _, row := range lines(t, report.Output) {
		if strings.ContainsRune(row["completions"].(string), '\ufffd') {
			t.Errorf("got half a character: %v", row)
		}
	}
}

// TestTruncatedDialogue keeps the complete turns when no try gives more.
func TestTruncatedDialogue(t *testing.T) {
	w := newWorld(t)
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		a := fakellm.Good(c)
		return fakellm.Answer{Content: strings.ToValidUTF8(a.Content[:len(a.Content)*3/4], ""), DoneReason: "length"}
	}
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Count = 1
	if report := mustRun(t, o); report.Done != 6 {
		t.Errorf("got %+v", report)
	}
	for _, r := range w.rows(t, "2025-12-10") {
		if r.DoneReason != "length" || len(r.Tries) != o.Tries {
			t.Errorf("got %+v", r)
		}
	}
}

func TestNearDuplicates(t *testing.T) {
	w := newWorld(t)
	same := fakellm.Good(&fakellm.Call{Prompt: "same"})
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		if c.Predict == 1 {
			return same
		}
		return fakellm.Good(&fakellm.Call{Prompt: "same", Schema: c.Schema})
	}
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Parallel, o.Card.Shares = 1, persona.Shares{}
	report, err := Run(t.Context(), o)
	if !errors.Is(err, ErrOpen) || report.Done != 1 || report.Reasons["near_duplicate"] != 23 || len(report.Duplicates) != 6 {
		t.Fatalf("got %+v, %v", report, err)
	}
	n, _ := w.server.Calls()
	if n > 1+1+6*(minAnswered+o.Tries) || !report.Duplicates[0].Ended {
		t.Errorf("calls: got %d, want generation to stop; %+v", n, report.Duplicates)
	}
	seeds := map[int]bool{}
	for _, r := range w.rows(t, "2025-12-10") {
		for _, try := range r.Tries {
			if seeds[try.Seed] {
				t.Errorf("seed %d was used twice", try.Seed)
			}
			seeds[try.Seed] = true
		}
	}
	o.Similarity = 0
	if report := mustRun(t, o); report.Done != 24 {
		t.Errorf("without comparison: got %+v", report)
	}
}

func TestReasonsOfFailure(t *testing.T) {
	w := newWorld(t)
	w.server.Context = 1000
	w.start(t)
	for want, change := range map[string]func(o *Options){
		"model not found":                             func(o *Options) { o.Engines = []Engine{mustOllama(t, w.server.URL, "other")} },
		"no server answers":                           func(o *Options) { o.Engines = []Engine{mustOllama(t, "127.0.0.1:1", "fake")} },
		"num_ctx: got 4096, want at most 1000":        func(o *Options) { o.Sampling.NumCtx, o.Sampling.NumPredict = 4096, 100 },
		"num_predict 3072, want at most num_ctx 1000": func(*Options) {},
		"num_predict 500, want at most num_ctx 600":   func(o *Options) { o.Sampling.NumCtx, o.Sampling.NumPredict = 600, 500 },
		"format: got \"xml\", want json or text":      func(o *Options) { o.Format = "xml" },
		"model_name: got none":                        func(o *Options) { o.Model = "" },
		"temperature: got -1, want 0 to 10":           func(o *Options) { o.Sampling.Temperature = -1 },
		"scenes.none: no such file":                   func(o *Options) { o.Scenes = "scenes.none" },
	} {
		o := w.options(t, prompt.Dialogue)
		change(&o)
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if entries, err := os.ReadDir(filepath.Join(w.root, "result")); err == nil {
			t.Errorf("%s: left %v behind", want, entries)
		}
	}
}

// TestText reads answers in the form of older generators.
func TestText(t *testing.T) {
	w := newWorld(t)
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		words := func(n int) string {
			return strings.TrimSuffix(fakellm.Good(&fakellm.Call{Prompt: c.Prompt, Seed: c.Seed + n}).Content, "요.") + "어요."
		}
		if strings.Contains(c.Prompt, "장면을 ") {
			var b strings.Builder
			for i := range 5 {
				fmt.Fprintf(&b, "### 장면 %d:\n**유형**: 일상\n**장소**: %s\n**배경**: %s\n\n", i+1, words(10*i+1), words(10*i+2))
			}
			return fakellm.Answer{Content: b.String() + "장면 6~10: 위와 같습니다.\n"}
		}
		return fakellm.Answer{Content: "배경:\n" + words(1) + "\n\n사용자 (말하기)\n" + words(2) + "\n\n**백설공주 (말하기)**\n" + words(3) + "\n\n사용자 (말하기)\n" + words(4)}
	}
	w.start(t)
	for _, kind := range []prompt.Kind{prompt.Scene, prompt.Dialogue} {
		o := w.options(t, kind)
		o.Format, o.Card.Shares.Identity = Text, 0
		if report := mustRun(t, o); report.Open != 0 {
			t.Errorf("%s: got %+v", kind, report)
		}
	}
	for _, body := range w.server.Bodies() {
		if strings.Contains(string(body), `"format"`) {
			t.Fatalf("got a schema in %s", body)
		}
	}
}
