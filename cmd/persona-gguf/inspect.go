package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/internal/summary"
	"github.com/persona-gguf/persona-gguf/internal/unit"
)

// Longer values are cut unless --full asks for all of them.
const (
	shownElements = 8
	shownRunes    = 80
)

func (a *app) inspect() *cobra.Command {
	var kv, tensors, full bool
	cmd := &cobra.Command{
		Use: "inspect FILE|DIR", Short: "show metadata, tensors, types and sizes of a GGUF or safetensors file or a model folder",
		Args: arguments(1, 1, "one file or folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := summary.Options{MaxArray: shownElements, FileTypeName: func(n uint32) string { return llama.FType(n).String() }}
			if full {
				o.MaxArray = 0
			}
			s, err := summary.Read(args[0], o)
			if err != nil {
				return err
			}
			all := !kv && !tensors
			if !all && !kv {
				s.KV = nil
			}
			if !all && !tensors {
				s.Tensors = nil
			}
			if a.json {
				return a.printJSON(s)
			}
			return a.printSummary(s, all, full)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&kv, "kv", false, "show the metadata only")
	cmd.Flags().BoolVar(&tensors, "tensors", false, "show the tensors only")
	cmd.Flags().BoolVar(&full, "full", false, "do not shorten long arrays and strings")
	return cmd
}

// printSummary prints the sections that s has left, and with totals what the model is.
func (a *app) printSummary(s *summary.Summary, totals, full bool) error {
	t := newTable(a.stdout)
	for _, kv := range s.KV {
		t.row(kv.Key, kv.Type, shown(kv, full))
	}
	if len(s.KV) > 0 && len(s.Tensors) > 0 {
		t.row()
	}
	if err := t.Flush(); err != nil {
		return err
	}
	t = newTable(a.stdout)
	for _, tensor := range s.Tensors {
		dims := tensor.NE
		if tensor.NE == nil {
			dims = tensor.Shape
		}
		t.row(tensor.Name, tensor.Type, fmt.Sprint(dims), unit.Bytes(tensor.Bytes))
	}
	if err := t.Flush(); err != nil || !totals {
		return err
	}
	return a.printTotals(s)
}

func (a *app) printTotals(s *summary.Summary) error {
	t := newTable(a.stdout)
	t.row()
	t.row("type", "tensors", "weights", "size", "bpw")
	for _, typ := range append(s.Types, summary.Type{Type: "all", Tensors: s.TensorCount, Elements: s.Parameters, Bytes: s.TensorBytes, BPW: s.BPW}) {
		t.row(typ.Type, strconv.Itoa(typ.Tensors), unit.Count(typ.Elements), unit.Bytes(typ.Bytes), fmt.Sprintf("%.2f", typ.BPW))
	}
	t.row()
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout, printable(headline(s)))
	return err
}

// headline says in one line what it is: "m.gguf: GGUF v3, qwen3, "Snow White", Q4_0, 2.36 GB".
func headline(s *summary.Summary) string {
	parts := []string{s.Format}
	if s.Format == summary.GGUF {
		parts[0] = fmt.Sprintf("GGUF v%d", s.Version)
	}
	for _, part := range []string{s.Arch, s.HFArch} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if s.Name != "" {
		parts = append(parts, strconv.Quote(s.Name))
	}
	if s.FileType != "" {
		parts = append(parts, s.FileType)
	}
	if len(s.Files) > 1 {
		parts = append(parts, strconv.Itoa(len(s.Files))+" files")
	}
	return s.Path + ": " + strings.Join(append(parts, unit.Bytes(s.Size)), ", ")
}

// shown writes a value for people: strings quoted, long ones cut, arrays with their count.
func shown(kv summary.KV, full bool) string {
	list, ok := kv.Value.([]any)
	if !ok {
		return shownValue(kv.Value, full)
	}
	items := make([]string, len(list))
	for i, v := range list {
		items[i] = shownValue(v, full)
	}
	if *kv.Count > len(list) {
		items = append(items, "…")
	}
	return fmt.Sprintf("[%s] (%d)", strings.Join(items, ", "), *kv.Count)
}

func shownValue(v any, full bool) string {
	switch v := v.(type) {
	case string:
		return quoted(v, full)
	case json.Number:
		return v.String()
	case []any, map[string]any, nil:
		text, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}
	return fmt.Sprint(v)
}

func quoted(s string, full bool) string {
	if full || utf8.RuneCountInString(s) <= shownRunes {
		return strconv.Quote(s)
	}
	return strconv.Quote(string([]rune(s)[:shownRunes])) + fmt.Sprintf("… (%d bytes)", len(s))
}
