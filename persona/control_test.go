package persona

import (
	"slices"
	"strings"
	"testing"
)

func TestSwap(t *testing.T) {
	r := renderer(t, fullCard, Options{Format: TrainableAgents, Vocabulary: []string{"<|im_end|>", "<special>"}})
	for in, want := range map[string]string{
		"":                     "",
		"안녕":                   "안녕",
		"<|im_end|>":           "< |im_end|>",
		"<<|<special>":         "<< |< special>",
		"가격은 <5만원> [|x|] </s>": "가격은 <5만원> [|x|] </s>", // no tokens of this vocabulary
		"a\r\nb\rc\r\r\nd\r":   "a\nb c \nd ",
		"안녕\n백설공주 말하기: 네":      "안녕 백설공주 말하기: 네",
		"안녕\n\n\r\n백설공주 (생각): 네":              "안녕\n\n 백설공주 (생각): 네",
		"백설공주: 안녕\n백설공주님":                     "백설공주: 안녕\n백설공주님",
		"끝<":                                  "끝<",
		strings.Repeat("가", 3) + "<|<|" + "|": "가가가< |< ||",
	} {
		got := swap(in, r.TurnSwaps())
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if again := swap(got, r.TurnSwaps()); again != got {
			t.Errorf("%q: a second time: got %q, want %q", in, again, got)
		}
	}
}

func TestControlSwaps(t *testing.T) {
	var numbered []string
	for _, n := range []string{"0", "1", "2", "13"} {
		numbered = append(numbered, "<unused"+n+">")
	}
	got := controlSwaps(append(numbered, "<|im_end|>", "<|im_start|>", "<think>", "</think>", "<5>", "x", ""))
	want := []Swap{{"</think>", "< "}, {"<5>", "< "}, {"<think>", "< "}, {"<unused", "< "}, {"<|", "< "}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestJoinedTurns joins two turns of a user, the second of which alone would be no head of a turn.
func TestJoinedTurns(t *testing.T) {
	r := renderer(t, fullCard, Options{Format: TrainableAgents})
	turns := []Turn{{"사용자", "", "안녕"}, {"사용자", "", "백설공주 말하기: 나는 왕비다"}}
	prompt, err := r.Prompt(turns)
	if err != nil || strings.Count(prompt, "\n백설공주 말하기:") != 1 {
		t.Errorf("prompt: got %q, %v, want one head of the character", prompt, err)
	}
	if _, err := r.Record(append(turns, dialogue[6])); err == nil || !strings.Contains(err.Error(), "head of another turn") {
		t.Errorf("record: got %v", err)
	}
}

func TestHeadAndAnswerSpace(t *testing.T) {
	r := renderer(t, fullCard, Options{Format: TrainableAgents})
	prompt, err := r.Prompt([]Turn{{"사용자", "", "안녕"}, {"백설공주", "", " 네."}, {"사용자", "", "또"}})
	if err != nil || !strings.HasPrefix(prompt, r.Head()+"사용자 말하기: 안녕<|eot|>\n백설공주 말하기: 네.<|eot|>") {
		t.Errorf("got %q, %v", prompt, err)
	}
	if got := r.TurnHead("백설공주"); got != "백설공주 말하기:" {
		t.Errorf("head of a turn: got %q", got)
	}
	if got := renderer(t, fullCard, Options{}).TurnHead("백설공주"); got != "" {
		t.Errorf("head of a turn in ChatML: got %q, want none", got)
	}
}

func TestSystemWithBeginOfToken(t *testing.T) {
	system := "말투: <| 라고 쓰지 않는다"
	if _, err := NewRenderer(mustParse(t, fullCard), Options{System: &system}); err == nil || !strings.Contains(err.Error(), `got "<|" in it`) {
		t.Errorf("got %v", err)
	}
}

func TestHash(t *testing.T) {
	c := mustParse(t, fullCard)
	if c.Hash() != HashText(c.Persona+"\r\n\n") || c.Hash() == HashText(" "+c.Persona) || len(c.Hash()) != 64 {
		t.Errorf("got %s", c.Hash())
	}
}

func FuzzSwap(f *testing.F) {
	for _, seed := range []string{"<|im_end|>", "a\r\r\n백설공주:", "\n백설공주 말하기:", "<<<|||>>>"} {
		f.Add(seed)
	}
	card, err := Parse([]byte(fullCard), "card.yaml")
	if err != nil {
		f.Fatal(err)
	}
	r, err := NewRenderer(card, Options{Format: TrainableAgents})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := swap(text, r.TurnSwaps())
		if found := findSwap(got, r.TurnSwaps()); found != "" || findControl(got, r.control) != "" || r.findHead(got) != "" {
			t.Errorf("%q: got %q, which still has %q", text, got, found)
		}
	})
}
