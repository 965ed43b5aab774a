package parse

import (
	"strings"
	"testing"
	"unicode"

	"github.com/persona-gguf/persona-gguf/gen/raw"
)

// marks are what plain may take out of the middle of a word.
var marks = strings.NewReplacer("*", "", "_", "", "`", "", "~", "", `\`, "", `"`, "")

// notInserted checks the property of PAR-04: the contents, word by word, stand in the reply in that order.
func notInserted(t *testing.T, reply string, d Dialogue) {
	t.Helper()
	source := marks.Replace(Clean(reply))
	at := 0
	for i, turn := range d.Turns {
		for _, word := range strings.Fields(marks.Replace(turn.Content)) {
			found := strings.Index(source[at:], word)
			if found < 0 {
				t.Fatalf("turn %d: got %q, want only what the reply has behind the turns before: %q", i+1, word, reply)
			}
			at += found + len(word)
		}
	}
	for _, turn := range d.Turns {
		if strings.TrimSpace(turn.Content) != turn.Content || strings.Contains(turn.Content, "  ") || !strings.ContainsFunc(turn.Content, func(r rune) bool {
			return unicode.IsLetter(r) || unicode.IsDigit(r)
		}) {
			t.Fatalf("got content %q", turn.Content)
		}
	}
}

func FuzzDialogue(f *testing.F) {
	for _, seed := range []string{u + w, "**백설공주:** (미소) \"네\"\n사용자: 응?\n---\n끝", "예시 형식:\n배경:\n발언\n---\n" + u + w, "`*_백설공주_*`: a*b*c **d", "((((백설공주 (말하기",
		"[백설공주] 네\n(생각)\n음\n(말하기) 아", "사용자: \"a\n\nb\"\n\nc\n\n\"d\"", "<think>x</think>\\n사용자\\: 네"} {
		f.Add(seed, false)
	}
	p := parser(f, testCard)
	keep := parser(f, testCard+"unknown_speakers: keep\n")
	f.Fuzz(func(t *testing.T, reply string, cut bool) {
		if len(reply) > 1<<14 {
			return
		}
		r := raw.Row{Completions: raw.Text(padding + reply)}
		if cut {
			r.DoneReason = "length"
		}
		if _, structured := findJSON(string(r.Completions)); structured {
			return // what is decoded from JSON is not the reply's own bytes
		}
		notInserted(t, string(r.Completions), p.Dialogue(&r))
		notInserted(t, string(r.Completions), keep.Dialogue(&r))
	})
}

func FuzzStructured(f *testing.F) {
	for _, seed := range []string{`{"turns": [{"role": "사용자", "content": "네"}, {"role": "백설공주", "content": "아`, `[{"role": "a`, `{"background": "x", "turns": [`, `[[[[{"`, `{"a": "\u12`} {
		f.Add(seed)
	}
	p := parser(f, testCard)
	f.Fuzz(func(t *testing.T, reply string) {
		if len(reply) < 1<<14 {
			p.Dialogue(&raw.Row{Completions: raw.Text(reply + strings.Repeat(" ", minReply) + ".")})
			p.Scenes(&raw.Row{Completions: raw.Text(reply)})
		}
	})
}

func FuzzScenes(f *testing.F) {
	for _, seed := range []string{sceneA + sceneB, "**장면 1", "[유형] a\n[장소] b\n[배경] 이른 아침입니다.", "장면 1~3\n---\n"} {
		f.Add(seed)
	}
	p := parser(f, testCard)
	f.Fuzz(func(t *testing.T, reply string) {
		if len(reply) > 1<<14 {
			return
		}
		if _, structured := findJSON(reply); structured {
			return
		}
		source, at := marks.Replace(strings.Join(strings.Fields(Clean(reply)), " ")), 0
		for _, s := range p.Scenes(&raw.Row{Completions: raw.Text(reply)}).Scenes {
			for _, word := range strings.Fields(marks.Replace(s.Background)) {
				found := strings.Index(source[at:], word)
				if found < 0 {
					t.Fatalf("got %q, want only what the reply has: %q", word, reply)
				}
				at += found
			}
		}
	})
}

// TestHostile gives shapes that cost a careless parser quadratic time; the suite's own limit would show it.
func TestHostile(t *testing.T) {
	p := parser(t, testCard)
	const n = 200_000
	for name, unit := range map[string]string{
		"asterisks": "*", "brackets": "(", "closing": ")", "heads": "백설공주:\n", "quotes": "사용자: \"a\n", "numbers": "1. ", "hashes": "# ", "think": "<think>", "think end": "</think>",
		"tokens": "<|", "JSON": `{"a":`, "lists": "[", "words": "가 ", "names": "사용자 (", "lines": "\n", "rules": "---\n", "labels": "배경:\n", "backslash": `\`, "turns": "턴 1 ",
		"rule and text": "사용자: 네\n---\n\n", "scenes": "장면 1:\n", "strangers": "늑대: 어흥\n", "open asides": "사용자: 네\n(a\n", "spaces": "          가",
	} {
		text := strings.Repeat(unit, n/len(unit)+1)
		for _, reply := range []string{text, padding + text, padding + "백설공주: " + text} {
			notInsertedUnlessJSON(t, reply, p)
			p.Scenes(&raw.Row{Completions: raw.Text(reply)})
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func notInsertedUnlessJSON(t *testing.T, reply string, p *Parser) {
	d := p.Dialogue(&raw.Row{Completions: raw.Text(reply)})
	if _, structured := findJSON(reply); !structured && len(d.Turns) < 100 {
		notInserted(t, reply, d)
	}
}
