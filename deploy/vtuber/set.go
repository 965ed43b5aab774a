package vtuber

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/persona-gguf/persona-gguf/internal/yamledit"
	"github.com/persona-gguf/persona-gguf/persona"
)

// Settings are what Set sets. Card and Model must be given; what is empty stays, or comes from conf.yaml in a new
// file.
type Settings struct {
	Card        *persona.Card
	Model       string   // name at the Ollama server
	BaseURL     string   // of its OpenAI-compatible API
	Temperature *float64 // nil for the card's
	MCPServers  []string // tool servers to enable; none switches tools off
	Label       string   // conf_name, which the selector shows
	Live2D      string   // live2d_model_name
	Avatar      string
	Fork        bool // for the client that joins persona and first turn with one line end only
	Conf        bool // conf.yaml too
	DryRun      bool
}

// defaultBaseURL is Ollama's, as the configuration has it.
const defaultBaseURL = "http://localhost:11434/v1"

// Set writes the settings into the character's file, characters/ID.yaml, which is made if it is not there, and into
// conf.yaml if that is wanted. All that the character depends on is set there, so nothing of the one that was chosen
// before acts on it.
func (p *Project) Set(s Settings) ([]Change, error) {
	if s.Model == "" {
		return nil, errors.New("model: got none, want the name of the model at the Ollama server")
	}
	target, err := p.target(s)
	if err != nil {
		return nil, err
	}
	files := []*file{target}
	if s.Conf {
		files = append(files, p.conf)
	}
	values, err := p.values(target, s)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		for _, v := range values {
			if _, err := f.doc.Set(v.Value, v.Path...); err != nil {
				return nil, fmt.Errorf("%s: %w", f.path, err)
			}
		}
	}
	return finish(files, s.DryRun)
}

func finish(files []*file, dryRun bool) ([]Change, error) {
	out := changes(files)
	if dryRun {
		return out, nil
	}
	return out, save(files, out)
}

// target is the character's file; its layout is checked when it is there.
func (p *Project) target(s Settings) (*file, error) {
	rel := p.alts + "/" + s.Card.ID + ".yaml"
	for _, f := range p.files {
		if f.rel == rel {
			if name, ok, err := f.doc.Lookup(key(root, "character_name")...); err == nil && ok && !s.called(name) {
				return nil, fmt.Errorf("%s: character_name: got %q, want %q or an alias of the card's: it is another character's file", f.path, name, s.Card.Name)
			}
			return f, nil
		}
	}
	// A mapping has to begin with something; the label is set with the rest.
	doc, err := yamledit.Parse([]byte("character_config:\n  conf_name: ''\n"))
	if err != nil {
		return nil, err
	}
	return &file{rel: rel, path: filepath.Join(p.Dir, filepath.FromSlash(rel)), doc: doc}, nil
}

// called reports whether name is the character's.
func (s Settings) called(name string) bool {
	if name == s.Card.Name {
		return true
	}
	for _, alias := range s.Card.Aliases {
		if name == alias {
			return true
		}
	}
	return false
}

// values are the keys to set, in the order of a new file.
func (p *Project) values(target *file, s Settings) ([]yamledit.Leaf, error) {
	current := func(path []string, fallback string) (string, error) {
		text, err := p.lookup(target, path)
		return cmp.Or(text, fallback), err
	}
	name, _, err := p.conf.doc.Lookup(key(root, "character_name")...)
	if err != nil {
		return nil, err
	}
	own := func(name, fallback string) (string, error) { // of this file, not of another character that conf.yaml has
		text, _, err := target.doc.Lookup(key(root, name)...)
		return cmp.Or(text, fallback), err
	}
	if s.called(name) {
		own = func(name, fallback string) (string, error) { return current(key(root, name), fallback) }
	}
	label, err1 := own("conf_name", s.Card.Name)
	uid, err2 := own("conf_uid", s.Card.ID+"_001")
	live2D, err3 := current(key(root, "live2d_model_name"), "")
	avatar, err4 := current(key(root, "avatar"), "")
	baseURL, err5 := current(key(llm, "base_url"), defaultBaseURL)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	text := s.Card.Persona
	if s.Fork {
		text += "\n" // so that an empty line stands before the first turn, as in training
	}
	temperature := s.Card.Sampling.Temperature
	if s.Temperature != nil {
		temperature = *s.Temperature
	}
	servers := append([]string{}, s.MCPServers...)
	out := []yamledit.Leaf{
		{Path: key(root, "conf_name"), Value: cmp.Or(s.Label, label)},
		{Path: key(root, "conf_uid"), Value: uid},
		{Path: key(root, "live2d_model_name"), Value: cmp.Or(s.Live2D, live2D)},
		{Path: key(root, "character_name"), Value: s.Card.Name},
		{Path: key(root, "avatar"), Value: cmp.Or(s.Avatar, avatar)},
		{Path: key(root, "human_name"), Value: s.Card.User.Name},
		{Path: key(root, "persona_prompt"), Value: text},
		{Path: choiceKey, Value: "basic_memory_agent"},
		{Path: key(agent, "llm_provider"), Value: "ollama_llm"},
		{Path: key(agent, "use_mcpp"), Value: len(servers) > 0},
		{Path: key(agent, "mcp_enabled_servers"), Value: servers},
		{Path: key(llm, "base_url"), Value: cmp.Or(s.BaseURL, baseURL)},
		{Path: key(llm, "model"), Value: s.Model},
		{Path: key(llm, "temperature"), Value: temperature},
	}
	// max_tokens is a key of a fork; where it is, it must not cut replies shorter than the model was made for.
	if text, err := p.lookup(target, key(llm, "max_tokens")); err != nil {
		return nil, err
	} else if text != "" {
		out = append(out, yamledit.Leaf{Path: key(llm, "max_tokens"), Value: int64(s.Card.Sampling.NumPredict)})
	}
	return out, nil
}

// ErrUnknown marks the name of a character that no file has.
var ErrUnknown = errors.New("unknown character")

// Switch puts what the file of a character sets into conf.yaml, as the server does when a user chooses it, so that
// the server starts with it. name is the file's name, its conf_name, conf_uid or character_name.
func (p *Project) Switch(name string, dryRun bool) ([]Change, error) {
	var found []*file
	var known []string
	for _, f := range p.files {
		stem := strings.TrimSuffix(filepath.Base(f.path), ".yaml")
		names := []string{stem, filepath.Base(f.path)}
		for _, k := range []string{"conf_name", "conf_uid", "character_name"} {
			if text, ok, err := f.doc.Lookup(key(root, k)...); err == nil && ok {
				names = append(names, text)
			}
		}
		known = append(known, stem)
		for _, n := range names {
			if n == name {
				found = append(found, f)
				break
			}
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%w: got %q, want one of %s", ErrUnknown, name, strings.Join(known, ", "))
	case len(found) > 1:
		return nil, fmt.Errorf("%w: got %q, which %s and %s have, want the name of a file", ErrUnknown, name, found[0].rel, found[1].rel)
	}
	leaves, err := found[0].doc.Leaves(root...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", found[0].path, err)
	}
	for _, leaf := range leaves {
		if _, err := p.conf.doc.Set(leaf.Value, leaf.Path...); err != nil {
			return nil, fmt.Errorf("%s: %w", p.conf.path, err)
		}
	}
	return finish([]*file{p.conf}, dryRun)
}
