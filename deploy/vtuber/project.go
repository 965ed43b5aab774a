// Package vtuber sets characters up in a folder of Open-LLM-VTuber: conf.yaml, which the server starts with, and
// the files that a user can switch to, whose character_config is laid over that of conf.yaml. Values are edited in
// place; files whose layout is not the known one are refused.
package vtuber

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/yamledit"
	"github.com/persona-gguf/persona-gguf/persona"
)

// ErrLayout marks a file that is not laid out as Open-LLM-VTuber's of the known versions.
var ErrLayout = errors.New("unknown layout")

// confName is the file that the server starts with.
const confName = "conf.yaml"

var knownVersion = regexp.MustCompile(`^v?1\.[12](\.\d+)?$`)

// Keys of the configuration.
var (
	root      = []string{"character_config"}
	agent     = []string{"character_config", "agent_config", "agent_settings", "basic_memory_agent"}
	llm       = []string{"character_config", "agent_config", "llm_configs", "ollama_llm"}
	choiceKey = []string{"character_config", "agent_config", "conversation_agent_choice"}
)

func key(parent []string, name string) []string { return append(slices.Clone(parent), name) }

// file is one configuration file, as it was and as it is to be.
type file struct {
	rel  string // path from the project's folder, with slashes
	path string
	old  []byte // nil if there is none yet
	doc  *yamledit.Document
}

// Project is a folder of Open-LLM-VTuber.
type Project struct {
	Dir     string
	Version string // conf_version
	conf    *file
	alts    string // folder of the character files, relative
	files   []*file
}

// Open reads conf.yaml in dir and the character files, and checks their layout.
func Open(dir string) (*Project, error) {
	p := &Project{Dir: dir, alts: "characters"}
	var err error
	if p.conf, err = p.read(confName); err != nil {
		return nil, err
	}
	if err := p.checkConf(); err != nil {
		return nil, fmt.Errorf("%s: %w", p.conf.path, err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(p.alts)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, entry := range entries {
		if entry.IsDir() || filepath.Ext(entry.Name()) != ".yaml" {
			continue
		}
		f, err := p.read(p.alts + "/" + entry.Name())
		if err != nil {
			return nil, err
		}
		if !f.doc.IsMapping(root...) {
			return nil, fmt.Errorf("%s: %w: got no character_config with keys", f.path, ErrLayout)
		}
		p.files = append(p.files, f)
	}
	return p, nil
}

func (p *Project) read(rel string) (*file, error) {
	f := &file{rel: rel, path: filepath.Join(p.Dir, filepath.FromSlash(rel))}
	var err error
	if f.old, err = os.ReadFile(f.path); err != nil {
		return nil, fmt.Errorf("open Open-LLM-VTuber folder: %w", err)
	}
	if f.doc, err = yamledit.Parse(f.old); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return f, nil
}

// checkConf wants the layout of conf_version v1.1 to v1.2.x.
func (p *Project) checkConf() error {
	version, ok, err := p.conf.doc.Lookup("system_config", "conf_version")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLayout, err)
	}
	if !ok || !knownVersion.MatchString(version) {
		return fmt.Errorf("%w: system_config.conf_version: got %q, want v1.1 to v1.2.x", ErrLayout, version)
	}
	p.Version = version
	for _, path := range [][]string{root, agent, llm} {
		if !p.conf.doc.IsMapping(path...) {
			return fmt.Errorf("%w: %s: got no keys with values", ErrLayout, strings.Join(path, "."))
		}
	}
	choice, _, err := p.conf.doc.Lookup(choiceKey...)
	if err != nil || choice == "" {
		return fmt.Errorf("%w: %s: got %q", ErrLayout, strings.Join(choiceKey, "."), choice)
	}
	alts, ok, err := p.conf.doc.Lookup("system_config", "config_alts_dir")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLayout, err)
	}
	if ok {
		p.alts = filepath.ToSlash(filepath.Clean(alts))
		if !filepath.IsLocal(alts) {
			return fmt.Errorf("%w: system_config.config_alts_dir: got %q, want a folder in this one", ErrLayout, alts)
		}
	}
	return nil
}

// Character is what one file sets, and what it takes from conf.yaml.
type Character struct {
	File    string `json:"file"`
	Label   string `json:"conf_name"`
	UID     string `json:"conf_uid"`
	Name    string `json:"character_name"`
	Model   string `json:"model"`
	Live2D  string `json:"live2d_model_name"`
	Avatar  string `json:"avatar"`
	Persona string `json:"persona_sha256"`
	Active  bool   `json:"active"` // conf.yaml has it
}

// Characters lists conf.yaml's and those to switch to.
func (p *Project) Characters() ([]Character, error) {
	var out []Character
	for _, f := range append([]*file{p.conf}, p.files...) {
		c, err := p.character(f)
		if err != nil {
			return nil, err
		}
		c.Active = f == p.conf || c.UID != "" && c.UID == out[0].UID
		out = append(out, c)
	}
	return out, nil
}

func (p *Project) character(f *file) (Character, error) {
	c := Character{File: f.rel}
	text := ""
	for _, field := range []struct {
		to   *string
		path []string
	}{
		{&c.Label, key(root, "conf_name")}, {&c.UID, key(root, "conf_uid")}, {&c.Name, key(root, "character_name")}, {&c.Model, key(llm, "model")},
		{&c.Live2D, key(root, "live2d_model_name")}, {&c.Avatar, key(root, "avatar")}, {&text, key(root, "persona_prompt")},
	} {
		var err error
		if *field.to, err = p.lookup(f, field.path); err != nil {
			return c, err
		}
	}
	c.Persona = persona.HashText(text)
	return c, nil
}

// lookup gives a value as the server sees it: of the file, else of conf.yaml.
func (p *Project) lookup(f *file, path []string) (string, error) {
	for _, from := range []*file{f, p.conf} {
		value, ok, err := from.doc.Lookup(path...)
		if err != nil {
			return "", fmt.Errorf("%s: %w", from.path, err)
		}
		if ok {
			return value, nil
		}
	}
	return "", nil
}

// Change is what becomes of a file.
type Change struct {
	File    string `json:"file"`
	Backup  string `json:"backup,omitempty"` // where the old text is kept
	Changed bool   `json:"changed"`
	Diff    string `json:"diff"` // unified; empty if nothing changes
}

// changes describes what the documents of files have become.
func changes(files []*file) (out []Change) {
	for _, f := range files {
		text := f.doc.Bytes()
		c := Change{File: f.rel, Changed: f.old == nil || !bytes.Equal(f.old, text)}
		if c.Changed {
			c.Diff = string(diff.Diff(f.rel, f.old, f.rel, text))
		}
		out = append(out, c)
	}
	return out
}

// save writes what has changed. A file that was there is copied first, to a name that is free.
func save(files []*file, changes []Change) error {
	for i, f := range files {
		if !changes[i].Changed {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return err
		}
		if f.old != nil {
			backup, err := f.backup()
			if err != nil {
				return err
			}
			changes[i].Backup = filepath.ToSlash(filepath.Join(filepath.Dir(f.rel), filepath.Base(backup)))
		}
		if err := write(f.path, f.doc.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// backup keeps the old text beside the file.
func (f *file) backup() (string, error) {
	for n := 1; ; n++ {
		path := f.path + ".backup"
		if n > 1 {
			path += fmt.Sprint(n)
		}
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			return path, write(path, f.old)
		} else if err != nil {
			return "", err
		}
	}
}

func write(path string, text []byte) error {
	return atomicfile.WriteFile(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
