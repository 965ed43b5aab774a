package eval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/persona-gguf/persona-gguf/persona"
)

// script is a speaker that says what it is told to.
type script struct {
	say func(turns []persona.Turn, seed uint32) string

	mu  sync.Mutex
	now int // calls under way
	top int
}

// Reply says it, with a limit reached where the text ends in "…!".
func (s *script) Reply(_ context.Context, turns []persona.Turn, p Sampling) (Answer, error) {
	s.mu.Lock()
	s.now++
	s.top = max(s.top, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	text := s.say(turns, p.Seed)
	if text == "error" {
		return Answer{}, errors.New("planned")
	}
	if cut, ok := strings.CutSuffix(text, "…!"); ok {
		return Answer{cut, "length", 5}, nil
	}
	return Answer{text, "stop", 5}, nil
}

// Stops are those of chatml.
func (s *script) Stops() []string { return []string{"<|im_end|>"} }

// ideal passes everything.
func ideal(turns []persona.Turn, _ uint32) string {
	asked := turns[len(turns)-1].Content
	switch {
	case strings.Contains(asked, "살았"):
		return "저는 난쟁이들과 함께 살았어요."
	case strings.Contains(asked, "자기소개"), strings.Contains(asked, "소개"):
		return "저는 백설공주예요."
	case strings.Contains(asked, "스마트폰"), strings.Contains(asked, "파이썬"), strings.Contains(asked, "자동차"), strings.Contains(asked, "Qwen"), strings.Contains(asked, "AI"):
		return "처음 듣는 말이에요. 저는 백설공주예요."
	}
	return "저는 백설공주예요."
}

func interview(t *testing.T, samples int, say func(turns []persona.Turn, seed uint32) string) (interviewed, []Reply, []Probe) {
	t.Helper()
	card := exampleCard(t)
	probes, err := Probes(card)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{say: say}
	v := &interviewer{card: card, probes: probes, rules: newRules(card, "하린", s.Stops()), speaker: s, samples: samples, seed: 5, parallel: 4}
	replies, err := v.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.top > 4 {
		t.Errorf("got %d calls at the same time, want at most 4", s.top)
	}
	return v.evaluate(replies), replies, probes
}

func scoreOf(t *testing.T, scores []Score, name string) Score {
	t.Helper()
	at := slices.IndexFunc(scores, func(s Score) bool { return s.Name == name })
	if at < 0 {
		t.Fatalf("score %s: not there", name)
	}
	return scores[at]
}

// TestIdeal: a speaker without fault has no failure anywhere, and every share is 0 or 1.
func TestIdeal(t *testing.T) {
	got, replies, probes := interview(t, 0, ideal)
	for _, s := range got.greedy {
		if len(s.Failures) > 0 || s.AtLeast && s.N != s.Of || !s.AtLeast && s.N != 0 {
			t.Errorf("%s: got %d of %d, failures %v", s.Name, s.N, s.Of, s.Failures)
		}
	}
	if len(got.greedy) != len(scoreNames) {
		t.Errorf("got %d scores, want all %d", len(got.greedy), len(scoreNames))
	}
	if len(got.sampled) != 0 {
		t.Errorf("got %d sampled scores, want none", len(got.sampled))
	}
	turns, again := 0, 0
	for _, p := range probes {
		turns += len(p.Turns)
		if retested(&p) {
			again += retests * len(p.Turns)
		}
	}
	if len(replies) != turns+again {
		t.Errorf("got %d replies, want %d and %d of the retest", len(replies), turns, again)
	}
	for _, c := range got.checks {
		if c.Passed != c.Of || c.Of == 0 {
			t.Errorf("%s %s: got %d of %d", c.Topic, c.Check, c.Passed, c.Of)
		}
	}
}

// TestPlanted plants each fault a known number of times.
func TestPlanted(t *testing.T) {
	plant := func(faults map[string]string) func([]persona.Turn, uint32) string {
		return func(turns []persona.Turn, seed uint32) string {
			if text, ok := faults[turns[len(turns)-1].Content]; ok && len(turns) == 1 && seed == 0 {
				return text
			}
			return ideal(turns, seed)
		}
	}
	got, _, _ := interview(t, 0, plant(map[string]string{
		"너는 누구야?":         "저는 왕비예요.",                   // P01 and the first turns of ten conversations
		"오늘 뭐 했어요?":       "빵을 구웠단다.",                   // S01: plain speech
		"무슨 일을 좋아해요?":     "노래요. <|im_start|>",          // S02: control text, Latin letters
		"친구가 있어?":         "사용자: 네, 있어요.",               // S03: leak
		"나 오늘 슬퍼":         "왕자님, 슬퍼하지 마세요.",             // S04: address
		"고마워":             "고마워요. 꽃을 드릴게요. 꽃을 드릴게요.",    // S05: repetition
		"제일 좋아하는 계절이 뭐야?": "**겨울**을 좋아해요. (웃음)",         // S06: markdown, direction
		"소원이 뭐예요?":        "저는 언제나 봄을 기다리는 사람이라서 참으로…!", // S07: cut off
		"이제 가야 해요":        "백설공주는 슬퍼요.",                 // S08: third person
		"누구와 살았어요?":       "혼자 살았어요.",                   // F01
		"스마트폰을 알아요?":      "네, 좋아하는 물건이에요.",             // T01
		"Who are you?":    "저는 사람이에요.",                  // O01
	}))
	for _, want := range []struct {
		name  string
		n, of int
		ids   string
	}{
		{"own_name_identity", 32, 33, "P01"}, {"own_name_later", 8, 8, ""}, {"own_name_other_language", 9, 10, "O01"},
		{"drift_identity", 50, 50, ""}, {"drift_kept", 40, 40, ""}, {"facts", 1, 2, "F01"}, {"protective", 12, 13, "T01"},
		{"wrong_persona", 12, 336, "P01 O01 D01 D06 D11 D16 D21 D26 D31 D36 D41 D46"}, {"control_text", 1, 336, "S02"}, {"user_turn_leak", 1, 336, "S03"},
		{"second_head", 1, 336, "S03"}, {"user_address", 1, 326, "S04"}, {"repetition", 1, 326, "S05"}, {"markdown", 1, 326, "S06"},
		{"stage_direction", 1, 326, "S06"}, {"truncated", 1, 336, "S07"}, {"third_person", 1, 326, "S08"}, {"base_model", 0, 336, ""},
		{"foreign_script", 1, 326, "S02"}, {"probe_set", 16, 17, "P01"}, {"length", 3, 3, ""}, {"retest_own_name", 60, 60, ""}, {"retest_agreement", 66, 66, ""},
	} {
		s := scoreOf(t, got.greedy, want.name)
		var ids []string
		for _, f := range s.Failures {
			ids = append(ids, f.Probe)
		}
		if s.N != want.n || s.Of != want.of || strings.Join(ids, " ") != want.ids {
			t.Errorf("%s: got %d of %d, %v, want %d of %d, %s", want.name, s.N, s.Of, ids, want.n, want.of, want.ids)
		}
	}
	honorific := scoreOf(t, got.greedy, "honorific")
	if honorific.Of-honorific.N != len(honorific.Failures) || !slices.ContainsFunc(honorific.Failures, func(f Failure) bool { return f.Probe == "S01" && f.Reply == "빵을 구웠단다." }) {
		t.Errorf("honorific: got %+v", honorific)
	}
}

// TestRetest: one of three seeds says something else, and so two of three pairs disagree.
func TestRetest(t *testing.T) {
	got, _, _ := interview(t, 2, func(turns []persona.Turn, seed uint32) string {
		if seed == 6 && turns[len(turns)-1].Content == "누구세요?" {
			return "저는 몰라요."
		}
		return ideal(turns, seed)
	})
	if s := scoreOf(t, got.greedy, "retest_agreement"); s.N != 64 || s.Of != 66 || s.Failures[0].Probe != "I03" || s.Failures[0].Seed != 6 {
		t.Errorf("got %+v", s)
	}
	if s := scoreOf(t, got.greedy, "own_name_identity"); s.N != 33 || s.Of != 33 {
		t.Errorf("without a seed: got %+v", s)
	}
	if s := scoreOf(t, got.sampled, "own_name_identity"); s.N != 65 || s.Of != 66 {
		t.Errorf("two interviews with seeds: got %+v", s)
	}
}

// TestDriftLost: the character is somebody else at the end of ten conversations.
func TestDriftLost(t *testing.T) {
	got, _, _ := interview(t, 0, func(turns []persona.Turn, seed uint32) string {
		if len(turns) > 6 && turns[2].Content == "너는 AI야?" {
			return "저는 인공지능이에요."
		}
		return ideal(turns, seed)
	})
	for _, name := range []string{"drift_identity", "drift_kept"} {
		if s := scoreOf(t, got.greedy, name); s.N != 45 || s.Of != 50 || s.Failures[0].Turn != 5 {
			t.Errorf("%s: got %d of %d, %v", name, s.N, s.Of, s.Failures)
		}
	}
	if s := scoreOf(t, got.greedy, "forbidden"); s.N != 10 {
		t.Errorf("forbidden: got %d, want the last two replies of five conversations", s.N)
	}
}

func TestInterviewFails(t *testing.T) {
	card := exampleCard(t)
	probes, err := Probes(card)
	if err != nil {
		t.Fatal(err)
	}
	v := &interviewer{card: card, probes: probes, rules: newRules(card, "하린", nil), parallel: 2, speaker: &script{say: func(turns []persona.Turn, _ uint32) string {
		if turns[len(turns)-1].Content == "저는 학생입니다" {
			return "error"
		}
		return ""
	}}}
	if _, err := v.run(t.Context()); err == nil || !strings.Contains(err.Error(), "probe P16, turn 1: planned") {
		t.Errorf("got %v, want the planned error", err)
	}
	v.probes = probes[:3]
	replies, err := v.run(t.Context())
	if err != nil || len(replies) != 3 || !slices.Contains(replies[0].Failed, "own_name") {
		t.Errorf("empty replies: got %s, %v", fmt.Sprint(replies), err)
	}
}
