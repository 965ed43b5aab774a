package llama

import (
	"errors"
	"fmt"
	"slices"
)

// history is a context of one sequence together with the tokens that its memory
// holds at the positions 0, 1, 2, ….
type history struct {
	c      *ModelContext
	tokens []Token
	// keep is how many first tokens stay when the oldest are dropped.
	keep int
	// dropped says that tokens were dropped to make room.
	dropped bool
}

// decode appends tokens, in pieces of the context's batch. The logits of the
// last one can be read afterwards; with all, those of each, if they are no more
// than one batch. After an error the memory is empty.
func (h *history) decode(tokens []Token, all bool) error {
	logits := LogitsLast
	if all {
		logits = LogitsAll
	}
	if err := h.c.DecodeTokens(tokens, 0, int32(len(h.tokens)), logits); err != nil {
		return errors.Join(err, h.clear())
	}
	h.tokens = append(h.tokens, tokens...)
	return nil
}

// clear empties the memory.
func (h *history) clear() error {
	h.tokens, h.dropped = h.tokens[:0], false
	return h.c.MemoryClear(true)
}

// truncate keeps the first n tokens.
func (h *history) truncate(n int) error {
	switch {
	case n >= len(h.tokens) && n > 0:
		return nil
	case n == 0:
		return h.clear()
	}
	removed, err := h.c.SeqRemove(0, int32(n), -1)
	if err != nil {
		return err
	}
	if removed {
		h.tokens = h.tokens[:n]
		return nil
	}
	// A recurrent memory cannot go back: decode the tokens again.
	kept := slices.Clone(h.tokens[:n])
	if err := h.clear(); err != nil {
		return err
	}
	return h.decode(kept, false)
}

// room makes sure that n more tokens fit. A full memory keeps its first keep
// tokens and the newer half of the others. The logits of the last decode are not
// valid afterwards.
func (h *history) room(n int) error {
	for len(h.tokens)+n > h.c.NCtx() {
		left := len(h.tokens) - h.keep
		if left <= 0 {
			return fmt.Errorf("no room for %d tokens: context of %d keeps %d", n, h.c.NCtx(), h.keep)
		}
		if err := h.drop(h.keep, left-left/2); err != nil {
			return err
		}
		h.dropped = true
	}
	return nil
}

// drop removes n tokens from position p on and moves the later ones down. A
// memory that cannot do that decodes them again.
func (h *history) drop(p, n int) error {
	rest := slices.Clone(h.tokens[p+n:])
	if h.c.CanShift() {
		removed, err := h.c.SeqRemove(0, int32(p), int32(p+n))
		if err != nil {
			return err
		}
		if removed {
			h.tokens = append(h.tokens[:p], rest...)
			return h.c.SeqAdd(0, int32(p+n), -1, int32(-n))
		}
	}
	if err := h.truncate(p); err != nil || len(rest) == 0 {
		return err
	}
	return h.decode(rest, false)
}

// reuse keeps the longest common beginning of the memory and prompt, and returns
// its length. It is shorter than prompt: the last token must be decoded (again),
// because a loaded state has no logits.
func (h *history) reuse(prompt []Token) (int, error) {
	n := 0
	for n < min(len(h.tokens), len(prompt)-1) && h.tokens[n] == prompt[n] {
		n++
	}
	return n, h.truncate(n)
}

// load reads what SaveState of a context wrote. After an error the memory is empty.
func (h *history) load(path string) error {
	tokens, err := h.c.LoadState(path)
	if err != nil {
		return errors.Join(err, h.clear())
	}
	last, err := h.c.SeqPosMax(0)
	if err == nil && int(last)+1 != len(tokens) {
		err = fmt.Errorf("load state %s: got %d tokens for a state of %d positions, want as many", path, len(tokens), last+1)
	}
	if err != nil {
		return errors.Join(err, h.clear())
	}
	h.tokens, h.dropped = tokens, false
	return nil
}
