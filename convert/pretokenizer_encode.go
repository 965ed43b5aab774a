package convert

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/dlclark/regexp2"
	"golang.org/x/text/unicode/norm"
)

// errNoDigest marks a tokenizer with a part that encodeDigestText does not
// know; its pre-tokenizer is then told by its structure alone.
var errNoDigest = errors.New("no digest")

// Bounds on the work that an expression from a file can cause.
const (
	maxExpression  = 1 << 14
	expressionTime = 2 * time.Second
)

// expressionGPT2 is what ByteLevel splits by when it uses its own expression
// (tokenizers, pre_tokenizers/byte_level.rs).
const expressionGPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// encodeText returns the tokens of a text as the tokenizers library gives them,
// without those of the post-processor. Any part of the tokenizer beyond what
// byte-level BPE models use is errNoDigest.
func (t *hfTokenizer) encodeText(text string, tokenizer *object, prefixSpace bool) ([]int, error) {
	if err := checkNormalizer(tokenizer.object("normalizer"), text); err != nil {
		return nil, err
	}
	type run struct { // words, then perhaps an added token
		words []string
		added *addedToken
	}
	var runs []run
	var all []string
	for text != "" {
		before, added := t.cutAdded(text)
		words, err := preTokenize(tokenizer.object("pre_tokenizer"), before, prefixSpace)
		if err != nil {
			return nil, err
		}
		runs, all = append(runs, run{words, added}), append(all, words...)
		text = text[len(before):]
		if added == nil {
			break
		}
		if added.singleWord || added.lstrip || added.rstrip {
			return nil, errNoDigest
		}
		text = text[len(added.content):]
	}
	bpe, err := t.newEncoder(tokenizer, all)
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, r := range runs {
		for _, w := range r.words {
			if ids, err = bpe.append(ids, w); err != nil {
				return nil, err
			}
		}
		if r.added != nil {
			ids = append(ids, r.added.id)
		}
	}
	return ids, nil
}

// checkNormalizer accepts normalizers that leave text alone.
func checkNormalizer(o *object, text string) error {
	var err error
	flatten(o, "normalizers", func(o *object) {
		forms := map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}
		typ, _ := o.string("type")
		if form, ok := forms[typ]; !ok || !form.IsNormalString(text) {
			err = errNoDigest
		}
	})
	return err
}

// cutAdded returns the text before the first added token, and the longest
// added token there; nil when there is none.
func (t *hfTokenizer) cutAdded(text string) (string, *addedToken) {
	first, best := len(text), -1
	for i, a := range t.added {
		at := strings.Index(text, a.content)
		if at < 0 || at > first || at == first && (best < 0 || len(a.content) <= len(t.added[best].content)) {
			continue
		}
		first, best = at, i
	}
	if best < 0 {
		return text, nil
	}
	return text[:first], &t.added[best]
}

// preTokenize runs the stages of a pre-tokenizer over text.
func preTokenize(o *object, text string, prefixSpace bool) ([]string, error) {
	words := []string{text}
	if text == "" {
		return nil, nil
	}
	if o == nil {
		return nil, errNoDigest
	}
	alone, _ := o.string("type")
	var err error
	flatten(o, "pretokenizers", func(o *object) {
		if err != nil {
			return
		}
		space := boolean(o, "add_prefix_space", true)
		if alone == "ByteLevel" {
			space = prefixSpace // transformers sets it from the tokenizer's configuration
		}
		words, err = preTokenizeStage(o, words, space)
	})
	return words, err
}

