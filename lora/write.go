package lora

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/pipe"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// WriteOptions are the choices of Write.
type WriteOptions struct {
	Threads  int                     // that merge; 0 means one per CPU
	Budget   int64                   // bytes in flight; 0 means 512 MiB
	Progress func(done, total int64) // told the bytes of weights written, one call at a time
}

// Result tells what Write did.
type Result struct {
	Dir      string
	Bytes    int64 // of the weights
	Tensors  int
	Changed  int // tensors that differ from the base's files
	Shards   int
	Duration time.Duration
}

// pieceBytes is the aim for one piece of work.
const pieceBytes = 2 << 20

// Bytes is the size of the merged weights.
func (m *Merge) Bytes() int64 { return m.model.Bytes() }

// Write writes the merged model as a Hugging Face folder, which transformers loads:
// the base's shards, config, tokenizer and templates. dir must not exist, or be empty.
// It appears at once when everything is in it; a failure or the end of ctx leaves
// nothing behind.
func (m *Merge) Write(ctx context.Context, dir string, o WriteOptions) (*Result, error) {
	start := time.Now()
	if err := checkTarget(dir); err != nil {
		return nil, err
	}
	parent := filepath.Dir(filepath.Clean(absolute(dir)))
	free, err := atomicfile.FreeSpace(parent)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	if uint64(m.Bytes()) > free {
		return nil, fmt.Errorf("write %s: %w: got %d bytes free, want %d", dir, syscall.ENOSPC, free, m.Bytes())
	}
	temp := filepath.Join(parent, fmt.Sprintf(".%.64s.%s.tmp", filepath.Base(absolute(dir)), rand.Text()))
	if err := os.Mkdir(temp, 0o777); err != nil {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	defer os.RemoveAll(temp)
	if err := m.writeAll(ctx, temp, o); err != nil {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	if err := publish(temp, dir); err != nil {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	r := &Result{Dir: dir, Bytes: m.Bytes(), Tensors: len(m.model.Tensors()), Shards: len(m.shards), Changed: m.changed(), Duration: time.Since(start)}
	return r, nil
}

// publish gives the finished folder its name.
func publish(temp, dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // empty, as checked
		return err
	}
	return os.Rename(temp, dir)
}

func checkTarget(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("write %s: %w", dir, err)
	case len(entries) > 0:
		return fmt.Errorf("write %s: the folder is not empty: got %d entries, want a new folder", dir, len(entries))
	}
	return nil
}

// writeAll writes the folder's files into dir.
func (m *Merge) writeAll(ctx context.Context, dir string, o WriteOptions) error {
	if err := m.Stage(dir, copyFile); err != nil {
		return err
	}
	var done int64
	for _, s := range m.shards {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.writeShard(ctx, filepath.Join(dir, s.name), s, o, &done); err != nil {
			return err
		}
	}
	if len(m.shards) == 1 && m.shards[0].name == "model.safetensors" {
		return nil
	}
	return m.writeIndex(dir)
}

// Stage puts every file but the weights into the folder dir; put copies or links one.
// config.json is written with the merge's changes.
func (m *Merge) Stage(dir string, put func(from, to string) error) error {
	files, err := m.Files()
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(files) {
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			return err
		}
		if name != "config.json" {
			if err := put(files[name], to); err != nil {
				return err
			}
			continue
		}
		config, err := m.Config()
		if err != nil {
			return err
		}
		if err := atomicfile.WriteFile(to, func(w io.Writer) error { _, err := w.Write(config); return err }); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return atomicfile.WriteFile(to, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
}

// writeShard writes one safetensors file in the order of the base's.
func (m *Merge) writeShard(ctx context.Context, path string, s shard, o WriteOptions, done *int64) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	out, err := atomicfile.Create(path)
	if err != nil {
		return err
	}
	defer out.Abort()
	specs := make([]safetensors.Spec, len(s.tensors))
	for i, t := range s.tensors {
		specs[i] = safetensors.Spec{Name: t.Name, DType: t.DType, Shape: t.Shape}
	}
	ahead, budget := pipe.Split(o.Budget)
	o.Budget = budget
	cold, stop := safetensors.ReadAhead(whole(s.tensors), o.Threads, ahead)
	defer stop()
	metadata := map[string]string{"format": "pt"}
	size, err := safetensors.FileSize(metadata, specs, safetensors.WriteOptions{})
	if err != nil {
		return err
	}
	if err := out.Stream(size, cold); err != nil {
		return err
	}
	fill := func(i int, w io.Writer) error { return m.writeTensor(ctx, w, s.tensors[i], o, done) }
	if err := safetensors.Write(out, metadata, specs, safetensors.WriteOptions{}, fill); err != nil {
		return err
	}
	return out.Commit()
}

// whole gives all of the tensors' bytes, in their order.
func whole(tensors []*safetensors.Tensor) []safetensors.Part {
	parts := make([]safetensors.Part, len(tensors))
	for i, t := range tensors {
		parts[i] = safetensors.Part{Tensor: t, End: t.Bytes()}
	}
	return parts
}

// writeTensor merges the pieces of one tensor side by side and writes them in order.
func (m *Merge) writeTensor(ctx context.Context, w io.Writer, t *safetensors.Tensor, o WriteOptions, done *int64) error {
	if t.Bytes() == 0 {
		return nil
	}
	rowBytes := t.DType.Size()
	if n := len(t.Shape); n > 0 {
		rowBytes *= t.Shape[n-1]
	}
	step := max(1, pieceBytes/rowBytes) * rowBytes
	pieces := int((t.Bytes() + step - 1) / step)
	size := func(i int) int64 { return min(step, t.Bytes()-int64(i)*step) }
	work := func(_ context.Context, i int) ([]byte, error) {
		p := make([]byte, size(i))
		return p, t.ReadAt(p, int64(i)*step)
	}
	emit := func(i int, p []byte) error {
		_, err := w.Write(p)
		*done += int64(len(p))
		if o.Progress != nil {
			o.Progress(*done, m.Bytes())
		}
		return err
	}
	const copies = 4 // the piece, its source, and what is held as float32
	cost := func(i int) int64 { return copies * size(i) }
	return pipe.Ordered(ctx, pipe.Options{Workers: o.Threads, Budget: o.Budget}, pieces, cost, work, emit)
}

// writeIndex writes model.safetensors.index.json as save_pretrained does.
func (m *Merge) writeIndex(dir string) error {
	index := struct {
		Metadata struct {
			TotalSize int64 `json:"total_size"`
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{WeightMap: map[string]string{}}
	index.Metadata.TotalSize = m.Bytes()
	for _, s := range m.shards {
		for _, t := range s.tensors {
			index.WeightMap[t.Name] = filepath.ToSlash(s.name)
		}
	}
	return atomicfile.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(index)
	})
}

// changed counts the tensors that are computed.
func (m *Merge) changed() int {
	n := 0
	for _, t := range m.targets {
		if !t.untouched {
			n++
		}
	}
	return n
}

func sortedByName(list []*safetensors.Tensor) []*safetensors.Tensor {
	return slices.SortedFunc(slices.Values(list), func(a, b *safetensors.Tensor) int { return strings.Compare(a.Name, b.Name) })
}
