// Package deploy brings a persona model to where it is used: a Modelfile, a model of an Ollama server, and chat
// templates, all from the card and the one renderer that made the training data.
package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ollama/ollama/parser"
)

// ErrModelfile marks text that a Modelfile has no form for. Registering sends the same text through the API,
// which has.
var ErrModelfile = errors.New("cannot be written in a Modelfile")

// Modelfile is the text of the file that makes the model with `ollama create`. dir is the folder where it will
// lie, "" if that is not known: FROM is relative to it where the model lies in or under it, else absolute. The text is read back with
// Ollama's parser before it is returned.
func (s *Spec) Modelfile(dir string) ([]byte, error) {
	from, err := relative(dir, s.Model)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	var want []parser.Command
	fmt.Fprintf(&b, "# %s (%s), format %s, client %s\n# persona sha256:%s\n", s.Card.ID, s.Card.Name, s.Card.Format, s.Client, s.Card.Hash())
	for _, l := range s.lines(from) {
		if err := checkQuotable(l.args); err != nil {
			return nil, fmt.Errorf("modelfile: %s: %w", l.keyword, err)
		}
		fmt.Fprintf(&b, "%s %s\n", l.keyword, quoted(l.args))
		want = append(want, l.read)
	}
	got, err := parser.ParseFile(bytes.NewReader(b.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("modelfile: read back: %w", err)
	}
	if !reflect.DeepEqual(got.Commands, want) {
		return nil, fmt.Errorf("modelfile: read back: got other values than were written: %w", ErrModelfile)
	}
	return b.Bytes(), nil
}

// line is an instruction, and what the parser makes of it.
type line struct {
	keyword, args string
	read          parser.Command
}

func (s *Spec) lines(from string) []line {
	plain := func(keyword, name, args string) line {
		return line{keyword, args, parser.Command{Name: name, Args: args}}
	}
	out := []line{plain("FROM", "model", from), plain("TEMPLATE", "template", s.Template), plain("SYSTEM", "system", s.System)}
	for _, p := range s.Parameters {
		out = append(out, plain("PARAMETER "+p.Name, p.Name, valueText(p.Value)))
	}
	for _, text := range s.License {
		out = append(out, plain("LICENSE", "license", text))
	}
	for _, m := range s.Messages {
		out = append(out, line{"MESSAGE " + m.Role, m.Content, parser.Command{Name: "message", Args: m.Role + ": " + m.Content}})
	}
	return out
}

// relative is path as it is reached from dir.
func relative(dir, path string) (string, error) {
	absPath, err := filepath.Abs(path)
	if err != nil || dir == "" {
		return absPath, err
	}
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(absDir, absPath); err == nil && filepath.IsLocal(rel) {
		return "./" + filepath.ToSlash(rel), nil
	}
	return absPath, nil
}

func valueText(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

// checkQuotable refuses what the parser changes: it ends a text at three quotes, and leaves out characters that
// Go does not call printable, such as the joiners inside emoji.
func checkQuotable(text string) error {
	if strings.Contains(text, `"""`) {
		return fmt.Errorf(`got """ in it: %w`, ErrModelfile)
	}
	for _, r := range text {
		if !strconv.IsPrint(r) && !slices.Contains([]rune(" \t\r\n"), r) {
			return fmt.Errorf("got the character %U in it: %w", r, ErrModelfile)
		}
	}
	return nil
}

// quoted is args in quotes wherever they might be needed.
func quoted(args string) string {
	if args != "" && !strings.ContainsFunc(args, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_-", r)
	}) {
		return args
	}
	return `"""` + args + `"""`
}
