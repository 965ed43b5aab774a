package checkup

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	t.Setenv("OLLAMA_HOST", "127.0.0.1:1") // nobody listens there
	dir := t.TempDir()
	r := Run(t.Context(), dir)
	if !r.OK || len(r.Problems) > 0 {
		t.Errorf("got ok %v with problems %v, want a machine that runs models", r.OK, r.Problems)
	}
	if len(r.Backends) == 0 || len(r.Devices) == 0 || len(r.Libraries) == 0 || r.LibraryDir == "" {
		t.Errorf("engine: got backends %v, devices %v, libraries %v in %q", r.Backends, r.Devices, r.Libraries, r.LibraryDir)
	}
	if r.LlamaCPP != "0.5.0" || r.Go != runtime.Version() {
		t.Errorf("versions: got llama.cpp %q, %q", r.LlamaCPP, r.Go)
	}
	if r.Disk != dir || r.DiskFree <= 0 || r.MemoryTotal <= 0 || r.MemoryFree <= 0 || r.MemoryFree > r.MemoryTotal {
		t.Errorf("space: got %d free in %s, %d of %d memory", r.DiskFree, r.Disk, r.MemoryFree, r.MemoryTotal)
	}
	if r.Training.Dir == "" || r.Training.Missing != "" && (r.Training.Base != "" || r.Training.UV != "" || r.Training.Ready) {
		t.Errorf("training: got %+v", r.Training)
	}
	if r.Cores < 1 || r.CPUs < r.Cores {
		t.Errorf("got %d cores, %d CPUs", r.Cores, r.CPUs)
	}
	if r.Ollama.Version != "" || r.Ollama.Error == "" || r.Ollama.Host != "http://127.0.0.1:1" {
		t.Errorf("Ollama that is not there: got %+v", r.Ollama)
	}
}

func TestOllamaThere(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/version" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		fmt.Fprint(w, `{"version":"0.17.4"}`)
	}))
	defer server.Close()
	t.Setenv("OLLAMA_HOST", server.URL)
	if o := reach(t.Context()); o.Version != "0.17.4" || o.Error != "" {
		t.Errorf("got %+v", o)
	}
}

func TestMissingDisk(t *testing.T) {
	t.Setenv("OLLAMA_HOST", "127.0.0.1:1")
	r := Run(t.Context(), "/no/such/folder")
	if !r.OK || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "/no/such/folder") {
		t.Errorf("got ok %v, problems %v, want an engine that works and one problem", r.OK, r.Problems)
	}
}
