// Package figure is what the benchmark programs below bench/ measure, as data: the costs of processes, rates, and how
// far repeated measurements lie apart. The programs write it as JSON, and bench/record makes docs/benchmarks.md of it.
package figure

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Cost is what a process took.
type Cost struct {
	Wall        float64 `json:"wall_s"`
	User        float64 `json:"user_s"`
	System      float64 `json:"system_s"`
	MinorFaults int64   `json:"minor_faults"`
	MajorFaults int64   `json:"major_faults"`
	PeakRSS     int64   `json:"peak_rss"` // bytes, ru_maxrss: mapped file pages count
}

// Process runs a command to its end. An error holds what the command printed.
func Process(ctx context.Context, argv ...string) (Cost, error) {
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &log, &log
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return Cost{}, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, log.String())
	}
	c := Cost{Wall: time.Since(start).Seconds(), User: cmd.ProcessState.UserTime().Seconds(), System: cmd.ProcessState.SystemTime().Seconds()}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.MinorFaults, c.MajorFaults, c.PeakRSS = usage.Minflt, usage.Majflt, usage.Maxrss*1024
	}
	return c, nil
}

// Spread is how far measurements lie apart.
type Spread struct{ Min, Median, Max float64 }

// Of gives the spread of values; of none it is NaN.
func Of(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	middle := v[len(v)/2]
	if len(v)%2 == 0 {
		middle = (v[len(v)/2-1] + middle) / 2
	}
	return Spread{v[0], middle, v[len(v)-1]}
}

// The tools whose figures stand beside each other.
const (
	Ours      = "persona-gguf"
	Reference = "reference" // llama.cpp's tools and PEFT
	Copy      = "cp"        // the yardstick of the disk
)

// Step is a process that was run several times on files of a model.
type Step struct {
	Shape  string `json:"shape"`  // 0.6b, 1.7b, 4b, 8b
	Task   string `json:"task"`   // what it does, the same for all that do the same
	Tool   string `json:"tool"`   // Ours, Reference or Copy
	Name   string `json:"name"`   // for people
	Cold   bool   `json:"cold"`   // the input was dropped from the page cache before
	Input  int64  `json:"input"`  // bytes
	Output int64  `json:"output"` // bytes
	Costs  []Cost `json:"costs"`
}

// Of gives the spread of one side of the costs, for instance of the wall time.
func (s Step) Of(side func(Cost) float64) Spread {
	var values []float64
	for _, c := range s.Costs {
		values = append(values, side(c))
	}
	return Of(values)
}

// Wall is a side of a Cost.
func Wall(c Cost) float64 { return c.Wall }

// Kernel is how long the row encoders take for a tensor type.
type Kernel struct {
	Type    string             `json:"type"`
	Imatrix bool               `json:"imatrix"`
	Weights int64              `json:"weights"` // compared byte for byte
	NS      map[string]float64 `json:"ns"`      // a weight, on one thread, by kernel set; "plain" is ggml's own
}

// Rate is tokens per second of one way to compute them.
type Rate struct {
	Model   string    `json:"model"` // shape and type
	Test    string    `json:"test"`  // pp512, tg128, decode, whole, shared
	N       int       `json:"n"`     // dialogues at once
	Tool    string    `json:"tool"`  // persona-gguf, llama-bench, llama-batched-bench
	Samples []float64 `json:"samples"`
}

// Stage is a command of the data pipeline.
type Stage struct {
	Name  string `json:"name"`
	Rows  int    `json:"rows"`
	Bytes int64  `json:"bytes"`
	Costs []Cost `json:"costs"`
}

// Write writes v as indented JSON, if path is not "".
func Write(path string, v any) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Read reads what Write wrote.
func Read(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
