package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/persona-gguf/persona-gguf/internal/ollama"
)

// generator NAME MODEL [VARIABLE=VALUE…] starts a real server with the GGUF file MODEL on it, a plain ChatML model of
// that name, and sets OLLAMA_HOST.
func startGenerator(ts *testscript.TestScript, _ bool, args []string) {
	program, err := ollama.Build(context.Background())
	ts.Check(err)
	s, err := ollama.Start(context.Background(), program, ts.MkAbs("server"), args[2:]...)
	ts.Check(err)
	ts.Defer(s.Stop)
	ts.Check(s.Add(context.Background(), args[0], ts.MkAbs(args[1]), ollama.ChatML))
	ts.Setenv("OLLAMA_HOST", s.URL.Host)
}

// TestKillReal kills the program 20 times while a real server works for it.
func TestKillReal(t *testing.T) {
	const n = 30
	file := filepath.Join(t.TempDir(), "base.gguf")
	if out, err := exec.Command(filepath.Join(binary, "persona-gguf"), "convert", "../../examples/snow_white/base", "--outtype", "q8_0", "--outfile", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := ollama.ForTest(t, "OLLAMA_NUM_PARALLEL=4")
	if err := s.Add(t.Context(), "fake", file, ollama.ChatML); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--model_name", "fake", "--count", "2", "--num-ctx", "2048", "--num-predict", "400", "--tries", "30", "--similarity", "0", "--max-turns", "3", "--max-chars", "12"}
	want := undisturbed(t, n, flags...)
	root, args := killWorld(t, n)
	killed(t, append(append(args, flags...), "--host", s.URL.String(), "--parallel", "4"), 20, 700*time.Millisecond, func() {})
	if len(want) != 2*n {
		t.Errorf("undisturbed: got %d keys, want %d", len(want), 2*n)
	}
	sameKeys(t, root, want)
}
