package eval

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/gen/check"
)

// ErrGate says that a gate is not passed.
var ErrGate = errors.New("gates not passed")

// Gate is a limit on a score.
type Gate struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Want    float64 `json:"want"`
	AtLeast bool    `json:"at_least"` // else at most
	OK      bool    `json:"ok"`
}

// dataGates are those of the card that only training data can fail: they are on counts that an interview has not.
var dataGates = []string{"own_name", "identity_turns", "protective_turns", "near_duplicates", "thoughts", "too_long"}

// gates compares the scores of every file with the card's limits, and names the first file that fails.
func (r *run) gates() {
	limits := check.DefaultGates(r.Card)
	for i := range r.report.Files {
		f := &r.report.Files[i]
		f.Gates = []Gate{}
		for _, name := range check.Names() {
			want, ok := limits[name]
			at := slices.IndexFunc(f.Scores, func(s Score) bool { return s.Name == name })
			if !ok || slices.Contains(dataGates, name) || at < 0 {
				continue
			}
			s := f.Scores[at]
			g := Gate{Name: name, Value: s.Share, Want: want, AtLeast: check.AtLeast(name)}
			if g.OK = g.Value <= want; g.AtLeast {
				g.OK = g.Value >= want && s.N > 0
			}
			f.Gates = append(f.Gates, g)
		}
		if r.report.LostAt == "" && len(f.failures()) > 0 {
			r.report.LostAt = f.Label
		}
	}
}

func (f *FileReport) failures() (out []string) {
	for _, g := range f.Gates {
		if !g.OK {
			word := "at most"
			if g.AtLeast {
				word = "at least"
			}
			out = append(out, fmt.Sprintf("%s: got %.4g, want %s %.4g", g.Name, g.Value, word, g.Want))
		}
	}
	return out
}

// Passed gives ErrGate with the first file that fails, and its gates that are not passed; nil if all are.
func (r *Report) Passed() error {
	for i := range r.Files {
		if failed := r.Files[i].failures(); len(failed) > 0 {
			return fmt.Errorf("eval: %w: the persona is lost at %s: %s", ErrGate, r.Files[i].Label, strings.Join(failed, "; "))
		}
	}
	return nil
}
