package convert

import (
	"fmt"
	"slices"
	"strings"
)

// specialVocab is what surrounds the token list: merges, ids of special tokens,
// whether they are added, chat templates and normalizer flags (SpecialVocab in
// llamacpp/gguf-py/gguf/vocab.py).
type specialVocab struct {
	types    []string // kinds of special tokens that are looked for
	nVocab   int      // ids from here on are skipped; -1 for no limit
	merges   []string
	ids      []specialID
	add      []addFlag
	template string          // chat template
	named    []namedTemplate // or several of them, when hasNamed
	hasNamed bool
	norm     normalizerFlags
	warnings []string
}

type specialID struct {
	typ string
	id  uint32
}

type addFlag struct {
	typ   string
	value bool
}

type namedTemplate struct{ name, text string }

type normalizerFlags struct{ lowercase, stripAccents *bool }

// specialKeys are the keys of the special ids; a kind without a key is found
// but not written.
var specialKeys = map[string]string{
	"bos": "tokenizer.ggml.bos_token_id", "eos": "tokenizer.ggml.eos_token_id", "unk": "tokenizer.ggml.unknown_token_id",
	"sep": "tokenizer.ggml.seperator_token_id", "pad": "tokenizer.ggml.padding_token_id", "mask": "tokenizer.ggml.mask_token_id",
	"eot": "tokenizer.ggml.eot_token_id", "eom": "tokenizer.ggml.eom_token_id",
}

var addKeys = map[string]string{
	"bos": "tokenizer.ggml.add_bos_token", "eos": "tokenizer.ggml.add_eos_token", "sep": "tokenizer.ggml.add_sep_token",
}

// readSpecial collects the special vocabulary of the given kinds. Ids from
// nVocab on are skipped with a warning unless nVocab is negative.
func (l *vocabLoader) readSpecial(merges bool, types []string, nVocab int) (*specialVocab, error) {
	s := &specialVocab{types: slices.Clone(types), nVocab: nVocab}
	defer func() { l.v.warnings = append(l.v.warnings, s.warnings...) }()
	if merges {
		if err := s.readMerges(l.tokenizerFiles); err != nil {
			return nil, err
		}
	}
	s.norm.read(l.tokenizer.object("normalizer"))
	values := map[string]any{}
	for k, v := range l.config.all() {
		values[k] = v
	}
	if l.tokenizer.len() > 0 {
		s.readPostProcessor(l.tokenizer, l.config.len() > 0, values)
	}
	if l.config.len() > 0 {
		if err := s.readTemplates(l.tokenizerFiles); err != nil {
			return nil, err
		}
		if err := s.readConfigured(l.tokenizerFiles, values); err != nil {
			return nil, err
		}
	}
	if err := s.readModelIDs(l.tokenizerFiles); err != nil {
		return nil, err
	}
	if merges && len(s.merges) == 0 {
		return s, s.readMergesText(l.path("merges.txt"))
	}
	return s, nil
}

// set gives a kind its id; the first one stays.
func (s *specialVocab) set(typ string, id uint32) {
	if !slices.ContainsFunc(s.ids, func(x specialID) bool { return x.typ == typ }) {
		s.ids = append(s.ids, specialID{typ, id})
	}
}

// setValue is set for a parsed JSON value; anything but an integer is ignored.
func (s *specialVocab) setValue(typ string, v any, where string) error {
	id, ok, err := asTokenID(v)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if !ok {
		return nil
	}
	if s.nVocab >= 0 && int64(id) >= int64(s.nVocab) {
		s.warnings = append(s.warnings, fmt.Sprintf("%s: id %d is left out: want less than %d", where, id, s.nVocab))
		return nil
	}
	s.set(typ, id)
	return nil
}

// setAdd stores whether a kind is added to every prompt.
func (s *specialVocab) setAdd(typ string, value bool) {
	for i := range s.add {
		if s.add[i].typ == typ {
			s.add[i].value = value
			return
		}
	}
	s.add = append(s.add, addFlag{typ, value})
}

// readMerges reads model.merges of tokenizer.json, in the old form "a b" or as
// pairs, in which a space is spelled U+0120.
func (s *specialVocab) readMerges(f *tokenizerFiles) error {
	path := f.path("tokenizer.json")
	v, _ := f.tokenizer.object("model").get("merges")
	list, _ := v.([]any)
	if len(list) == 0 {
		return nil
	}
	s.merges = make([]string, len(list))
	_, old := list[0].(string)
	for i, item := range list {
		var err error
		if s.merges[i], err = mergeText(item, old); err != nil {
			return fmt.Errorf("read %s: model.merges[%d]: %w", path, i, err)
		}
	}
	return nil
}

