package convert

import (
	"fmt"
	"strconv"
)

// Scores of tokens that do not come from the SentencePiece model.
const (
	scorePadding = -10000
	scoreAdded   = -1000
)

// spVocab is a SentencePiece vocabulary while tokens are laid over it.
type spVocab struct {
	tokens []string
	scores []float32
	types  []int32
}

// loadSentencePiece reads tokenizer.model (_set_vocab_sentencepiece in
// llamacpp/conversion/base.py), or fails with errNoFile where there is none.
func (l *vocabLoader) loadSentencePiece() error {
	v, err := l.sentencePieceVocab()
	if err != nil {
		return err
	}
	return l.addLlamaVocab(v.tokens, v.scores, v.types)
}

// sentencePieceVocab lays the pieces of tokenizer.model, then
// added_tokens.json, then the added_tokens_decoder of tokenizer_config.json
// over vocab_size unused tokens.
func (l *vocabLoader) sentencePieceVocab() (*spVocab, error) {
	path := l.path("tokenizer.model")
	if !l.isFile("tokenizer.model") {
		return nil, fmt.Errorf("read %s: %w", path, errNoFile)
	}
	data, err := readLimited(path, maxSentencePieceFile)
	if err != nil {
		return nil, err
	}
	pieces, err := parseSentencePiece(data)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	size, err := l.sentencePieceSize(len(pieces))
	if err != nil {
		return nil, err
	}
	v := newSPVocab(size)
	for i, p := range pieces {
		if i >= size {
			l.v.warnf("read %s: %d pieces from %d on are left out: want ids below the vocab_size %d", path, len(pieces)-i, i, size)
			break
		}
		v.tokens[i], v.scores[i], v.types[i] = p.text, p.score, pieceType(p.typ)
	}
	if err := l.overlayAddedTokens(v); err != nil {
		return nil, err
	}
	return v, l.overlayDecoder(v)
}

// sentencePieceSize is the number of tokens: the config's, else the model's.
func (l *vocabLoader) sentencePieceSize(pieces int) (int, error) {
	n, ok, err := l.cfg.uint32("vocab_size_per_layer_input", "vocab_size")
	if err != nil {
		return 0, err
	}
	if !ok || n == 0 {
		return pieces, nil
	}
	if n > maxVocab {
		return 0, l.cfg.errorf("vocab_size", "got %d, want at most %d", n, maxVocab)
	}
	return int(n), nil
}

func newSPVocab(size int) *spVocab {
	v := &spVocab{make([]string, size), make([]float32, size), make([]int32, size)}
	for i := range size {
		v.tokens[i], v.scores[i], v.types[i] = fmt.Sprintf("[PAD%d]", i), scorePadding, tokenUnused
	}
	return v
}

// pieceType maps a piece's type to the token's. User-defined pieces count as
// normal ones.
func pieceType(t uint64) int32 {
	switch t {
	case spUnknown:
		return tokenUnknown
	case spControl:
		return tokenControl
	case spUnused:
		return tokenUnused
	case spByte:
		return tokenByte
	}
	return tokenNormal
}

// overlayAddedTokens lays the tokens of added_tokens.json over the vocabulary.
func (l *vocabLoader) overlayAddedTokens(v *spVocab) error {
	path := l.path("added_tokens.json")
	added, err := readOptionalObject(path)
	if err != nil {
		return err
	}
	for token, val := range added.all() {
		id, ok := val.(int64)
		if !ok || id < 0 {
			return fmt.Errorf("read %s: token %q: got id %v, want a non-negative integer", path, token, val)
		}
		if id >= int64(len(v.tokens)) {
			l.v.warnf("read %s: token %q is left out: got id %d, want less than the vocab_size %d", path, token, id, len(v.tokens))
			continue
		}
		v.tokens[id], v.scores[id], v.types[id] = token, scoreAdded, tokenUserDefined
	}
	return nil
}

// overlayDecoder lays the added_tokens_decoder of tokenizer_config.json over
// the vocabulary.
func (l *vocabLoader) overlayDecoder(v *spVocab) error {
	path := l.path("tokenizer_config.json")
	val, ok := l.config.get("added_tokens_decoder")
	if !ok {
		return nil
	}
	table, ok := val.(*object)
	if !ok {
		return fmt.Errorf("read %s: added_tokens_decoder: got %s, want an object", path, jsonKind(val))
	}
	for key, val := range table.all() {
		id, err := strconv.Atoi(key)
		if err != nil || id < 0 {
			return fmt.Errorf("read %s: added_tokens_decoder: got id %q, want a non-negative integer", path, key)
		}
		o, _ := val.(*object)
		a, err := parseAddedToken(o)
		if err != nil {
			return fmt.Errorf("read %s: added_tokens_decoder: id %d: %w", path, id, err)
		}
		if id >= len(v.tokens) {
			l.v.warnf("read %s: token %q is left out: got id %d, want less than the vocab_size %d", path, a.content, id, len(v.tokens))
			continue
		}
		if v.types[id] != tokenUnused && v.tokens[id] != a.content {
			l.v.warnf("read %s: token %d: %q takes the place of %q", path, id, a.content, v.tokens[id])
		}
		token, typ := a.content, tokenControl
		if !a.special && !looksSpecial(token) {
			token, typ = userDefined(token), tokenUserDefined
		}
		v.tokens[id], v.scores[id], v.types[id] = token, scoreAdded, typ
	}
	return nil
}

// gemmaVocabRows returns how many rows of the embedding Gemma 3 keeps: the
// tokens of tokenizer.model with the config's padding, else the number of
// entries of tokenizer.json (modify_tensors in llamacpp/conversion/gemma.py).
func gemmaVocabRows(dir string, c *config) (int64, error) {
	files, err := readTokenizerFiles(dir, c)
	if err != nil {
		return 0, err
	}
	if files.isFile("tokenizer.model") {
		l := &vocabLoader{tokenizerFiles: files, cfg: c, v: &vocab{}}
		v, err := l.sentencePieceVocab()
		if err != nil {
			return 0, err
		}
		return int64(len(v.tokens)), nil
	}
	path := files.path("tokenizer.json")
	if files.tokenizer == nil {
		return 0, fmt.Errorf("read %s: %w: Gemma 3 needs tokenizer.model or tokenizer.json", path, errNoFile)
	}
	vocab := files.tokenizer.object("model").object("vocab")
	added, _ := files.tokenizer.get("added_tokens")
	list, ok := added.([]any)
	if vocab.len() == 0 || !ok {
		return 0, fmt.Errorf("read %s: model.vocab or added_tokens: missing, want an object and an array", path)
	}
	return int64(vocab.len() + len(list)), nil
}