func preTokenizeStage(o *object, words []string, prefixSpace bool) ([]string, error) {
	var split func(string) ([]string, error)
	switch typ, _ := o.string("type"); typ {
	case "Split":
		f, err := splitter(o)
		if err != nil {
			return nil, err
		}
		split = f
	case "ByteLevel":
		f, err := byteSplitter(boolean(o, "use_regex", true), prefixSpace)
		if err != nil {
			return nil, err
		}
		split = f
	case "Digits":
		alone := boolean(o, "individual_digits", false)
		split = func(s string) ([]string, error) { return isolateRunes(s, unicode.IsNumber, alone), nil }
	case "Punctuation":
		behavior, _ := o.string("behavior")
		if behavior != "Isolated" && behavior != "Contiguous" {
			return nil, errNoDigest
		}
		split = func(s string) ([]string, error) { return isolateRunes(s, isPunctuation, behavior == "Isolated"), nil }
	default:
		return nil, errNoDigest
	}
	var out []string
	for _, w := range words {
		parts, err := split(w)
		if err != nil {
			return nil, err
		}
		out = append(out, parts...)
	}
	return out, nil
}

// isPunctuation is the library's is_punc: ASCII punctuation with its symbols,
// and Unicode punctuation.
func isPunctuation(r rune) bool {
	return r < 0x80 && (unicode.IsPunct(r) || unicode.IsSymbol(r)) || r >= 0x80 && unicode.IsPunct(r)
}

// isolateRunes cuts s around the runes that f accepts, one by one or in runs.
func isolateRunes(s string, f func(rune) bool, alone bool) []string {
	var out []string
	start, was := 0, false
	for i, r := range s {
		is := f(r)
		if i > start && (is != was || is && alone) {
			out = append(out, s[start:i])
			start = i
		}
		was = is
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

// splitter returns the function of a Split stage whose matches and gaps both
// stay, or whose matches alone stay.
func splitter(o *object) (func(string) ([]string, error), error) {
	expr, ok := o.object("pattern").string("Regex")
	behavior, _ := o.string("behavior")
	invert := boolean(o, "invert", false)
	if !ok || !(behavior == "Isolated" && !invert || behavior == "Removed" && invert) {
		return nil, errNoDigest
	}
	re, err := compileExpression(expr)
	if err != nil {
		return nil, err
	}
	return func(s string) ([]string, error) { return cutMatches(re, s, behavior == "Isolated") }, nil
}

func compileExpression(expr string) (*regexp2.Regexp, error) {
	if len(expr) > maxExpression {
		return nil, errNoDigest
	}
	re, err := regexp2.Compile(expr, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoDigest, err)
	}
	re.MatchTimeout = expressionTime
	return re, nil
}

// cutMatches cuts s into the matches of re and, if wanted, what lies between.
func cutMatches(re *regexp2.Regexp, s string, gaps bool) ([]string, error) {
	runes := []rune(s)
	var out []string
	last := 0
	m, err := re.FindRunesMatch(runes)
	for ; m != nil && err == nil; m, err = re.FindNextMatch(m) {
		if gaps && m.Index > last {
			out = append(out, string(runes[last:m.Index]))
		}
		if m.Length > 0 {
			out = append(out, m.String())
		}
		last = m.Index + m.Length
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoDigest, err)
	}
	if gaps && last < len(runes) {
		out = append(out, string(runes[last:]))
	}
	return out, nil
}

// byteSplitter returns the function of a ByteLevel stage: words by GPT-2's
// expression if wanted, spelled in byte symbols.
func byteSplitter(useRegex, prefixSpace bool) (func(string) ([]string, error), error) {
	re, err := compileExpression(expressionGPT2)
	if err != nil {
		return nil, err
	}
	return func(s string) ([]string, error) {
		if prefixSpace && !strings.HasPrefix(s, " ") {
			s = " " + s
		}
		words := []string{s}
		if useRegex {
			var err error
			if words, err = cutMatches(re, s, true); err != nil {
				return nil, err
			}
		}
		for i, w := range words {
			words[i] = byteSymbols(w)
		}
		return words, nil
	}, nil
}

// byteSymbols spells the bytes of s in the alphabet that symbolByte inverts.
func byteSymbols(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := rune(s[i]); {
		case c <= 0x20:
			b.WriteRune(c + 0x100)
		case c >= 0x7f && c <= 0xa0:
			b.WriteRune(c - 0x7f + 0x121)
		case c == 0xad:
			b.WriteRune(0x143)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
