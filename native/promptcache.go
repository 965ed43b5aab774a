package llama

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
)

// promptCache is the prompt cache file of one call. A nil promptCache is none.
type promptCache struct {
	path   string
	tokens []Token // as the file has them
	all    bool
	write  bool
	debug  bool
}

// openCache loads the file of the option PathPromptCache, if it is there.
func (l *LLama) openCache(po PredictOptions) (*promptCache, error) {
	if po.PathPromptCache == "" {
		return nil, nil
	}
	p := &promptCache{path: po.PathPromptCache, all: po.PromptCacheAll, write: !po.PromptCacheRO, debug: po.DebugMode}
	switch _, err := os.Stat(p.path); {
	case errors.Is(err, fs.ErrNotExist):
		p.log("llama: no prompt cache yet")
		return p, nil
	case err != nil:
		return nil, fmt.Errorf("prompt cache: %w", err)
	}
	l.next, l.loaded = -1, false
	if err := l.memory.load(p.path); err != nil {
		return nil, fmt.Errorf("prompt cache: %w", err)
	}
	l.loaded = len(l.memory.tokens) > 0
	p.tokens = append(p.tokens, l.memory.tokens...)
	p.log("llama: loaded prompt cache", "tokens", len(p.tokens))
	return p, nil
}

// savePrompt writes the state after the prompt, unless the file has it already.
func (p *promptCache) savePrompt(l *LLama, prompt []Token) error {
	if p == nil || !p.write || isPrefix(prompt, p.tokens) {
		return nil
	}
	return p.save(l)
}

// saveAll writes the state after the answer, if that was asked for and the
// answer did not outgrow the context.
func (p *promptCache) saveAll(l *LLama) error {
	if p == nil || !p.write || !p.all || l.memory.dropped {
		return nil
	}
	if l.next >= 0 && len(l.memory.tokens) == l.memory.c.NCtx() {
		return nil // the last token would push others out
	}
	if err := l.flush(); err != nil {
		return err
	}
	return p.save(l)
}

func (p *promptCache) save(l *LLama) error {
	if err := l.memory.c.SaveState(p.path, l.memory.tokens); err != nil {
		return fmt.Errorf("prompt cache: %w", err)
	}
	p.log("llama: saved prompt cache", "tokens", len(l.memory.tokens))
	return nil
}

func (p *promptCache) log(message string, args ...any) {
	if p.debug {
		slog.Info(message, append([]any{"path", p.path}, args...)...)
	}
}

// isPrefix tells whether tokens begin with prefix.
func isPrefix(prefix, tokens []Token) bool {
	if len(prefix) > len(tokens) {
		return false
	}
	for i, t := range prefix {
		if tokens[i] != t {
			return false
		}
	}
	return true
}

// SaveState writes the state of the context, and which tokens it stands for, to
// a file: those of the last Eval, Predict or SpeculativeSampling. The file
// appears complete or not at all. Samplers (seed, penalties) are not part of it.
func (l *LLama) SaveState(dst string) error {
	end, err := l.begin()
	if err != nil {
		return fmt.Errorf("save state %s: %w", dst, err)
	}
	defer end()
	if err := l.flush(); err != nil {
		return fmt.Errorf("save state %s: %w", dst, err)
	}
	return l.memory.c.SaveState(dst, l.memory.tokens)
}

// LoadState reads a file that SaveState, or a prompt cache, wrote. The next
// Predict goes on from there: with an empty text behind all its tokens, else
// behind those that its prompt begins with.
func (l *LLama) LoadState(state string) error {
	end, err := l.begin()
	if err != nil {
		return fmt.Errorf("load state %s: %w", state, err)
	}
	defer end()
	l.next, l.loaded = -1, false
	if err := l.memory.load(state); err != nil {
		return err
	}
	l.loaded = len(l.memory.tokens) > 0
	return nil
}
