package parse

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// node is a JSON value that may have been cut off.
type node struct {
	keys     []string
	values   []node // of an object or list
	text     string // of a string, number or word
	list     bool
	object   bool
	complete bool
}

// get gives the first of the keys that an object has.
func (n *node) get(keys ...string) *node {
	for _, key := range keys {
		for i := range n.keys {
			if strings.EqualFold(n.keys[i], key) && i < len(n.values) {
				return &n.values[i]
			}
		}
	}
	return &node{}
}

// maxNesting bounds the depth of JSON in a reply.
const maxNesting = 32

// findJSON gives the JSON value in a reply, if the reply has one in place of free text: it begins with one, or has
// it in a code fence.
func findJSON(reply string) (node, bool) {
	s := cleanThoughts(reply)
	at := 0
	if fence := strings.Index(s, "```"); fence >= 0 {
		at = fence + 3
		for at < len(s) && (s[at] >= 'a' && s[at] <= 'z' || s[at] >= 'A' && s[at] <= 'Z' || s[at] == '5') { // json, JSON5
			at++
		}
	}
	body := strings.TrimSpace(s[at:])
	if !beginsJSON(body) {
		if body = strings.TrimSpace(s); !beginsJSON(body) {
			open := strings.IndexAny(body, "{[")
			if open < 0 || open > 200 || strings.Contains(body[:open], "\n\n\n") || !beginsJSON(body[open:]) {
				return node{}, false
			}
			body = body[open:]
		}
	}
	r := &jsonReader{s: body}
	n := r.value(0)
	if n.list || !n.object { // several objects one after the other are a list too
		return n, n.list
	}
	rest := strings.TrimLeft(r.s[r.at:], " \r\n\t,")
	if !n.complete || !beginsJSON(rest) {
		return n, true
	}
	all := node{list: true, complete: true, values: []node{n}}
	for beginsJSON(rest) {
		r = &jsonReader{s: rest}
		all.values = append(all.values, r.value(0))
		rest = strings.TrimLeft(rest[r.at:], " \r\n\t,")
	}
	all.complete = all.values[len(all.values)-1].complete
	return all, true
}

// beginsJSON tells JSON from a heading in brackets.
func beginsJSON(s string) bool {
	for i := range 2 {
		if s == "" {
			return false
		}
		switch {
		case s[0] == '{':
			rest := strings.TrimLeft(s[1:], " \r\n\t")
			return strings.HasPrefix(rest, `"`)
		case s[0] == '[' && i == 0:
			s = strings.TrimLeft(s[1:], " \r\n\t")
		default:
			return false
		}
	}
	return false
}

// jsonReader reads JSON as far as it goes.
type jsonReader struct {
	s  string
	at int
}

func (r *jsonReader) space() {
	for r.at < len(r.s) && strings.IndexByte(" \r\n\t", r.s[r.at]) >= 0 {
		r.at++
	}
}

// next takes a byte if it is there.
func (r *jsonReader) next(b byte) bool {
	if r.space(); r.at < len(r.s) && r.s[r.at] == b {
		r.at++
		return true
	}
	return false
}

func (r *jsonReader) value(depth int) node {
	if r.space(); r.at == len(r.s) || depth > maxNesting {
		return node{}
	}
	switch r.s[r.at] {
	case '{':
		r.at++
		return r.members(depth, true, '}')
	case '[':
		r.at++
		return r.members(depth, false, ']')
	case '"':
		return r.str()
	}
	start := r.at
	for r.at < len(r.s) && strings.IndexByte(",]} \r\n\t", r.s[r.at]) < 0 {
		r.at++
	}
	return node{text: r.s[start:r.at], complete: r.at < len(r.s) && r.at > start}
}

// members reads what an object or list holds, up to its end or the first fault.
func (r *jsonReader) members(depth int, object bool, end byte) node {
	n := node{object: object, list: !object}
	for first := true; ; first = false {
		if r.next(end) { // also behind a last comma
			n.complete = true
			return n
		}
		if !first && !r.next(',') {
			return n
		}
		if r.next(end) {
			n.complete = true
			return n
		}
		if object {
			if r.space(); r.at == len(r.s) || r.s[r.at] != '"' {
				return n
			}
			key := r.str()
			if !key.complete || !r.next(':') {
				return n
			}
			n.keys = append(n.keys, key.text)
		}
		v := r.value(depth + 1)
		n.values = append(n.values, v)
		if !v.complete {
			return n
		}
	}
}

// str reads a string; line ends in it, which JSON does not allow, are taken as they are.
func (r *jsonReader) str() node {
	start := r.at
	r.at++
	for r.at < len(r.s) && r.s[r.at] != '"' {
		if r.s[r.at] == '\\' {
			r.at++
		}
		r.at++
	}
	if r.at >= len(r.s) {
		r.at = len(r.s)
		return node{text: unescape(trimEscape(r.s[start+1:]))}
	}
	r.at++
	return node{text: unescape(r.s[start+1 : r.at-1]), complete: true}
}

// trimEscape takes off an escape that was cut off.
func trimEscape(s string) string {
	if at := strings.LastIndexByte(s, '\\'); at >= 0 && (at == len(s)-1 || s[at+1] == 'u' && len(s)-at < 6) {
		s = s[:at]
	}
	for s != "" && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && !utf8.RuneStart(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func unescape(s string) string {
	if !strings.ContainsAny(s, "\\\n") {
		return s
	}
	var out string
	quoted := `"` + strings.NewReplacer("\n", `\n`, "\r", "", "\t", `\t`).Replace(s) + `"`
	if json.Unmarshal([]byte(quoted), &out) == nil {
		return out
	}
	return strings.NewReplacer(`\n`, "\n", `\"`, `"`, `\\`, `\`).Replace(s)
}
