package persona

import (
	"strings"
	"testing"
)

const smallCard = "version: 1\nid: snow_white\nname: 백설공주\npersona: 당신은 백설공주입니다.\n"

func mustParse(t *testing.T, text string) *Card {
	t.Helper()
	c, err := Parse([]byte(text), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := mustParse(t, smallCard)
	if c.Language != "korean" || c.User.Name != "사용자" || c.Format != ChatML || c.UnknownSpeakers != "drop" ||
		c.ScenesPerParagraph != 5 || c.DialoguesPerScene != 1 || c.Sampling != DefaultSampling() ||
		len(c.SceneTypes) != 11 || len(c.HonorificEndings) != 5 || len(c.IdentityQuestions) != 2 || c.Shares != (Shares{0.05, 0.05}) {
		t.Errorf("got %+v", c)
	}
	e := mustParse(t, strings.ReplaceAll(smallCard, "백설공주", "Snow White")+"language: english\nsampling: {top_k: 1}\nscene_types: []\n")
	if e.User.Name != "User" || e.Speak() != "speaking" || len(e.HonorificEndings) != 0 || len(e.SceneTypes) != 0 ||
		e.Sampling.TopK != 1 || e.Sampling.TopP != 0.95 {
		t.Errorf("got %+v", e)
	}
}

func TestExampleCard(t *testing.T) {
	c, err := Read("../examples/snow_white/persona.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(c.Persona, "대답하세요.") || c.Cast[0].Aliases[1] != "일곱 난쟁이" || c.Gates["wrong_persona"] != 0 ||
		c.ProfilePath() != "../examples/snow_white/data/tale.txt" {
		t.Errorf("got %+v", c)
	}
}

// TestBadCards has one card for each way to be wrong.
func TestBadCards(t *testing.T) {
	for _, bad := range []struct{ text, want string }{
		{"", "got nothing, want a YAML document"},
		{"[1]", "line 1: got a list, want keys with values"},
		{"id: [", "line 1: did not find expected node content"},
		{smallCard + "---\nid: b\n", "got a second document"},
		{smallCard + "colour: red\n", `line 5: colour: unknown key: want one of version, id,`},
		{smallCard + "user: {nick: x}\n", "line 5: user.nick: unknown key"},
		{smallCard + "id: twice\n", "line 5: id: got the key again, want it once: it is on line 2 too"},
		{smallCard + "profile: 12\n", `line 5: profile: got whole number "12", want text`},
		{smallCard + "profile: true\n", `line 5: profile: got truth value "true", want text`},
		{smallCard + "profile:\n", "line 5: profile: got nothing, want text"},
		{smallCard + "aliases: 공주\n", `line 5: aliases: got text "공주", want a list`},
		{smallCard + "scenes_per_paragraph: 1.5\n", `got number "1.5", want a whole number`},
		{smallCard + "shares: {identity: yes please}\n", `shares.identity: got text "yes please", want a number`},
		{smallCard + "aliases: [&a x, *a]\n", "got an anchor or an alias"},
		{strings.Replace(smallCard, "version: 1", "version: 2", 1), "line 1: version: got 2, want 1"},
		{strings.Replace(smallCard, "id: snow_white\n", "", 1), "id: got no such key"},
		{strings.Replace(smallCard, "snow_white", "snow-white", 1), `line 2: id: got "snow-white", want lower-case`},
		{strings.Replace(smallCard, "당신은", "<|im_end|>", 1), `line 4: persona: got the control token "<|im_end|>"`},
		{strings.Replace(smallCard, "당신은 백설공주입니다.", `" "`, 1), "line 4: persona: got no text"},
		{smallCard + "language: klingon\n", `line 5: language: got "klingon", want korean or english`},
		{smallCard + "format: alpaca\n", `line 5: format: got "alpaca", want chatml or trainable-agents`},
		{smallCard + "unknown_speakers: shout\n", "want drop or keep"},
		{smallCard + "aliases: [백설공주]\n", "line 5: aliases[0]: got \"백설공주\", want a name of its own: name is the same"},
		{smallCard + "cast:\n  - {name: 왕비}\n  - {name: 왕비}\n", "line 7: cast[1].name:"},
		{smallCard + "cast: [{name: 'a:b'}]\n", "want a name without brackets, colons"},
		{smallCard + "cast: [{aliases: [b]}]\n", `cast[0].name: got "", want a name`},
		{smallCard + "user: {address: [손님], forbidden_address: [손님]}\n", "user.forbidden_address[0]: got \"손님\", want it here or in user.address"},
		{smallCard + "forbidden: [Qwen, 공주]\n", `line 5: forbidden[1]: got "공주", want nothing that name ("백설공주") contains`},
		{smallCard + "forbidden: [Qwen, Qwen]\n", "got \"Qwen\" again, want it once"},
		{smallCard + "scene_types: ['']\n", "scene_types[0]: got no text"},
		{smallCard + "facts: [{question: q}]\n", "facts[0]: got no question or nothing to accept"},
		{smallCard + "facts: [{question: q, accept: [난쟁이], reject: [쟁이]}]\n", "facts[0].reject[0]: got \"쟁이\""},
		{smallCard + "shares: {identity: 0.6, protective: 0.5}\n", "shares.protective: got 0.5, want 0 to 0.4"},
		{smallCard + "shares: {identity: .nan}\n", "shares.identity: got NaN"},
		{smallCard + "sampling: {top_p: 2}\n", "line 5: sampling.top_p: got 2, want 0 to 1"},
		{smallCard + "sampling: {num_predict: 9000}\n", "sampling.num_predict: got 9000, want less than sampling.num_ctx, 8192"},
		{smallCard + "gates: {beauty: 1}\n", "line 5: gates.beauty: unknown metric"},
		{smallCard + "gates: {honorific: 95}\n", "gates.honorific: got 95, want a share"},
		{smallCard + "aliases: [Snow]\ncast:\n  - {name: snow}\n", "line 7: cast[0].name: got \"snow\", want a name that only one has: aliases[0] is \"Snow\""},
		{smallCard + "forbidden: [왕자]\nfacts: [{question: q, accept: [왕자와]}]\n", "line 6: facts[0].accept[0]: got \"왕자와\", want nothing that is forbidden: forbidden[0] on line 5"},
		{smallCard + "user: {address: [인공지능]}\nforbidden: [인공지능]\n", "line 5: user.address[0]: got \"인공지능\", want nothing that is forbidden"},
		{smallCard + "user: {aliases: [손님], forbidden_address: [손님]}\n", "line 5: user.forbidden_address: got \"손님\", want no name of the user's"},
		{smallCard + "facts:\n  - {question: q, accept: [a]}\n  - {question: q, accept: [b]}\n", "line 7: facts[1].question: got \"q\" again"},
		{smallCard + "shares: {protective: 0}\ngates: {protective_turns: 0.01}\n", "line 6: gates.protective_turns: got 0.01, want 0: shares.protective on line 5 plans none"},
		{smallCard + "dialogues_per_scene: 0\n", "dialogues_per_scene: got 0, want 1 to 1000"},
	} {
		_, err := Parse([]byte(bad.text), "card.yaml")
		if err == nil || !strings.Contains(err.Error(), bad.want) || !strings.HasPrefix(err.Error(), "persona card card.yaml: ") {
			t.Errorf("%q: got %v, want %s", strings.TrimPrefix(bad.text, smallCard), err, bad.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(smallCard)
	f.Add(smallCard + "cast: [{name: a, aliases: [b]}]\ngates: {honorific: 1}\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text), "card.yaml")
		if err != nil {
			return
		}
		if _, err := NewRenderer(c, Options{}); err != nil {
			t.Errorf("a card without fault has no renderer: %v", err)
		}
	})
}

// TestCopies changes copies of a card; the card stays as it is.
func TestCopies(t *testing.T) {
	c, err := Parse([]byte("version: 1\nid: x\nname: 백설공주\npersona: 당신은 백설공주입니다.\ngates: {honorific: 0.9, own_name: 0.5}\n"), "card.yaml")
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.WithGates(map[string]float64{"honorific": 0.1})
	if err != nil || other.Gates["honorific"] != 0.1 || other.Gates["own_name"] != 0.5 || other.Name != c.Name || c.Gates["honorific"] != 0.9 {
		t.Errorf("gates: got %v of %v, %v", other.Gates, c.Gates, err)
	}
	if _, err := c.WithGates(map[string]float64{"magic": 1}); err == nil || !strings.Contains(err.Error(), "gates.magic") {
		t.Errorf("unknown gate: got %v", err)
	}
	if n := c.Nobody(); n.Persona != "" || n.Name != c.Name || c.Persona == "" || len(n.Speakers()) != len(c.Speakers()) {
		t.Errorf("nobody: got %q", n.Persona)
	}
}
