package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/persona-gguf/persona-gguf/internal/ollama"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
	"github.com/persona-gguf/persona-gguf/train"
)

// binary is the folder with the program, built as a user would.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "persona-gguf")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3", "-o", filepath.Join(dir, "persona-gguf"), ".")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		binary = dir
		return m.Run()
	}())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binary+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("PROGRAM_DIR", binary)
			e.Setenv("OLLAMA_HOST", "127.0.0.1:1") // nobody listens there
			root, err := filepath.Abs("../..")
			if err != nil {
				return err
			}
			e.Setenv("EXAMPLE", filepath.Join(root, "examples", "snow_white"))
			e.Setenv("CACHE", filepath.Join(root, ".cache", "python")) // as train itself chooses from bin/
			e.Setenv("LONG", strings.Repeat("Once upon a time. ", 100))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"model": writeModel, "bigmodel": writeBigModel, "exits": exits, "json": checkJSON, "only": only,
			"ollama": startOllama, "adapter": writeAdapter, "same": same, "records": writeRecords, "trainer": prepareTrainer, "edit": edit, "cut": cut, "interrupt": interrupt, "llm": startLLM, "killed": killedAt, "generator": startGenerator,
		},
	})
}

// model SPEC DIR writes the tiny model folder of that name.
func writeModel(ts *testscript.TestScript, _ bool, args []string) {
	spec, err := testmodel.Find(args[0])
	ts.Check(err)
	ts.Check(testmodel.Write(ts.MkAbs(args[1]), spec))
}

// adapter BASE DIR writes a random LoRA adapter of rank 4 for the model folder BASE.
func writeAdapter(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(testmodel.Adapter(ts.MkAbs(args[1]), ts.MkAbs(args[0]), testmodel.AdapterSpec{Rank: 4, Alpha: 8, DType: testmodel.BF16}))
}

// ollama starts a real server and sets OLLAMA_HOST, and OLLAMA to the program; it ends with the script.
func startOllama(ts *testscript.TestScript, _ bool, _ []string) {
	program, err := ollama.Build(context.Background())
	ts.Check(err)
	server, err := ollama.Start(context.Background(), program, ts.MkAbs("server"))
	ts.Check(err)
	ts.Defer(server.Stop)
	ts.Setenv("OLLAMA", program)
	ts.Setenv("OLLAMA_HOST", server.URL.Host)
	ts.Setenv("OLLAMA_MODELS", ts.MkAbs("server/models"))
}

// trainer sets up the trainer's environment with this process's settings of the network, which scripts do not have.
func prepareTrainer(ts *testscript.TestScript, _ bool, _ []string) {
	o := train.DefaultOptions()
	o.CacheDir, o.Env = ts.Getenv("CACHE"), os.Environ()
	_, err := train.Prepare(context.Background(), &o)
	ts.Check(err)
}

// records N FILE writes the first SFT records of the example.
func writeRecords(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	c := exec.Command("go", "run", "./examples/snow_white/sft", ts.MkAbs("all.jsonl"))
	c.Dir = "../.."
	if out, err := c.CombinedOutput(); err != nil {
		ts.Fatalf("%s%v", out, err)
	}
	lines := strings.SplitAfterN(ts.ReadFile("all.jsonl"), "\n", n+1)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines[:n], "")), 0o644))
}

// exits CODE PROGRAM ARG... runs a program that must end with that code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	if got := exitCode(ts, err); strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s: got exit code %d, want %s\n%s%s", strings.Join(args[1:], " "), got, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func exitCode(ts *testscript.TestScript, err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Check(err)
	}
	return exit.ExitCode()
}

// json [KEY=VALUE...] checks that stdout is one JSON object, with these values in it. KEY may lead into
// objects and lists with dots; VALUE is JSON; without =VALUE the key has only to be there.
func checkJSON(ts *testscript.TestScript, _ bool, args []string) {
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	d.UseNumber()
	var object map[string]any
	ts.Check(d.Decode(&object))
	if d.More() {
		ts.Fatalf("stdout: got more than one JSON value")
	}
	for _, arg := range args {
		key, want, valued := strings.Cut(arg, "=")
		var value any = object
		for _, step := range strings.Split(key, ".") {
			switch v := value.(type) {
			case map[string]any:
				var ok bool
				if value, ok = v[step]; !ok {
					ts.Fatalf("%s: not in the JSON", key)
				}
			case []any:
				i, err := strconv.Atoi(step)
				ts.Check(err)
				if i >= len(v) {
					ts.Fatalf("%s: got %d elements", key, len(v))
				}
				value = v[i]
			default:
				ts.Fatalf("%s: got %v, want something with elements", key, value)
			}
		}
		if got, err := json.Marshal(value); valued && (err != nil || string(got) != want) {
			ts.Fatalf("%s: got %s, want %s", key, got, want)
		}
	}
}

