package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/persona-gguf/persona-gguf/safetensors"
)

// tokenizerFiles are the names of what makes a tokenizer. They come from one folder
// together: an adapter's, if it has any of the first three, else the base's.
var tokenizerFiles = []string{
	"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
	"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
}

// templateFiles are chat templates: an adapter's, else the base's.
var templateFiles = []string{"chat_template.jinja", "chat_template.json"}

// otherFiles are always the base's.
var otherFiles = []string{"config.json", "generation_config.json", "modules.json", "LICENSE", "LICENSE.txt", "NOTICE"}

const templateFolder = "additional_chat_templates"

// edit sets a key of config.json to a JSON value.
type edit struct{ key, value string }

// Files gives the folder's files besides the weights: the name in the merged folder, and
// where the content comes from. config.json is in it; see Config for its content.
func (m *Merge) Files() (map[string]string, error) {
	files := map[string]string{}
	take := func(dir string, names []string) error {
		for _, name := range names {
			from := filepath.Join(dir, name)
			st, err := os.Stat(from)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if st.Mode().IsRegular() {
				files[name] = from
			}
		}
		return nil
	}
	tokenizer, err := m.tokenizerFolder()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(take(m.Base, otherFiles), take(tokenizer, tokenizerFiles), take(m.Base, templateFiles)); err != nil {
		return nil, err
	}
	if tokenizer != m.Base && hasTemplate(tokenizer) {
		maps.DeleteFunc(files, func(name, _ string) bool { return slices.Contains(templateFiles, name) })
	}
	if err := take(tokenizer, templateFiles); err != nil {
		return nil, err
	}
	return files, m.takeTemplates(tokenizer, files)
}

// takeTemplates adds the named chat templates.
func (m *Merge) takeTemplates(dir string, files map[string]string) error {
	entries, err := os.ReadDir(filepath.Join(dir, templateFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && path.Ext(e.Name()) == ".jinja" {
			files[path.Join(templateFolder, e.Name())] = filepath.Join(dir, templateFolder, e.Name())
		}
	}
	return nil
}

// hasTemplate tells whether a folder's tokenizer brings a chat template.
func hasTemplate(dir string) bool {
	for _, name := range templateFiles {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	data, err := readLimited(filepath.Join(dir, "tokenizer_config.json"))
	var c struct {
		ChatTemplate json.RawMessage `json:"chat_template"`
	}
	return err == nil && json.Unmarshal(data, &c) == nil && !isEmpty(c.ChatTemplate)
}

// tokenizerFolder is the first adapter with a tokenizer, or the base.
func (m *Merge) tokenizerFolder() (string, error) {
	for _, a := range m.adapters {
		for _, name := range tokenizerFiles[:3] {
			if _, err := os.Stat(filepath.Join(a.Dir, name)); err == nil {
				return a.Dir, nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	return m.Base, nil
}

// Config is config.json of the merged model: the base's, byte for byte but for the
// keys that the merge changes.
func (m *Merge) Config() ([]byte, error) {
	name := filepath.Join(m.Base, "config.json")
	data, err := readLimited(name)
	if err != nil {
		return nil, err
	}
	edits := m.edits
	if m.opts.DType != "" {
		edits = append(edits[:len(edits):len(edits)], edit{dtypeKey(data), dtypeNames[m.opts.DType]})
	}
	for _, e := range edits {
		if data, err = setKey(data, e); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return data, nil
}

// dtypeNames are PyTorch's, as JSON strings.
var dtypeNames = map[safetensors.DType]string{
	safetensors.F32: `"float32"`, safetensors.F16: `"float16"`, safetensors.BF16: `"bfloat16"`,
}

// dtypeKey is the key that a config.json uses: transformers 5 writes dtype, 4 torch_dtype.
func dtypeKey(data []byte) string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(data, &keys) == nil && keys["dtype"] != nil {
		return "dtype"
	}
	return "torch_dtype"
}

// isTied tells whether the output projection is the embedding: as config.json says,
// or without a word there, when the files hold no lm_head.
func (m *Merge) isTied(b *binder) (bool, error) {
	data, err := readLimited(filepath.Join(m.Base, "config.json"))
	if err != nil {
		return false, err
	}
	var c struct {
		Tie *bool `json:"tie_word_embeddings"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return false, fmt.Errorf("read %s: %w", filepath.Join(m.Base, "config.json"), err)
	}
	if c.Tie != nil && (*c.Tie || !b.noHead) {
		return *c.Tie, nil
	}
	return b.noHead, nil
}

// setKey sets a key of a JSON object and leaves every other byte as it is. A new key
// comes first.
func setKey(data []byte, e edit) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("got no JSON object, want one")
	}
	start := d.InputOffset()
	empty := !d.More()
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var old json.RawMessage
		if err := d.Decode(&old); err != nil {
			return nil, err
		}
		if key == e.key {
			end := d.InputOffset()
			return slices.Concat(data[:end-int64(len(old))], []byte(e.value), data[end:]), nil
		}
	}
	text := fmt.Sprintf("\n  %q: %s,", e.key, e.value)
	if empty {
		text = text[:len(text)-1]
	}
	return slices.Concat(data[:start], []byte(text), data[start:]), nil
}
