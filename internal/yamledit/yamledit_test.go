package yamledit

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const sample = `# head
a: 1  # one
b:
    c: 'it''s'   # quoted
    d: "x\ty"
    e: plain words  # end
    f: True
    g: on
    h: |  # text
        first
         indented

        last

    i: >-
        folded
        lines
    j: over several
        lines

        and more
    k: 'quoted over
        lines'
    l: ["time", "ddg#search"]   # list
    m:
        - one
        - 'two'
    n:
    - x   # same column
    o:    # nothing
    p: {q: 1, "r": 'two', s: [a, b]}
    t: []
    u: 0.70
# tail
z: ~
`

func TestSet(t *testing.T) {
	for name, c := range map[string]struct {
		path     string
		value    any
		old, new string // text that is replaced; none: nothing changes
	}{
		"int":                    {"a", 2, "a: 1  # one", "a: 2  # one"},
		"same int":               {"a", 1, "", ""},
		"text for int":           {"a", "1", "a: 1 ", "a: '1' "},
		"single quotes":          {"b.c", "don't", "'it''s'", "'don''t'"},
		"same text":              {"b.c", "it's", "", ""},
		"double quotes":          {"b.d", "한\"글\\\t", `"x\ty"`, `"한\"글\\\t"`},
		"plain":                  {"b.e", "snow_white", "plain words", "snow_white"},
		"plain with colon":       {"b.e", "snow_white:q4", "plain words", "'snow_white:q4'"},
		"plain that is a bool":   {"b.e", "Yes", "plain words", "'Yes'"},
		"text of several lines":  {"b.e", "one\ntwo\n", "e: plain words  # end", "e: |  # end\n        one\n        two"},
		"bool":                   {"b.f", false, "True", "False"},
		"same bool":              {"b.g", true, "", ""},
		"bool of YAML 1.1":       {"b.g", false, "g: on", "g: false"},
		"block":                  {"b.h", "new\n\n text", "|  # text\n        first\n         indented\n\n        last", "|-  # text\n        new\n\n         text"},
		"same block":             {"b.h", "first\n indented\n\nlast\n", "", ""},
		"block to one line":      {"b.h", "it", "|  # text\n        first\n         indented\n\n        last", "'it'  # text"},
		"block with first space": {"b.h", " a\nb", "|  # text\n        first\n         indented\n\n        last", "\" a\\nb\"  # text"},
		"folded":                 {"b.i", "a\nb", ">-\n        folded\n        lines", "|-\n        a\n        b"},
		"same folded":            {"b.i", "folded lines", "", ""},
		"plain over lines":       {"b.j", "short", "over several\n        lines\n\n        and more", "short"},
		"quoted over lines":      {"b.k", "a\nb", "'quoted over\n        lines'", "|-\n        a\n        b"},
		"list":                   {"b.l", []string{}, `["time", "ddg#search"]`, "[]"},
		"same list":              {"b.l", []string{"time", "ddg#search"}, "", ""},
		"list of dashes":         {"b.m", []string{"3", "two"}, "- one\n        - 'two'", "- '3'\n        - two"},
		"no list of dashes":      {"b.m", []string{}, "m:\n        - one\n        - 'two'", "m: []"},
		"dashes below the key":   {"b.n", []string{}, "n:\n    - x   # same column", "n: []   # same column"},
		"nothing":                {"b.o", []string{"a"}, "o:    # nothing", `o: ["a"]    # nothing`},
		"nothing to block":       {"b.o", "a\nb", "o:    # nothing", "o: |-    # nothing\n        a\n        b"},
		"in braces":              {"b.p.q", "a\nb", "q: 1,", `q: "a\nb",`},
		"quoted key":             {"b.p.r", "t", "\"r\": 'two'", "\"r\": 't'"},
		"list in braces":         {"b.p.s", []string{"c"}, "[a, b]", `["c"]`},
		"empty list":             {"b.t", []string{"a"}, "t: []", `t: ["a"]`},
		"same number":            {"b.u", 0.7, "", ""},
		"number":                 {"b.u", 1.0, "0.70", "1.0"},
		"null":                   {"z", "x", "~", "x"},
		"to null":                {"a", nil, "a: 1 ", "a: null "},
		"new key":                {"b.new", "x", "    u: 0.70\n", "    u: 0.70\n    new: 'x'\n"},
		"new key at the end":     {"new", true, "z: ~\n", "z: ~\nnew: True\n"},
		"new mappings":           {"b.x.w", "a\nb\n", "    u: 0.70\n", "    u: 0.70\n    x:\n        w: |\n            a\n            b\n"},
		"new key in braces":      {"b.p.x", "v", "{q: 1", "{x: 'v', q: 1"},
		"new mapping in braces":  {"b.p.x.w", "v", "{q: 1", "{x: {w: 'v'}, q: 1"},
	} {
		for _, eol := range []string{"\n", "\r\n"} {
			for _, mark := range []string{"", "\ufeff"} {
				fix := func(s string) string { return strings.ReplaceAll(s, "\n", eol) }
				text := mark + fix(sample)
				want := strings.Replace(text, fix(c.old), fix(c.new), 1)
				if strings.Count(text, fix(c.old)) != 1 && c.old != "" {
					t.Fatalf("%s: %q is not once in the sample", name, c.old)
				}
				d, err := Parse([]byte(text))
				if err != nil {
					t.Fatal(err)
				}
				changed, err := d.Set(c.value, strings.Split(c.path, ".")...)
				if err != nil || changed != (c.old != "") || string(d.Bytes()) != want {
					t.Errorf("%s: got %v, %v\n%s\nwant %s", name, changed, err, d.Bytes(), c.new)
				}
				if again, err := d.Set(c.value, strings.Split(c.path, ".")...); again || err != nil {
					t.Errorf("%s: a second time: got %v, %v, want no change", name, again, err)
				}
			}
		}
	}
}

