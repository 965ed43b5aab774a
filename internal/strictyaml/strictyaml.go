// Package strictyaml reads configuration in YAML without forgiving anything: an unknown key, a key given twice and a
// value of another type are errors that name the line.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// Decode fills the struct that dest points to with the one YAML document in data. Unlike yaml's own
// decoder it refuses unknown keys, keys given twice, null, and a scalar of another type than the field's.
// lines gets the line of every key and element: "user.name", "cast[1].aliases[0]".
func Decode(data []byte, dest any, lines map[string]int) error {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("got nothing, want a YAML document")
		}
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return fmt.Errorf("line %d: got a second document, want one", max(second.Line, 1))
	}
	return decodeNode(document.Content[0], reflect.ValueOf(dest).Elem(), "", lines)
}

func decodeNode(n *yaml.Node, v reflect.Value, path string, lines map[string]int) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return nodeError(n, path, "got an anchor or an alias, want the value itself")
	}
	lines[path] = n.Line
	switch v.Kind() {
	case reflect.Struct:
		return decodeMapping(n, path, lines, func(key *yaml.Node) (reflect.Value, error) { return field(v, key, path) })
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		return decodeMap(n, v, path, lines)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return nodeError(n, path, "got %s, want a list", kindName(n))
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, element := range n.Content {
			if err := decodeNode(element, v.Index(i), fmt.Sprintf("%s[%d]", path, i), lines); err != nil {
				return err
			}
		}
		return nil
	}
	return decodeScalar(n, v, path)
}

// decodeMapping decodes each value of a mapping to where place says.
func decodeMapping(n *yaml.Node, path string, lines map[string]int, place func(key *yaml.Node) (reflect.Value, error)) error {
	if n.Kind != yaml.MappingNode {
		return nodeError(n, path, "got %s, want keys with values", kindName(n))
	}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if first, ok := seen[key.Value]; ok {
			return nodeError(key, Join(path, key.Value), "got the key again, want it once: it is on line %d too", first)
		}
		seen[key.Value] = key.Line
		v, err := place(key)
		if err != nil {
			return err
		}
		if err := decodeNode(n.Content[i+1], v, Join(path, key.Value), lines); err != nil {
			return err
		}
	}
	return nil
}

func decodeMap(n *yaml.Node, v reflect.Value, path string, lines map[string]int) error {
	var keys []reflect.Value
	var values []reflect.Value
	err := decodeMapping(n, path, lines, func(key *yaml.Node) (reflect.Value, error) {
		keys = append(keys, reflect.ValueOf(key.Value))
		values = append(values, reflect.New(v.Type().Elem()).Elem())
		return values[len(values)-1], nil
	})
	for i := range keys {
		v.SetMapIndex(keys[i], values[i])
	}
	return err
}

// field gives the field of the struct v that a key names.
func field(v reflect.Value, key *yaml.Node, path string) (reflect.Value, error) {
	var names []string
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if name == "" {
			continue
		}
		if name == key.Value {
			return v.Field(i), nil
		}
		names = append(names, name)
	}
	return reflect.Value{}, nodeError(key, Join(path, key.Value), "unknown key: want one of %s", strings.Join(names, ", "))
}

// scalarTypes are the YAML types that a Go kind takes, and what to call them.
var scalarTypes = map[reflect.Kind]struct{ tags, name string }{
	reflect.String:  {"!!str", "text"},
	reflect.Int:     {"!!int", "a whole number"},
	reflect.Float64: {"!!int !!float", "a number"},
	reflect.Bool:    {"!!bool", "true or false"},
}

func decodeScalar(n *yaml.Node, v reflect.Value, path string) error {
	want := scalarTypes[v.Kind()]
	if n.Kind != yaml.ScalarNode || !strings.Contains(want.tags, n.ShortTag()) {
		return nodeError(n, path, "got %s, want %s", kindName(n), want.name)
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		return nodeError(n, path, "got %s, want %s", n.Value, want.name)
	}
	return nil
}

// Join gives the path of a key in a mapping, as in the lines of Decode.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func nodeError(n *yaml.Node, path, format string, args ...any) error {
	if path != "" {
		format = strings.ReplaceAll(path, "%", "%%") + ": " + format
	}
	return fmt.Errorf("line %d: "+format, append([]any{n.Line}, args...)...)
}

// kindName says what a node is, with its text if that is short.
func kindName(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	}
	value := n.Value
	if runes := []rune(value); len(runes) > 40 {
		value = string(runes[:40]) + "…"
	}
	names := map[string]string{"!!str": "text", "!!int": "whole number", "!!float": "number", "!!bool": "truth value"}
	if name := names[n.ShortTag()]; name != "" {
		return fmt.Sprintf("%s %q", name, value)
	}
	return fmt.Sprintf("%s %q", n.ShortTag(), value)
}
