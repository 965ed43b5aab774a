package sft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/convert"
	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/pipe"
	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrEnd says that the end token is none of the model's.
var ErrEnd = errors.New("end token")

// Tokenizer counts with a model's vocabulary. No weights are loaded.
type Tokenizer struct {
	Path  string
	model *llama.Model
}

// OpenTokenizer loads the vocabulary of a GGUF file or a Hugging Face folder.
func OpenTokenizer(ctx context.Context, path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	file := path
	if info.IsDir() {
		dir, err := os.MkdirTemp("", "persona-gguf")
		if err != nil {
			return nil, fmt.Errorf("open tokenizer: %w", err)
		}
		defer os.RemoveAll(dir) // the vocabulary is in memory by then
		file = filepath.Join(dir, "vocab.gguf")
		if err := writeVocabulary(ctx, path, file); err != nil {
			return nil, fmt.Errorf("open tokenizer: %w", err)
		}
	}
	p := llama.DefaultModelParams()
	p.VocabOnly, p.UseMMap, p.GPULayers = true, false, 0
	m, err := llama.LoadModel(file, p)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer %s: %w", path, err)
	}
	return &Tokenizer{path, m}, nil
}

// writeVocabulary writes a GGUF file with the metadata of a folder and no tensors.
func writeVocabulary(ctx context.Context, dir, file string) error {
	plan, err := convert.NewPlan(ctx, dir, convert.Options{OutFile: file})
	if err != nil {
		return err
	}
	defer plan.Close()
	layout, err := gguf.NewLayout(plan.Meta, nil, 0)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(file, func(w io.Writer) error {
		out, err := layout.NewWriter(w)
		if err != nil {
			return err
		}
		return out.Finish()
	})
}

// Close frees the vocabulary.
func (t *Tokenizer) Close() error { return t.model.Close() }

// Template is the model's chat template (nil if it has none), and the texts of tokens that may end its turns: chatml's
// if that is one token, and those that the model names.
func (t *Tokenizer) Template() (*llama.ChatTemplate, []string, error) {
	var ends []string
	if t.checkEnd("<|im_end|>") == nil {
		ends = append(ends, "<|im_end|>")
	}
	for _, end := range []llama.Token{t.model.EOT(), t.model.EOS()} {
		if end < 0 {
			continue
		}
		text, err := t.model.Detokenize([]llama.Token{end}, false, true)
		if err != nil {
			return nil, nil, err
		}
		if text != "" && !slices.Contains(ends, text) {
			ends = append(ends, text)
		}
	}
	if _, ok := t.model.ChatTemplate(""); !ok {
		return nil, ends, nil
	}
	template, err := llama.NewChatTemplate(t.model, "")
	return template, ends, err
}

// checkEnd wants the end token to be one token.
func (t *Tokenizer) checkEnd(end string) error {
	tokens, err := t.model.Tokenize(end, false, true)
	if err != nil {
		return err
	}
	if len(tokens) != 1 {
		return fmt.Errorf("%w: %s has %d tokens for %q, want one", ErrEnd, t.Path, len(tokens), end)
	}
	return nil
}

// Tokens counts the tokens of records.
type Tokens struct {
	Model     string        `json:"model"`
	Total     int           `json:"total"`
	Learned   int           `json:"learned"` // in the spans, each tokenized by itself
	Mean      float64       `json:"mean"`
	Longest   int           `json:"longest"`
	MaxLength int           `json:"max_length"`
	TooLong   int           `json:"too_long"` // records of more tokens than that
	IDs       []string      `json:"too_long_ids"`
	Duration  time.Duration `json:"duration_ns"`
}

// lengths are the tokens of one record, and those of its spans.
type lengths struct{ total, learned int }

const tokenBatch = 32

// count counts on all CPUs.
func (t *Tokenizer) count(ctx context.Context, records []persona.Record, maxLength, workers int) (*Tokens, error) {
	start := time.Now()
	sum := &Tokens{Model: t.Path, MaxLength: maxLength, IDs: []string{}}
	batches := (len(records) + tokenBatch - 1) / tokenBatch
	err := pipe.Ordered(ctx, pipe.Options{Workers: workers}, batches, func(int) int64 { return 1 << 20 },
		func(_ context.Context, i int) ([]lengths, error) {
			return t.lengths(records[i*tokenBatch : min((i+1)*tokenBatch, len(records))])
		},
		func(i int, all []lengths) error {
			for k, n := range all {
				sum.Total, sum.Learned = sum.Total+n.total, sum.Learned+n.learned
				if sum.Longest = max(sum.Longest, n.total); n.total > maxLength {
					sum.TooLong++
					sum.IDs = append(sum.IDs, records[i*tokenBatch+k].Source)
				}
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("count tokens: %w", err)
	}
	sum.Mean, sum.Duration = float64(sum.Total)/float64(len(records)), time.Since(start)
	return sum, nil
}

func (t *Tokenizer) lengths(records []persona.Record) ([]lengths, error) {
	out := make([]lengths, len(records))
	for i := range records {
		tokens, err := t.model.Tokenize(records[i].Text(), false, true)
		if err != nil {
			return nil, err
		}
		out[i].total = len(tokens)
		for _, text := range records[i].Learned() {
			if tokens, err = t.model.Tokenize(text, false, true); err != nil {
				return nil, err
			}
			out[i].learned += len(tokens)
		}
	}
	return out, nil
}

// Count gives the tokens of each record's text.
func (t *Tokenizer) Count(ctx context.Context, records []persona.Record, workers int) ([]int, error) {
	out := make([]int, 0, len(records))
	batches := (len(records) + tokenBatch - 1) / tokenBatch
	err := pipe.Ordered(ctx, pipe.Options{Workers: workers}, batches, func(int) int64 { return 1 << 20 },
		func(_ context.Context, i int) ([]int, error) {
			var n []int
			for _, r := range records[i*tokenBatch : min((i+1)*tokenBatch, len(records))] {
				tokens, err := t.model.Tokenize(r.Text(), false, true)
				if err != nil {
					return nil, err
				}
				n = append(n, len(tokens))
			}
			return n, nil
		}, func(_ int, n []int) error { out = append(out, n...); return nil })
	return out, err
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	return nil
}

func writeReport(path string, v any) error {
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
