package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/filehash"
)

// ManifestName is the manifest's name in the root of a run.
const ManifestName = "run.json"

// The states of a step in a manifest.
const (
	Running = "running" // started, and neither ended nor failed: it was interrupted, or is under way
	Done    = "done"
	Failed  = "failed"
	LeftOut = "left out" // not part of the run, for a reason
)

// Manifest says what a run was made of, step by step.
type Manifest struct {
	Version int       `json:"version"` // 1
	Card    string    `json:"card"`
	Created time.Time `json:"created"` // its day names the folders of parsed files
	Program string    `json:"program"` // version of the program that wrote last
	Steps   []*Record `json:"steps"`
	// Hashes of files that were read, so that a large file is read once as long as it is the same file.
	Hashes map[string]cachedHash `json:"hashes"`

	root string
}

// Record is a step in a manifest.
type Record struct {
	Step     string            `json:"step"`
	Status   string            `json:"status"`
	Reason   string            `json:"reason,omitempty"` // why it is left out
	Key      string            `json:"key"`              // hash of inputs and settings
	Inputs   []FileHash        `json:"inputs"`
	Settings json.RawMessage   `json:"settings"`
	Seeds    map[string]int    `json:"seeds,omitempty"`
	Outputs  []FileHash        `json:"outputs"`
	Versions map[string]string `json:"versions,omitempty"`
	Details  map[string]any    `json:"details,omitempty"` // figures of the step
	Started  time.Time         `json:"started"`
	Ended    time.Time         `json:"ended,omitzero"`
	Seconds  float64           `json:"seconds"`  // of the last attempt that ended well; 0: none did
	Attempts int               `json:"attempts"` // with this key
	Error    string            `json:"error,omitempty"`
}

// FileHash is a file with the hash of its content. Paths below the root of the run are relative to it, with slashes.
type FileHash struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	Bare   bool   `json:"bare,omitempty"` // a model, hashed as if it had no provenance in it
}

// File is a file that a step reads or writes. Bare says that the provenance in a model does not count for its hash:
// scores are written into it later.
type File struct {
	Path string
	Bare bool
}

type cachedHash struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	Time   int64  `json:"mtime_ns"`
	Inode  uint64 `json:"inode"`
}

// ReadManifest reads a manifest, or the one in a run's root.
func ReadManifest(path string) (*Manifest, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ManifestName)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m := &Manifest{root: filepath.Dir(path)}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", path, err)
	}
	if m.Version != 1 {
		return nil, fmt.Errorf("read manifest %s: version: got %d, want 1", path, m.Version)
	}
	if m.Hashes == nil {
		m.Hashes = map[string]cachedHash{}
	}
	return m, nil
}

// openManifest reads the manifest in root, or makes a new one.
func openManifest(root, card string, now time.Time) (*Manifest, error) {
	m, err := ReadManifest(filepath.Join(root, ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return &Manifest{Version: 1, Card: card, Created: now, Hashes: map[string]cachedHash{}, root: root}, nil
	}
	return m, err
}

func (m *Manifest) write() error { return atomicfile.WriteJSON(filepath.Join(m.root, ManifestName), m) }

// Find gives the record of a step, nil if there is none.
func (m *Manifest) Find(step string) *Record {
	for _, r := range m.Steps {
		if r.Step == step {
			return r
		}
	}
	return nil
}

// put replaces the record of a step, or appends it.
func (m *Manifest) put(r *Record) {
	for i, old := range m.Steps {
		if old.Step == r.Step {
			m.Steps[i] = r
			return
		}
	}
	m.Steps = append(m.Steps, r)
}

// Path gives where a file of the manifest is.
func (m *Manifest) Path(f FileHash) string {
	if path := filepath.FromSlash(f.Path); filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(m.root, filepath.FromSlash(f.Path))
}

// hash hashes files. What is already known of a file counts as long as its size, time and inode are the same.
func (m *Manifest) hash(files []File) ([]FileHash, error) {
	out := make([]FileHash, len(files))
	for i, f := range files {
		info, err := os.Stat(f.Path)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: got %s, want a file", f.Path, info.Mode().Type())
		}
		name := m.name(f.Path)
		now := cachedHash{Bytes: info.Size(), Time: info.ModTime().UnixNano()}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			now.Inode = s.Ino
		}
		key := name
		if f.Bare {
			key += " bare"
		}
		known := m.Hashes[key]
		if now.SHA256 = known.SHA256; known != now || known.SHA256 == "" {
			if now.SHA256, err = hashFile(f); err != nil {
				return nil, err
			}
			m.Hashes[key] = now
		}
		out[i] = FileHash{name, now.SHA256, now.Bytes, f.Bare}
	}
	return out, nil
}

// name is a path as it stands in the manifest.
func (m *Manifest) name(path string) string {
	full, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	root, err := filepath.Abs(m.root)
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(root, full); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return filepath.ToSlash(rel)
	}
	return full
}

func hashFile(f File) (string, error) {
	if !f.Bare {
		sum, _, err := filehash.SHA256(f.Path)
		return sum, err
	}
	h := sha256.New()
	if err := bareModel(h, f.Path); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// bareModel writes a model to w as if it had no provenance. A file that is no model is written as it is: its hash is
// that of no model.
func bareModel(w io.Writer, path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		data, e := os.Open(path)
		if e != nil {
			return e
		}
		defer data.Close()
		_, e = io.Copy(w, data)
		return e
	}
	defer f.Close()
	meta := f.Meta.Clone()
	for key := range f.Meta.All() {
		if strings.HasPrefix(key, keyPrefix) {
			meta.Remove(key)
		}
	}
	return gguf.Rewrite(w, f, meta)
}

// digest hashes a value by its JSON.
func digest(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
