package llama_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-skynet/go-llama.cpp/internal/tinymodel"
	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/mod/modfile"

	_ "github.com/onsi/ginkgo/v2" // the suite needs both: this keeps their versions in go.mod
	_ "github.com/onsi/gomega"
)

// TestOriginalSuite runs the original's own Ginkgo suite, unchanged out of the
// module cache, against this package.
func TestOriginalSuite(t *testing.T) {
	dir := t.TempDir()
	copyFiles(t, dir, "llama_test.go", "llama_suite_test.go")
	writeModule(t, dir)
	report := filepath.Join(dir, "report.json")
	cmd := exec.Command("go", "test", "-count=1", ".", "-ginkgo.json-report="+report, "-ginkgo.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "TEST_MODEL="+modelThatAnswers4(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go test: %v\n%s", err, out)
	}
	checkReport(t, report)
}

// checkReport wants every spec of the suite to have run and passed.
func checkReport(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var reports []types.Report
	if err := json.Unmarshal(data, &reports); err != nil || len(reports) != 1 {
		t.Fatalf("ginkgo's report: got %d suites, %v, want 1", len(reports), err)
	}
	passed := map[string]types.SpecState{}
	for _, spec := range reports[0].SpecReports {
		if spec.LeafNodeType == types.NodeTypeIt {
			passed[spec.FullText()] = spec.State
		}
	}
	const specs = 5 // not-existing model, Predict, SpeculativeSampling, TokenizeString, Predict with GPU layers
	if len(passed) != specs {
		t.Errorf("specs: got %d, want %d", len(passed), specs)
	}
	for name, state := range passed {
		if state != types.SpecStatePassed {
			t.Errorf("spec %q: got %s, want passed", name, state)
		}
	}
	if !reports[0].SuiteSucceeded {
		t.Errorf("suite: got %v, want success", reports[0].SpecialSuiteFailureReasons)
	}
}

// TestOriginalExample compiles the original's example program, unchanged out of
// the module cache, and talks to it.
func TestOriginalExample(t *testing.T) {
	dir := t.TempDir()
	copyFiles(t, dir, "examples/main.go")
	writeModule(t, dir)
	program := filepath.Join(dir, "example")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "-m", modelThatAnswers4(t), "-n", "16", "-t", "1", "-s", "1")
	cmd.Stdin = strings.NewReader("how much is 2+2?\n[answer]\n\nand 3+1?\n[answer]\n\n")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("example: %v\n%s%s", err, &stdout, &stderr)
	}
	checkTalk(t, stdout.String())
}

// checkTalk looks at what the example printed: a greeting, then for each of two
// prompts the prompt, the tokens of the answer, and the embedding.
func checkTalk(t *testing.T, out string) {
	t.Helper()
	parts := strings.Split(out, ">>> ")
	if len(parts) != 4 || parts[0] != "Model loaded successfully.\n" || parts[3] != "" {
		t.Fatalf("output: got %q, want a greeting, two answers and the end of the input", out)
	}
	for i, prompt := range []string{"how much is 2+2?\n[answer]\n", "and 3+1?\n[answer]\n"} {
		rest, ok := strings.CutPrefix(parts[i+1], "Sending "+prompt+"\n")
		if !ok {
			t.Fatalf("prompt %d: got %q, want it echoed", i+1, parts[i+1])
		}
		answer, embedding, ok := strings.Cut(rest, "Embeddings: [")
		if !ok || answer != "4" {
			t.Errorf("answer %d: got %q, want 4 and an embedding", i+1, answer)
		}
		values := strings.Fields(strings.TrimSuffix(embedding, "]\n\n"))
		if len(values) != embeddingLength {
			t.Errorf("embedding %d: got %d values, want %d", i+1, len(values), embeddingLength)
		}
		for _, v := range values {
			var f float32
			if _, err := fmt.Sscan(v, &f); err != nil {
				t.Fatalf("embedding %d: got %q, want numbers", i+1, v)
			}
		}
	}
}

// embeddingLength is the hidden size of the model that answers 4.
const embeddingLength = 288

// modelThatAnswers4 is a model that has learnt that a closing bracket, or the
// newline behind it, is followed by a 4 and the end. The suite's prompt ends with
// "[/INST]", the one for the example with "]\n".
func modelThatAnswers4(t *testing.T) string {
	t.Helper()
	m := tinymodel.Chain(tinymodel.Options{}, 40, func(token string) string {
		switch token {
		case "]", "\n":
			return "4"
		case "4":
			return tinymodel.End
		default:
			return "?"
		}
	})
	path := filepath.Join(t.TempDir(), "answers4.gguf")
	if err := m.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// copyFiles copies files of the original module, as they are.
func copyFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(originalDir(t), name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// writeModule makes dir a module that requires the original by its version and,
// like this project, replaces it by this package. The test libraries have the
// versions of our go.mod.
func writeModule(t *testing.T, dir string) {
	t.Helper()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	f.AddModuleStmt("example.org/program")
	if err := f.AddRequire(originalPath, originalVersion); err != nil {
		t.Fatal(err)
	}
	if err := f.AddReplace(originalPath, "", here, ""); err != nil {
		t.Fatal(err)
	}
	mod, err := f.Format()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"go.mod": mod, "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
