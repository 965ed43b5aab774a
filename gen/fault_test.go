package gen

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
)

// TestFaults puts a proxy between that drops, stalls, cuts, and answers 500 and 503 on a tenth of the calls: no record
// is lost, none is there twice.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	p := &fakellm.Proxy{Target: w.server.URL, Share: 0.1, Seed: 7}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	o := w.options(t, prompt.Dialogue)
	o.Engines = []Engine{w.ollama(t, p.URL)}
	o.Count, o.Timeout, o.ServerTries = 50, 200*time.Millisecond, 10
	report := mustRun(t, o)
	rows := w.rows(t, "2025-12-10")
	if got, want := keys(rows), planned(t, o); report.Done != 300 || !slices.Equal(got, want) || len(rows) != 300 {
		t.Errorf("got %d keys in %d rows, want the 300 of the plan", len(got), len(rows))
	}
	made := p.Made()
	for _, fault := range fakellm.Faults {
		if made[fault] == 0 {
			t.Errorf("faults: got none of %s: %v", fault, made)
		}
	}
	reasons := map[string]int{}
	for _, r := range rows {
		for _, try := range r.Tries {
			reasons[try.Reason]++
		}
	}
	if reasons["server_error"] == 0 || reasons["timeout"] == 0 {
		t.Errorf("reasons of tries: got %v", reasons)
	}
}

// TestServerGone ends the server in the middle and starts it again at the same place: the run waits, and no key
// loses a try by it.
func TestServerGone(t *testing.T) {
	w := newWorld(t)
	w.server.Latency = time.Millisecond
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Count, o.Parallel = 20, 4
	gone := make(chan struct{})
	fired := false
	o.Progress = func(p Progress) {
		if p.Done >= 40 && !fired {
			fired = true
			close(gone)
		}
	}
	go func() {
		<-gone
		w.server.Close()
		w.server.Address = strings.TrimPrefix(w.server.URL, "http://")
		time.Sleep(300 * time.Millisecond)
		if err := w.server.Start(); err != nil {
			t.Error(err)
		}
	}()
	o.Parallel = 1
	if report := mustRun(t, o); report.Done != 120 {
		t.Errorf("got %+v", report)
	}
	if log := strings.Join(*w.log, "\n"); !strings.Contains(log, "gone: ") || !strings.Contains(log, "answers again") {
		t.Errorf("log: got %s", log)
	}
	for _, r := range w.rows(t, "2025-12-10") {
		for _, try := range r.Tries {
			if strings.Contains(try.Detail, "refused") {
				t.Errorf("a try was lost on %s", try.Detail)
			}
		}
	}
}

// TestServerGoneForGood gives up after the time it is to wait, and goes on with another server.
func TestServerGoneForGood(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Parallel, o.WaitServer = 1, 300*time.Millisecond
	o.Progress = func(p Progress) {
		if p.Done == 5 {
			w.server.Close()
		}
	}
	report, err := Run(t.Context(), o)
	if !errors.Is(err, ErrNoServer) || report.Done != 5 || report.Open != 19 {
		t.Fatalf("got %+v, %v, want ErrNoServer", report, err)
	}
	w.server = &fakellm.Server{}
	w.start(t)
	o.Progress = func(Progress) {}
	o.Engines = []Engine{w.ollama(t, w.server.URL)}
	if report := mustRun(t, o); report.Done != 24 || report.Fresh != 19 {
		t.Errorf("other server: got %+v", report)
	}
}

// TestSeveralHosts shares calls out; one that is not there at the start is left out with a warning, one that goes
// loses nothing.
func TestSeveralHosts(t *testing.T) {
	w := newWorld(t)
	w.server.Latency = 2 * time.Millisecond
	w.start(t)
	second := &fakellm.Server{Latency: 2 * time.Millisecond}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	o := w.options(t, prompt.Dialogue)
	o.Count, o.Parallel = 30, 4
	o.Engines = []Engine{w.ollama(t, w.server.URL), w.ollama(t, second.URL), w.ollama(t, "127.0.0.1:1")}
	o.Progress = func(p Progress) {
		if p.Done == 100 {
			second.Close()
		}
	}
	if report := mustRun(t, o); report.Done != 180 {
		t.Errorf("got %+v", report)
	}
	a, _ := w.server.Calls()
	b, most := second.Calls()
	if a < 60 || b < 20 || most > 2 {
		t.Errorf("calls: got %d and %d, at most %d at once, want them shared out", a, b, most)
	}
	if log := strings.Join(*w.log, "\n"); !strings.Contains(log, "left out: http://127.0.0.1:1: ") {
		t.Errorf("log: got %s", log)
	}
}

// TestFindsParallel has servers that work on so many calls at the same time, by a clock of its own: the search must reach
// that, and stop.
func TestFindsParallel(t *testing.T) {
	for _, slots := range []int{1, 2, 3, 4, 13, 32, 1000} {
		s := &slot{limit: 1}
		now := time.Unix(0, 0)
		for range 10_000 {
			now = now.Add(time.Second / time.Duration(min(s.limit, slots)))
			s.judge(engine.Reply{Tokens: 100}, now)
			if s.fixed {
				break
			}
		}
		if !s.fixed || s.limit < min(slots, maxParallel) || s.limit > max(4*slots, 2) {
			t.Errorf("server of %d calls: got a limit of %d, fixed %v", slots, s.limit, s.fixed)
		}
	}
}

// TestSearches makes a run that searches for the number of calls at once.
func TestSearches(t *testing.T) {
	w := newWorld(t)
	w.server.Slots, w.server.Latency = 4, time.Millisecond
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Count = 20
	if report := mustRun(t, o); report.Done != 120 || report.Parallel < 2 {
		t.Errorf("got %d done, %d calls at once, want 120, and more than one", report.Done, report.Parallel)
	}
}

// TestFatal ends the run at once on what no repetition changes, with all that was answered kept.
func TestFatal(t *testing.T) {
	w := newWorld(t)
	w.server.Answer = func(c *fakellm.Call) fakellm.Answer {
		if c.N > 10 {
			return fakellm.Answer{Status: 400, Content: "invalid options"}
		}
		return fakellm.Good(c)
	}
	w.start(t)
	o := w.options(t, prompt.Dialogue)
	o.Parallel = 1
	report, err := Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "HTTP status 400: invalid options") || report.Done != 9 {
		t.Errorf("got %+v, %v", report, err)
	}
	if got := len(lines(t, report.Output)); got != 9 {
		t.Errorf("file: got %d rows, want 9", got)
	}
}
