package convert

import (
	"strings"
	"unicode/utf8"
)

// maxWord bounds the symbols of one word; digestText has fewer in all.
const maxWord = 4096

// bpeEncoder applies the merges of a BPE model.
type bpeEncoder struct {
	ids          map[string]int
	ranks        map[[2]string]int
	ignoreMerges bool // words of the vocabulary are taken whole
}

// newEncoder reads those merges of tokenizer.json that words may need: of parts of them.
func (t *hfTokenizer) newEncoder(tokenizer *object, words []string) (*bpeEncoder, error) {
	m := tokenizer.object("model")
	for _, key := range []string{"continuing_subword_prefix", "end_of_word_suffix"} {
		if s, _ := m.string(key); s != "" {
			return nil, errNoDigest
		}
	}
	if v, _ := m.get("dropout"); v != nil {
		return nil, errNoDigest
	}
	v, _ := m.get("merges")
	list, _ := v.([]any)
	e := &bpeEncoder{ids: t.ids, ranks: map[[2]string]int{}, ignoreMerges: ignoresMerges(tokenizer)}
	parts := partsOf(words)
	for i, item := range list {
		var pair [2]string
		switch x := item.(type) {
		case string:
			a, b, ok := strings.Cut(x, " ")
			if !ok {
				return nil, errNoDigest
			}
			pair = [2]string{a, b}
		case []any:
			if len(x) != 2 {
				return nil, errNoDigest
			}
			a, ok1 := x[0].(string)
			b, ok2 := x[1].(string)
			if !ok1 || !ok2 {
				return nil, errNoDigest
			}
			pair = [2]string{a, b}
		}
		if parts != nil && (!parts[pair[0]] || !parts[pair[1]]) {
			continue
		}
		e.ranks[pair] = i // a pair that stands twice takes its last place, as in the library's map
	}
	return e, nil
}

// partsOf is the set of what stands in words, whole characters; nil, which is everything, if a word has very many.
func partsOf(words []string) map[string]bool {
	parts := map[string]bool{}
	for _, w := range words {
		if len(w) > 256 {
			return nil
		}
		for i := range w {
			for j, r := range w[i:] {
				parts[w[i:i+j+utf8.RuneLen(r)]] = true
			}
		}
	}
	return parts
}

// append appends the tokens of one word: the pair with the lowest rank is
// merged, the leftmost first, until none is left.
func (e *bpeEncoder) append(ids []int, word string) ([]int, error) {
	if id, ok := e.ids[word]; ok && e.ignoreMerges {
		return append(ids, id), nil
	}
	symbols := strings.Split(word, "")
	if len(symbols) > maxWord {
		return nil, errNoDigest
	}
	for len(symbols) > 1 {
		best, rank := -1, 0
		for i := 1; i < len(symbols); i++ {
			if r, ok := e.ranks[[2]string{symbols[i-1], symbols[i]}]; ok && (best < 0 || r < rank) {
				best, rank = i, r
			}
		}
		if best < 0 {
			break
		}
		symbols[best-1] += symbols[best]
		symbols = append(symbols[:best], symbols[best+1:]...)
	}
	for _, s := range symbols {
		id, ok := e.ids[s]
		if !ok {
			return nil, errNoDigest // unknown tokens and byte fallback
		}
		ids = append(ids, id)
	}
	return ids, nil
}
