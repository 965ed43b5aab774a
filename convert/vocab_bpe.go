package convert

import (
	"fmt"
)

// loadBPE reads a byte-level BPE vocabulary (get_vocab_base and
// _set_vocab_gpt2 in llamacpp/conversion/base.py). The number of tokens is the
// config's vocab_size; ids without a token become unused [PAD<id>].
func (l *vocabLoader) loadBPE() error {
	modelType, _, err := l.cfg.text("model_type")
	if err != nil {
		return err
	}
	t, err := l.loadTokenizer(modelType)
	if err != nil {
		return err
	}
	pre := l.pre
	if pre == "" {
		if pre, err = l.recognize(t, modelType); err != nil {
			return err
		}
	}
	size := len(t.ids)
	if n, ok, err := l.cfg.uint32("vocab_size"); err != nil {
		return err
	} else if ok {
		size = int(n)
	}
	if size > maxVocab {
		return l.cfg.errorf("vocab_size", "got %d, want at most %d", size, maxVocab)
	}
	last := -1
	for id := range t.tokens {
		last = max(last, id)
	}
	if last >= size {
		return fmt.Errorf("read %s: token %q: got id %d, want less than the vocab_size %d of %s; resize the embedding or correct vocab_size",
			t.path, t.tokens[last], last, size, l.cfg.path)
	}
	tokens, types, err := t.list(size)
	if err != nil {
		return err
	}
	special, err := l.readSpecial(true, specialNames, -1)
	if err != nil {
		return err
	}
	if len(special.merges) == 0 {
		l.v.warnf("read %s: no merges found: the model will not tokenize as it was trained", t.path)
	}
	l.v.size = size
	l.v.add("tokenizer.ggml.model", "gpt2")
	l.v.add("tokenizer.ggml.pre", pre)
	l.v.add("tokenizer.ggml.tokens", tokens)
	l.v.add("tokenizer.ggml.token_type", types)
	special.addTo(l.v)
	return nil
}

// list returns texts and types of the tokens 0 to size-1.
func (t *hfTokenizer) list(size int) ([]string, []int32, error) {
	tokens, types := make([]string, size), make([]int32, size)
	for i := range size {
		token, ok := t.tokens[i]
		if !ok {
			tokens[i], types[i] = fmt.Sprintf("[PAD%d]", i), tokenUnused
			continue
		}
		tokens[i], types[i] = token, tokenNormal
	}
	for _, a := range t.added {
		token := a.content
		if !a.normalized {
			// llama.cpp takes control and user-defined tokens as already normalized.
			var err error
			if token, err = t.decodeAlone(token); err != nil {
				return nil, nil, err
			}
		}
		typ := tokenControl
		if !a.special && !looksSpecial(token) {
			token, typ = userDefined(token), tokenUserDefined
		}
		tokens[a.id], types[a.id] = token, typ
	}
	return tokens, types, nil
}
