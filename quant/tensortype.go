package quant

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// TensorTypeRule gives a type to the tensors whose name contains a match of a
// regular expression.
type TensorTypeRule struct {
	// Pattern is in ECMAScript syntax and not anchored. Unlike ParseTensorTypeRule,
	// which lower-cases it as llama-quantize does, the library takes it as it is.
	Pattern string
	Type    gguf.Type
}

// ParseTensorTypeRule reads PATTERN=TYPE, as the flag --tensor-type of
// llama-quantize: the pattern ends at the first "=" and is lower-cased (which
// turns \D into \d), the type is a ggml name in any case.
func ParseTensorTypeRule(s string) (TensorTypeRule, error) {
	pattern, typ, ok := strings.Cut(s, "=")
	if !ok || pattern == "" || typ == "" {
		return TensorTypeRule{}, fmt.Errorf("tensor type: got %q, want PATTERN=TYPE", s)
	}
	t, err := gguf.ParseType(typ)
	if err != nil {
		return TensorTypeRule{}, fmt.Errorf("tensor type %q: %w", s, err)
	}
	r := TensorTypeRule{Pattern: lowerASCII(pattern), Type: t}
	if _, err := compilePattern(r.Pattern); err != nil {
		return TensorTypeRule{}, fmt.Errorf("tensor type %q: %w", s, err)
	}
	return r, nil
}

// maxRulesFile bounds what ReadTensorTypeRules reads.
const maxRulesFile = 16 << 20

// ReadTensorTypeRules reads a file of PATTERN=TYPE separated by white space, as
// the flag --tensor-type-file of llama-quantize.
func ReadTensorTypeRules(path string) ([]TensorTypeRule, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read tensor types: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRulesFile+1))
	if err != nil {
		return nil, fmt.Errorf("read tensor types: %w", err)
	}
	if len(text) > maxRulesFile {
		return nil, fmt.Errorf("read tensor types %s: got more than %d bytes", path, maxRulesFile)
	}
	var rules []TensorTypeRule
	for _, field := range strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }) {
		r, err := ParseTensorTypeRule(field)
		if err != nil {
			return nil, fmt.Errorf("read tensor types %s: %w", path, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// lowerASCII is tolower of the C locale: other bytes stay.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// typeRules are compiled rules; the first that matches counts.
type typeRules []compiledRule

type compiledRule struct {
	re *regexp.Regexp
	to gguf.Type
}

func compileRules(rules []TensorTypeRule) (typeRules, error) {
	var out typeRules
	for _, r := range rules {
		re, err := compilePattern(r.Pattern)
		if err != nil {
			return nil, err
		}
		if !r.Type.Valid() {
			return nil, fmt.Errorf("pattern %q: type: got %d, want a ggml type", r.Pattern, uint32(r.Type))
		}
		out = append(out, compiledRule{re, r.Type})
	}
	return out, nil
}

func (rs typeRules) find(name string) (gguf.Type, bool) {
	for _, r := range rs {
		if matches(r.re, name) {
			return r.to, true
		}
	}
	return 0, false
}
