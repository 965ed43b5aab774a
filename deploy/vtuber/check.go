package vtuber

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/parser"

	"github.com/persona-gguf/persona-gguf/persona"
)

// CheckOptions say what to compare with the card.
type CheckOptions struct {
	Card      *persona.Card
	Modelfile string      // file, "" for none
	Data      string      // SFT records, "" for none
	Client    *api.Client // asked for the model of each configuration; nil for none
	MCP       bool        // tools are wanted
	Fork      bool        // the client is the fork that guesses names
}

// Finding is one thing that was looked at.
type Finding struct {
	Place string `json:"place"`
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Got   string `json:"got"`
	Want  string `json:"want"`
}

// Check compares the card with everything that has a copy of its persona, and looks for what the front end will ask
// for. An error means that a file could not be read; what is wrong is in the findings.
func (p *Project) Check(ctx context.Context, o CheckOptions) ([]Finding, error) {
	c := &checker{Project: p, o: o, hash: o.Card.Hash()}
	n := 0
	for _, f := range append([]*file{p.conf}, p.files...) {
		mine, err := c.mine(f)
		if err != nil {
			return nil, err
		}
		if !mine {
			continue
		}
		n++
		if err := c.configuration(ctx, f); err != nil {
			return nil, err
		}
	}
	if n == 0 {
		c.find(confName+" and "+p.alts+"/", "character", false, "no file with "+o.Card.Name, "one")
	}
	for _, step := range []func() error{c.modelfile, c.data} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.found, nil
}

type checker struct {
	*Project
	o     CheckOptions
	hash  string
	found []Finding
}

func (c *checker) find(place, what string, ok bool, got, want string) {
	c.found = append(c.found, Finding{place, what, ok, got, want})
}

// mine reports whether a file configures the card's character.
func (c *checker) mine(f *file) (bool, error) {
	name, err := c.lookup(f, key(root, "character_name"))
	if err != nil {
		return false, err
	}
	return Settings{Card: c.o.Card}.called(name) || f.rel == c.alts+"/"+c.o.Card.ID+".yaml", nil
}

func (c *checker) configuration(ctx context.Context, f *file) error {
	who, err := c.character(f)
	if err != nil {
		return err
	}
	c.find(f.rel, "persona", who.Persona == c.hash, who.Persona, c.hash)
	c.find(f.rel, "character_name", who.Name == c.o.Card.Name, who.Name, c.o.Card.Name)
	mcp, err := c.lookup(f, key(agent, "use_mcpp"))
	if err != nil {
		return err
	}
	if !c.o.MCP {
		c.find(f.rel, "use_mcpp", slices.Contains([]string{"", "false", "no", "off"}, strings.ToLower(mcp)), mcp, "False")
	}
	if err := c.live2D(f, who.Live2D); err != nil {
		return err
	}
	c.avatar(f, who.Avatar)
	if c.o.Fork {
		text, err := c.lookup(f, key(root, "persona_prompt"))
		if err != nil {
			return err
		}
		guess := guessName(text)
		c.find(f.rel, "name that the fork's client guesses", guess == c.o.Card.Name, guess, c.o.Card.Name)
	}
	return c.server(ctx, f, who.Model)
}

var afterHero = regexp.MustCompile(`주인공\s*([가-힣]{1,10})`)

// guessName does as the fork's client does: up to ten Hangul syllables behind 주인공, else 백설공주.
func guessName(text string) string {
	if m := afterHero.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return "백설공주"
}

// live2D looks for the model in model_dict.json; without it the front end asks for undefined.model3.json.
func (c *checker) live2D(f *file, name string) error {
	path := filepath.Join(c.Dir, "model_dict.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		c.find(f.rel, "live2d_model_name", false, "no model_dict.json", "one with "+name)
		return nil
	} else if err != nil {
		return err
	}
	var models []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &models); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var names []string
	for _, m := range models {
		names = append(names, m.Name)
	}
	c.find(f.rel, "live2d_model_name", slices.Contains(names, name), name, strings.Join(names, " or "))
	return nil
}

func (c *checker) avatar(f *file, name string) {
	if name == "" {
		c.find(f.rel, "avatar", true, "none", "none")
		return
	}
	path := filepath.Join("avatars", name)
	_, err := os.Stat(filepath.Join(c.Dir, path))
	got := path
	if !filepath.IsLocal(name) || err != nil {
		got = "no file " + path
	}
	c.find(f.rel, "avatar", got == path, got, path)
}

// server looks at the system text of the model.
func (c *checker) server(ctx context.Context, f *file, model string) error {
	if c.o.Client == nil {
		return nil
	}
	show, err := c.o.Client.Show(ctx, &api.ShowRequest{Model: model})
	var status api.StatusError
	if errors.As(err, &status) {
		c.find(f.rel, "model "+model, false, status.ErrorMessage, "a model of the server")
		return nil
	} else if err != nil {
		return fmt.Errorf("show %s: %w", model, err)
	}
	got := persona.HashText(show.System)
	c.find("Ollama "+model, "persona", got == c.hash, got, c.hash)
	return nil
}

func (c *checker) modelfile() error {
	if c.o.Modelfile == "" {
		return nil
	}
	f, err := os.Open(c.o.Modelfile)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := parser.ParseFile(f)
	if err != nil {
		return fmt.Errorf("%s: %w", c.o.Modelfile, err)
	}
	got := "no SYSTEM"
	for _, command := range m.Commands {
		if command.Name == "system" {
			got = persona.HashText(command.Args)
		}
	}
	c.find(c.o.Modelfile, "persona", got == c.hash, got, c.hash)
	return nil
}

// data wants every record to begin with the persona as its format has it.
func (c *checker) data() error {
	if c.o.Data == "" {
		return nil
	}
	records, _, err := persona.ReadRecords(c.o.Data, persona.ReadOptions{})
	if err != nil {
		return err
	}
	heads, bad := map[[2]string]string{}, 0
	for i := range records {
		r := &records[i]
		form := [2]string{string(r.Format), r.End}
		if _, ok := heads[form]; !ok {
			renderer, err := persona.NewRenderer(c.o.Card, persona.Options{Format: r.Format, End: r.End})
			if err != nil {
				return fmt.Errorf("%s: record %d: %w", c.o.Data, i+1, err)
			}
			heads[form] = renderer.Head()
		}
		if r.Prompt != heads[form] {
			bad++
		}
	}
	c.find(c.o.Data, "persona", bad == 0, fmt.Sprintf("another in %d of %d records", bad, len(records)), "the card's in all")
	return nil
}
