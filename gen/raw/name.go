package raw

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Name is what the name of a raw file says. It is a fallback for what the rows do not say.
type Name struct {
	Kind        string // "scene" or "dialogue"; "" in upstream's names, where the folder says it
	Model       string // an Ollama tag
	Temperature string // as configured, not always as used
	Character   string // slug
	Language    string // "korean" or "english"; "" in upstream's names
}

// ParseName reads the name of a raw file, [KIND_]MODEL-temp-T-char-CHARACTER[-LANGUAGE].jsonl, from the right,
// since a model's tag may contain "-".
func ParseName(path string) (Name, bool) {
	rest, ok := strings.CutSuffix(filepath.Base(path), ".jsonl")
	if !ok {
		return Name{}, false
	}
	var n Name
	for _, language := range []string{"korean", "english"} {
		if cut, ok := strings.CutSuffix(rest, "-"+language); ok && n.Language == "" {
			rest, n.Language = cut, language
		}
	}
	at := strings.LastIndex(rest, "-char-")
	if at < 0 {
		return Name{}, false
	}
	rest, n.Character = rest[:at], rest[at+len("-char-"):]
	if at = strings.LastIndex(rest, "-temp-"); at < 0 {
		return Name{}, false
	}
	rest, n.Temperature = rest[:at], rest[at+len("-temp-"):]
	for _, kind := range []string{"scene", "dialogue"} {
		if cut, ok := strings.CutPrefix(rest, kind+"_"); ok && n.Kind == "" {
			rest, n.Kind = cut, kind
		}
	}
	n.Model = rest
	return n, n.Character != "" && n.Model != ""
}

// Find gives the raw files of a character below root/result/DATE/FOLDER, the oldest day first. names are how the
// character may be written in a file's name; folders are the kinds' names, such as gen_dialogue. A file without a
// language in its name fits any. No file at all is an error that names where was looked.
func Find(root string, folders, names []string, language string) ([]string, error) {
	var out []string
	base := filepath.Join(root, "result")
	days, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("find raw files: %w", absolute(base, err))
	}
	for _, day := range days {
		for _, folder := range folders {
			files, err := os.ReadDir(filepath.Join(base, day.Name(), folder))
			if err != nil {
				continue // a day without this kind
			}
			for _, f := range files {
				n, ok := ParseName(f.Name())
				if ok && slices.Contains(names, n.Character) && (n.Language == "" || n.Language == language) {
					out = append(out, filepath.Join(base, day.Name(), folder, f.Name()))
				}
			}
		}
	}
	if len(out) == 0 {
		where := filepath.Join(base, "*", folders[0], "*-char-"+names[0]+"-"+language+".jsonl")
		return nil, fmt.Errorf("find raw files: %w: got none, want %s", os.ErrNotExist, absolutePath(where))
	}
	return out, nil
}

// FindParsed gives the file called name in the latest folder of root/processed that has one, and that folder.
func FindParsed(root, name string) (path, dir string, err error) {
	base := filepath.Join(root, "processed")
	days, err := os.ReadDir(base)
	if err != nil {
		return "", "", fmt.Errorf("find parsed file: %w", absolute(base, err))
	}
	for _, day := range slices.Backward(days) {
		path := filepath.Join(base, day.Name(), name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, filepath.Join(base, day.Name()), nil
		}
	}
	return "", "", fmt.Errorf("find parsed file: %w: got none, want %s", os.ErrNotExist, absolutePath(filepath.Join(base, "*", name)))
}

func absolutePath(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

// absolute names the whole path in an error about it.
func absolute(path string, err error) error { return fmt.Errorf("%s: %w", absolutePath(path), err) }
