package llama

import (
	"errors"
	"fmt"
	"slices"
)

// Embeddings returns the last hidden state (after the final norm) of the last
// token of text: n_embd values, whatever the option Tokens says. The model must
// have been loaded with [EnableEmbeddings].
func (l *LLama) Embeddings(text string, opts ...PredictOption) ([]float32, error) {
	return l.embed("embeddings", opts, func() ([]Token, error) { return l.model.Tokenize(text, true, true) })
}

// TokenEmbeddings is Embeddings of a text that is tokenized already. A
// begin-of-sequence token is put in front if the vocabulary asks for one.
func (l *LLama) TokenEmbeddings(tokens []int, opts ...PredictOption) ([]float32, error) {
	return l.embed("token embeddings", opts, func() ([]Token, error) {
		var ts []Token
		if bos := l.model.BOS(); l.model.AddBOS() && bos >= 0 && (len(tokens) == 0 || tokens[0] != int(bos)) {
			ts = append(ts, bos)
		}
		for i, t := range tokens {
			if t < 0 || t >= l.model.NVocab() {
				return nil, fmt.Errorf("token %d out of range: got %d, want 0 to %d", i, t, l.model.NVocab()-1)
			}
			ts = append(ts, Token(t))
		}
		return ts, nil
	})
}

// embed decodes tokens and returns what the last one gives. It returns an empty
// slice, not nil, with an error.
func (l *LLama) embed(op string, opts []PredictOption, tokens func() ([]Token, error)) ([]float32, error) {
	end, err := l.begin()
	if err != nil {
		return []float32{}, fmt.Errorf("%s: %w", op, err)
	}
	defer end()
	if !l.options.Embeddings {
		return []float32{}, fmt.Errorf("%s: model loaded without embeddings: pass EnableEmbeddings to New", op)
	}
	ts, err := tokens()
	if err != nil {
		return []float32{}, fmt.Errorf("%s: %w", op, err)
	}
	values, err := l.lastHidden(ts, NewPredictOptions(opts...))
	if err != nil {
		return []float32{}, fmt.Errorf("%s: %w", op, err)
	}
	return values, nil
}

// lastHidden switches the output of embeddings on for one decode only: a context
// that has it on computes the logits of every token as well.
func (l *LLama) lastHidden(tokens []Token, po PredictOptions) (values []float32, err error) {
	if err := po.check(); err != nil {
		return nil, err
	}
	c := l.memory.c
	if err := c.SetEmbeddings(true); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.SetEmbeddings(false)) }()
	if err := l.decodeFromStart(tokens, po); err != nil {
		return nil, err
	}
	view, err := c.Embeddings(-1)
	return slices.Clone(view), err
}
