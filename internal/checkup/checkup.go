// Package checkup looks at what this machine offers to run models: backends, devices, memory, disk, and
// an Ollama server.
package checkup

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/envconfig"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/meminfo"
	"github.com/persona-gguf/persona-gguf/train"
)

// Report is what was found. Sizes are bytes.
type Report struct {
	OK             bool      `json:"ok"` // the engine can run a model
	Problems       []string  `json:"problems"`
	LlamaCPP       string    `json:"llama_cpp"`
	LlamaCPPCommit string    `json:"llama_cpp_commit"`
	Go             string    `json:"go"`
	Platform       string    `json:"platform"` // "linux/amd64"
	LibraryDir     string    `json:"library_dir"`
	Libraries      []string  `json:"libraries"` // backend files there, whether they could be loaded or not
	Backends       []Backend `json:"backends"`  // those that were loaded
	Devices        []Device  `json:"devices"`
	CPUFeatures    []string  `json:"cpu_features"` // that the loaded CPU backend uses
	Kernels        string    `json:"kernels"`      // row encoders in use
	Cores          int       `json:"cores"`        // physical ones that this process may use
	CPUs           int       `json:"cpus"`         // logical ones
	MemoryTotal    int64     `json:"memory_total"`
	MemoryFree     int64     `json:"memory_free"`
	Disk           string    `json:"disk"` // the folder that DiskFree is about
	DiskFree       int64     `json:"disk_free"`
	Ollama         Ollama    `json:"ollama"`
	Training       Training  `json:"training"`
}

// Training is what is there for the training step; a machine without it still runs models.
type Training struct {
	train.Environment
	Missing string `json:"missing"` // what must be installed by hand first, "" if nothing
}

// Backend is a loaded backend.
type Backend struct {
	Name string `json:"name"`
	File string `json:"file"`
}

// Device is something that a model can be put on.
type Device struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Backend     string `json:"backend"`
	Kind        string `json:"kind"`
	Free        uint64 `json:"free"`
	Total       uint64 `json:"total"`
}

// Ollama is the server at OLLAMA_HOST, or where it usually is.
type Ollama struct {
	Host    string `json:"host"`
	Version string `json:"version"` // "" when it is not reachable
	Error   string `json:"error,omitempty"`
}

// ollamaTimeout is long for a server on the machine, short for somebody who waits.
const ollamaTimeout = 2 * time.Second

// Run looks at everything; dir is the folder whose disk counts. What cannot be read is a problem in the
// report, not an error; the report is not OK only if the engine cannot run.
func Run(ctx context.Context, dir string) Report {
	r := Report{
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: llama.DefaultThreads(),
		CPUs: runtime.GOMAXPROCS(0), LibraryDir: llama.LibraryDir(), Disk: dir, Problems: []string{},
	}
	r.LlamaCPP, r.LlamaCPPCommit = llama.BuildInfo()
	if abs, err := filepath.Abs(dir); err == nil {
		r.Disk = abs
	}
	r.engine()
	free, err := atomicfile.FreeSpace(r.Disk)
	r.problem(err)
	r.DiskFree = int64(free)
	r.MemoryTotal, r.MemoryFree, err = meminfo.Read(os.DirFS("/proc"))
	r.problem(err)
	r.Ollama = reach(ctx)
	r.Training.Environment = train.Look("", os.Environ())
	r.Training.Missing = r.Training.Environment.Missing()
	return r
}

func (r *Report) problem(err error) {
	if err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
}

// engine lists backends and devices. A CPU device is what every model needs.
func (r *Report) engine() {
	files, err := filepath.Glob(filepath.Join(r.LibraryDir, "libggml-*.so"))
	r.problem(err)
	for _, file := range files {
		if name := filepath.Base(file); name != "libggml-base.so" {
			r.Libraries = append(r.Libraries, name)
		}
	}
	backends, err := llama.Backends()
	r.problem(err)
	for _, b := range backends {
		r.Backends = append(r.Backends, Backend(b))
	}
	devices, err := llama.Devices()
	r.problem(err)
	for _, d := range devices {
		r.Devices = append(r.Devices, Device(d))
		r.OK = r.OK || d.Kind == "cpu"
	}
	if !r.OK {
		r.problem(fmt.Errorf("no CPU backend: got %d devices from %s, want a CPU among them", len(devices), r.LibraryDir))
	}
	r.Kernels = llama.Kernels()
	features, err := llama.CPUFeatures()
	r.problem(err)
	for _, name := range slices.Sorted(maps.Keys(features)) {
		if value := features[name]; value == "1" {
			r.CPUFeatures = append(r.CPUFeatures, name)
		} else if value != "0" {
			r.CPUFeatures = append(r.CPUFeatures, name+"="+value)
		}
	}
}

// reach asks the Ollama server for its version.
func reach(ctx context.Context) Ollama {
	host := envconfig.Host()
	o := Ollama{Host: host.String()}
	ctx, cancel := context.WithTimeout(ctx, ollamaTimeout)
	defer cancel()
	version, err := api.NewClient(host, http.DefaultClient).Version(ctx)
	if err != nil {
		o.Error = err.Error()
		return o
	}
	o.Version = version
	return o
}
