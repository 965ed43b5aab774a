package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Pattern gives modules a value of their own. Key is a regular expression for the
// end of a module's path: (.*\.)?(KEY)$ as PEFT matches it (get_pattern_key).
type Pattern struct {
	Key   string
	Value float64

	re *regexp.Regexp
}

// readPatterns reads an object in the order of its keys.
func readPatterns(raw json.RawMessage) ([]Pattern, error) {
	if raw == nil || isEmpty(raw) {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("got %s, want an object", short(raw))
	}
	var list []Pattern
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		p := Pattern{Key: key.(string)}
		if err := d.Decode(&p.Value); err != nil {
			return nil, fmt.Errorf("%q: %w", p.Key, err)
		}
		if p.re, err = regexp.Compile(`^(?:.*\.)?(?:` + p.Key + `)$`); err != nil {
			return nil, fmt.Errorf("%q: unsupported regular expression: %w", p.Key, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// value gives the first match's value, or def.
func value(list []Pattern, module string, def float64) float64 {
	for _, p := range list {
		if p.re.MatchString(module) {
			return p.Value
		}
	}
	return def
}

// Matcher chooses modules: by a regular expression for the whole path, by the ends
// of paths, or all linear ones.
type Matcher struct {
	names     []string
	re        *regexp.Regexp
	opaque    string // a Python regular expression that Go cannot read
	allLinear bool
}

// readMatcher reads target_modules or exclude_modules.
func readMatcher(raw json.RawMessage) (Matcher, error) {
	var m Matcher
	if raw == nil || isEmpty(raw) {
		return m, nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		err = json.Unmarshal(raw, &m.names)
		return m, err
	}
	if s == "all-linear" {
		m.allLinear = true
		return m, nil
	}
	var err error
	if m.re, err = regexp.Compile("^(?:" + s + ")$"); err != nil {
		m.opaque = s
	}
	return m, nil
}

func (m *Matcher) isSet() bool {
	return len(m.names) > 0 || m.re != nil || m.opaque != "" || m.allLinear
}

// match tells whether the module is chosen; linear says whether all-linear means it.
func (m *Matcher) match(module string, linear bool) bool {
	switch {
	case m.allLinear:
		return linear
	case m.re != nil:
		return m.re.MatchString(module)
	}
	return slices.ContainsFunc(m.names, func(name string) bool { return isModule(module, name) })
}

// isModule tells whether name is the module or the end of its path.
func isModule(module, name string) bool {
	return module == name || strings.HasSuffix(module, "."+name)
}

// readTokens reads trainable_token_indices: a list for the input embedding, or an
// object of lists by module.
func readTokens(raw json.RawMessage) (map[string][]int64, error) {
	if raw == nil || isEmpty(raw) {
		return nil, nil
	}
	var list []int64
	if err := json.Unmarshal(raw, &list); err == nil {
		return map[string][]int64{"embed_tokens": list}, nil
	}
	var by map[string][]int64
	if err := json.Unmarshal(raw, &by); err != nil {
		return nil, errors.New("want a list of token ids, or an object of such lists")
	}
	return by, nil
}

// readList reads null, one value or a list of them.
func readList[T any](raw json.RawMessage) ([]T, error) {
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	var one T
	if err := json.Unmarshal(raw, &one); err == nil {
		return []T{one}, nil
	}
	var list []T
	err := json.Unmarshal(raw, &list)
	return list, err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
