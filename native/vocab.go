package llama

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"math"
	"unsafe"
)

// TokenAttr is a set of properties of a token.
type TokenAttr uint32

// Token attributes, as in llama.h.
const (
	AttrUnknown     TokenAttr = C.LLAMA_TOKEN_ATTR_UNKNOWN
	AttrUnused      TokenAttr = C.LLAMA_TOKEN_ATTR_UNUSED
	AttrNormal      TokenAttr = C.LLAMA_TOKEN_ATTR_NORMAL
	AttrControl     TokenAttr = C.LLAMA_TOKEN_ATTR_CONTROL
	AttrUserDefined TokenAttr = C.LLAMA_TOKEN_ATTR_USER_DEFINED
	AttrByte        TokenAttr = C.LLAMA_TOKEN_ATTR_BYTE
	AttrNormalized  TokenAttr = C.LLAMA_TOKEN_ATTR_NORMALIZED
	AttrLStrip      TokenAttr = C.LLAMA_TOKEN_ATTR_LSTRIP
	AttrRStrip      TokenAttr = C.LLAMA_TOKEN_ATTR_RSTRIP
	AttrSingleWord  TokenAttr = C.LLAMA_TOKEN_ATTR_SINGLE_WORD
)

// useVocab is use for calls that need a vocabulary.
func (m *Model) useVocab(op string) error {
	if _, err := m.use(); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if m.vocabType == C.LLAMA_VOCAB_TYPE_NONE {
		m.release()
		return fmt.Errorf("%s: model %s: it has no vocabulary", op, m.path)
	}
	return nil
}

func (m *Model) checkToken(op string, t Token) error {
	if t < 0 || int(t) >= m.nVocab {
		return fmt.Errorf("%s: model %s: token out of range: got %d, want 0 to %d", op, m.path, t, m.nVocab-1)
	}
	return nil
}

// Tokenize splits text into tokens. addSpecial adds BOS and EOS where the model
// asks for them; parseSpecial makes "<|im_start|>" in the text one token instead
// of letters.
func (m *Model) Tokenize(text string, addSpecial, parseSpecial bool) ([]Token, error) {
	if len(text) > math.MaxInt32/2 {
		return nil, fmt.Errorf("tokenize: text too long: got %d bytes, want at most %d", len(text), math.MaxInt32/2)
	}
	if err := m.useVocab("tokenize"); err != nil {
		return nil, err
	}
	defer m.release()
	tokens := make([]Token, len(text)/3+16)
	for {
		r := C.nl_tokenize(m.vocab, stringData(text), C.int32_t(len(text)), (*C.int32_t)(&tokens[0]), C.int32_t(len(tokens)),
			cbool(addSpecial), cbool(parseSpecial))
		if err := check(r, "tokenize", ""); err != nil {
			return nil, err
		}
		if r.n >= 0 {
			return tokens[:r.n], nil
		}
		if r.n == math.MinInt32 {
			return nil, fmt.Errorf("tokenize: text of %d bytes gives too many tokens", len(text))
		}
		tokens = make([]Token, -r.n)
	}
}

// stringData returns the bytes of s for a C function that takes a length; it is
// never nil.
func stringData(s string) *C.char {
	if s == "" {
		s = "\x00"
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s)))
}

// TokenBytes returns what a token stands for, which may be part of a UTF-8
// character. special renders control tokens as their text; else they are empty.
func (m *Model) TokenBytes(t Token, special bool) ([]byte, error) {
	if err := m.useVocab("token bytes"); err != nil {
		return nil, err
	}
	defer m.release()
	if err := m.checkToken("token bytes", t); err != nil {
		return nil, err
	}
	return m.appendPiece(nil, t, special)
}

// appendPiece appends the bytes of t, which must be in range, to dst.
func (m *Model) appendPiece(dst []byte, t Token, special bool) ([]byte, error) {
	const guess = 64
	n := len(dst)
	size := guess
	for {
		if cap(dst)-n < size {
			dst = append(make([]byte, 0, 2*n+size), dst...)
		}
		dst = dst[:n+size]
		r := C.nl_piece(m.vocab, C.int32_t(t), (*C.char)(unsafe.Pointer(&dst[n])), C.int32_t(size), cbool(special))
		if err := check(r, "token bytes", ""); err != nil {
			return dst[:n], err
		}
		if r.n >= 0 {
			return dst[:n+int(r.n)], nil
		}
		dst, size = dst[:n], int(-r.n)
	}
}

// Detokenize joins tokens into text. removeSpecial leaves out a leading BOS and
// a trailing EOS, unparseSpecial renders control tokens as their text.
func (m *Model) Detokenize(tokens []Token, removeSpecial, unparseSpecial bool) (string, error) {
	if err := m.useVocab("detokenize"); err != nil {
		return "", err
	}
	defer m.release()
	for i, t := range tokens {
		if err := m.checkToken(fmt.Sprintf("detokenize token %d", i), t); err != nil {
			return "", err
		}
	}
	if len(tokens) == 0 {
		return "", nil
	}
	if len(tokens) > math.MaxInt32/8 {
		return "", fmt.Errorf("detokenize: too many tokens: got %d, want at most %d", len(tokens), math.MaxInt32/8)
	}
	buf := make([]byte, 8*len(tokens)+64)
	for {
		r := C.nl_detokenize(m.vocab, (*C.int32_t)(&tokens[0]), C.int32_t(len(tokens)),
			(*C.char)(unsafe.Pointer(&buf[0])), C.int32_t(len(buf)), cbool(removeSpecial), cbool(unparseSpecial))
		if err := check(r, "detokenize", ""); err != nil {
			return "", err
		}
		if r.n >= 0 {
			return string(buf[:r.n]), nil
		}
		buf = make([]byte, -r.n)
	}
}

// IsEOG tells whether a token ends a generation (EOS, EOT, …).
func (m *Model) IsEOG(t Token) bool {
	if m.useVocab("is eog") != nil {
		return false
	}
	defer m.release()
	return t >= 0 && int(t) < m.nVocab && bool(C.llama_vocab_is_eog(m.vocab, C.llama_token(t)))
}

// TokenText returns the entry of the vocabulary as the file has it ("Ġthe").
func (m *Model) TokenText(t Token) (string, error) {
	if err := m.useVocab("token text"); err != nil {
		return "", err
	}
	defer m.release()
	if err := m.checkToken("token text", t); err != nil {
		return "", err
	}
	return C.GoString(C.llama_vocab_get_text(m.vocab, C.llama_token(t))), nil
}

// TokenAttr returns the properties of a token, 0 if there is no such token.
func (m *Model) TokenAttr(t Token) TokenAttr {
	if m.useVocab("token attr") != nil {
		return 0
	}
	defer m.release()
	if t < 0 || int(t) >= m.nVocab {
		return 0
	}
	return TokenAttr(C.llama_vocab_get_attr(m.vocab, C.llama_token(t)))
}

// TokenScore returns the score of a token, 0 if there is no such token.
func (m *Model) TokenScore(t Token) float32 {
	if m.useVocab("token score") != nil {
		return 0
	}
	defer m.release()
	if t < 0 || int(t) >= m.nVocab {
		return 0
	}
	return float32(C.llama_vocab_get_score(m.vocab, C.llama_token(t)))
}
