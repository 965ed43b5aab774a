package testmodel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// tensor is one tensor of a checkpoint. Shape is in Hugging Face order.
type tensor struct {
	name  string
	shape []int64
	role  role
}

func (t tensor) elements() int64 {
	n := int64(1)
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// tensorEntry is a tensor's entry in a safetensors header.
type tensorEntry struct {
	DType   DType    `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// header returns the length word and the JSON header of a safetensors file
// that holds ts in the given order, and the size of the data after it.
func header(ts []tensor, d DType) ([]byte, int64, error) {
	size, err := d.size()
	if err != nil {
		return nil, 0, err
	}
	var buf bytes.Buffer
	buf.WriteString(`{"__metadata__":{"format":"pt"}`)
	var end int64
	for _, t := range ts {
		begin := end
		end += t.elements() * int64(size)
		key, err := json.Marshal(t.name)
		if err != nil {
			return nil, 0, err
		}
		entry, err := json.Marshal(tensorEntry{d, t.shape, [2]int64{begin, end}})
		if err != nil {
			return nil, 0, err
		}
		fmt.Fprintf(&buf, ",%s:%s", key, entry)
	}
	buf.WriteByte('}')
	for buf.Len()%8 != 0 {
		buf.WriteByte(' ')
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(buf.Len())), buf.Bytes()...), end, nil
}

// split deals ts into n runs of nearly equal length.
func split(ts []tensor, n int) [][]tensor {
	n = max(n, 1)
	parts := make([][]tensor, n)
	for i := range parts {
		parts[i] = ts[i*len(ts)/n : (i+1)*len(ts)/n]
	}
	return parts
}

// shardName returns the name that transformers gives shard i (from 0) of n.
func shardName(i, n int) string {
	if n <= 1 {
		return "model.safetensors"
	}
	return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
}

// writeIndex writes model.safetensors.index.json for the given shards.
func writeIndex(dir string, parts [][]tensor, total int64) error {
	weightMap := map[string]string{}
	for i, part := range parts {
		for _, t := range part {
			weightMap[t.name] = shardName(i, len(parts))
		}
	}
	return writeJSON(filepath.Join(dir, "model.safetensors.index.json"), map[string]any{
		"metadata":   map[string]any{"total_size": total},
		"weight_map": weightMap,
	})
}

// writeCheckpoint writes ts into one file, or into several and their index.
func writeCheckpoint(dir string, ts []tensor, d DType, shards int, extremes bool) error {
	parts := split(ts, shards)
	var total int64
	for i, part := range parts {
		head, size, err := header(part, d)
		if err != nil {
			return err
		}
		total += size
		out := make([]byte, 0, int64(len(head))+size)
		out = append(out, head...)
		for _, t := range part {
			out = fill(out, t.name, t.elements(), d, t.role, extremes)
		}
		if err := os.WriteFile(filepath.Join(dir, shardName(i, len(parts))), out, 0o644); err != nil {
			return err
		}
	}
	if len(parts) == 1 {
		return nil
	}
	return writeIndex(dir, parts, total)
}

// writeJSON writes v indented, with a final newline and without escaping
// <, > and &, as the Hugging Face libraries do.
func writeJSON(path string, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}
