package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/persona-gguf/persona-gguf/internal/checkup"
	"github.com/persona-gguf/persona-gguf/internal/unit"
)

func (a *app) doctor() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "show what this machine offers to run models", Args: arguments(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := checkup.Run(cmd.Context(), ".")
			err := a.printReport(r)
			if err == nil && !r.OK {
				err = errors.New("doctor: the engine cannot run a model")
			}
			return err
		},
	}
}

func (a *app) printReport(r checkup.Report) error {
	if a.json {
		return a.printJSON(struct {
			Version string `json:"version"`
			checkup.Report
		}{version, r})
	}
	t := newTable(a.stdout)
	t.row("version", fmt.Sprintf("persona-gguf %s, llama.cpp %s %.9s, %s, %s", version, r.LlamaCPP, r.LlamaCPPCommit, r.Go, r.Platform))
	t.row("libraries", r.LibraryDir+": "+strings.Join(r.Libraries, " "))
	for _, b := range r.Backends {
		t.row("backend", strings.TrimSpace(b.Name+"  "+b.File))
	}
	for _, d := range r.Devices {
		t.row("device", fmt.Sprintf("%s (%s): %s, %s of %s free", d.Name, d.Kind, d.Description, unit.Bytes(int64(d.Free)), unit.Bytes(int64(d.Total))))
	}
	t.row("CPU", fmt.Sprintf("%d cores, %d threads: %s", r.Cores, r.CPUs, strings.Join(r.CPUFeatures, " ")))
	t.row("encoders", r.Kernels)
	t.row("memory", unit.Bytes(r.MemoryFree)+" of "+unit.Bytes(r.MemoryTotal)+" free")
	t.row("disk", unit.Bytes(r.DiskFree)+" free in "+r.Disk)
	if r.Ollama.Version != "" {
		t.row("Ollama", r.Ollama.Version+" at "+r.Ollama.Host)
	} else {
		t.row("Ollama", "not reachable at "+r.Ollama.Host)
	}
	t.row("training", trainingText(r.Training))
	for _, problem := range r.Problems {
		t.row("problem", problem)
	}
	if r.OK {
		t.row("result", "the engine works")
	}
	return t.Flush()
}

// trainingText says what the first training will find, or what is missing for it.
func trainingText(t checkup.Training) string {
	switch {
	case t.Ready:
		return "ready: " + t.Python
	case t.UV != "":
		return "not set up; 'train' does that in " + t.Dir + " with " + t.UV
	case t.Missing == "":
		return "not set up; 'train' does that in " + t.Dir + ", with a uv that " + t.Base + " installs there"
	}
	return "missing: " + t.Missing
}
