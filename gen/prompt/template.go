// Package prompt reads and fills in prompt templates, in the syntax of Python's str.format as older generators have
// them, and has templates of its own in Korean and English.
package prompt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxTemplate is the size of the largest template that is read, in bytes.
const maxTemplate = 1 << 20

// ErrTemplate says that a template cannot be used.
var ErrTemplate = errors.New("bad template")

// Kind says what a template asks for.
type Kind string

// The kinds.
const (
	Scene      Kind = "scene"
	Dialogue   Kind = "dialogue"
	Protective Kind = "protective"
)

// variables are what a template of a kind may use, the ones that it must use first.
var variables = map[Kind]struct {
	required int
	names    []string
}{
	Scene:      {3, []string{"agent_name", "agent_summary", "scene_count", "agent_short_name", "user_name", "cast", "persona", "scene_types", "known_scenes", "answer_form"}},
	Dialogue:   {3, []string{"agent_name", "background", "dialogue_variant_instruction", "agent_summary", "agent_short_name", "type", "location", "user_name", "cast", "persona", "answer_form"}},
	Protective: {3, []string{"agent_name", "topic", "dialogue_variant_instruction", "agent_summary", "agent_short_name", "user_name", "cast", "persona", "answer_form"}},
}

// Template is a prompt with variables.
type Template struct {
	Kind   Kind
	Path   string // of its file, absolute; "builtin" and a name for ours
	SHA256 string // of its text, in hexadecimal
	text   string
	parts  []part
}

// part is text, or the name of a variable.
type part struct {
	text     string
	variable bool
}

// Read reads and checks a template file.
func Read(path string, kind Kind) (*Template, error) {
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	t, err := Parse(string(data), path, kind)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", path, err)
	}
	return t, nil
}

// Parse checks the text of a template: {name} stands for a variable, {{ and }} for braces. Unknown variables, those
// that the kind must have and lacks, conversions and formats (python's ! and :) are errors, and so is a number of
// scenes in words or digits where {scene_count} belongs.
func Parse(text, path string, kind Kind) (*Template, error) {
	if len(text) > maxTemplate || !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: got %d bytes or text that is not UTF-8, want UTF-8 of at most %d bytes", ErrTemplate, len(text), maxTemplate)
	}
	text = strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\ufeff")
	sum := sha256.Sum256([]byte(text))
	t := &Template{Kind: kind, Path: path, SHA256: hex.EncodeToString(sum[:]), text: text}
	if err := t.split(); err != nil {
		return nil, err
	}
	known := variables[kind]
	var used []string
	for _, p := range t.parts {
		if p.variable {
			if !slices.Contains(known.names, p.text) {
				return nil, fmt.Errorf("%w: variable {%s}: unknown: want one of %s", ErrTemplate, p.text, strings.Join(known.names, ", "))
			}
			used = append(used, p.text)
		}
	}
	if count := literalCount(text); kind == Scene && count != "" {
		return nil, fmt.Errorf("%w: got the number of scenes as text (%q), want {scene_count}", ErrTemplate, count)
	}
	for _, name := range known.names[:known.required] {
		if !slices.Contains(used, name) {
			return nil, fmt.Errorf("%w: got no {%s}, want it: a template of a %s needs it", ErrTemplate, name, kind)
		}
	}
	return t, nil
}

// split cuts the text at its variables.
func (t *Template) split() error {
	var b strings.Builder
	fail := func(rest, problem string) error {
		line := strings.Count(t.text[:len(t.text)-len(rest)], "\n") + 1
		return fmt.Errorf("%w: line %d: %s", ErrTemplate, line, problem)
	}
	rest := t.text
	for rest != "" {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		rest = rest[i:]
		if strings.HasPrefix(rest, "{{") || strings.HasPrefix(rest, "}}") {
			b.WriteByte(rest[0])
			rest = rest[2:]
			continue
		}
		if rest[0] == '}' {
			return fail(rest, "got a single }, want }} for a brace")
		}
		end := strings.IndexAny(rest[1:], "{}")
		if end < 0 || rest[1+end] == '{' {
			return fail(rest, "got a { without }, want {name} or {{ for a brace")
		}
		name := rest[1 : 1+end]
		if name == "" || strings.ContainsAny(name, "!:.[] \n\t") || name[0] >= '0' && name[0] <= '9' {
			return fail(rest, fmt.Sprintf("got {%s}, want {name}", name))
		}
		t.parts = append(t.parts, part{b.String(), false}, part{name, true})
		b.Reset()
		rest = rest[2+end:]
	}
	t.parts = append(t.parts, part{b.String(), false})
	return nil
}

// Uses tells whether the template has the variable.
func (t *Template) Uses(name string) bool { return slices.Contains(t.parts, part{name, true}) }

// Render fills in the variables. One without a value is an error, and so is a value with markdown in it, which the
// model would imitate; only the persona is left as it is. Runs of empty lines, which empty values leave, become one.
func (t *Template) Render(values map[string]string) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if !p.variable {
			b.WriteString(p.text)
			continue
		}
		value, ok := values[p.text]
		if !ok {
			return "", fmt.Errorf("%w: %s: variable {%s}: got no value", ErrTemplate, t.Path, p.text)
		}
		if mark := Markdown(value); mark != "" && p.text != "persona" {
			return "", fmt.Errorf("%w: %s: variable {%s}: got markdown (%q) in its value, want plain text", ErrTemplate, t.Path, p.text, mark)
		}
		b.WriteString(value)
	}
	text := b.String()
	for strings.Contains(text, "\n\n\n") {
		text = strings.ReplaceAll(text, "\n\n\n", "\n\n")
	}
	return strings.TrimSpace(text), nil
}
