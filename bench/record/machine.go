package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/persona-gguf/persona-gguf/bench/figure"
)

// record is what was measured on one machine.
type record struct {
	Machine machine          `json:"machine"`
	Stamps  map[string]stamp `json:"sections"` // by section
	Kernels []figure.Kernel  `json:"kernels,omitempty"`
	Steps   []figure.Step    `json:"steps,omitempty"`
	Rates   []figure.Rate    `json:"rates,omitempty"`
	Stages  []figure.Stage   `json:"stages,omitempty"`

	name string // of the file
}

// stamp is when a section was measured, and with which version.
type stamp struct {
	At      time.Time `json:"at"`
	Version string    `json:"version"`
}

// machine is where it was measured, and the versions of what was beside us.
type machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   uint64            `json:"memory"` // bytes
	GPU      string            `json:"gpu,omitempty"`
	Kernels  string            `json:"kernels"` // the row encoders' best instruction set
	System   string            `json:"system"`
	Go       string            `json:"go"`
	LlamaCpp string            `json:"llama_cpp"`
	Python   map[string]string `json:"python,omitempty"` // versions of the reference's packages
}

func thisMachine(ctx context.Context, python string) (machine, error) {
	if err := llama.Init(); err != nil {
		return machine{}, err
	}
	devices, err := llama.Devices()
	if err != nil {
		return machine{}, err
	}
	var m machine
	for _, d := range devices {
		switch {
		case d.Kind == "cpu":
			m.CPU = d.Description
		case strings.HasSuffix(d.Kind, "gpu"):
			m.GPU = strings.TrimPrefix(m.GPU+", "+d.Description, ", ")
		}
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return machine{}, err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return machine{}, err
	}
	release, commit := llama.BuildInfo()
	sets := llama.AvailableKernels()
	m.Cores, m.Memory, m.Kernels = llama.DefaultThreads(), info.Totalram*uint64(info.Unit), sets[len(sets)-1]
	m.System = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Machine[:])
	m.Go, m.LlamaCpp = said(ctx, "go", "env", "GOVERSION"), release+" ("+commit[:min(9, len(commit))]+")"
	if python != "" {
		m.Python = map[string]string{"python": strings.TrimPrefix(said(ctx, python, "--version"), "Python ")}
		for _, p := range []string{"torch", "transformers", "peft", "numpy"} {
			m.Python[p] = said(ctx, python, "-c", "import importlib.metadata as m; print(m.version('"+p+"'))")
		}
	}
	return m, nil
}

// said is what a command prints; "unknown" if it fails.
func said(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// version is the commit, with "-dirty" if files are changed that this program does not write.
func version(ctx context.Context) string {
	commit := said(ctx, "git", "describe", "--tags", "--always")
	changed := said(ctx, "git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks*", ":!README*.md")
	if changed != "" {
		commit += "-dirty"
	}
	return commit
}

// slug is a file name for the machine: CPUs of one name may have other instructions.
func (m machine) slug() string {
	text := m.CPU
	if m.GPU != "" {
		text, _, _ = strings.Cut(m.GPU, ", ")
	}
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') })
	return strings.Join(append(words, m.Kernels, said(context.Background(), "nproc"), "cores"), "-")
}

// readRecords reads the figures of all machines, in the order of their names.
func readRecords(docs string) ([]record, error) {
	paths, err := filepath.Glob(filepath.Join(docs, "benchmarks", "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var records []record
	for _, path := range paths {
		r := record{name: strings.TrimSuffix(filepath.Base(path), ".json")}
		if err := figure.Read(path, &r); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	if len(records) == 0 {
		return nil, os.ErrNotExist
	}
	return records, nil
}
