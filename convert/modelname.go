package convert

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// nameParts are what the reference reads out of a model id such as
// "Qwen/Qwen3-4B-Instruct-2507"; an empty pointer is Python's None.
type nameParts struct {
	name, organization, basename, finetune, version, sizeLabel *string
}

var (
	reVersion = regexp.MustCompile(`(?i)^(?:(?:v|iter)?\p{Nd}+(?:[.]\p{Nd}+)*)$`)
	reType    = regexp.MustCompile(`(?i)^(?:i?q\p{Nd}(?:_[\p{L}\p{N}_])*|b?fp?(?:16|32))$`)
	reSize    = regexp.MustCompile(`(?i)^(?:(?:(?:[A]|\p{Nd}+[x])?\p{Nd}+(?:[._]\p{Nd}+)?[KMBT][\p{Nd}]?|small|mini|medium|large|x?xl))$`)
	reTuned   = regexp.MustCompile(`(?i)^(?:chat|instruct|vision|lora)$`)
	reNumber  = regexp.MustCompile(`^(?:v\p{Nd}+(?:\.\p{Nd}+)*|\p{Nd}.*)$`)
)

// namePart is one dash-separated piece of a name and what it may be.
type namePart struct {
	text                                    string
	basename, size, finetune, version, kind bool
}

func (p *namePart) unmarked() bool {
	return !p.basename && !p.size && !p.finetune && !p.version && !p.kind
}

func (p *namePart) marks() int {
	n := 0
	for _, m := range []bool{p.basename, p.size, p.finetune, p.version, p.kind} {
		if m {
			n++
		}
	}
	return n
}

// parseModelID takes a model id apart (gguf-py/gguf/metadata.py,
// get_model_id_components). params is the number of weights, 0 when unknown;
// it decides whether "4B" is a size or something else.
func parseModelID(id string, params int64) nameParts {
	if strings.Contains(id, " ") {
		return nameParts{name: &id} // a sentence, not an id
	}
	var np nameParts
	full := id
	if org, rest, ok := strings.Cut(id, "/"); ok {
		full = rest
		if !strings.HasPrefix(org, ".") {
			np.organization = &org
		}
	}
	np.name = &full
	var parts []namePart
	for _, text := range strings.Split(full, "-") {
		if text != "" {
			parts = append(parts, namePart{text: text})
		}
	}
	for i := range parts {
		parts[i].annotate(i == 0, params)
	}
	dropWordSizes(parts)
	markBasename(parts)
	np.basename = join(parts, func(p *namePart) bool { return p.basename }, false)
	np.sizeLabel = join(parts, func(p *namePart) bool { return p.size }, true)
	np.finetune = join(parts, func(p *namePart) bool { return p.finetune }, false)
	np.version = join(parts, func(p *namePart) bool { return p.version && !p.basename }, false)
	if np.sizeLabel == nil && np.finetune == nil && np.version == nil {
		np.basename = nil // too ambiguous
	}
	return np
}

// annotate recognises a part by its form alone.
func (p *namePart) annotate(first bool, params int64) {
	switch {
	case reVersion.MatchString(p.text):
		p.version = true
	case reType.MatchString(p.text):
		p.kind = true
		p.text = strings.ToUpper(p.text)
	case !first && reSize.MatchString(p.text):
		p.annotateSize(params)
	case !first && reTuned.MatchString(p.text):
		p.finetune = true
	}
}

// annotateSize normalises a size such as "7b1" (7.1B) and takes it for a
// fine-tune word when it is far from the real number of weights.
func (p *namePart) annotateSize(params int64) {
	r := []rune(strings.ReplaceAll(p.text, "_", "."))
	if n := len(r); isDecimal(r[n-1]) {
		r = append(r[:n-2:n-2], '.', r[n-1], r[n-2])
	}
	last := len(r) - 1
	if last > 0 && isDecimal(r[last-1]) && strings.ContainsRune("kmbt", r[last]) {
		r[last] = unicode.ToUpper(r[last])
	}
	if params != 0 {
		if n, err := strconv.ParseFloat(string(r[:last]), 64); err == nil {
			n *= math.Pow(1000, float64(strings.IndexRune(" KMBT", r[last])))
			if math.Abs(n-float64(params)) > float64(7*params/8) {
				p.finetune = true
				r[last] = unicode.ToLower(r[last])
			}
		}
	}
	p.size = !p.finetune
	p.text = string(r)
}

