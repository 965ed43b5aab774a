package convert

import (
	"fmt"
	"strconv"
)

// loadLlamaHF reads a tokenizer.json whose BPE model works on characters with
// bytes as fallback, as SentencePiece vocabularies look after their conversion
// (LlamaHfVocab in llamacpp/gguf-py/gguf/vocab.py). Anything else is errNoFile:
// the next loader's business.
func (l *vocabLoader) loadLlamaHF() error {
	path := l.path("tokenizer.json")
	if l.tokenizer == nil {
		return fmt.Errorf("read %s: %w", path, errNoFile)
	}
	model := l.tokenizer.object("model")
	typ, _ := model.string("type")
	fallback, err := optionalBool(model, "byte_fallback", path)
	if err != nil {
		return err
	}
	decoder, _ := l.tokenizer.object("decoder").string("type")
	if typ != "BPE" || !fallback || decoder != "Sequence" {
		return fmt.Errorf("read %s: BPE with byte fallback: %w", path, errNoFile)
	}
	modelType, _, err := l.cfg.text("model_type")
	if err != nil {
		return err
	}
	t, err := l.loadTokenizer(modelType)
	if err != nil {
		return err
	}
	tokens, types, err := t.llamaList()
	if err != nil {
		return err
	}
	scores := make([]float32, len(tokens))
	for i := range scores {
		scores[i] = -1000
	}
	return l.addLlamaVocab(tokens, scores, types)
}

// llamaList returns texts and types: special tokens are CONTROL, byte tokens
// BYTE, tokens beyond the model's own vocabulary USER_DEFINED.
func (t *hfTokenizer) llamaList() ([]string, []int32, error) {
	special := map[int]bool{}
	for _, s := range t.specials {
		special[t.ids[s]] = true
	}
	tokens, types := make([]string, 0, len(t.ids)), make([]int32, 0, len(t.ids))
	for id := range t.base {
		token, ok := t.tokens[id]
		if !ok {
			return nil, nil, fmt.Errorf("read %s: model.vocab: id %d is missing: want every id from 0 to %d", t.path, id, t.base-1)
		}
		typ := tokenNormal
		if isByteToken(token) {
			typ = tokenByte
		} else if special[id] {
			typ = tokenControl
		}
		tokens, types = append(tokens, token), append(types, typ)
	}
	for _, a := range t.added {
		if a.id < t.base {
			continue
		}
		typ := tokenUserDefined
		if special[a.id] {
			typ = tokenControl
		}
		tokens, types = append(tokens, a.content), append(types, typ)
	}
	return tokens, types, nil
}

// isByteToken reports whether token is <0xNN>.
func isByteToken(token string) bool {
	if len(token) != 6 || token[:3] != "<0x" || token[5] != '>' {
		return false
	}
	_, err := strconv.ParseUint(token[3:5], 16, 8)
	return err == nil
}

// addLlamaVocab adds the keys of a SentencePiece-like vocabulary.
func (l *vocabLoader) addLlamaVocab(tokens []string, scores []float32, types []int32) error {
	special, err := l.readSpecial(false, specialNames, len(tokens))
	if err != nil {
		return err
	}
	l.v.size = len(tokens)
	l.v.add("tokenizer.ggml.model", "llama")
	l.v.add("tokenizer.ggml.pre", "default")
	l.v.add("tokenizer.ggml.tokens", tokens)
	l.v.add("tokenizer.ggml.scores", scores)
	l.v.add("tokenizer.ggml.token_type", types)
	special.addTo(l.v)
	return nil
}