func TestNoLineEndAtTheEnd(t *testing.T) {
	d, err := Parse([]byte("a: 1\nb:\n  c: x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Set("y\nz", "b", "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Set(3, "b", "d"); err != nil {
		t.Fatal(err)
	}
	if got, want := string(d.Bytes()), "a: 1\nb:\n  c: |-\n    y\n    z\n  d: 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, path, want string }{
		"anchor":              {"a: &x 1\nb: *x\n", "a", "line 1: got an anchor or an alias"},
		"alias":               {"a: &x 1\nb: *x\n", "b", "line 2: got an anchor or an alias"},
		"behind an alias":     {"a: &x {b: 1}\nc: *x\n", "c.b", "line 2: c: got an anchor or an alias"},
		"merge key":           {"x: &x {b: 1}\na:\n  <<: *x\n  c: 1\n", "a.b", "line 3: a.b: got a merge key"},
		"twice":               {"a: 1\nb: 2\na: 3\n", "a", "already defined|got the key again"},
		"tag":                 {"a: !!str 1\n", "a", "want the value itself"},
		"no mapping":          {"a: 1\n", "a.b", `line 1: a: got "1", want keys with values`},
		"nothing there":       {"a:\n", "a.b", "line 1: a: got nothing, want keys with values"},
		"mapping":             {"a: {b: 1}\n", "a", "want one value"},
		"comment in the list": {"a:\n  - b\n  # why\n  - c\n", "a", "line 2: got comments inside the value"},
		"comment in brackets": {"a: [b, # why\n  c]\n", "a", "line 1: got comments inside the value"},
		"comment before":      {"a: # one\n  # two\n  - b\n", "a", "comments before the list"},
		"empty in braces":     {"a: {b: , c: 1}\n", "a.b", "cannot be edited in place"},
		"odd key":             {"a: 1\n", "x: y", "want a plain word"},
	} {
		d, err := Parse([]byte(c.text))
		if err == nil {
			_, err = d.Set([]string{}, strings.Split(c.path, ".")...)
			if got := string(d.Bytes()); got != c.text {
				t.Errorf("%s: got %q, want no change", name, got)
			}
		}
		if err == nil || !containsAny(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":       {"", "got nothing"},
		"only comments": {"# a\n", "got nothing"},
		"list":          {"- a\n", "got no mapping"},
		"two documents": {"a: 1\n---\nb: 2\n", "line 2: got a second document"},
		"no YAML":       {"a: [\n", "line "},
		"old Mac":       {"a: 1\rb: 2\n", "line 1: got the line end U+000D"},
		"line end":      {"a: 1\nb: '\u2028'\n", "line 2: got the line end U+2028"},
		"not UTF-8":     {"a: \xff\n", "not UTF-8"},
		"too large":     {strings.Repeat("#", maxBytes+1), "bytes, want at most"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func containsAny(s, wants string) bool {
	for want := range strings.SplitSeq(wants, "|") {
		if strings.Contains(s, want) {
			return true
		}
	}
	return false
}

func TestLeaves(t *testing.T) {
	d, err := Parse([]byte("a:\n  b: {c: 1, d: [x, '2']}\n  e: on\n  f: 0.5\n  g:\n  h: 'on'\n  i: 2024-01-02\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Leaves("a")
	want := []Leaf{{[]string{"a", "b", "c"}, int64(1)}, {[]string{"a", "b", "d"}, []string{"x", "2"}}, {[]string{"a", "e"}, true},
		{[]string{"a", "f"}, 0.5}, {[]string{"a", "g"}, nil}, {[]string{"a", "h"}, "on"}, {[]string{"a", "i"}, "2024-01-02"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := d.Leaves("x"); got != nil || err != nil {
		t.Errorf("no such key: got %v, %v", got, err)
	}
	for _, bad := range []string{"a: [[1]]\n", "a: [{b: 1}]\n", "a: &x 1\n"} {
		if d, err = Parse([]byte(bad)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Leaves("a"); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
	if v, ok, err := d.Lookup("b"); v != "" || ok || err != nil {
		t.Errorf("lookup: got %q, %v, %v", v, ok, err)
	}
	if !d.IsMapping() || d.IsMapping("a") {
		t.Error("IsMapping: got the opposite")
	}
}

func FuzzSet(f *testing.F) {
	for _, path := range []string{"a", "b.c", "b.h", "b.m", "b.o", "b.p.q", "new", "b.new.key"} {
		f.Add([]byte(sample), path, "text", uint8(0))
		f.Add([]byte(strings.ReplaceAll(sample, "\n", "\r\n")), path, "one\ntwo: # three\n", uint8(1))
	}
	f.Add([]byte("{a: 1, b: {c: 'd'}}"), "b.c", "\u3000'\"", uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, path, value string, kind uint8) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		if !bytes.Equal(d.Bytes(), text) {
			t.Fatalf("Parse changed the text: got %q, want %q", d.Bytes(), text)
		}
		var v any = strings.ToValidUTF8(value, "?")
		switch kind % 4 {
		case 1:
			v = strings.Fields(v.(string))
		case 2:
			v = len(value)%2 == 0
		case 3:
			v = float64(len(value)) / 4
		}
		keys := strings.Split(path, ".")
		changed, err := d.Set(v, keys...)
		if err != nil || !changed {
			if !bytes.Equal(d.Bytes(), text) {
				t.Fatalf("got %v, %v and another text: %q", changed, err, d.Bytes())
			}
			return
		}
		after := d.Bytes()
		if again, err := d.Set(v, keys...); again || err != nil {
			t.Fatalf("a second time: got %v, %v in %q", again, err, after)
		}
		commentsStay(t, text, after)
	})
}

// commentsStay wants no fewer comments than before; text of values may look like one.
func commentsStay(t *testing.T, before, after []byte) {
	count := func(text []byte) (n int) {
		d, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return countComments(d)
	}
	if got, want := count(after), count(before); got < want {
		t.Fatalf("got %d comments, want %d\n%q\n%q", got, want, before, after)
	}
}

func countComments(d *Document) (n int) {
	var walk func(*yaml.Node)
	walk = func(node *yaml.Node) {
		for _, c := range []string{node.HeadComment, node.LineComment, node.FootComment} {
			n += len(strings.Fields(c))
		}
		for _, child := range node.Content {
			walk(child)
		}
	}
	walk(d.root)
	return n
}
