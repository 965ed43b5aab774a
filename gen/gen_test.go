package gen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
	"github.com/persona-gguf/persona-gguf/persona"
)

const card = `version: 1
id: snow_white
name: 백설공주
cast: [{name: 난쟁이, aliases: [난쟁이들]}]
profile: profile.txt
persona: 당신은 백설공주입니다.
scenes_per_paragraph: 7
dialogues_per_scene: 4
shares: {identity: 0.1, protective: 0.1}
protective_topics: [스마트폰, 파이썬]
`

// world is a root with a card, a profile of three paragraphs and parsed scenes of it, and a server.
type world struct {
	root   string
	server *fakellm.Server
	log    *[]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	noLeaks(t)
	w := &world{root: t.TempDir(), server: &fakellm.Server{}, log: &[]string{}}
	w.write(t, "card.yaml", card)
	w.write(t, "profile.txt", "백설공주\n\n숲 속 작은 집에서 일곱 난쟁이와 살았어요.\n\n왕비는 거울에게 물었어요.\n\n사냥꾼은 아이를 놓아주었어요.\n")
	var scenes []map[string]string
	for i := range 6 {
		scenes = append(scenes, map[string]string{
			"type": "일상", "location": fmt.Sprint("방 ", i), "background": fmt.Sprint("아침이에요 ", i), "source": fmt.Sprintf("seed_scene_x_c%d", i+1), "profile": "숲 속",
		})
	}
	w.write(t, "scenes.json", mustJSON(scenes))
	return w
}

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.root, name), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func (w *world) start(t *testing.T) {
	t.Helper()
	if err := w.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Close)
}

// noLeaks wants no goroutine of the test to be left at its end.
func noLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				var b strings.Builder
				_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
				t.Errorf("goroutines: got %d, want %d\n%s", runtime.NumGoroutine(), before, b.String())
				return
			}
		}
	})
}

func (w *world) options(t *testing.T, kind prompt.Kind) Options {
	t.Helper()
	o := DefaultOptions()
	o.Root, o.Kind, o.Model = w.root, kind, "fake"
	o.CardPath = filepath.Join(w.root, "card.yaml")
	o.Profile, o.Scenes = filepath.Join(w.root, "profile.txt"), filepath.Join(w.root, "scenes.json")
	var err error
	if o.Card, err = persona.Read(o.CardPath); err != nil {
		t.Fatal(err)
	}
	if o.Template, err = prompt.Builtin(kind, "korean"); err != nil {
		t.Fatal(err)
	}
	o.Backoff, o.WaitServer = time.Millisecond, 10*time.Second
	var mu sync.Mutex
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		*w.log = append(*w.log, s)
	}
	o.Info, o.Warn = note, note
	o.Now = func() time.Time { return time.Date(2025, 12, 10, 23, 59, 0, 0, time.UTC) }
	if w.server.URL != "" {
		o.Engines = []Engine{w.ollama(t, w.server.URL)}
	}
	return o
}

