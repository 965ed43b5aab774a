package persona

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStart(t *testing.T) {
	for name, want := range map[string]struct{ id, language, user string }{
		"백설공주":          {"character", "korean", "사용자"},
		"Snow White":    {"snow_white", "english", "User"},
		"R2: the #1 'x": {"r2_the_1_x", "english", "User"},
	} {
		if strings.Contains(name, ":") {
			if _, err := Start(StartOptions{Name: name}, "card.yaml"); err == nil || !strings.Contains(err.Error(), "want a name without brackets") {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		text, err := Start(StartOptions{Name: name}, "card.yaml")
		if err != nil {
			t.Fatal(err)
		}
		c := mustParse(t, text)
		if c.ID != want.id || c.Name != name || c.Language != want.language || c.User.Name != want.user || !strings.Contains(c.Persona, name) {
			t.Errorf("%s: got %+v", name, c)
		}
	}
	for _, bad := range []StartOptions{{}, {Name: "a", Language: "latin"}, {Name: "a", ID: "A-b"}} {
		if _, err := Start(bad, "card.yaml"); err == nil {
			t.Errorf("%+v: got no error", bad)
		}
	}
}

// TestStartFromSeed takes the profile and the persona text of the seed's layout as they are.
func TestStartFromSeed(t *testing.T) {
	root := t.TempDir()
	put := func(text string, parts ...string) {
		path := filepath.Join(append([]string{root, "data", "seed_data"}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("백설공주\n\n하나.\n", "profiles", "wiki_snow_white-korean.txt")
	o := StartOptions{Name: "백설공주", ID: "snow_white", Root: root}
	for text, want := range map[string]string{
		"당신은 \"백설공주\"입니다.  \n\n# 성격 특성\n- 상냥함: 네\n": "당신은 \"백설공주\"입니다.  \n\n# 성격 특성\n- 상냥함: 네",
		"  처음에 빈칸\n둘째":                       "  처음에 빈칸\n둘째",
		"당신은 {character}입니다. 위치: {loc_time}": "당신은 백설공주입니다. (어떤 인물인지, 어떻게 말하는지 두세 문장으로 적으세요.)",
		"괄호 {{그대로}}":                         "괄호 {그대로}",
	} {
		put(text, "prompts", "agent_meta_prompt_sft_korean.txt")
		card, err := Start(o, filepath.Join(root, "card.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse([]byte(card), filepath.Join(root, "card.yaml"))
		if err != nil || c.Persona != want {
			t.Errorf("%q: got %q, %v, want %q", text, c.Persona, err, want)
		}
		if p, err := ReadProfile(c.ProfilePath()); err != nil || p.Name != "백설공주" {
			t.Errorf("profile: got %+v, %v", p, err)
		}
	}
}
