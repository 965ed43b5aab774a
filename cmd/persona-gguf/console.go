package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/persona-gguf/persona-gguf/internal/progress"
)

// console is stderr, on which messages and one progress bar share the line.
type console struct {
	w     io.Writer
	mu    sync.Mutex
	meter *progress.Meter
}

// Write writes a message, out of the way of the bar.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.meter != nil {
		c.meter.Clear()
	}
	return c.w.Write(p)
}

// progress starts a meter; stop ends it.
func (c *console) progress(label string) (set progress.Func, stop func()) {
	m := progress.New(c.w, label)
	return m.Set, c.show(m)
}

// steps starts a meter of steps; stop ends it.
func (c *console) steps(label string) (set func(done, total int64, detail string), stop func()) {
	m := progress.NewSteps(c.w, label)
	return m.SetStep, c.show(m)
}

// show has messages keep out of the way of a meter, until it is stopped.
func (c *console) show(m *progress.Meter) (stop func()) {
	c.mu.Lock()
	c.meter = m
	c.mu.Unlock()
	return func() {
		m.Stop()
		c.mu.Lock()
		c.meter = nil
		c.mu.Unlock()
	}
}

// lineHandler writes a log record as one line, in the form of the program's errors.
type lineHandler struct {
	w     io.Writer
	level slog.Level
	attrs string
}

func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("persona-gguf: ")
	if r.Level != slog.LevelInfo {
		b.WriteString(map[slog.Level]string{slog.LevelDebug: "debug", slog.LevelWarn: "warning", slog.LevelError: "error"}[r.Level] + ": ")
	}
	b.WriteString(r.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	_, err := io.WriteString(h.w, printable(b.String())+"\n")
	return err
}

// WithAttrs returns a handler that adds attrs to every line.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	added := *h
	for _, a := range attrs {
		added.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &added
}

// WithGroup returns h: the lines are flat.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }
