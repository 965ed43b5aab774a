package convert

import (
	"fmt"
	"math"
	"sort"
	"strings"
)

// addedToken is a token beside the model's own vocabulary, with the flags of
// the tokenizers library.
type addedToken struct {
	content                                         string
	id                                              int
	singleWord, lstrip, rstrip, normalized, special bool
}

// hfTokenizer is a tokenizer.json with a BPE model as transformers 4.57.6 loads
// it with AutoTokenizer: the tokens that tokenizer_config.json and the
// tokenizer class add are in it.
type hfTokenizer struct {
	path     string
	base     int            // number of entries of model.vocab
	ids      map[string]int // every token
	tokens   map[int]string // the reverse
	added    []addedToken   // in the order of their ids
	specials []string       // all_special_tokens: bos, eos, unk, sep, pad, cls, mask, additional
	cleanUp  bool           // clean_up_tokenization_spaces
	decoder  *object        // may be nil
}

// loadTokenizer reads the tokenizer as the reference's AutoTokenizer would.
func (f *tokenizerFiles) loadTokenizer(modelType string) (*hfTokenizer, error) {
	path := f.path("tokenizer.json")
	if f.tokenizer == nil {
		return nil, fmt.Errorf("read %s: %w: a model folder needs tokenizer.json (or tokenizer.model); "+
			"save the tokenizer with save_pretrained of its fast form", path, errNoFile)
	}
	model := f.tokenizer.object("model")
	if typ, _ := model.string("type"); typ != "BPE" {
		return nil, fmt.Errorf("read %s: model.type: unsupported: got %q, want BPE", path, typ)
	}
	t := &hfTokenizer{path: path, decoder: f.tokenizer.object("decoder")}
	if err := t.readVocab(model); err != nil {
		return nil, err
	}
	list, err := readAddedTokens(f.tokenizer, path)
	if err != nil {
		return nil, err
	}
	b := &tokenAdder{t: t, at: map[string]int{}}
	for _, a := range list {
		if err := b.add(a); err != nil {
			return nil, err
		}
	}
	if err := f.addConfigured(b, modelType, list); err != nil {
		return nil, err
	}
	t.added = b.sorted()
	t.cleanUp, err = optionalBool(f.config, "clean_up_tokenization_spaces", f.path("tokenizer_config.json"))
	return t, err
}

// readVocab reads model.vocab.
func (t *hfTokenizer) readVocab(model *object) error {
	vocab := model.object("vocab")
	if vocab.len() == 0 {
		return fmt.Errorf("read %s: model.vocab: missing or empty, want an object of tokens", t.path)
	}
	if vocab.len() > maxVocab {
		return fmt.Errorf("read %s: model.vocab: got %d tokens, want at most %d", t.path, vocab.len(), maxVocab)
	}
	t.base = vocab.len()
	t.ids, t.tokens = make(map[string]int, t.base), make(map[int]string, t.base)
	for token, v := range vocab.all() {
		id, ok := v.(int64)
		if !ok || id < 0 || id >= maxVocab {
			return fmt.Errorf("read %s: model.vocab: token %q: got id %v, want an integer from 0 to %d", t.path, token, v, maxVocab-1)
		}
		t.ids[token] = int(id)
		t.tokens[int(id)] = token
		if len(t.tokens) < len(t.ids) {
			return t.twice(vocab, id)
		}
	}
	return nil
}

// twice is the error of an id that two tokens have.
func (t *hfTokenizer) twice(vocab *object, id int64) error {
	var both []string
	for token, v := range vocab.all() {
		if v == id {
			both = append(both, token)
		}
	}
	return fmt.Errorf("read %s: model.vocab: id %d stands twice: got %q and %q", t.path, id, both[0], both[1])
}

