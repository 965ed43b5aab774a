package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// metadata is what the general.* keys are made of, by field name
// (gguf-py/gguf/metadata.py, class Metadata). A missing entry or nil is
// Python's None.
type metadata struct {
	vals map[string]any
	from map[string]string // file a value came from, for error texts
}

// metaKind is the type a field is written with.
type metaKind int

const (
	metaString metaKind = iota
	metaInt32
	metaFloat32
	metaLicense  // a string, or a list joined by commas
	metaSources  // a count and numbered entries: base models, datasets
	metaStrings  // an array of strings
	metaRequired // a string that is always there
)

// metaFields lists every field in order of writing. override is the key of the
// override file, empty where the reference has none; generation is the name in
// generation_config.json.
var metaFields = []struct {
	field, key string
	kind       metaKind
	override   string
	generation string
}{
	{"sampling_sequence", "general.sampling.sequence", metaString, "general.sampling.sequence", "sequence"},
	{"sampling_top_k", "general.sampling.top_k", metaInt32, "general.sampling.top_k", "top_k"},
	{"sampling_top_p", "general.sampling.top_p", metaFloat32, "general.sampling.top_p", "top_p"},
	{"sampling_min_p", "general.sampling.min_p", metaFloat32, "general.sampling.min_p", "min_p"},
	{"sampling_xtc_probability", "general.sampling.xtc_probability", metaFloat32, "general.sampling.xtc_probability", "xtc_probability"},
	{"sampling_xtc_threshold", "general.sampling.xtc_threshold", metaFloat32, "general.sampling.xtc_threshold", "xtc_threshold"},
	{"sampling_temp", "general.sampling.temp", metaFloat32, "general.sampling.temp", "temperature"},
	{"sampling_penalty_last_n", "general.sampling.penalty_last_n", metaInt32, "general.sampling.penalty_last_n", "penalty_last_n"},
	{"sampling_penalty_repeat", "general.sampling.penalty_repeat", metaFloat32, "general.sampling.penalty_repeat", "penalty_repeat"},
	{"sampling_mirostat", "general.sampling.mirostat", metaInt32, "general.sampling.mirostat", "mirostat"},
	{"sampling_mirostat_tau", "general.sampling.mirostat_tau", metaFloat32, "general.sampling.mirostat_tau", "mirostat_tau"},
	{"sampling_mirostat_eta", "general.sampling.mirostat_eta", metaFloat32, "general.sampling.mirostat_eta", "mirostat_eta"},
	{"name", "general.name", metaRequired, "general.name", ""},
	{"author", "general.author", metaString, "general.author", ""},
	{"version", "general.version", metaString, "general.version", ""},
	{"organization", "general.organization", metaString, "general.organization", ""},
	{"finetune", "general.finetune", metaString, "general.finetune", ""},
	{"basename", "general.basename", metaString, "general.basename", ""},
	{"description", "general.description", metaString, "general.description", ""},
	{"quantized_by", "general.quantized_by", metaString, "general.quantized_by", ""},
	{"size_label", "general.size_label", metaString, "general.size_label", ""},
	{"license", "general.license", metaLicense, "", ""},
	{"license_name", "general.license.name", metaString, "general.license.name", ""},
	{"license_link", "general.license.link", metaString, "general.license.link", ""},
	{"url", "general.url", metaString, "general.url", ""},
	{"doi", "general.doi", metaString, "general.doi", ""},
	{"uuid", "general.uuid", metaString, "general.uuid", ""},
	{"repo_url", "general.repo_url", metaString, "general.repo_url", ""},
	{"source_url", "general.source.url", metaString, "general.source.url", ""},
	{"source_doi", "general.source.doi", metaString, "general.source.doi", ""},
	{"source_uuid", "general.source.uuid", metaString, "general.source.uuid", ""},
	{"source_repo_url", "general.source.repo_url", metaString, "general.source.repo_url", ""},
	{"base_models", "general.base_model", metaSources, "general.base_models", ""},
	{"datasets", "general.dataset", metaSources, "general.datasets", ""},
	{"tags", "general.tags", metaStrings, "general.tags", ""},
	{"languages", "general.languages", metaStrings, "general.languages", ""},
}

// sourceFields are the entries of a base model or dataset, in order of writing.
var sourceFields = []string{"name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"}

