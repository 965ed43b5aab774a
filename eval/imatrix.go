package eval

import (
	"context"
	"errors"
	"fmt"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/persona"
	"github.com/persona-gguf/persona-gguf/quant"
)

// ImatrixOptions say what an importance matrix is made from.
type ImatrixOptions struct {
	Model     string           // GGUF file
	Records   []persona.Record // of an SFT file; those that are held out are not used
	Data      string           // the file's name, which goes into the matrix
	Out       string
	Chunks    int // most chunks of ChunkTokens tokens; 0: all records
	Threads   int
	GPULayers int
	Progress  func(done, total int64) // records
}

// Imatrix is an importance matrix that was written.
type Imatrix struct {
	Out     string `json:"out"`
	Model   string `json:"model"`
	Data    string `json:"data"`
	Records int    `json:"records"`
	Tokens  int    `json:"tokens"`
	Chunks  int    `json:"chunks"`
	Tensors int    `json:"tensors"`
	Unseen  int    `json:"experts_without_tokens"`
}

// ChunkTokens is the size of a chunk: what is computed at once.
const ChunkTokens = 512

// maxSequences is the number of records in a chunk.
const maxSequences = 32

// MakeImatrix runs the records through the model, prompt and all, as they are in training, and writes the importance
// matrix that it comes to. Records are packed into chunks, each as a sequence of its own; a longer one fills several.
func MakeImatrix(ctx context.Context, o ImatrixOptions) (*Imatrix, error) {
	m, err := loadModel(ctx, o.Model, o.GPULayers)
	if err != nil {
		return nil, fmt.Errorf("imatrix: %w", err)
	}
	defer m.Close()
	out := &Imatrix{Out: o.Out, Model: o.Model, Data: o.Data}
	var all [][]llama.Token
	longest := ChunkTokens
	for i := range o.Records {
		if o.Records[i].Split == "eval" || o.Chunks > 0 && out.Tokens >= o.Chunks*ChunkTokens {
			continue
		}
		tokens, err := m.Tokenize(o.Records[i].Text(), false, true)
		if err != nil {
			return nil, fmt.Errorf("imatrix %s: record %d: %w", o.Model, i+1, err)
		}
		all, longest = append(all, tokens), max(longest, len(tokens))
		out.Tokens += len(tokens)
	}
	if out.Records = len(all); out.Records == 0 {
		return nil, errors.New("imatrix: got no record to train on, want some")
	}
	entries, err := collect(ctx, m, all, longest, o)
	if err != nil {
		return nil, fmt.Errorf("imatrix %s: %w", o.Model, err)
	}
	var written []quant.Collected
	for _, e := range entries {
		written = append(written, quant.Collected(e))
		for _, n := range e.Counts {
			if n == 0 {
				out.Unseen++
			}
		}
	}
	out.Tensors, out.Chunks = len(entries), max(1, out.Tokens/ChunkTokens)
	return out, quant.WriteImatrix(o.Out, written, []string{o.Data}, out.Chunks, ChunkTokens)
}

// collect decodes all sequences. The logits of all tokens are asked for, or the last block would not see them.
func collect(ctx context.Context, m *llama.Model, all [][]llama.Token, longest int, o ImatrixOptions) ([]llama.ImportanceEntry, error) {
	importance, err := llama.NewImportance()
	if err != nil {
		return nil, err
	}
	defer importance.Close()
	p := llama.DefaultContextParams()
	p.NCtx, p.NBatch, p.NUBatch, p.NSeqMax = longest, ChunkTokens, ChunkTokens, min(maxSequences, llama.MaxSequences())
	p.KVUnified, p.Threads, p.Importance = true, o.Threads, importance
	c, err := m.NewContext(p)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var batch []llama.BatchToken
	sequences := int32(0)
	flush := func() error {
		for len(batch) > 0 {
			n := min(len(batch), ChunkTokens)
			if err := c.DecodeContext(ctx, batch[:n]); err != nil {
				return err
			}
			batch = batch[n:]
		}
		sequences = 0
		return c.MemoryClear(false)
	}
	for i, tokens := range all {
		if sequences > 0 && (len(batch)+len(tokens) > ChunkTokens || int(sequences) == p.NSeqMax) {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		for k, t := range tokens {
			batch = append(batch, llama.BatchToken{Token: t, Pos: int32(k), Seqs: []int32{sequences}, Logits: true})
		}
		sequences++
		if o.Progress != nil {
			o.Progress(int64(i+1), int64(len(all)))
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return importance.Entries()
}