// readAddedTokens reads added_tokens of tokenizer.json.
func readAddedTokens(tokenizer *object, path string) ([]addedToken, error) {
	v, ok := tokenizer.get("added_tokens")
	if !ok || v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("read %s: added_tokens: got %s, want an array", path, jsonKind(v))
	}
	var out []addedToken
	for i, item := range list {
		o, _ := item.(*object)
		a, err := parseAddedToken(o)
		if err == nil {
			a.id, err = tokenID(o)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: added_tokens[%d]: %w", path, i, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func tokenID(o *object) (int, error) {
	v, _ := o.get("id")
	id, ok := v.(int64)
	if !ok || id < 0 || id >= maxVocab {
		return 0, fmt.Errorf("id: got %v, want an integer from 0 to %d", v, maxVocab-1)
	}
	return int(id), nil
}

// parseAddedToken reads content and flags. Without "normalized" a token is
// normalized unless it is special (AddedToken of the tokenizers library).
func parseAddedToken(o *object) (addedToken, error) {
	content, ok := o.string("content")
	if !ok {
		return addedToken{}, fmt.Errorf("content: missing, want a string")
	}
	a := addedToken{content: content}
	for _, f := range []struct {
		key string
		dst *bool
	}{{"single_word", &a.singleWord}, {"lstrip", &a.lstrip}, {"rstrip", &a.rstrip}, {"special", &a.special}, {"normalized", &a.normalized}} {
		v, ok := o.get(f.key)
		if !ok {
			if f.key == "normalized" {
				a.normalized = !a.special
			}
			continue
		}
		b, ok := v.(bool)
		if !ok {
			return a, fmt.Errorf("token %q: %s: got %s, want a boolean", content, f.key, jsonKind(v))
		}
		*f.dst = b
	}
	return a, nil
}

// tokenAdder adds tokens by the tokenizers library's rules
// (AddedVocabulary::add_tokens): a known content keeps its id and takes the new
// flags, a new one gets the next id after the vocabulary and the added tokens.
// An id in the file plays no part.
type tokenAdder struct {
	t    *hfTokenizer
	list []addedToken
	at   map[string]int // content → position in list
	max  int            // highest id among the added tokens
}

func (b *tokenAdder) add(a addedToken) error {
	if a.content == "" {
		return nil
	}
	if i, ok := b.at[a.content]; ok {
		a.id = b.list[i].id
		b.list[i] = a
		return nil
	}
	id, ok := b.t.ids[a.content]
	if !ok {
		id = b.t.base
		if len(b.list) > 0 && b.max >= b.t.base {
			id = b.max + 1
		}
		if other, taken := b.t.tokens[id]; taken {
			return fmt.Errorf("read %s: added token %q: its id %d belongs to %q: model.vocab has holes", b.t.path, a.content, id, other)
		}
		b.t.ids[a.content] = id
		b.t.tokens[id] = a.content
	}
	a.id = id
	b.max = max(b.max, id)
	b.at[a.content] = len(b.list)
	b.list = append(b.list, a)
	return nil
}

func (b *tokenAdder) sorted() []addedToken {
	sort.SliceStable(b.list, func(i, j int) bool { return b.list[i].id < b.list[j].id })
	return b.list
}

// decodeAlone returns what transformers' decode gives for the one id of an
// added token.
func (t *hfTokenizer) decodeAlone(token string) (string, error) {
	out, err := decodePieces(t.decoder, []string{token})
	if err != nil {
		return "", fmt.Errorf("read %s: decoder: %w", t.path, err)
	}
	text := strings.Join(out, "")
	if t.cleanUp {
		text = cleanUpSpaces(text)
	}
	return text, nil
}

// cleanUpSpaces is clean_up_tokenization of transformers.
func cleanUpSpaces(s string) string {
	for _, r := range [][2]string{{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"},
		{" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}} {
		s = strings.ReplaceAll(s, r[0], r[1])
	}
	return s
}

// optionalBool reads a boolean; absent and null give false.
func optionalBool(o *object, key, path string) (bool, error) {
	v, _ := o.get(key)
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	default:
		return false, fmt.Errorf("read %s: %s: got %s, want a boolean", path, key, jsonKind(v))
	}
}

// asTokenID turns a parsed JSON integer into a token id for the file.
func asTokenID(v any) (id uint32, ok bool, err error) {
	switch v := v.(type) {
	case int64:
		if v < 0 || v > math.MaxUint32 {
			return 0, false, fmt.Errorf("got id %d, want 0 to %d", v, uint32(math.MaxUint32))
		}
		return uint32(v), true, nil
	}
	return 0, false, nil
}
