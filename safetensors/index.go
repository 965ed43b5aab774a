package safetensors

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// weightMap is the part of model.safetensors.index.json that counts: which file holds which tensor.
type weightMap struct {
	tensors []string // in the order of the file
	file    map[string]string
}

// readIndex reads the index at path. The error wraps os.ErrNotExist if there is none.
// metadata.total_size is not compared: tools write bytes, parameters or old numbers into it.
func readIndex(path string) (*weightMap, error) {
	w, err := parseIndexFile(path)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, err)
	}
	return w, nil
}

func parseIndexFile(path string) (*weightMap, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unwrapPath(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxIndexLen+1))
	if err != nil {
		return nil, unwrapPath(err)
	}
	if len(text) > MaxIndexLen {
		return nil, fmt.Errorf("got more than %d bytes, want at most that many", MaxIndexLen)
	}
	return parseIndex(text)
}

func parseIndex(text []byte) (*weightMap, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("got bytes that are not UTF-8, want UTF-8")
	}
	w := &weightMap{}
	r := newJSONReader(text)
	err := r.object(func(key string) error {
		if key != "weight_map" {
			return r.skip()
		}
		w.file = make(map[string]string)
		return r.object(func(name string) error {
			file, err := r.text()
			w.tensors = append(w.tensors, name)
			w.file[name] = file
			return err
		})
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && w.file == nil {
		err = errors.New("got no weight_map, want an object of tensor and file names")
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}