// loadMetadata gathers the metadata of a model: model card, then config.json's
// _name_or_path, then the folder's name; generation_config.json and the
// override file on top.
func loadMetadata(c *config, o *Options, n paramCounts, warn func(string)) (*metadata, error) {
	m := &metadata{vals: map[string]any{}, from: map[string]string{}}
	card, err := parseModelCard(filepath.Join(c.dir, "README.md"), c.readme)
	if err != nil {
		return nil, err
	}
	if err := m.applyCard(card, filepath.Join(c.dir, "README.md"), n.total); err != nil {
		return nil, err
	}
	if v, ok := c.raw.get("_name_or_path"); ok && v != nil {
		id, ok := v.(string)
		if !ok {
			return nil, c.errorf("_name_or_path", "got %s, want a string", jsonKind(v))
		}
		if strings.Count(id, "/") <= 1 { // a model id, not some path on a disk
			m.applyID(id, n.total)
		}
	}
	m.applyID(pathName(c.dir), n.total)
	if err := m.applyGeneration(filepath.Join(c.dir, "generation_config.json"), warn); err != nil {
		return nil, err
	}
	if o.Metadata != "" {
		if err := m.applyOverride(o.Metadata); err != nil {
			return nil, err
		}
	}
	if o.ModelName != "" {
		m.set("name", o.ModelName, "")
	}
	if m.vals["name"] == nil {
		m.set("name", pathName(c.dir), "")
	}
	if m.vals["name"] == "" {
		warn(fmt.Sprintf("the model has no name: the folder's name in %q is empty; give the folder's full path or a model name", c.dir))
	}
	if m.vals["size_label"] == nil && n.total > 0 {
		m.set("size_label", n.sizeLabel(), "")
	}
	return m, nil
}

func (m *metadata) set(field string, v any, file string) {
	m.vals[field], m.from[field] = v, file
}

// setMissing sets a field that is still None.
func (m *metadata) setMissing(field string, v any, file string) {
	if m.vals[field] == nil {
		m.set(field, v, file)
	}
}

// applyID fills what is still missing from a model id.
func (m *metadata) applyID(id string, params int64) {
	np := parseModelID(id, params)
	for _, f := range []struct {
		field string
		val   *string
		title bool
	}{
		{"name", np.name, true}, {"organization", np.organization, true}, {"basename", np.basename, false},
		{"finetune", np.finetune, false}, {"version", np.version, false}, {"size_label", np.sizeLabel, false},
	} {
		if f.val == nil {
			continue
		}
		v := *f.val
		if f.title {
			v = idToTitle(v)
		}
		m.setMissing(f.field, v, "")
	}
}

// cardFields maps fields to the model card keys that may give them; the first
// key present in the card wins.
var cardFields = []struct{ field, key string }{
	{"name", "name"}, {"author", "author"}, {"version", "version"}, {"organization", "organization"},
	{"description", "description"}, {"finetune", "finetune"}, {"basename", "basename"}, {"size_label", "size_label"},
	{"source_url", "url"}, {"source_doi", "doi"}, {"source_uuid", "uuid"}, {"source_repo_url", "repo_url"},
	{"name", "model_name"}, {"author", "model_author"}, {"version", "model_version"},
	{"organization", "model_organization"}, {"description", "model_description"}, {"finetune", "model_finetune"},
	{"basename", "model_basename"}, {"size_label", "model_size_label"}, {"source_url", "model_url"},
	{"source_doi", "model_doi"}, {"source_uuid", "model_uuid"}, {"source_repo_url", "model_repo_url"},
	{"author", "model_creator"}, {"basename", "model_type"},
	{"license", "license"}, {"license_name", "license_name"}, {"license_link", "license_link"},
}

// applyCard takes what a model card says.
func (m *metadata) applyCard(card *object, file string, params int64) error {
	for _, f := range cardFields {
		if v, ok := card.get(f.key); ok {
			m.setMissing(f.field, v, file)
		}
	}
	m.applySources(card, "base_models", file, params, "base_model", "base_models", "base_model_sources")
	m.applySources(card, "datasets", file, params, "datasets", "dataset", "dataset_sources")
	for _, f := range []struct{ field, key string }{
		{"tags", "tags"}, {"tags", "pipeline_tag"}, {"languages", "languages"}, {"languages", "language"},
	} {
		v, _ := card.get(f.key)
		if v == nil {
			continue
		}
		list, _ := m.vals[f.field].([]any)
		switch v := v.(type) {
		case string:
			list = append(list, v)
		case []any:
			list = append(list, v...)
		}
		m.set(f.field, list, file)
	}
	return nil
}

var hubURL = regexp.MustCompile(`^https?://huggingface.co/([^/]+/[^/]+)$`)

// applySources turns a card's list of model or dataset ids into entries.
func (m *metadata) applySources(card *object, field, file string, params int64, keys ...string) {
	key, v := card.find(keys...)
	if key == "" {
		return
	}
	var ids []any
	switch v := v.(type) {
	case string:
		ids = []any{v}
	case []any:
		ids = v
	}
	entries := []any{}
	for _, id := range ids {
		entry := newObject()
		switch id := id.(type) {
		case *object:
			entry = id
		case string:
			sourceEntry(entry, id, params)
		}
		entries = append(entries, entry)
	}
	m.set(field, entries, file)
}