// dropWordSizes ignores sizes such as "small" beside one with a number.
func dropWordSizes(parts []namePart) {
	number := slices.ContainsFunc(parts, func(p namePart) bool {
		return p.size && strings.ContainsFunc(p.text, isDecimal)
	})
	if !number {
		return
	}
	for i := range parts {
		notLetter := func(r rune) bool { return !unicode.IsLetter(r) }
		if parts[i].size && !strings.ContainsFunc(parts[i].text, notLetter) {
			parts[i].size = false
		}
	}
}

// markBasename finds the leading parts that make the base name; what is left
// over is a fine-tune word.
func markBasename(parts []namePart) {
	atStart := true
	for i := range parts {
		p := &parts[i]
		first, _ := decodeRune(p.text)
		if atStart && (p.unmarked() && unicode.IsLetter(first) || p.version) {
			p.basename = true
			continue
		}
		atStart = false
		if p.unmarked() {
			p.finetune = true
		}
	}
	for i := len(parts) - 1; i >= 0; i-- {
		if !parts[i].basename || parts[i].marks() < 2 {
			break
		}
		parts[i].basename = false // a trailing version is no part of it
	}
}

// join connects the chosen parts by dashes; nil when there is none.
func join(parts []namePart, choose func(*namePart) bool, unique bool) *string {
	var words []string
	for i := range parts {
		if choose(&parts[i]) && !(unique && slices.Contains(words, parts[i].text)) {
			words = append(words, parts[i].text)
		}
	}
	if len(words) == 0 {
		return nil
	}
	s := strings.Join(words, "-")
	return &s
}

// idToTitle turns an id into a display name: dashes to spaces, lower-case
// words capitalised unless they are versions.
func idToTitle(s string) string {
	words := pyFields(strings.ReplaceAll(pyStrip(s), "-", " "))
	for i, w := range words {
		if isPyLower(w) && !reNumber.MatchString(w) {
			words[i] = pyTitle(w)
		}
	}
	return strings.Join(words, " ")
}

// paramCounts are the numbers of weights that the size label is made of.
type paramCounts struct {
	total, shared, expert, experts int64
}

// sizeLabel words the size as the reference does: "4.0B", "128x2.1B".
func (n paramCounts) sizeLabel() string {
	if n.experts > 0 {
		return strconv.FormatInt(n.experts, 10) + "x" + roundedCount(n.shared+n.expert)
	}
	return roundedCount(n.total)
}

// roundedCount writes a number of weights with at least two digits.
func roundedCount(n int64) string {
	scaled, suffix := float64(n)*1e-3, "K"
	switch f := float64(n); {
	case f > 1e12:
		scaled, suffix = f*1e-12, "T"
	case f > 1e9:
		scaled, suffix = f*1e-9, "B"
	case f > 1e6:
		scaled, suffix = f*1e-6, "M"
	}
	digits := len(strings.TrimLeft(strconv.FormatFloat(math.RoundToEven(scaled), 'f', 0, 64), "0"))
	return strconv.FormatFloat(scaled, 'f', max(2-digits, 0), 64) + suffix
}

// defaultName is the reference's file name for a model, without ".gguf"
// (gguf-py/gguf/utility.py, naming_convention).
func defaultName(m *metadata, outType string) string {
	dashed := func(s string) string { return strings.ReplaceAll(pyStrip(s), " ", "-") }
	text := func(field string) (string, bool) { s, ok := m.vals[field].(string); return s, ok }
	name := "ggml-model"
	if s, ok := text("basename"); ok {
		name = strings.ReplaceAll(dashed(s), "/", "-")
	} else if s, ok := text("name"); ok {
		name = strings.ReplaceAll(dashed(s), "/", "-")
	}
	if s, ok := text("size_label"); ok {
		name += "-" + s
	}
	for _, field := range []string{"finetune", "version"} {
		if s, ok := text(field); ok {
			name += "-" + dashed(s)
		}
	}
	return name + "-" + strings.ToUpper(outType)
}
