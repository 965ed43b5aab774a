package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/eval"
	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrProvenance says that a file of provenance cannot be used.
var ErrProvenance = errors.New("provenance")

// The begin of all keys of provenance in a GGUF file, and of the scores among them.
const (
	keyPrefix   = "persona."
	scorePrefix = keyPrefix + "scores."
)

// AdapterOrigin says where an adapter comes from, as its folder tells: keys for convert.Options.Extra.
//
//	persona.adapter_sha256   the adapter's weights
//	persona.dataset_sha256   the SFT records
//	persona.base_model       name of the base model's folder
//	persona.base_sha256      its files, as training.json has it
//	persona.trainer          packages of the trainer with their versions
//	persona.tool_version     version of this program
func AdapterOrigin(dir, version string) ([]gguf.KV, error) {
	m, err := readTraining(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvenance, err)
	}
	weights, err := hashFile(File{Path: filepath.Join(dir, adapterWeights)})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvenance, err)
	}
	var packages []string
	for _, name := range slices.Sorted(maps.Keys(m.Versions)) {
		packages = append(packages, name+" "+m.Versions[name])
	}
	return []gguf.KV{
		{Key: keyPrefix + "adapter_sha256", Value: weights},
		{Key: keyPrefix + "dataset_sha256", Value: m.DataSHA256},
		{Key: keyPrefix + "base_model", Value: filepath.Base(m.BaseModel)},
		{Key: keyPrefix + "base_sha256", Value: m.BaseSHA256},
		{Key: keyPrefix + "trainer", Value: strings.Join(packages, ", ")},
		{Key: keyPrefix + "tool_version", Value: version},
	}, nil
}

// CardOrigin says which card a model was made of.
//
//	persona.id, persona.name
//	persona.card_sha256      the card's file
//	persona.persona_sha256   the persona text, as in a Modelfile and in a client's configuration
func CardOrigin(c *persona.Card, path string) ([]gguf.KV, error) {
	hash, err := hashFile(File{Path: path})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvenance, err)
	}
	return []gguf.KV{
		{Key: keyPrefix + "id", Value: c.ID}, {Key: keyPrefix + "name", Value: c.Name}, {Key: keyPrefix + "card_sha256", Value: hash},
		{Key: keyPrefix + "persona_sha256", Value: c.Hash()},
	}, nil
}

// maxOrigin is the size of the largest file of provenance that is read.
const maxOrigin = 1 << 20

// ReadOrigin reads keys from a JSON object of texts, numbers and truth values; persona. is put before each key that
// does not begin so, and below prefix (such as scores) all of them stand. A number becomes an f32.
func ReadOrigin(path, prefix string) ([]gguf.KV, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvenance, err)
	}
	if info.Size() > maxOrigin {
		return nil, fmt.Errorf("%w %s: got %d bytes, want at most %d", ErrProvenance, path, info.Size(), maxOrigin)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvenance, err)
	}
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("%w %s: %w: want an object of texts, numbers and truth values", ErrProvenance, path, err)
	}
	var out []gguf.KV
	for _, key := range slices.Sorted(maps.Keys(object)) {
		name := key
		if prefix != "" && !strings.HasPrefix(name, keyPrefix) {
			name = prefix + "." + name
		}
		if !strings.HasPrefix(name, keyPrefix) {
			name = keyPrefix + name
		}
		switch v := object[key].(type) {
		case string, bool:
			out = append(out, gguf.KV{Key: name, Value: v})
		case float64:
			out = append(out, gguf.KV{Key: name, Value: float32(v)})
		default:
			return nil, fmt.Errorf("%w %s: %s: got %T, want a text, a number, true or false", ErrProvenance, path, key, v)
		}
	}
	return out, nil
}

// Origin gives the keys of provenance of a GGUF file, in its order.
func Origin(path string) ([]gguf.KV, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := []gguf.KV{}
	for key, v := range f.Meta.All() {
		if strings.HasPrefix(key, keyPrefix) {
			out = append(out, gguf.KV{Key: key, Value: v})
		}
	}
	return out, nil
}

