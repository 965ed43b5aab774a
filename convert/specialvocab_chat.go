package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// readTemplates finds the chat template: in tokenizer_config.json, else in
// chat_template.jinja with additional_chat_templates, else in
// chat_template.json. A null in tokenizer_config.json means none.
func (s *specialVocab) readTemplates(f *tokenizerFiles) error {
	if v, ok := f.config.get("chat_template"); ok {
		return s.setTemplates(v, f.path("tokenizer_config.json"))
	}
	path := f.path("chat_template.jinja")
	text, ok, err := readText(path)
	if err != nil {
		return err
	}
	if !ok {
		path := f.path("chat_template.json")
		o, err := readOptionalObject(path)
		if err != nil {
			return err
		}
		v, _ := o.get("chat_template")
		return s.setTemplates(v, path)
	}
	more, err := filepath.Glob(filepath.Join(globEscape(f.dir), "additional_chat_templates", "*.jinja"))
	if err != nil {
		return err
	}
	if len(more) == 0 {
		s.template = text
		return nil
	}
	s.hasNamed = true
	s.named = []namedTemplate{{"default", text}}
	for _, path := range more {
		text, _, err := readText(path)
		if err != nil {
			return err
		}
		s.named = append(s.named, namedTemplate{strings.TrimSuffix(filepath.Base(path), ".jinja"), text})
	}
	return nil
}

// globEscape quotes the characters that filepath.Glob gives a meaning.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// setTemplates takes a template, or a list of named ones. Another kind of value
// is ignored with a warning.
func (s *specialVocab) setTemplates(v any, path string) error {
	switch v := v.(type) {
	case nil:
	case string:
		s.template = v
	case []any:
		s.hasNamed = true
		for i, item := range v {
			o, ok := item.(*object)
			if !ok {
				return fmt.Errorf("read %s: chat_template[%d]: got %s, want an object with name and template", path, i, jsonKind(item))
			}
			name, _ := o.string("name")
			text, ok := o.string("template")
			if ok {
				s.named = append(s.named, namedTemplate{name, text})
			}
		}
	default:
		s.warnings = append(s.warnings, fmt.Sprintf("read %s: chat_template is ignored: got %s, want a string or an array", path, jsonKind(v)))
	}
	return nil
}

// readText reads a text file with line ends made "\n", as Python's text mode
// does; ok is false when there is no file.
func readText(path string) (text string, ok bool, err error) {
	data, err := readLimited(path, maxJSONSize)
	if os.IsNotExist(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if !utf8.Valid(data) {
		return "", false, fmt.Errorf("read %s: no valid UTF-8", path)
	}
	text = strings.ReplaceAll(string(data), "\r\n", "\n")
	return strings.ReplaceAll(text, "\r", "\n"), true, nil
}

// addTemplates appends named templates, the list of their names and the default
// one. The reference lists the names in the order of a Python set, which differs
// between runs; here it is the order of the file.
func (s *specialVocab) addTemplates(v *vocab) {
	if !s.hasNamed {
		v.add("tokenizer.chat_template", s.template)
		return
	}
	var names []string
	text := ""
	for _, t := range s.named {
		name := templateName(t.name)
		switch {
		case name == "":
		case name == "default":
			text = t.text
		default:
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			v.add("tokenizer.chat_template."+name, t.text)
		}
	}
	v.add("tokenizer.chat_templates", names)
	v.add("tokenizer.chat_template", text)
}

// templateName replaces everything but ASCII letters and digits by "_".
func templateName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, name)
}