// sourceEntry describes one base model or dataset given by id or URL.
func sourceEntry(entry *object, id string, params int64) {
	isURL := false
	for _, scheme := range []string{"http://", "https://", "ssh://"} {
		isURL = isURL || strings.HasPrefix(id, scheme)
	}
	if isURL {
		entry.set("repo_url", id)
		match := hubURL.FindStringSubmatch(id)
		if match == nil {
			return
		}
		id = match[1]
	}
	np := parseModelID(id, params)
	if np.name != nil {
		entry.set("name", idToTitle(*np.name))
	}
	if np.organization != nil {
		entry.set("organization", idToTitle(*np.organization))
	}
	if np.version != nil {
		entry.set("version", *np.version)
	}
	if !isURL && np.organization != nil && np.name != nil {
		entry.set("repo_url", "https://huggingface.co/"+*np.organization+"/"+*np.name)
	}
}

// applyGeneration takes the sampling parameters of generation_config.json. A
// file that is not JSON is passed over, as by the reference.
func (m *metadata) applyGeneration(path string, warn func(string)) error {
	v, err := readJSON(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		warn(fmt.Sprintf("%v: sampling parameters are left out", err))
		return nil
	}
	gen, ok := v.(*object)
	if !ok {
		return fmt.Errorf("read %s: top level: got %s, want an object", path, jsonKind(v))
	}
	for _, f := range metaFields {
		if f.generation == "" {
			continue
		}
		names := []string{f.generation}
		if f.generation == "penalty_repeat" {
			names = append(names, "repetition_penalty")
		}
		if _, v := gen.find(names...); v != nil {
			m.set(f.field, v, path)
		}
	}
	return nil
}

// applyOverride takes the override file; a null there removes a value.
func (m *metadata) applyOverride(path string) error {
	o, err := readObject(path)
	if err != nil {
		return err
	}
	for _, f := range metaFields {
		if v, ok := o.get(f.override); ok && f.override != "" {
			m.set(f.field, v, path)
		}
	}
	return nil
}

// write sets the general.* keys.
func (m *metadata) write(out *gguf.Metadata) error {
	for _, f := range metaFields {
		v := m.vals[f.field]
		if v == nil {
			if f.kind == metaRequired {
				return fmt.Errorf("%s%s: got null, want a string", m.source(f.field), f.key)
			}
			continue
		}
		if err := writeMeta(out, f.key, v, f.kind); err != nil {
			return fmt.Errorf("%s%w", m.source(f.field), err)
		}
	}
	return nil
}

// source words where a field came from.
func (m *metadata) source(field string) string {
	if f := m.from[field]; f != "" {
		return "read " + f + ": "
	}
	return ""
}

func writeMeta(out *gguf.Metadata, key string, v any, kind metaKind) error {
	switch kind {
	case metaInt32:
		i, ok := v.(int64)
		if !ok || i != int64(int32(i)) {
			return fmt.Errorf("%s: got %v, want a 32-bit integer", key, v)
		}
		return out.Set(key, int32(i))
	case metaFloat32:
		f, err := asFloat32(v)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return out.Set(key, f)
	case metaLicense:
		if list, ok := v.([]any); ok {
			words, err := stringList(key, list)
			if err != nil {
				return err
			}
			v = strings.Join(words, ",")
		}
		return writeString(out, key, v)
	case metaSources:
		return writeSources(out, key, v)
	case metaStrings:
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%s: got %s, want an array of strings", key, jsonKind(v))
		}
		words, err := stringList(key, list)
		if err != nil || len(words) == 0 {
			return err
		}
		return out.Set(key, words)
	}
	return writeString(out, key, v)
}

// writeString writes a string; like the reference it drops what Python calls
// false.
func writeString(out *gguf.Metadata, key string, v any) error {
	switch t := v.(type) {
	case string:
		if t == "" {
			return nil
		}
		return out.Set(key, t)
	case bool:
		if !t {
			return nil
		}
	case int64:
		if t == 0 {
			return nil
		}
	case float64:
		if t == 0 && !math.IsNaN(t) {
			return nil
		}
	case []any:
		if len(t) == 0 {
			return nil
		}
	case *object:
		if t.len() == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s: got %s, want a string in quotes", key, jsonKind(v))
}

func stringList(key string, list []any) ([]string, error) {
	words := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%s: entry %d: got %s, want a string in quotes", key, i, jsonKind(v))
		}
		words[i] = s
	}
	return words, nil
}

// writeSources writes <key>.count and <key>.<i>.<field>.
func writeSources(out *gguf.Metadata, key string, v any) error {
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("%s: got %s, want an array", key, jsonKind(v))
	}
	if err := out.Set(key+".count", uint32(len(list))); err != nil {
		return err
	}
	for i, e := range list {
		entry, ok := e.(*object)
		if !ok {
			return fmt.Errorf("%s: entry %d: got %s, want an object", key, i, jsonKind(e))
		}
		for _, field := range sourceFields {
			v, ok := entry.get(field)
			if !ok || v == nil {
				continue
			}
			if err := writeString(out, fmt.Sprintf("%s.%d.%s", key, i, field), v); err != nil {
				return err
			}
		}
	}
	return nil
}
