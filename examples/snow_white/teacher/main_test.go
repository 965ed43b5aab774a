package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun makes the pairs of two rounds, twice, and wants the same bytes, prompts of all three kinds, answers of the
// form that package gen accepts at the first try, and of every identity and protective dialogue what its prompt asks for.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	var texts [2][]byte
	for i := range texts {
		out := filepath.Join(dir, "pairs.jsonl")
		if err := run(t.Context(), "..", out, 2); err != nil {
			t.Fatal(err)
		}
		var err error
		if texts[i], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("got other bytes the second time")
	}
	scenes, identity, protective := 0, 0, 0
	for line := range strings.Lines(string(texts[0])) {
		var p pair
		if err := json.Unmarshal([]byte(line), &p); err != nil || len(p.Messages) != 2 {
			t.Fatalf("got %s, %v", line, err)
		}
		prompt, answer := p.Messages[0].Content, p.Messages[1].Content
		switch noun := (&question{text: prompt}).find(protectedLine); {
		case strings.HasPrefix(answer, `{"scenes":[{"type":"`):
			scenes++
		case !strings.HasPrefix(answer, `{"background":"`) || !strings.Contains(answer, `"turns":[{"role":"사용자","action":"말하기","content":"`):
			t.Errorf("got the answer %s", answer)
		case identityLine.MatchString(prompt):
			if identity++; !strings.Contains(answer, "백설공주") {
				t.Errorf("no name in the answer %s", answer)
			}
		case noun != "":
			if protective++; !strings.Contains(answer, noun) {
				t.Errorf("no %s in the answer %s", noun, answer)
			}
		}
	}
	// Scenes, dialogues and protective ones of the two rounds.
	if got, want := bytes.Count(texts[0], []byte("\n")), 36+30*3+12+36+24*4+24; got < want || got > want+want/20 {
		t.Errorf("got %d pairs, want %d: one for each call, at most one in twenty of them refused", got, want)
	}
	if scenes < 24 || identity < 5 || protective < 40 {
		t.Errorf("got %d calls for scenes, %d identity and %d protective dialogues, want more", scenes, identity, protective)
	}
}

func TestParticles(t *testing.T) {
	for noun, want := range map[string]string{
		"스마트폰": "스마트폰을 스마트폰은 스마트폰이 스마트폰이라는 스마트폰에", "자동차": "자동차를 자동차는 자동차가 자동차라는 자동차에",
	} {
		if got := particles("{을} {은} {이} {라는} {에}", noun); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
