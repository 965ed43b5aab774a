package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	llama "github.com/go-skynet/go-llama.cpp"
	"github.com/persona-gguf/persona-gguf/bench/figure"
)

func (o options) threadCount() int {
	if o.threads > 0 {
		return o.threads
	}
	return llama.DefaultThreads()
}

// output runs a program and gives its standard output.
func output(ctx context.Context, argv ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	return out, nil
}

// single runs llama-bench, or our program that takes the same options, for pp and tg.
func (o options) single(ctx context.Context, all *rates, name, file string, tool [2]string) error {
	if tool[1] == "" {
		return nil
	}
	n := strconv.Itoa
	argv := []string{tool[1], "-m", file, "-p", n(o.prompt), "-n", n(o.gen), "-r", "2", "-t", n(o.threadCount()), "-o", "jsonl"}
	if tool[0] == figure.Ours {
		argv = append([]string{tool[1], "bench"}, argv[1:]...)
	}
	out, err := output(ctx, append(argv, "-ngl", n(o.gpuLayers))...)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(out) {
		var r struct {
			NPrompt   int       `json:"n_prompt"`
			NGen      int       `json:"n_gen"`
			SamplesTS []float64 `json:"samples_ts"`
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("%s: got %q: %w", tool[1], line, err)
		}
		test := fmt.Sprintf("pp%d", r.NPrompt)
		if r.NGen > 0 {
			test = fmt.Sprintf("tg%d", r.NGen)
		}
		for _, s := range r.SamplesTS {
			all.add(name, test, 1, tool[0], s)
		}
	}
	return nil
}

// reference runs llama-batched-bench.
func (o options) reference(ctx context.Context, all *rates, name, file string, parallel int, shared bool) error {
	if o.batched == "" {
		return nil
	}
	n := strconv.Itoa
	argv := []string{o.batched, "-m", file, "-c", n(parallel * (o.npp + o.ntg + 1)), "-b", n(o.batch), "-ub", n(min(o.batch, 512)),
		"-npp", n(o.npp), "-ntg", n(o.ntg), "-npl", n(parallel), "-t", n(o.threadCount()), "--output-format", "jsonl"}
	if o.gpuLayers >= 0 {
		argv = append(argv, "-ngl", n(o.gpuLayers))
	}
	if shared {
		argv = append(argv, "-pps", "-kvu") // the layout of ours for such prompts
	}
	out, err := output(ctx, argv...)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(out) {
		var r struct {
			PP float64 `json:"speed_pp"`
			TG float64 `json:"speed_tg"`
			S  float64 `json:"speed"`
		}
		if !bytes.HasPrefix(line, []byte("{")) {
			continue
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("%s: got %q: %w", o.batched, line, err)
		}
		addAll(all, name, parallel, "llama-batched-bench", shared, r.PP, r.TG, r.S)
		return nil
	}
	return fmt.Errorf("%s: no figures in its output:\n%s", strings.Join(argv, " "), out)
}

func addAll(all *rates, name string, parallel int, tool string, shared bool, prompt, decode, whole float64) {
	suffix := ""
	if shared {
		suffix = ", shared"
	} else {
		all.add(name, "prompt", parallel, tool, prompt)
	}
	all.add(name, "decode"+suffix, parallel, tool, decode)
	all.add(name, "whole"+suffix, parallel, tool, whole)
}
