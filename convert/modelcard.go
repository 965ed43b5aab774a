package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	maxCardSize  = 16 << 20
	maxCardDepth = 32
	maxCardNodes = 100_000 // counted where aliases lead
)

// readCardText reads a small UTF-8 text file with Python's universal newlines; a
// missing file is the empty string.
func readCardText(path string) (string, error) {
	data, err := readLimited(path, maxCardSize)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !utf8.Valid(data) {
		return "", fmt.Errorf("read %s: not valid UTF-8", path)
	}
	s := strings.ReplaceAll(string(data), "\r\n", "\n")
	return strings.ReplaceAll(s, "\r", "\n"), nil
}

// parseModelCard reads the YAML front matter of a README.md. A card without
// one, or whose front matter is no mapping, gives an empty object.
func parseModelCard(path, text string) (*object, error) {
	lines := pySplitLines(text)
	if len(lines) == 0 || lines[0] != "---" {
		return newObject(), nil
	}
	var b strings.Builder
	for _, line := range lines[1:] {
		if line == "---" {
			break
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	// Two repairs that the reference makes: the language code of Norwegian is
	// not the boolean, and tabs are no indentation.
	front := strings.ReplaceAll(b.String(), "- no\n", "- \"no\"\n")
	front = strings.ReplaceAll(front, "\t", "  ")

	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(front), &doc); err != nil {
		return nil, fmt.Errorf("parse %s: front matter: %w", path, err)
	}
	budget := maxCardNodes
	v, err := yamlValue(&doc, 0, &budget)
	if err != nil {
		return nil, fmt.Errorf("parse %s: front matter: %w", path, err)
	}
	if o, ok := v.(*object); ok {
		return o, nil
	}
	return newObject(), nil
}

// yamlValue converts a node to the values of json.go, with plain scalars
// resolved by the rules of YAML 1.1, which the reference's parser follows.
// budget is the number of nodes it may still visit.
func yamlValue(n *yaml.Node, depth int, budget *int) (any, error) {
	if depth > maxCardDepth {
		return nil, fmt.Errorf("line %d: nested deeper than %d levels", n.Line, maxCardDepth)
	}
	if *budget--; *budget < 0 {
		return nil, fmt.Errorf("line %d: more than %d nodes", n.Line, maxCardNodes)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return yamlValue(n.Content[0], depth+1, budget)
	case yaml.AliasNode:
		return yamlValue(n.Alias, depth+1, budget)
	case yaml.SequenceNode:
		list := []any{}
		for _, e := range n.Content {
			v, err := yamlValue(e, depth+1, budget)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		o := newObject()
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if k.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("line %d: a key that is no scalar", k.Line)
			}
			if k.Value == "<<" {
				return nil, fmt.Errorf("line %d: merge keys are not supported", k.Line)
			}
			val, err := yamlValue(v, depth+1, budget)
			if err != nil {
				return nil, err
			}
			o.set(k.Value, val)
		}
		return o, nil
	case yaml.ScalarNode:
		return yamlScalar(n), nil
	}
	return nil, nil // an empty document
}

// YAML 1.1's plain scalars that are no strings, as PyYAML resolves them.
var (
	yamlBool  = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	yamlTrue  = regexp.MustCompile(`^(?i:yes|true|on)$`)
	yamlNull  = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	yamlInt   = regexp.MustCompile(`^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	yamlFloat = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	yamlDate  = regexp.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$`)
	zeroOnly  = regexp.MustCompile(`^[-+]?(?:0[bx])?[0_:.]*(?:[eE].*)?$`)
)

// yamlScalar resolves a scalar. Of numbers only the kind and whether they are
// zero matter: none is ever written.
func yamlScalar(n *yaml.Node) any {
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if quoted || n.Style&yaml.TaggedStyle != 0 && n.Tag == "!!str" {
		return n.Value
	}
	switch s := n.Value; {
	case yamlNull.MatchString(s):
		return nil
	case yamlBool.MatchString(s):
		return yamlTrue.MatchString(s)
	case yamlInt.MatchString(s):
		if zeroOnly.MatchString(s) {
			return int64(0)
		}
		return int64(1)
	case yamlFloat.MatchString(s), yamlDate.MatchString(s):
		if yamlFloat.MatchString(s) && zeroOnly.MatchString(s) {
			return 0.0
		}
		return math.NaN()
	}
	return n.Value
}
