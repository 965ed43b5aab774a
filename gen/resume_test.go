package gen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/fakellm"
)

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
