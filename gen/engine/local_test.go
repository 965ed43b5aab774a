package engine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/lora"
)

func local(t *testing.T, parallel int) *Local {
	t.Helper()
	out := filepath.Join(t.TempDir(), "snow_white.gguf")
	adapter := lora.Source{Dir: "../../examples/snow_white/adapter", Weight: 1}
	plan, err := convert.NewPlan(t.Context(), "../../examples/snow_white/base", convert.Options{OutFile: out, OutType: "f16", Adapters: []lora.Source{adapter}})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	if _, err := plan.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := DefaultLocalOptions()
	o.Parallel = parallel
	l, err := OpenLocal(out, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// TestLocalAnswers asks the example's questions, four at the same time, and wants PyTorch's greedy answers.
func TestLocalAnswers(t *testing.T) {
	data, err := os.ReadFile("../../examples/snow_white/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var known struct {
		MaxNewTokens int `json:"max_new_tokens"`
		Models       map[string][]struct {
			Messages []Message `json:"messages"`
			Answer   string    `json:"answer"`
		} `json:"models"`
	}
	if err := json.Unmarshal(data, &known); err != nil {
		t.Fatal(err)
	}
	if len(known.Models["persona"]) < 5 {
		t.Fatalf("got %d answers, want some", len(known.Models["persona"]))
	}
	l := local(t, 4)
	var wg sync.WaitGroup
	for range 2 { // the second time from what is computed already
		for _, a := range known.Models["persona"] {
			wg.Go(func() {
				reply, err := l.Chat(t.Context(), Request{
					Messages: a.Messages, Options: Options{TopK: 1, TopP: 1, RepeatPenalty: 1, NumPredict: known.MaxNewTokens, NumCtx: 512},
				})
				if want := strings.TrimSuffix(a.Answer, "<|im_end|>"); err != nil || reply.Content != want || reply.DoneReason != "stop" || reply.PromptTokens == 0 {
					t.Errorf("%v: got %+v, %v, want %s", a.Messages, reply, err, want)
				}
			})
		}
	}
	wg.Wait()
}

func TestLocalSchema(t *testing.T) {
	l := local(t, 3)
	schema := json.RawMessage(`{"type":"object","properties":{"role":{"type":"string","enum":["사용자","백설공주"]},"content":{"type":"string","minLength":1,"maxLength":20}},"required":["role","content"],"additionalProperties":false}`)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			reply, err := l.Chat(t.Context(), Request{
				Messages: []Message{{"user", "너는 누구야?"}}, Schema: schema,
				Options: Options{Temperature: 1, TopK: 40, TopP: 0.9, RepeatPenalty: 1, NumPredict: 200, NumCtx: 512 + 256*(i%2), Seed: i},
			})
			var object struct{ Role, Content string }
			if err != nil || json.Unmarshal([]byte(reply.Content), &object) != nil || object.Role == "" || len([]rune(object.Content)) > 20 {
				t.Errorf("got %+v, %v", reply, err)
			}
		})
	}
	wg.Wait()
}

func TestLocalErrors(t *testing.T) {
	if _, err := OpenLocal(filepath.Join(t.TempDir(), "none.gguf"), DefaultLocalOptions()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: got %v", err)
	}
	if _, err := OpenLocal("x", LocalOptions{}); err == nil {
		t.Error("parallel 0: got no error")
	}
	l := local(t, 1)
	q := Request{Messages: []Message{{"user", "숲 이야기를 들려주세요"}}, Options: Options{Temperature: 5, TopP: 1, RepeatPenalty: 1, NumPredict: 1500, NumCtx: 2048}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var failed *Error
	if _, err := l.Chat(ctx, q); err != nil && (!errors.As(err, &failed) || failed.Reason != Timeout) {
		t.Errorf("timeout: got %v", err)
	}
	q.Options.NumCtx = 1501
	if _, err := l.Chat(t.Context(), q); !errors.Is(err, ErrContext) {
		t.Errorf("too long: got %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	q.Options.NumPredict = 10
	if _, err := l.Chat(t.Context(), q); err == nil {
		t.Error("after Close: got no error")
	}
}
