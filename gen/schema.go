package gen

import (
	"encoding/json"

	"github.com/persona-gguf/persona-gguf/persona"
)

// property is a key of an object in a JSON schema; in order, since a model writes them in the order of the schema.
type property struct {
	name   string
	schema any
}

// object makes the schema of an object that has exactly these keys.
func object(properties ...property) json.RawMessage {
	keys, required := []byte(`{`), []string{}
	for i, p := range properties {
		if i > 0 {
			keys = append(keys, ',')
		}
		keys = append(append(append(keys, mustJSON(p.name)...), ':'), mustJSON(p.schema)...)
		required = append(required, p.name)
	}
	return json.RawMessage(`{"type":"object","properties":` + string(keys) + `},"required":` + mustJSON(required) + `,"additionalProperties":false}`)
}

func array(of any, least, most int) any {
	return map[string]any{"type": "array", "items": of, "minItems": least, "maxItems": most}
}

func oneOf(names []string) any { return map[string]any{"type": "string", "enum": names} }

// text is a string of 1 to most characters; 0: no limit, which is what engines are fast with.
func text(most int) any {
	s := map[string]any{"type": "string", "minLength": 1}
	if most > 0 {
		s["maxLength"] = most
	}
	return s
}

// sceneSchema is what an answer with n scenes looks like.
func sceneSchema(c *persona.Card, n, maxChars int) json.RawMessage {
	scene := object(property{"type", oneOf(c.SceneTypes)}, property{"location", text(maxChars)}, property{"background", text(maxChars)})
	return object(property{"scenes", array(scene, n, n)})
}

// dialogueSchema is what an answer with a dialogue looks like; only the cast may speak.
func dialogueSchema(c *persona.Card, least, most, maxChars int) json.RawMessage {
	t := object(property{"role", oneOf(castNames(c))}, property{"action", oneOf([]string{c.Speak(), c.Think()})}, property{"content", text(maxChars)})
	return object(property{"background", text(maxChars)}, property{"turns", array(t, least, most)})
}