func mergeText(v any, old bool) (string, error) {
	if old {
		text, ok := v.(string)
		if !ok {
			return "", fmt.Errorf("got %s, want a string like the first", jsonKind(v))
		}
		return text, nil
	}
	pair, _ := v.([]any)
	if len(pair) != 2 {
		return "", fmt.Errorf("got %s, want a pair of strings", jsonKind(v))
	}
	a, ok1 := pair[0].(string)
	b, ok2 := pair[1].(string)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("got a pair of %s and %s, want strings", jsonKind(pair[0]), jsonKind(pair[1]))
	}
	return strings.ReplaceAll(a, " ", "Ġ") + " " + strings.ReplaceAll(b, " ", "Ġ"), nil
}

// readMergesText reads merges.txt, if there is one. A first line with # is a
// comment; lines that are no two words are left out.
func (s *specialVocab) readMergesText(path string) error {
	text, ok, err := readText(path)
	if err != nil || !ok {
		return err
	}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || i == 0 && strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Fields(line)
		if len(parts) != 2 {
			s.warnings = append(s.warnings, fmt.Sprintf("read %s: line %d is left out: want two words", path, i+1))
			continue
		}
		s.merges = append(s.merges, parts[0]+" "+parts[1])
	}
	return nil
}

// read takes the flags of a normalizer: Lowercase, StripAccents,
// BertNormalizer, or a Sequence of them.
func (n *normalizerFlags) read(o *object) {
	typ, _ := o.string("type")
	yes := true
	switch typ {
	case "Lowercase":
		n.lowercase = &yes
	case "StripAccents":
		n.stripAccents = &yes
	case "BertNormalizer":
		setFlag(&n.lowercase, o, "lowercase")
		setFlag(&n.stripAccents, o, "strip_accents")
	case "Sequence":
		v, _ := o.get("normalizers")
		list, _ := v.([]any)
		for _, item := range list {
			inner, _ := item.(*object)
			n.read(inner)
		}
	}
}

// setFlag takes a flag that is present; a null takes an earlier one back.
func setFlag(dst **bool, o *object, key string) {
	switch v, ok := o.get(key); v := v.(type) {
	case bool:
		*dst = &v
	case nil:
		if ok {
			*dst = nil
		}
	}
}

// readConfigured looks the special tokens of tokenizer_config.json up among the
// added tokens of tokenizer.json, and takes the add_*_token booleans. values is
// tokenizer_config.json with what the post-processor changed.
func (s *specialVocab) readConfigured(f *tokenizerFiles, values map[string]any) error {
	ids := map[string]any{}
	added, _ := f.tokenizer.get("added_tokens")
	list, _ := added.([]any)
	for _, item := range list {
		o, _ := item.(*object)
		content, ok := o.string("content")
		if _, known := ids[content]; ok && !known {
			ids[content], _ = o.get("id")
		}
	}
	for _, typ := range s.types {
		if b, ok := values["add_"+typ+"_token"].(bool); ok {
			s.setAdd(typ, b)
		}
		content, ok := tokenContent(values[typ+"_token"])
		if !ok {
			continue
		}
		where := fmt.Sprintf("read %s: added_tokens: %s_token %q", f.path("tokenizer.json"), typ, content)
		if err := s.setValue(typ, ids[content], where); err != nil {
			return err
		}
	}
	return nil
}

// tokenContent is the text of a special token: a string, or an object's content.
func tokenContent(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case *object:
		return v.string("content")
	}
	return "", false
}

// readModelIDs fills ids that are still missing from config.json.
func (s *specialVocab) readModelIDs(f *tokenizerFiles) error {
	for _, typ := range s.types {
		key := typ + "_token_id"
		v, _ := f.model.get(key)
		if v == nil {
			v, _ = f.model.object("text_config").get(key)
		}
		if err := s.setValue(typ, v, fmt.Sprintf("read %s: %s", f.path("config.json"), key)); err != nil {
			return err
		}
	}
	return nil
}

// addTo appends the keys in the reference's order.
func (s *specialVocab) addTo(v *vocab) {
	v.add("tokenizer.ggml.merges", s.merges)
	for _, x := range s.ids {
		if key, ok := specialKeys[x.typ]; ok {
			v.add(key, x.id)
		}
	}
	for _, x := range s.add {
		if key, ok := addKeys[x.typ]; ok {
			v.add(key, x.value)
		}
	}
	s.addTemplates(v)
	if s.norm.lowercase != nil {
		v.add("tokenizer.ggml.normalizer.lowercase", *s.norm.lowercase)
	}
	if s.norm.stripAccents != nil {
		v.add("tokenizer.ggml.normalizer.strip_accents", *s.norm.stripAccents)
	}
}
