package lora

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// trainingName is the record that persona-gguf's trainer leaves beside an adapter.
const trainingName = "training.json"

// Training is what a merge needs of training.json.
type Training struct {
	BaseQuant *struct {
		Type        string             `json:"type"` // nf4
		DoubleQuant bool               `json:"double_quant"`
		BlockSize   int                `json:"block_size"`
		Device      string             `json:"device"`  // that quantized: "cpu", or a kind of GPU
		Offsets     map[string]float64 `json:"offsets"` // by module: of double quantization
	} `json:"base_quant"`
}

// readTraining reads the record, nil if there is none.
func readTraining(dir string) (*Training, error) {
	path := filepath.Join(dir, trainingName)
	data, err := readLimited(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	t := new(Training)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if q := t.BaseQuant; q != nil && (q.Type != "nf4" || q.BlockSize < 1) {
		return nil, fmt.Errorf("read %s: base_quant: got type %q and block size %d, want nf4 and a positive size", path, q.Type, q.BlockSize)
	}
	return t, nil
}
