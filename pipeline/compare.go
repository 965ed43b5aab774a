package pipeline

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
)

// Difference is a value that two runs do not have in common; "" where one has none.
type Difference struct {
	Step string `json:"step"`
	What string `json:"what"` // status, input, setting, seed, version, output or figure
	Key  string `json:"key"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// Compare lists in what two runs differ, step by step. Times and places of files do not count, only what is in them.
func Compare(a, b *Manifest) []Difference {
	out := []Difference{}
	var names []string
	for _, m := range []*Manifest{a, b} {
		for _, r := range m.Steps {
			if !slices.Contains(names, r.Step) {
				names = append(names, r.Step)
			}
		}
	}
	for _, name := range names {
		x, y := a.Find(name), b.Find(name)
		if x == nil {
			x = &Record{Status: "not run"}
		}
		if y == nil {
			y = &Record{Status: "not run"}
		}
		if x.Status != y.Status {
			out = append(out, Difference{name, "status", "", x.Status, y.Status})
		}
		for _, part := range []struct {
			what string
			a, b map[string]string
		}{
			{"input", hashes(x.Inputs), hashes(y.Inputs)}, {"setting", flat(x.Settings), flat(y.Settings)}, {"seed", texts(x.Seeds), texts(y.Seeds)},
			{"version", x.Versions, y.Versions}, {"output", hashes(x.Outputs), hashes(y.Outputs)}, {"figure", details(x.Details), details(y.Details)},
		} {
			for _, d := range differ(part.a, part.b) {
				d.Step, d.What = name, part.what
				out = append(out, d)
			}
		}
	}
	return out
}

// differ lists the keys under which two maps have different values.
func differ(a, b map[string]string) (out []Difference) {
	keys := map[string]bool{}
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if a[key] != b[key] {
			out = append(out, Difference{Key: key, A: a[key], B: b[key]})
		}
	}
	return out
}

// settingsDiffer lists the settings in which two records differ.
func settingsDiffer(a, b json.RawMessage) []Difference { return differ(flat(a), flat(b)) }

// hashes gives the hash of each file by its name; the folders may have other names in another run.
func hashes(files []FileHash) map[string]string {
	out := map[string]string{}
	for _, f := range files {
		name := path.Base(f.Path)
		for n := 2; out[name] != ""; n++ {
			name = fmt.Sprintf("%s (%d)", path.Base(f.Path), n)
		}
		out[name] = f.SHA256
	}
	return out
}

func texts[V any](m map[string]V) map[string]string {
	out := map[string]string{}
	for key, v := range m {
		out[key] = fmt.Sprint(v)
	}
	return out
}

// details brings figures to the form that they have when they are read back.
func details(m map[string]any) map[string]string {
	text, err := json.Marshal(m)
	if err != nil {
		return texts(m)
	}
	return flat(text)
}

// flat gives the values of a JSON object by their paths: {"train": {"epochs": 3}} has train.epochs.
func flat(text json.RawMessage) map[string]string {
	out := map[string]string{}
	var v any
	if len(text) == 0 || json.Unmarshal(text, &v) != nil {
		return out
	}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		object, ok := v.(map[string]any)
		if !ok {
			text, err := json.Marshal(v)
			if err == nil && v != nil {
				out[at] = string(text)
			}
			return
		}
		for key, value := range object {
			if at == "" {
				walk(key, value)
			} else {
				walk(at+"."+key, value)
			}
		}
	}
	walk("", v)
	return out
}
