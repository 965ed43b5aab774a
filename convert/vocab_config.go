package convert

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// specialNames are transformers' special token attributes in order, without
// the list additional_special_tokens that follows them.
var specialNames = []string{"bos", "eos", "unk", "sep", "pad", "cls", "mask"}

// classDefaults are the special tokens that a tokenizer class of transformers
// 4.57.6 has when tokenizer_config.json does not mention them
// (models/*/tokenization_*_fast.py).
var classDefaults = map[string]map[string]string{
	"Qwen2Tokenizer": {"eos": "<|endoftext|>", "unk": "<|endoftext|>", "pad": "<|endoftext|>"},
	"GPT2Tokenizer":  {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"},
	"LlamaTokenizer": {"bos": "<s>", "eos": "</s>", "unk": "<unk>"},
	"GemmaTokenizer": {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>"},
}

// modelClasses are the tokenizer classes of model types whose folder names none.
var modelClasses = map[string]string{
	"qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "qwen3_moe": "Qwen2Tokenizer", "llama": "LlamaTokenizer",
	"mistral": "LlamaTokenizer", "gemma3_text": "GemmaTokenizer", "exaone4": "GPT2Tokenizer",
}

// special is a special token of the tokenizer's configuration. One that is
// given with flags is added again, a bare string only if it is unknown.
type special struct {
	addedToken
	flagged bool
}

// tokenConfig is what tokenizer_config.json, or the legacy files beside it, say
// about tokens.
type tokenConfig struct {
	path     string
	class    string // without "Fast"
	values   *object
	decoder  map[int]addedToken
	contents map[string]addedToken // tokens of decoder by text
}

// addConfigured adds the tokens that transformers adds after loading
// tokenizer.json (PreTrainedTokenizerBase._from_pretrained and
// PreTrainedTokenizerFast.__init__): all of added_tokens_decoder again by id,
// then the special tokens.
func (f *tokenizerFiles) addConfigured(b *tokenAdder, modelType string, fromJSON []addedToken) error {
	tc, err := f.readTokenConfig(modelType, fromJSON)
	if err != nil {
		return err
	}
	specials, err := tc.specials()
	if err != nil {
		return err
	}
	isSpecial := map[string]bool{}
	for _, s := range specials {
		isSpecial[s.content] = true
		b.t.specials = append(b.t.specials, s.content)
	}
	known := map[string]bool{}
	for _, a := range b.list {
		known[a.content] = true
	}
	ids := make([]int, 0, len(tc.decoder))
	for id := range tc.decoder {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	for _, id := range ids {
		a := tc.decoder[id]
		known[a.content] = true
		a.special = a.special || isSpecial[a.content]
		if err := b.add(a); err != nil {
			return err
		}
	}
	for _, s := range specials {
		if known[s.content] && !s.flagged {
			continue
		}
		if _, ok := tc.contents[s.content]; ok {
			continue // the same token, added above
		}
		s.special = true
		if err := b.add(s.addedToken); err != nil {
			return err
		}
	}
	return nil
}

// readTokenConfig reads tokenizer_config.json. Without an added_tokens_decoder
// in it, special_tokens_map.json, added_tokens.json and the added tokens of
// tokenizer.json take its place.
func (f *tokenizerFiles) readTokenConfig(modelType string, fromJSON []addedToken) (*tokenConfig, error) {
	tc := &tokenConfig{path: f.path("tokenizer_config.json"), values: newObject(), decoder: map[int]addedToken{}, contents: map[string]addedToken{}}
	if f.config != nil {
		tc.values = f.config.clone()
	}
	tc.class, _ = tc.values.string("tokenizer_class")
	if tc.class == "" {
		tc.class = modelClasses[modelType]
	}
	tc.class = strings.TrimSuffix(tc.class, "Fast")
	if _, ok := tc.values.get("added_tokens_decoder"); ok {
		return tc, tc.readDecoder()
	}
	return tc, f.readLegacy(tc, fromJSON)
}

func (tc *tokenConfig) readDecoder() error {
	v, _ := tc.values.get("added_tokens_decoder")
	table, ok := v.(*object)
	if !ok {
		return fmt.Errorf("read %s: added_tokens_decoder: got %s, want an object", tc.path, jsonKind(v))
	}
	for key, v := range table.all() {
		id, err := strconv.Atoi(key)
		if err != nil || id < 0 || id >= maxVocab {
			return fmt.Errorf("read %s: added_tokens_decoder: got id %q, want a number from 0 to %d", tc.path, key, maxVocab-1)
		}
		o, _ := v.(*object)
		a, err := parseAddedToken(o)
		if err != nil {
			return fmt.Errorf("read %s: added_tokens_decoder: id %d: %w", tc.path, id, err)
		}
		tc.put(id, a)
	}
	return nil
}

func (tc *tokenConfig) put(id int, a addedToken) {
	tc.decoder[id] = a
	tc.contents[a.content] = a
}

// readLegacy reads the files that older transformers wrote.
func (f *tokenizerFiles) readLegacy(tc *tokenConfig, fromJSON []addedToken) error {
	specialMap, err := readOptionalObject(f.path("special_tokens_map.json"))
	if err != nil {
		return err
	}
	for key, v := range specialMap.all() {
		if o, ok := v.(*object); ok {
			o = o.clone()
			o.set("special", true)
			o.set("__type", "AddedToken")
			v = o
		}
		tc.values.set(key, v)
	}
	path := f.path("added_tokens.json")
	added, err := readOptionalObject(path)
	if err != nil {
		return err
	}
	if added.len() > 0 {
		specials, err := tc.specials()
		if err != nil {
			return err
		}
		isSpecial := map[string]bool{}
		for _, s := range specials {
			isSpecial[s.content] = true
		}
		for token, v := range added.all() {
			id, ok := v.(int64)
			if !ok || id < 0 || id >= maxVocab {
				return fmt.Errorf("read %s: token %q: got id %v, want an integer from 0 to %d", path, token, v, maxVocab-1)
			}
			tc.put(int(id), addedToken{content: token, special: isSpecial[token], normalized: !isSpecial[token]})
		}
	}
	for _, a := range fromJSON {
		tc.put(a.id, a)
	}
	return nil
}

// specials lists the special tokens without repetition (all_special_tokens_extended).
func (tc *tokenConfig) specials() ([]special, error) {
	var out []special
	seen := map[string]bool{}
	put := func(s special) {
		if s.content != "" && !seen[s.content] {
			seen[s.content] = true
			out = append(out, s)
		}
	}
	for _, name := range specialNames {
		v, ok := tc.values.get(name + "_token")
		if !ok {
			if def, ok := classDefaults[tc.class][name]; ok {
				v = def
			}
		}
		if v == nil {
			continue
		}
		s, err := tc.special(name+"_token", v)
		if err != nil {
			return nil, err
		}
		if a, ok := tc.contents[s.content]; ok {
			s = special{a, true}
		} else if !s.flagged && tc.class == "Qwen2Tokenizer" && (name == "bos" || name == "eos" || name == "unk" || name == "pad") {
			s.flagged = true // the class makes an AddedToken of the string
		}
		put(s)
	}
	more, err := tc.moreSpecials()
	for _, s := range more {
		put(s)
	}
	return out, err
}

// moreSpecials reads additional_special_tokens, then extra_special_tokens: an
// object of names and tokens, or a list as transformers 5 writes it.
func (tc *tokenConfig) moreSpecials() ([]special, error) {
	var out []special
	for _, key := range []string{"additional_special_tokens", "extra_special_tokens"} {
		v, _ := tc.values.get(key)
		var list []any
		switch v := v.(type) {
		case nil:
		case []any:
			list = v
		case *object:
			for _, item := range v.all() {
				list = append(list, item)
			}
		default:
			return nil, fmt.Errorf("read %s: %s: got %s, want an array", tc.path, key, jsonKind(v))
		}
		for _, item := range list {
			s, err := tc.special(key, item)
			if err != nil {
				return nil, err
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// special reads a special token, a string or an object with content and flags.
func (tc *tokenConfig) special(key string, v any) (special, error) {
	switch v := v.(type) {
	case string:
		return special{addedToken: addedToken{content: v, special: true}}, nil
	case *object:
		a, err := parseAddedToken(v)
		if err != nil {
			return special{}, fmt.Errorf("read %s: %s: %w", tc.path, key, err)
		}
		return special{a, true}, nil
	}
	return special{}, fmt.Errorf("read %s: %s: got %s, want a string", tc.path, key, jsonKind(v))
}
