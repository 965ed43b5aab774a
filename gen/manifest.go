package gen

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/filehash"
)

// manifestName is the manifest's name in the folder of a day.
const manifestName = "manifest.json"

// Manifest says what the runs of a day were made from.
type Manifest struct {
	Version int         `json:"version"`
	Active  string      `json:"active,omitempty"` // the run that writes now, if the journal is locked
	Runs    []*RunEntry `json:"runs"`
	path    string
}

// RunEntry is one run in a manifest.
type RunEntry struct {
	ID          string         `json:"run"`
	Kind        prompt.Kind    `json:"kind"`
	Character   string         `json:"character"`
	Language    string         `json:"language"`
	Model       string         `json:"model"`
	Format      string         `json:"format"`
	Card        Source         `json:"card"`
	Input       Source         `json:"input"` // the profile or the parsed scenes
	Template    Source         `json:"template"`
	PromptStats prompt.Stats   `json:"prompt_stats"`
	Options     engine.Options `json:"options"` // num_ctx as used
	Engines     []string       `json:"engines"`
	Started     time.Time      `json:"started"` // for the first time: the folder's date is of this day
	Output      string         `json:"output"`  // below the root
	OutputHash  string         `json:"output_sha256,omitempty"`

	// What status needs of the program's last run.
	Resumed     time.Time `json:"resumed"`
	Ended       time.Time `json:"ended,omitzero"`
	PID         int       `json:"pid"`
	Jobs        int       `json:"jobs"`
	DoneBefore  int       `json:"done_before"`
	JournalFrom int64     `json:"journal_from"` // bytes of the journal before it
	Report      *Report   `json:"report,omitempty"`
}

// Source is a file with the hash of its content.
type Source struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

func sourceOf(path string) (Source, error) {
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	hash, _, err := filehash.SHA256(path)
	return Source{path, hash}, err
}

// readManifest reads the manifest of a day's folder; one that is not there is empty.
func readManifest(dir string) (*Manifest, error) {
	m := &Manifest{Version: 1, path: filepath.Join(dir, manifestName)}
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", m.path, err)
	}
	if m.Version != 1 {
		return nil, fmt.Errorf("read manifest %s: version: got %d, want 1", m.path, m.Version)
	}
	return m, nil
}

func (m *Manifest) write() error { return atomicfile.WriteJSON(m.path, m) }

func (m *Manifest) find(id string) *RunEntry {
	for _, e := range m.Runs {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// sharing gives the runs that write the same file as e does.
func (m *Manifest) sharing(e *RunEntry) map[string]bool {
	ids := map[string]bool{}
	for _, other := range m.Runs {
		if other.Output == e.Output {
			ids[other.ID] = true
		}
	}
	return ids
}

// days gives the folders of days below root/result that have a manifest, the newest first.
func days(root string) ([]string, error) {
	base := filepath.Join(root, "result")
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for runs: %w", err)
	}
	var out []string
	for _, e := range slices.Backward(entries) {
		if _, err := os.Stat(filepath.Join(base, e.Name(), manifestName)); err == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// dayOf gives the day on which a run was started first, or today.
func (o *Options) dayOf(id string) (string, error) {
	all, err := days(o.Root)
	if err != nil {
		return "", err
	}
	for _, day := range all {
		m, err := readManifest(filepath.Join(o.Root, "result", day))
		if err != nil {
			return "", err
		}
		if m.find(id) != nil {
			return day, nil
		}
	}
	return o.Now().Format(time.DateOnly), nil
}

// folders are the names of the kinds below a day, and prefixes the begins of their files' names.
var (
	folders  = map[prompt.Kind]string{prompt.Scene: "gen_scene", prompt.Dialogue: "gen_dialogue", prompt.Protective: "gen_hallucination"}
	prefixes = map[prompt.Kind]string{prompt.Scene: "scene", prompt.Dialogue: "dialogue", prompt.Protective: "dialogue"}
)

// outputName is the path of the file below a root, with slashes.
func (o *Options) outputName(day string) string {
	name := fmt.Sprintf("%s_%s-temp-%v-char-%s-%s.jsonl", prefixes[o.Kind], fileName(o.Model), o.Sampling.Temperature, o.Card.ID, o.Card.Language)
	return filepath.ToSlash(filepath.Join("result", day, folders[o.Kind], name))
}
