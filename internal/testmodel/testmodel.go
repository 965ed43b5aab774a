// Package testmodel writes Hugging Face model folders for tests: tiny ones of
// every supported architecture, and checkpoints of Qwen3's real shapes for
// benchmarks. Every element is a function of its tensor's name and its index,
// so swapped tensors, mixed-up offsets and wrong permutations are seen. The
// same call writes the same bytes on every machine.
package testmodel

import (
	"fmt"
	"os"
	"path/filepath"
)

// Spec describes one tiny model folder.
type Spec struct {
	Name   string // of the case, and of the folder a caller should choose: names enter the converted file
	HFArch string // architectures[0] in config.json
	Pre    string // what tokenizer.ggml.pre should become; "default" for SentencePiece
	DType  DType  // of every tensor
	Shards int    // number of safetensors files; above 1 there is an index

	dims     dims
	layout   layout
	config   jmap // config.json without architectures, torch_dtype and vocab_size
	noVocab  bool // leave vocab_size out of config.json
	tokens   func(dir string) error
	files    map[string]string // further files by name
	extremes bool              // F32 denormals and magnitudes beyond F16 among the weights
}

// Find returns the spec with the given name, of Specs or VocabSpecs.
func Find(name string) (Spec, error) {
	for _, s := range append(Specs(), VocabSpecs()...) {
		if s.Name == name {
			return s, nil
		}
	}
	return Spec{}, fmt.Errorf("testmodel spec: unknown name: got %q", name)
}

// Write writes the folder dir, which it makes. Files of the same names are
// overwritten, others are left alone.
func Write(dir string, s Spec) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := jmap{"architectures": []string{s.HFArch}, "torch_dtype": map[DType]string{F32: "float32", F16: "float16", BF16: "bfloat16"}[s.DType]}
	if !s.noVocab {
		config["vocab_size"] = s.dims.vocab
	}
	for k, v := range s.config {
		config[k] = v
	}
	if err := writeJSON(filepath.Join(dir, "config.json"), config); err != nil {
		return err
	}
	if err := s.tokens(dir); err != nil {
		return err
	}
	for name, text := range s.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return writeCheckpoint(dir, s.layout(s.dims), s.DType, s.Shards, s.extremes)
}
