package persona

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProfileForms(t *testing.T) {
	for name, c := range map[string]struct {
		text, name string
		want       []string
		lines      []int
	}{
		"as shipped":            {"백설공주\n\n하나.\n\n둘.\n", "백설공주", []string{"하나.", "둘."}, []int{3, 5}},
		"upstream's head":       {"# Snow White\n\nOne.\n\n\n\nTwo.", "Snow White", []string{"One.", "Two."}, []int{3, 7}},
		"wrapped lines":         {"백설공주\n\n첫 줄과\n  둘째 줄.\n\n끝.", "백설공주", []string{"첫 줄과 둘째 줄.", "끝."}, []int{3, 6}},
		"no empty line":         {"백설공주\n하나.\n둘.", "백설공주", []string{"하나. 둘."}, []int{2}},
		"BOM, CRLF":             {"\ufeff백설공주\r\n\r\n하나.\r\n\r\n둘.\r\n", "백설공주", []string{"하나.", "둘."}, []int{3, 5}},
		"no name, lines":        {"하나입니다.\n둘입니다.", "", []string{"하나입니다.", "둘입니다."}, []int{1, 2}},
		"no name, blocks":       {"하나\n입니다.\n\n둘입니다.", "하나", []string{"입니다.", "둘입니다."}, []int{2, 4}},
		"no name, whole blocks": {"하나입니다.\n그리고.\n\n둘입니다.", "", []string{"하나입니다. 그리고.", "둘입니다."}, []int{1, 4}},
	} {
		p, err := ParseProfile(c.text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var texts []string
		var lines []int
		for _, paragraph := range p.Paragraphs {
			texts, lines = append(texts, paragraph.Text), append(lines, paragraph.Line)
		}
		if p.Name != c.name || !slices.Equal(texts, c.want) || !slices.Equal(lines, c.lines) {
			t.Errorf("%s: got %q, %q, %v, want %q, %q, %v", name, p.Name, texts, lines, c.name, c.want, c.lines)
		}
	}
	for _, bad := range []string{"", " \n\n", "백설공주\n", "a\xff\n\nb"} {
		if _, err := ParseProfile(bad); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
	if _, err := ReadProfile(filepath.Join(t.TempDir(), "none.txt")); err == nil {
		t.Error("no file: got no error")
	}
}

// TestProfileIDs wants re-splitting one paragraph to change only its ids.
func TestProfileIDs(t *testing.T) {
	ids := func(text string) (out []string) {
		p, err := ParseProfile(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, paragraph := range p.Paragraphs {
			out = append(out, paragraph.ID)
		}
		return out
	}
	a, b := ids("이름\n\n하나.\n\n둘. 셋.\n\n넷."), ids("이름\n\n하나.\n\n둘.\n\n셋.\n\n넷.")
	if a[0] != b[0] || a[2] != b[3] || slices.Contains(b, a[1]) || len(a[0]) != 16 {
		t.Errorf("got %v and %v", a, b)
	}
}

func TestProfileLint(t *testing.T) {
	ok := strings.Repeat("가", 200)
	p, err := ParseProfile("인어공주\n\n네.\n\n" + ok + "\n\n" + strings.Repeat("나", 351) + "\n\n" + ok + "\n")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(p.Lint(mustParse(t, smallCard)), "\n")
	want := "line 1: name: got \"인어공주\", want \"백설공주\" as the card has it\nline 9: paragraph: got the text again, want it once: it is on line 5 too\n" +
		"line 3: paragraph, and 1 more: got 2 to 351 characters, want 150 to 350"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestExampleProfile(t *testing.T) {
	c, err := Read("../examples/snow_white/persona.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ReadProfile(c.ProfilePath())
	if err != nil || len(p.Paragraphs) != 12 || len(p.Lint(c)) != 0 || p.Name != "" {
		t.Errorf("got %+v, %v", p, err)
	}
	if found := c.LintFacts(p); len(found) != 0 {
		t.Errorf("the example contradicts itself: %v", found)
	}
	dir := t.TempDir()
	path := SeedProfile(dir, "snow_white", "korean")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("백설공주\n\n하나.\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := ReadProfile(path); err != nil || p.Name != "백설공주" {
		t.Errorf("seed's layout: got %+v, %v", p, err)
	}
}

// TestFactsContradict has the persona say that a kiss woke her, and the profile that the apple fell out.
func TestFactsContradict(t *testing.T) {
	card := strings.Replace(smallCard, "persona: 당신은 백설공주입니다.", "persona: |\n  당신은 백설공주입니다.\n  왕자의 키스로 깨어났어요.\n  마법에 걸린 적은 없어요.", 1) +
		"facts:\n  - {question: '어떻게 깨어났어요?', accept: [사과 조각], reject: [왕자의 키스]}\n  - {question: '마법?', accept: [독], reject: [마법]}\n"
	p, err := ParseProfile("백설공주\n\n관이 흔들리자 사과 조각이 튀어나왔어요. 그래서 눈을 떴어요.")
	if err != nil {
		t.Fatal(err)
	}
	found := mustParse(t, card).LintFacts(p)
	if len(found) != 1 || found[0].Where != "persona" || found[0].Line != 6 || found[0].Text != "왕자의 키스로 깨어났어요." ||
		found[0].Other != "관이 흔들리자 사과 조각이 튀어나왔어요." {
		t.Errorf("got %+v", found)
	}
}

func TestSpeaker(t *testing.T) {
	c := mustParse(t, smallCard+"aliases: [백설공스]\nuser: {name: 손님}\ncast: [{name: Grumpy, aliases: [난쟁이들, Old  Dwarf]}]\n")
	for name, want := range map[string]Speaker{
		"백설공주": {"백설공주", Character}, "백설공스": {"백설공주", Character}, "백설공주님": {"백설공주", Character}, "백설공주 씨": {"백설공주", Character},
		"사용자": {"손님", Visitor}, "손님": {"손님", Visitor}, "user": {"손님", Visitor}, "GRUMPY": {"Grumpy", Other}, "old dwarf": {"Grumpy", Other},
		"난쟁이들": {"Grumpy", Other},
	} {
		if got, ok := c.Speaker(name); !ok || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "님", "난쟁이2", "늑대", "백설공주는"} {
		if got, ok := c.Speaker(name); ok {
			t.Errorf("%q: got %+v, want nobody", name, got)
		}
	}
}

func TestWord(t *testing.T) {
	for _, c := range []struct {
		text, word string
		whole      bool
		want       bool
	}{
		{"작은 새가 운다", "새", false, true}, {"새로운 집", "새", true, false}, {"어느새 왔다", "새", false, false}, {"어느새 왔다", "새", true, false},
		{"새, 꽃", "새", true, true}, {"저는 Qwen입니다", "qwen", false, true}, {"Qwen3", "Qwen", false, false}, {"an air", "AI", false, false},
		{"AI예요", "AI", false, true}, {"", "a", false, false}, {"a", "", false, false}, {"\"왕자님\"", "왕자님", true, true},
	} {
		if got := Word(c.text, c.word, c.whole); got != c.want {
			t.Errorf("%q in %q, whole %v: got %v, want %v", c.word, c.text, c.whole, got, c.want)
		}
	}
}

func TestSentences(t *testing.T) {
	got := Sentences("안녕하세요? 저는... 3.5살이에요!\n\"그래요.\" 네…")
	if want := []string{"안녕하세요?", "저는...", "3.5살이에요!", "\"그래요.\"", "네…"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for text, want := range map[string]string{
		"하나예요. 둘이에": "하나예요.", "하나예요.": "하나예요.", "하나": "", "": "", "\"네.\" 그리": "\"네.\"", "3.5는": "", "네... 저": "네...",
	} {
		if got := CutSentence(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