// only DIR NAME... checks that the folder holds exactly these.
func only(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), strings.Join(args[1:], " "); got != want {
		ts.Fatalf("%s: got %q, want %q", args[0], got, want)
	}
}

// same FILE FILE compares files of bytes, which cmp would print.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if (ts.ReadFile(args[0]) == ts.ReadFile(args[1])) == neg {
		ts.Fatalf("%s and %s: same: got %v, want %v", args[0], args[1], neg, !neg)
	}
}

// edit FILE OLD NEW replaces text that must be there.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s: %q is not in it", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o644))
}

// cut FILE N shortens a file by N bytes.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()-n))
}

// interrupt SIGNAL PATTERN ARG... starts the program, sends it the signal once a file matches PATTERN, or
// with "output" once it has printed something, and checks that it ends with exit code 130 and says so.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	signal := map[string]os.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM}[args[0]]
	output, err := os.Create(ts.MkAbs("interrupt.out"))
	ts.Check(err)
	defer output.Close()
	stdin, stdinWriter, err := os.Pipe() // nobody writes to it
	ts.Check(err)
	defer stdin.Close()
	defer stdinWriter.Close()
	c := exec.Command(filepath.Join(binary, "persona-gguf"), args[2:]...)
	c.Dir, c.Stdin, c.Stdout, c.Stderr = ts.MkAbs("."), stdin, output, output
	ts.Check(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for !began(ts, args[1], output) {
		select {
		case err := <-ended:
			ts.Fatalf("%v: ended before it began to work: %v\n%s", args, err, ts.ReadFile("interrupt.out"))
		case <-time.After(time.Millisecond):
		}
	}
	ts.Check(c.Process.Signal(signal))
	err = <-ended
	if got := exitCode(ts, err); got != exitInterrupted {
		ts.Fatalf("%v: got exit code %d, want %d\n%s", args, got, exitInterrupted, ts.ReadFile("interrupt.out"))
	}
	if text := ts.ReadFile("interrupt.out"); !strings.HasSuffix(text, "persona-gguf: interrupted\n") {
		ts.Fatalf("%v: got output %q, want it to end with what happened", args, text)
	}
}

func began(ts *testscript.TestScript, pattern string, output *os.File) bool {
	if pattern == "output" {
		info, err := output.Stat()
		ts.Check(err)
		return info.Size() > 0
	}
	matches, err := filepath.Glob(ts.MkAbs(pattern))
	ts.Check(err)
	return len(matches) > 0
}

// bigmodel DIR writes a model folder of some 600 MB, with a sparse file of zeros, so that there is
// time to interrupt its conversion.
func writeBigModel(ts *testscript.TestScript, _ bool, args []string) {
	writeModel(ts, false, []string{"qwen3-untied", args[0]})
	dir := ts.MkAbs(args[0])
	config := map[string]any{}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	ts.Check(err)
	ts.Check(json.Unmarshal(text, &config))
	old := int64(config["intermediate_size"].(float64))
	const size = 1 << 17
	config["intermediate_size"] = size
	text, err = json.Marshal(config)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644))
	ts.Check(widen(filepath.Join(dir, "model.safetensors"), old, size))
}

// widen rewrites a safetensors file of 16-bit tensors with another intermediate size and no data.
func widen(path string, old, size int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header := map[string]map[string]any{}
	n := int64(data[0]) | int64(data[1])<<8 | int64(data[2])<<16
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		return err
	}
	end := int64(0)
	for name, tensor := range header {
		if name == "__metadata__" {
			continue
		}
		bytes := int64(2)
		shape := tensor["shape"].([]any)
		for i, d := range shape {
			dim := int64(d.(float64))
			if strings.Contains(name, ".mlp.") && dim == old {
				dim = size
				shape[i] = dim
			}
			bytes *= dim
		}
		tensor["data_offsets"] = []int64{end, end + bytes}
		end += bytes
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	text = append(text, bytes.Repeat([]byte(" "), 7-(len(text)+7)%8)...)
	length := []byte{byte(len(text)), byte(len(text) >> 8), byte(len(text) >> 16), 0, 0, 0, 0, 0}
	if err := os.WriteFile(path, append(length, text...), 0o644); err != nil {
		return err
	}
	return os.Truncate(path, int64(8+len(text))+end)
}
