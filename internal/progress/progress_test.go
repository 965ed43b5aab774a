package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// clock is a time that moves only when told.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func plain(w *bytes.Buffer) (*Meter, *clock) {
	c := &clock{t: time.Unix(1000, 0)}
	return newMeter(w, "convert", false, c.now), c
}

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	m, c := plain(&out)
	for done := int64(0); done <= 1000; done += 10 { // one percent a second
		m.Set(done*1e6, 1000e6)
		c.advance(time.Second)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 10 {
		t.Fatalf("got %d lines, want one per tenth:\n%s", len(lines), out.String())
	}
	if want := "convert: 10% of 1.00 GB, 10.0 MB/s, ETA 90.0 s"; lines[0] != want {
		t.Errorf("first line: got %q, want %q", lines[0], want)
	}
	if want := "convert: 100% of 1.00 GB, 10.0 MB/s, ETA 0 s"; lines[9] != want {
		t.Errorf("last line: got %q, want %q", lines[9], want)
	}
}

func TestQuickWorkIsSilent(t *testing.T) {
	var out bytes.Buffer
	m, c := plain(&out)
	for done := int64(0); done <= 100; done++ {
		m.Set(done, 100)
		c.advance(9 * time.Millisecond)
	}
	if out.Len() != 0 {
		t.Errorf("work under a second: got %q, want no line", out.String())
	}
}

func TestSlowWorkStillSpeaks(t *testing.T) {
	var out bytes.Buffer
	m, c := plain(&out)
	c.advance(lineAtLeast)
	m.Set(1, 1000)
	if got := strings.Count(out.String(), "\n"); got != 1 {
		t.Errorf("after %v: got %d lines, want 1", lineAtLeast, got)
	}
}

func TestNonsenseAndStop(t *testing.T) {
	var out bytes.Buffer
	m, c := plain(&out)
	c.advance(time.Minute)
	m.Set(5, 0)
	m.Set(5, -1)
	if out.Len() != 0 {
		t.Errorf("no total: got %q, want nothing", out.String())
	}
	m.Set(200, 100)
	if !strings.HasPrefix(out.String(), "convert: 100% ") {
		t.Errorf("done beyond total: got %q, want 100%%", out.String())
	}
	out.Reset()
	m.Stop()
	m.Stop()
	c.advance(time.Hour)
	m.Set(100, 100)
	if out.Len() != 0 {
		t.Errorf("after Stop: got %q, want nothing", out.String())
	}
}

func TestBarOnTerminal(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(&out, "quantize", true, time.Now)
	m.Set(0, 1000)
	m.Set(500, 1000)
	m.Set(700, 1400) // the total may change
	m.Clear()
	m.Set(1400, 1400)
	m.Stop()
	if !strings.Contains(out.String(), "quantize") || !strings.Contains(out.String(), "\r") {
		t.Errorf("got %q, want a bar that is redrawn", out.String())
	}
	if strings.Contains(out.String(), "\n") {
		t.Errorf("got %q, want the bar to stay on one line and go away", out.String())
	}
}

// TestSteps resumes at step 40: the time of those before does not count for the rest.
func TestSteps(t *testing.T) {
	var out bytes.Buffer
	m, c := plain(&out)
	m.counts, m.first, m.label = true, -1, "train"
	c.advance(time.Hour)
	m.SetStep(40, 100, "starting")
	for done := int64(41); done <= 50; done++ {
		c.advance(time.Second)
		m.SetStep(done, 100, "loss 1.25")
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if want := "train: step 50 of 100, loss 1.25, ETA 50.0 s"; lines[len(lines)-1] != want {
		t.Errorf("got %q, want %q", lines, want)
	}
	var bar bytes.Buffer
	b := newMeter(&bar, "train", true, time.Now)
	b.counts, b.first = true, -1
	b.SetStep(1, 2, "loss 1.25")
	b.Stop()
	if !strings.Contains(bar.String(), "train: loss 1.25") {
		t.Errorf("bar: got %q, want the detail in it", bar.String())
	}
}
