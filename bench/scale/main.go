// Command scale measures conversion and quantization at the size of a real model, each step a process
// of its own, beside the reference tools on the same files in the same run, and prints a Markdown table.
//
//	go run ./bench/scale -dir /big/disk/scale -shape 4b
//	go run ./bench/scale -dir /big/disk/scale -python .venv/bin/python   # also PEFT and convert_hf_to_gguf.py
//
// The Python needs torch, transformers, peft, sentencepiece and protobuf.
//
// It is a benchmark, not a test: nothing in the test run calls it. The folder is kept, so that a second
// run measures with the same model; remove it yourself.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// step is one measured process: its name in the table, the command, and the file that it reads and writes.
type step struct {
	name   string
	argv   []string
	input  string
	output string
}

type measurement struct {
	wall, cpu time.Duration
	maxRSS    int64 // bytes, ru_maxrss: mapped file pages count
}

func main() {
	dir := flag.String("dir", "", "folder for the model and the outputs (a 4b shape needs about 45 GB)")
	shape := flag.String("shape", "4b", "shape of the model: 0.6b, 1.7b, 4b or 8b")
	python := flag.String("python", "", "a Python with the reference converter's requirements; empty: leave the converter out")
	rounds := flag.Int("rounds", 1, "times each step is run; the table shows the fastest")
	flag.Parse()
	if err := run(*dir, *shape, *python, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "scale: error:", err)
		os.Exit(1)
	}
}

func run(dir, shape, python string, rounds int) error {
	if dir == "" {
		return errors.New("-dir is missing: a folder on a disk with room for the model three times")
	}
	model := filepath.Join(dir, "qwen3-"+shape)
	if _, err := os.Stat(filepath.Join(model, "config.json")); err != nil {
		if err := writeModel("-shape", shape, model); err != nil {
			return err
		}
	}
	adapter := filepath.Join(dir, "adapter-"+shape)
	if _, err := os.Stat(filepath.Join(adapter, "adapter_model.safetensors")); err != nil {
		if err := writeModel("-adapter", model, adapter); err != nil {
			return err
		}
	}
	fmt.Printf("| step | wall s | CPU s | MB/s of input | peak RSS MB |\n|---|---|---|---|---|\n")
	for _, s := range append(steps(dir, model, python), adapterSteps(dir, model, adapter, python)...) {
		best, err := fastest(s, rounds)
		if err != nil {
			return err
		}
		size, err := sizeOf(s.input)
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %.1f | %.1f | %.0f | %d |\n", s.name, best.wall.Seconds(), best.cpu.Seconds(),
			float64(size)/1e6/best.wall.Seconds(), best.maxRSS/1e6)
	}
	return compare(dir, python != "")
}

func writeModel(kind, of, dir string) error {
	fmt.Fprintf(os.Stderr, "writing %s\n", dir)
	cmd := exec.Command("go", "run", "./internal/testmodel/write", kind, of, dir)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

func steps(dir, model, python string) []step {
	path := func(name string) string { return filepath.Join(dir, name) }
	list := []step{
		{"cp of the input", []string{"cp", "-r", model, path("copy")}, model, path("copy")},
		{"persona-gguf convert f16", []string{"bin/persona-gguf", "convert", model, "--outtype", "f16", "--outfile", path("f16.gguf")}, model, path("f16.gguf")},
	}
	if python != "" {
		list = append(list, step{"convert_hf_to_gguf.py f16", []string{python, "llamacpp/convert_hf_to_gguf.py", model, "--outtype", "f16", "--outfile", path("reference-f16.gguf")}, model, path("reference-f16.gguf")})
	}
	return append(list,
		step{"persona-gguf quantize q4_0", []string{"bin/persona-gguf", "quantize", path("f16.gguf"), path("q4_0.gguf"), "q4_0"}, path("f16.gguf"), path("q4_0.gguf")},
		step{"llama-quantize q4_0", []string{"bin/llama-quantize", path("f16.gguf"), path("reference-q4_0.gguf"), "q4_0"}, path("f16.gguf"), path("reference-q4_0.gguf")},
	)
}

// mergeScript is the merge as people write it, in the dtype of the base.
const mergeScript = `
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", device_map="cpu")
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
AutoTokenizer.from_pretrained(base).save_pretrained(out)
`

// adapterSteps take base and adapter to q4_0: in one pass, and in the reference's three steps.
func adapterSteps(dir, model, adapter, python string) []step {
	path := func(name string) string { return filepath.Join(dir, name) }
	list := []step{
		{"persona-gguf convert q4_0, no f16 file", []string{"bin/persona-gguf", "convert", model, "--outtype", "q4_0", "--outfile", path("direct.gguf")}, model, path("direct.gguf")},
		{"persona-gguf merge", []string{"bin/persona-gguf", "merge", "--base", model, "--adapter", adapter, "--out", path("merged")}, model, path("merged")},
		{"persona-gguf convert --adapter q4_0", []string{"bin/persona-gguf", "convert", model, "--adapter", adapter, "--outtype", "q4_0", "--outfile", path("persona.gguf")}, model, path("persona.gguf")},
	}
	if python == "" {
		return list
	}
	return append(list,
		step{"PEFT merge", []string{python, "-c", mergeScript, model, adapter, path("peft")}, model, path("peft")},
		step{"convert_hf_to_gguf.py f16, of that", []string{python, "llamacpp/convert_hf_to_gguf.py", path("peft"), "--outtype", "f16", "--outfile", path("peft-f16.gguf")}, path("peft"), path("peft-f16.gguf")},
		step{"llama-quantize q4_0, of that", []string{"bin/llama-quantize", path("peft-f16.gguf"), path("peft-q4_0.gguf"), "q4_0"}, path("peft-f16.gguf"), path("peft-q4_0.gguf")},
	)
}

// fastest runs the step rounds times, each time on a fresh output, and returns the shortest wall time.
func fastest(s step, rounds int) (measurement, error) {
	var best measurement
	for round := range max(rounds, 1) {
		if err := os.RemoveAll(s.output); err != nil {
			return best, err
		}
		m, err := measure(s.argv)
		if err != nil {
			return best, fmt.Errorf("%s: %w", s.name, err)
		}
		if round == 0 || m.wall < best.wall {
			best = m
		}
	}
	if strings.HasPrefix(s.name, "cp ") {
		return best, os.RemoveAll(s.output)
	}
	return best, nil
}

func measure(argv []string) (measurement, error) {
	var log bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &log, &log
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return measurement{}, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, log.String())
	}
	wall := time.Since(start)
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return measurement{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), usage.Maxrss * 1024}, nil
}

func sizeOf(path string) (int64, error) {
	var size int64
	err := filepath.Walk(path, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// compare reports whether our files equal the reference's byte for byte.
func compare(dir string, converter bool) error {
	pairs := [][2]string{{"q4_0.gguf", "reference-q4_0.gguf"}, {"direct.gguf", "q4_0.gguf"}}
	if converter {
		pairs = append(pairs, [2]string{"f16.gguf", "reference-f16.gguf"})
	}
	for _, pair := range pairs {
		equal, err := equalFiles(filepath.Join(dir, pair[0]), filepath.Join(dir, pair[1]))
		if err != nil {
			return err
		}
		if !equal {
			return fmt.Errorf("%s and %s differ", pair[0], pair[1])
		}
		fmt.Printf("\n%s equals %s byte for byte.\n", pair[0], pair[1])
	}
	return nil
}

func equalFiles(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		ended := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
		switch {
		case ended(errA) && ended(errB):
			return true, nil
		case errA != nil || errB != nil:
			return false, errors.Join(errA, errB)
		}
	}
}
