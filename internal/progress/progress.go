// Package progress shows how far long work is: a bar with rate and remaining time on a terminal,
// now and then a plain line elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/persona-gguf/persona-gguf/internal/unit"
)

// A plain line is due whenever another tenth of the work is through, but never within lineEvery of the
// last one; and whatever is through, one is due after lineAtLeast.
const (
	lineParts   = 10
	lineEvery   = time.Second
	lineAtLeast = 30 * time.Second
)

// Func is the shape of a progress callback: done of total bytes are through.
type Func func(done, total int64)

// Meter shows the progress of one piece of work. Its methods may be called from any goroutine.
type Meter struct {
	w        io.Writer
	label    string
	terminal bool
	counts   bool // of steps, not of bytes
	now      func() time.Time

	mu       sync.Mutex
	bar      *progressbar.ProgressBar
	start    time.Time
	lineTime time.Time // of the last plain line
	linePart int       // parts that were through then
	first    int64     // steps that were through at the first call: the time so far is that of the others
	detail   string
	stopped  bool
}

// New returns a meter that writes to w: a bar when w is a terminal, else plain lines that begin with label.
func New(w io.Writer, label string) *Meter {
	return newMeter(w, label, IsTerminal(w), time.Now)
}

// NewSteps returns a meter of steps, whose progress is set with SetStep.
func NewSteps(w io.Writer, label string) *Meter {
	m := New(w, label)
	m.counts, m.first = true, -1
	return m
}

func newMeter(w io.Writer, label string, terminal bool, now func() time.Time) *Meter {
	start := now()
	return &Meter{w: w, label: label, terminal: terminal, now: now, start: start, lineTime: start}
}

// IsTerminal tells whether w is a file that is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Set says that done of total bytes are through. It is a Func.
func (m *Meter) Set(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped || total <= 0 {
		return
	}
	done = min(max(done, 0), total)
	if m.terminal {
		m.draw(done, total)
	} else {
		m.line(done, total)
	}
}

// SetStep says that done of total steps are through; detail is shown with it.
func (m *Meter) SetStep(done, total int64, detail string) {
	m.mu.Lock()
	m.detail = detail
	if m.first < 0 {
		m.first, m.start = done, m.now()
	}
	m.mu.Unlock()
	m.Set(done, total)
}

func (m *Meter) draw(done, total int64) {
	if m.bar == nil {
		m.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(m.w),
			progressbar.OptionSetDescription(m.label),
			progressbar.OptionShowBytes(!m.counts),
			progressbar.OptionShowTotalBytes(!m.counts),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetWidth(32),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "█", SaucerPadding: "░", BarStart: "", BarEnd: ""}),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionUseANSICodes(true),
			progressbar.OptionClearOnFinish(),
		)
	}
	if m.bar.GetMax64() != total {
		m.bar.ChangeMax64(total)
	}
	if m.counts {
		m.bar.Describe(m.label + ": " + m.detail)
	}
	// The bar reports only that it cannot write to the terminal, which is no reason to stop the work.
	_ = m.bar.Set64(done)
}

func (m *Meter) line(done, total int64) {
	now, share := m.now(), float64(done)/float64(total)
	since, part := now.Sub(m.lineTime), int(share*lineParts)
	if since < lineEvery || part <= m.linePart && since < lineAtLeast {
		return
	}
	m.lineTime, m.linePart = now, part
	elapsed := now.Sub(m.start)
	if m.counts {
		part := float64(done-m.first) / float64(max(total-m.first, 1))
		fmt.Fprintf(m.w, "%s: step %d of %d, %s, ETA %s\n", m.label, done, total, m.detail, remaining(elapsed, part))
		return
	}
	fmt.Fprintf(m.w, "%s: %.0f%% of %s, %s, ETA %s\n", m.label, 100*share, unit.Bytes(total), unit.Rate(done, elapsed), remaining(elapsed, share))
}

// remaining is the time that the rest takes at the rate so far.
func remaining(elapsed time.Duration, share float64) string {
	if share <= 0 {
		return "unknown"
	}
	return unit.Duration(max(time.Duration(float64(elapsed)*(1-share)/share), 0).Round(time.Second))
}

// Clear takes the bar off the line, so that a message can be written there; the next Set draws it again.
func (m *Meter) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
}

func (m *Meter) clear() {
	if m.bar != nil {
		_ = m.bar.Clear()
	}
}

// Stop ends the meter and removes the bar; later calls of Set do nothing. It may be called twice.
func (m *Meter) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stopped {
		m.clear()
		m.stopped = true
	}
}
