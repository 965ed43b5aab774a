package testmodel

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// AdapterSpec describes a LoRA adapter for a model folder.
type AdapterSpec struct {
	Rank   int64
	Alpha  float64
	DType  DType
	Config map[string]any // further keys of adapter_config.json
}

// Adapter writes a PEFT adapter folder dir for every linear layer of the blocks of the
// model folder base. Its values, like the base's, follow from names and indices.
func Adapter(dir, base string, s AdapterSpec) error {
	m, err := safetensors.OpenModel(base)
	if err != nil {
		return err
	}
	defer m.Close()
	var ts []tensor
	modules := map[string]bool{}
	for _, t := range m.Tensors() {
		path, ok := strings.CutSuffix(t.Name, ".weight")
		if !ok || len(t.Shape) != 2 || path == "lm_head" || strings.HasSuffix(path, "embed_tokens") || strings.HasSuffix(path, "wte") || strings.HasSuffix(path, "mlp.gate") {
			continue
		}
		modules[path[strings.LastIndexByte(path, '.')+1:]] = true
		key := "base_model.model." + path
		ts = append(ts, weight(key+".lora_A.weight", s.Rank, t.Shape[1]), weight(key+".lora_B.weight", t.Shape[0], s.Rank))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := jmap{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": s.Rank, "lora_alpha": s.Alpha,
		"target_modules": slices.Sorted(maps.Keys(modules)), "bias": "none", "init_lora_weights": true,
	}
	for k, v := range s.Config {
		config[k] = v
	}
	if err := writeJSON(filepath.Join(dir, "adapter_config.json"), config); err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), func(w io.Writer) error { return writeTensors(w, ts, s.DType) })
}

// writeTensors writes a safetensors file of weights.
func writeTensors(w io.Writer, ts []tensor, d DType) error {
	head, _, err := header(ts, d)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	if _, err := out.Write(head); err != nil {
		return err
	}
	var buf []byte
	for _, t := range ts {
		buf = fill(buf[:0], t.name, t.elements(), d, t.role, false)
		if _, err := out.Write(buf); err != nil {
			return fmt.Errorf("tensor %s: %w", t.name, err)
		}
	}
	return out.Flush()
}