// SetOrigin writes keys into a GGUF file in place of those of the same names: scores that it had go if there are new
// ones. Everything else, every tensor's bytes first of all, stays; the file is whole at any time. It tells whether
// anything changed.
func SetOrigin(ctx context.Context, path string, keys []gguf.KV, progress func(done, total int64)) (changed bool, err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if n, ok := f.Meta.Uint("split.count"); ok && n > 1 {
		return false, fmt.Errorf("%w %s: split model: unsupported: got %d files, want one", ErrProvenance, path, n)
	}
	meta := f.Meta.Clone()
	isScore := func(kv gguf.KV) bool { return strings.HasPrefix(kv.Key, scorePrefix) }
	if slices.ContainsFunc(keys, isScore) {
		for key := range f.Meta.All() {
			if strings.HasPrefix(key, scorePrefix) {
				meta.Remove(key)
			}
		}
	}
	for _, kv := range keys {
		if !strings.HasPrefix(kv.Key, keyPrefix) {
			return false, fmt.Errorf("%w %s: key: got %q, want one that begins with %s", ErrProvenance, path, kv.Key, keyPrefix)
		}
		if err := meta.Set(kv.Key, kv.Value); err != nil {
			return false, fmt.Errorf("%w %s: %s: %w", ErrProvenance, path, kv.Key, err)
		}
	}
	if same(&f.Meta, meta) {
		return false, nil
	}
	err = atomicfile.WriteFile(path, func(w io.Writer) error {
		return gguf.Rewrite(&teller{ctx: ctx, w: w, total: f.Size, tell: progress}, f, meta)
	})
	return err == nil, err
}

// same tells whether the keys of provenance are the same.
func same(a, b *gguf.Metadata) bool {
	if a.Len() != b.Len() {
		return false
	}
	for key, v := range b.All() {
		if old, ok := a.Get(key); strings.HasPrefix(key, keyPrefix) && (!ok || old != v) {
			return false
		}
	}
	return true
}

// teller writes until ctx ends, and tells how far it is.
type teller struct {
	ctx         context.Context
	w           io.Writer
	done, total int64
	tell        func(done, total int64)
}

// Write writes on unless the context is done.
func (t *teller) Write(p []byte) (int, error) {
	if err := t.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := t.w.Write(p)
	if t.done += int64(n); t.tell != nil {
		t.tell(min(t.done, t.total), t.total)
	}
	return n, err
}

// origin is what is known of a model before it is interviewed.
func (w *way) origin(s *state) ([]gguf.KV, error) {
	adapter, err := s.first(stepTrain)
	if err != nil {
		return nil, err
	}
	card, err := CardOrigin(w.Card, w.CardPath)
	if err != nil {
		return nil, err
	}
	rest, err := AdapterOrigin(filepath.Dir(adapter), w.Version)
	return append(card, rest...), err
}

// scores are the keys of a model's scores.
func scores(f *eval.FileReport) (out []gguf.KV) {
	for _, s := range f.Scores {
		out = append(out, gguf.KV{Key: scorePrefix + s.Name, Value: float32(s.Share)})
	}
	return out
}

// provenance writes where the models come from, and their scores, into them.
func (w *way) provenance() step {
	needs := []string{stepTrain, stepConvert}
	if !w.Config.Eval.Off {
		needs = append(needs, stepEval)
	}
	return step{name: stepProvenance, needs: needs, plan: func(s *state) (*task, error) {
		models, inputs, err := bare(s)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, File{Path: w.CardPath})
		report := ""
		if !w.Config.Eval.Off {
			if report, err = s.first(stepEval); err != nil {
				return nil, err
			}
			inputs = append(inputs, File{Path: report})
		}
		return &task{inputs: inputs, run: func(ctx context.Context, k *work) error {
			origin, err := w.origin(s)
			if err != nil {
				return err
			}
			found := &eval.Report{}
			if report != "" {
				data, err := os.ReadFile(report)
				if err != nil {
					return err
				}
				if err := json.Unmarshal(data, found); err != nil {
					return fmt.Errorf("%s: %w", report, err)
				}
			}
			for _, path := range models {
				keys := slices.Clone(origin)
				for i := range found.Files {
					if found.Files[i].Label == filepath.Base(path) {
						keys = append(keys, scores(&found.Files[i])...)
					}
				}
				if _, err := SetOrigin(ctx, path, keys, func(done, total int64) { k.progress(done, total, filepath.Base(path)) }); err != nil {
					return err
				}
				k.wrote(File{Path: path})
			}
			k.detail("keys", len(origin))
			return nil
		}}, nil
	}}
}
