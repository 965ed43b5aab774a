package summary

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// maxConfig is the largest config.json that is read; real ones have a few kB.
const maxConfig = 16 << 20

// readFolder describes a Hugging Face model folder: config.json, if it is there, and the safetensors files.
func readFolder(dir string) (*Summary, error) {
	s := &Summary{Path: dir, Format: Folder}
	if err := s.readConfig(filepath.Join(dir, "config.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m, err := safetensors.OpenModel(dir)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	s.addSafetensors(m.Files, m.Tensors())
	return s, nil
}

// readConfig takes over the top level of config.json in the file's order.
func (s *Summary) readConfig(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return fmt.Errorf("inspect %s: %w", path, err)
	}
	if len(data) > maxConfig {
		return fmt.Errorf("inspect %s: got more than %d bytes, want at most that", path, maxConfig)
	}
	if s.KV, err = objectKVs(data); err != nil {
		return fmt.Errorf("inspect %s: %w", path, err)
	}
	for _, kv := range s.KV {
		if list, ok := kv.Value.([]any); ok && kv.Key == "architectures" && len(list) > 0 {
			s.HFArch, _ = list[0].(string)
		}
	}
	return nil
}

// objectKVs reads a JSON object, keeping the order of its keys.
func objectKVs(data []byte) ([]KV, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // so that a large integer keeps its digits
	first, err := d.Token()
	if err != nil {
		return nil, err
	}
	if first != json.Delim('{') {
		return nil, fmt.Errorf("got %v, want a JSON object", first)
	}
	var kvs []KV
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		kv := KV{Key: key.(string)} // a key is a string, or Token fails
		if err := d.Decode(&kv.Value); err != nil {
			return nil, fmt.Errorf("key %q: %w", kv.Key, err)
		}
		kv.Type, kv.Count = jsonType(kv.Value)
		kvs = append(kvs, kv)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("got more after the object, want its end")
	}
	return kvs, nil
}

// jsonType names the JSON type of a decoded value, and counts the elements of an array.
func jsonType(v any) (string, *int) {
	switch v := v.(type) {
	case nil:
		return "null", nil
	case bool:
		return "bool", nil
	case json.Number:
		return "number", nil
	case string:
		return "string", nil
	case []any:
		n := len(v)
		return "array", &n
	}
	return "object", nil
}
