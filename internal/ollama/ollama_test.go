package ollama

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	s := ForTest(t)
	version, err := s.Client().Version(t.Context())
	if err != nil || version != "0.17.4" {
		t.Errorf("version: got %q, %v, want 0.17.4", version, err)
	}
	s.Stop()
	if err := s.Client().Heartbeat(t.Context()); err == nil {
		t.Error("after Stop: got an answer")
	}
	s.Stop()
}

// TestStartFails starts programs that are no server.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "serves-not")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho no room >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), program, dir); err == nil || !strings.Contains(err.Error(), "it ended at once\nno room") {
		t.Errorf("got %v", err)
	}
	if _, err := Start(t.Context(), filepath.Join(dir, "none"), dir); err == nil {
		t.Error("no program: got no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(ctx, program, dir, "PATH=/bin:/usr/bin"); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("got %v", err)
	}
}