func (w *world) ollama(t *testing.T, url string) Engine {
	t.Helper()
	e, err := engine.NewOllama(url, "fake", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func (w *world) rows(t *testing.T, day string) (out []*journal.Row) {
	t.Helper()
	path := filepath.Join(w.root, "result", day, journal.Name)
	if err := journal.Read(path, 0, func(_ int64, r *journal.Row) error { out = append(out, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// keys gives the sorted keys with a success, each as often as it has one.
func keys(rows []*journal.Row) (out []string) {
	for _, r := range rows {
		if r.OK() {
			out = append(out, r.Key)
		}
	}
	slices.Sort(out)
	return out
}

func planned(t *testing.T, o Options) (out []string) {
	t.Helper()
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(&o)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range p.jobs {
		out = append(out, j.key)
	}
	slices.Sort(out)
	return out
}

func mustRun(t *testing.T, o Options) *Report {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func lines(t *testing.T, path string) (out []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		var row map[string]any
		if err := json.Unmarshal([]byte(l), &row); err != nil {
			t.Fatal(err)
		}
		out = append(out, row)
	}
	return out
}

func TestScenes(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	o := w.options(t, prompt.Scene)
	report := mustRun(t, o)
	if report.Jobs != 21 || report.Done != 21 || report.Open != 0 || report.BackgroundMin == 0 {
		t.Errorf("got %+v", report)
	}
	if got, want := keys(w.rows(t, "2025-12-10")), planned(t, o); !slices.Equal(got, want) {
		t.Errorf("keys: got %d, want those of the plan", len(got))
	}
	if want := filepath.Join(w.root, "result", "2025-12-10", "gen_scene", "scene_fake-temp-0.7-char-snow_white-korean.jsonl"); report.Output != want {
		t.Errorf("output: got %s, want %s", report.Output, want)
	}
	rows := lines(t, report.Output)
	if len(rows) != 3 {
		t.Fatalf("got %d rows, want one for each paragraph", len(rows))
	}
	for _, row := range rows {
		id, text := row["gen_answer_id"].(string), row["completions"].(string)
		if len(id) != 16 || strings.Count(text, "장면 ") != 7 || strings.Count(text, "배경: ") != 7 || row["check_result"] != true || !strings.Contains(row["prompt"].(string), row["profile"].(string)) {
			t.Errorf("got %v", row)
		}
	}
	if n, _ := w.server.Calls(); n != 7 { // one to measure; 7 scenes of 3 paragraphs in calls for 5 and 2
		t.Errorf("calls: got %d, want 7", n)
	}
	// Again: nothing is asked, and the file is the same.
	before, err := os.ReadFile(report.Output)
	if err != nil {
		t.Fatal(err)
	}
	w.server.Close()
	if report := mustRun(t, o); report.Fresh != 0 || report.Done != 21 {
		t.Errorf("again: got %+v", report)
	}
	if after, err := os.ReadFile(report.Output); err != nil || string(after) != string(before) {
		t.Error("again: the file changed")
	}
}

func TestDialogues(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Parallel = 1
	o.Card.Shares = persona.Shares{Identity: 0.25, Protective: 0.25}
	report := mustRun(t, o)
	if report.Done != 24 || report.Kinds["identity"] < 3 || report.Kinds["protective"] < 3 || report.Kinds["dialogue"] < 9 {
		t.Errorf("got %+v", report)
	}
	rows := lines(t, report.Output)
	if len(rows) != 24 {
		t.Fatalf("got %d rows, want 24", len(rows))
	}
	told := 0
	for _, row := range rows {
		scene := row["scene_data"].(map[string]any)
		text := row["prompt"].(string)
		if row["scene_source"] == "" || scene["location"] == "" || scene["type"] != "일상" || row["options"] == nil || row["done_reason"] != "stop" || row["created_at"] == nil {
			t.Errorf("got %v", row)
		}
		if !strings.Contains(text, fmt.Sprintf("현재는 %v번째 대화입니다", row["ordinal"])) {
			t.Errorf("prompt without its number: %s", text)
		}
		switch row["kind"] {
		case "identity":
			if !strings.Contains(text, "너는 누구야?") && !strings.Contains(text, "당신의 이름이 뭐예요?") {
				t.Errorf("identity: got %s", text)
			}
		case "protective":
			if !strings.Contains(text, "스마트폰") && !strings.Contains(text, "파이썬") {
				t.Errorf("protective: got %s", text)
			}
		}
		if strings.Contains(text, "이미 나온 말: ") {
			told++
		}
	}
	if told != 18 { // all but the first of each scene
		t.Errorf("told of the others: got %d, want 18", told)
	}
}

func TestProtective(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	report := mustRun(t, w.options(t, prompt.Protective))
	if report.Done != 3 || !strings.Contains(report.Output, "gen_hallucination") {
		t.Errorf("got %+v", report)
	}
	for _, row := range lines(t, report.Output) {
		if row["kind"] != "protective" || row["profile"] == "" || row["scene_data"] != nil {
			t.Errorf("got %v", row)
		}
	}
	o := w.options(t, prompt.Protective)
	o.Card.ProtectiveTopics = nil
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "protective_topics: got none") {
		t.Errorf("no topics: got %v", err)
	}
}

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

// TestMidnight has a clock that crosses midnight, and a run that goes on the next day.
func TestMidnight(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	clock := time.Date(2025, 12, 10, 23, 59, 59, 0, time.Local)
	var mu sync.Mutex
	o.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(100 * time.Millisecond)
		return clock
	}
	ctx, cancel := context.WithCancel(t.Context())
	o.Parallel = 2
	o.Progress = func(p Progress) {
		if p.Done >= 10 {
			cancel()
		}
	}
	report, err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) || report.Done < 10 || report.Done == 24 {
		t.Fatalf("got %+v, %v", report, err)
	}
	o.Progress = func(Progress) {}
	clock = clock.AddDate(0, 0, 3)
	first := report.Done
	if report = mustRun(t, o); report.Fresh != 24-first || !strings.Contains(report.Output, "2025-12-10") {
		t.Errorf("3 days later: got %+v", report)
	}
	if got := keys(w.rows(t, "2025-12-10")); !slices.Equal(got, planned(t, o)) {
		t.Errorf("keys: got %d, want those of the plan", len(got))
	}
	days, err := os.ReadDir(filepath.Join(w.root, "result"))
	if err != nil || len(days) != 1 {
		t.Errorf("got days %v, %v, want the first only", days, err)
	}
	// Another temperature is another run, of today.
	o.Sampling.Temperature = 1.5
	if report := mustRun(t, o); report.Fresh != 24 || !strings.Contains(report.Output, "2025-12-14") {
		t.Errorf("another run: got %+v", report)
	}
}

// TestDeletedRows takes subsets of rows out of the journal and out of the file.
func TestDeletedRows(t *testing.T) {
	for _, kind := range []prompt.Kind{prompt.Scene, prompt.Dialogue} {
		w := newWorld(t)
		w.start(t)
		o := w.options(t, kind)
		report := mustRun(t, o)
		want := planned(t, o)
		for step := range 5 {
			path := map[bool]string{true: report.Journal, false: report.Output}[step%2 == 0]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var kept strings.Builder
			i := 0
			for l := range strings.Lines(string(data)) {
				if i++; (i*7+step)%3 > 0 {
					kept.WriteString(l)
				}
			}
			if path == report.Journal { // what was made from the rows goes too
				if err := os.Remove(report.Output); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(path, []byte(kept.String()), 0o666); err != nil {
				t.Fatal(err)
			}
			again := mustRun(t, o)
			if got := keys(w.rows(t, "2025-12-10")); !slices.Equal(got, want) {
				t.Errorf("%s, step %d: got %d keys, want those of the plan", kind, step, len(got))
			}
			if path == report.Output && again.Fresh != 0 {
				t.Errorf("%s, step %d: got %d new, want the file made anew from the journal", kind, step, again.Fresh)
			}
			if got := len(lines(t, report.Output)); got != map[prompt.Kind]int{prompt.Scene: 3, prompt.Dialogue: 24}[kind] {
				t.Errorf("%s, step %d: got %d rows", kind, step, got)
			}
		}
	}
}

func TestEditedOutput(t *testing.T) {
	for _, kind := range []prompt.Kind{prompt.Scene, prompt.Dialogue} {
		w := newWorld(t)
		w.start(t)
		o := w.options(t, kind)
		report := mustRun(t, o)
		data, err := os.ReadFile(report.Output)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range []string{strings.Replace(string(data), "요.", "요", 1), "{\"gen_answer_id\":\"b71d0e4a\"}\n", "rubbish\n"} {
			if err := os.WriteFile(report.Output, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			if _, err := Run(t.Context(), o); !errors.Is(err, ErrEdited) || !strings.Contains(err.Error(), "line 1") {
				t.Errorf("%s, %d: got %v, want ErrEdited", kind, i, err)
			}
			if now, err := os.ReadFile(report.Output); err != nil || string(now) != text {
				t.Errorf("%s, %d: the file was changed", kind, i)
			}
		}
		if err := os.WriteFile(report.Output, data[:len(data)-50], 0o666); err != nil { // as a kill may leave it
			t.Fatal(err)
		}
		if mustRun(t, o); string(mustRead(t, report.Output)) != string(data) {
			t.Errorf("%s: torn file: got it not made anew", kind)
		}
		o.Engines = nil
		if err := os.Remove(report.Output); err != nil {
			t.Fatal(err)
		}
		if _, err := Rebuild(o); err != nil || string(mustRead(t, report.Output)) != string(data) {
			t.Errorf("%s: Rebuild: %v", kind, err)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestKeys wants keys that do not depend on what is around a job.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	base := planned(t, w.options(t, prompt.Scene))
	subset := func(name string, want int, change func(o *Options)) {
		t.Helper()
		o := w.options(t, prompt.Scene)
		change(&o)
		have := map[string]bool{}
		for _, k := range planned(t, o) {
			have[k] = true
		}
		n := 0
		for _, k := range base {
			if have[k] {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: got %d of %d keys kept, want %d", name, n, len(base), want)
		}
	}
	subset("more scenes", 21, func(o *Options) { o.Count = 9 })
	subset("fewer scenes", 15, func(o *Options) { o.Count = 5 })
	subset("other day, host, batch, tries", 21, func(o *Options) {
		o.Now, o.Engines, o.Batch, o.Tries, o.Parallel, o.Timeout = time.Now, nil, 3, 9, 7, time.Hour
	})
	subset("shares", 21, func(o *Options) { o.Card.Shares = persona.Shares{} })
	subset("temperature", 0, func(o *Options) { o.Sampling.Temperature = 1 })
	subset("seed", 0, func(o *Options) { o.Sampling.Seed = 7 })
	subset("model", 0, func(o *Options) { o.Model = "other" })
	subset("format", 0, func(o *Options) { o.Format = Text })
	subset("name", 0, func(o *Options) { o.Card.Name = "인어공주" })
	w.write(t, "profile.txt", "백설공주\n\n왕비는 거울에게\n물었어요.\n\n새 문단이에요.\n\n숲 속 작은 집에서 일곱 난쟁이와 살았어요.\n")
	subset("profile with one paragraph changed, others moved", 14, func(*Options) {})
	seen := map[string]bool{}
	for _, k := range base {
		if seen[k] || len(k) != 32 {
			t.Errorf("key %s: got it twice, or not 128 bits", k)
		}
		seen[k] = true
	}
}

// TestShares plans many dialogues, and wants the card's shares within half a percent, wherever scenes are added.
func TestShares(t *testing.T) {
	w := newWorld(t)
	var scenes []map[string]string
	for i := range 500 {
		scenes = append(scenes, map[string]string{"type": "일상", "location": "방", "background": fmt.Sprint("아침이에요 ", i)})
	}
	w.write(t, "scenes.json", mustJSON(scenes))
	o := w.options(t, prompt.Dialogue)
	o.Count = 20
	o.Card.Shares = persona.Shares{Identity: 0.05, Protective: 0.08}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(&o)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, j := range p.jobs {
		n[j.kind]++
	}
	if identity, protective := float64(n["identity"])/10_000, float64(n["protective"])/10_000; identity < 0.045 || identity > 0.055 || protective < 0.075 || protective > 0.085 {
		t.Errorf("got %v", n)
	}
}

func TestTwoRunsAtOnce(t *testing.T) {
	w := newWorld(t)
	hold := make(chan struct{})
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		if c.Predict != 1 {
			<-hold
		}
		return fakellm.Good(c)
	}
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	done := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), o)
		done <- err
	}()
	for n := 0; n < 2; n, _ = w.server.Calls() {
		time.Sleep(time.Millisecond)
	}
	_, err := Run(t.Context(), o)
	if !errors.Is(err, journal.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("second run: got %v", err)
	}
	status, err := ReadStatus(w.root, o.Now())
	if err != nil || len(status) != 1 || !status[0].Running || status[0].Jobs != 24 || status[0].Done != 0 {
		t.Errorf("status: got %+v, %v", status, err)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	status, err = ReadStatus(w.root, o.Now())
	if err != nil || status[0].Running || status[0].Done != 24 || status[0].ETA != 0 {
		t.Errorf("status: got %+v, %v", status, err)
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

func mustOllama(t *testing.T, url, model string) Engine {
	t.Helper()
	e, err := engine.NewOllama(url, model, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
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
