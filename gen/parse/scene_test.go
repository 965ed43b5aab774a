package parse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gen/raw"
)

func showScenes(s SceneReply) string {
	var b strings.Builder
	if s.Code != "" {
		fmt.Fprintf(&b, "!%s\n", s.Code)
	}
	for _, scene := range s.Scenes {
		if scene.Title != "" {
			fmt.Fprintf(&b, "[%s] ", scene.Title)
		}
		fmt.Fprintf(&b, "%s/%s/%s\n", scene.Type, scene.Location, scene.Background)
	}
	for _, d := range s.Dropped {
		fmt.Fprintf(&b, "-%s\n", d.Code)
	}
	return b.String()
}

const (
	sceneA = "장면 1:\n유형: 일상\n장소: 부엌\n배경: 이른 아침, 난로에 불이 켜져 있다.\n\n"
	sceneB = "장면 2:\n유형: 만남\n장소: 숲\n배경: 새들이 노래하고 햇살이 따뜻하다.\n\n"
	wantA  = "일상/부엌/이른 아침, 난로에 불이 켜져 있다.\n"
	wantB  = "만남/숲/새들이 노래하고 햇살이 따뜻하다.\n"
)

// TestSceneShapes has one reply for every shape of formats.md, section 4.
func TestSceneShapes(t *testing.T) {
	p := parser(t, testCard)
	element := `{"type": "일상", "location": "부엌", "background": "이른 아침, 난로에\n불이 켜져 있다."}`
	for name, c := range map[string]struct{ reply, want string }{
		"as asked for":          {sceneA + sceneB, wantA + wantB},
		"heading marks":         {"### " + sceneA + "## **장면 2:**\n" + strings.TrimPrefix(sceneB, "장면 2:\n"), wantA + wantB},
		"bold headings":         {strings.Replace(sceneA, "장면 1:", "**장면 1**:", 1) + strings.Replace(sceneB, "장면 2:", "**장면 2:**", 1), wantA + wantB},
		"bold keys":             {"장면 1:\n**유형**: 일상\n*장소*: 부엌\n**배경:** 이른 아침, 난로에 불이 켜져 있다.", wantA},
		"bold values":           {"장면 1:\n유형: **일상**\n* 장소: 부엌\n- 배경: 이른 아침, 난로에 불이 켜져 있다.", wantA},
		"value on next line":    {"장면 1\n* **유형:** 일상\n* **장소:**\n  * 부엌\n* **배경:**\n  * 이른 아침,\n  * 난로에 불이 켜져 있다.", wantA},
		"more paragraphs":       {"장면 1.\n유형: 일상\n장소: 부엌\n배경: 이른 아침,\n\n난로에\n불이 켜져 있다.\n\n" + sceneB, wantA + wantB},
		"English":               {"Scene 1:\nType: 일상\nLocation: 부엌\nBackground: 이른 아침, 난로에 불이 켜져 있다.", wantA},
		"empty backgrounds":     {strings.Replace(sceneA, "이른 아침, 난로에 불이 켜져 있다.", "**", 1) + strings.Replace(sceneB, "새들이 노래하고 햇살이 따뜻하다.", "...", 1) + strings.Replace(sceneA, ": 이른 아침, 난로에 불이 켜져 있다.", ":", 1), "-empty_background\n-empty_background\n-empty_background\n"},
		"missing keys":          {strings.Replace(sceneA, "유형: 일상\n", "", 1) + strings.Replace(sceneB, "장소: 숲\n", "", 1) + sceneA, wantA + "-missing_type\n-missing_location\n"},
		"breaks off":            {strings.Replace(sceneA, " 난로에 불이 켜져 있다.", "", 1) + sceneB, wantB + "-incomplete_background\n"},
		"cut off at the end":    {sceneA + sceneB + sceneA + strings.Replace(sceneB, " 따뜻하다.", " 따뜻", 1), wantA + wantB + wantA + "-truncated\n"},
		"abbreviated":           {sceneA + "장면 11~20: 각각 비슷한 장면이다.\n\n장면 11-20\n\n장면 1부터 장면 10까지는 위와 같고\n\n" + sceneB, wantA + wantB + "-abbreviated\n-abbreviated\n-abbreviated\n"},
		"no headings":           {strings.Replace(sceneA, "장면 1:\n", "", 1) + strings.Replace(sceneB, "장면 2:\n", "", 1), wantA + wantB},
		"no headings, no type":  {strings.Replace(sceneA, "장면 1:\n", "", 1) + "장소: 숲\n배경: 새들이 노래하고 햇살이 따뜻하다.\n", wantA + "-missing_type\n"},
		"numbers again":         {sceneA + sceneB + sceneA, wantA + wantB + wantA},
		"mention in background": {"장면 1:\n유형: 일상\n장소: 부엌\n배경: 이른 아침, 난로에\n장면 3에서처럼 불이 켜져 있다.", "일상/부엌/이른 아침, 난로에 장면 3에서처럼 불이 켜져 있다.\n"},
		"titles":                {strings.Replace(sceneA, "장면 1:", "장면 1: 아침의 부엌", 1) + strings.Replace(sceneB, "장면 2:", "**장면 2. \"숲\"**", 1), "[아침의 부엌] " + wantA + "[숲] " + wantB},
		"other headings":        {strings.Replace(sceneA, "장면 1:", "[장면 1]", 1) + strings.Replace(sceneB, "장면 2:", "장면 2：", 1), wantA + wantB},
		"keys in brackets":      {"장면 1:\n[유형] 일상\n[장소] 부엌\n[배경] 이른 아침, 난로에 불이 켜져 있다.", wantA},
		"aliases":               {"장면 1:\n유형: 일상\n위치: 부엌\n상황: 이른 아침, 난로에 불이 켜져 있다.", wantA},
		"rules, spaces, remark": {strings.ReplaceAll(sceneA, "\n", "  \n") + "---\n\n" + sceneB + "---\n\n이 장면들은 모두 새로 지었습니다.", wantA + wantB},
		"remark":                {"다음은 장면입니다.\n\n" + sceneA + sceneB + "이상으로 두 장면을 마칩니다.", wantA + wantB},
		"JSON":                  {`{"scenes": [` + element + `]}`, wantA},
		"JSON list in a fence":  {"```json\n[" + element + ", " + element + "]\n```", wantA + wantA},
		"JSON cut off":          {"[" + element + ", " + element[:60], wantA + "-truncated\n"},
		"JSON one":              {element, wantA},
		"JSON, Korean keys":     {`[{"유형": "일상", "장소": "부엌", "배경": "이른 아침, 난로에 불이 켜져 있다."}]`, wantA},
		"none":                  {"장면을 만들 수 없어요.", "!no_scenes\n"},
		"empty":                 {"", "!empty\n"},
		"quotes":                {"장면 1:\n유형: \"일상\"\n장소: '부엌'\n배경: “이른 아침, 난로에 불이 켜져 있다.”", wantA},
	} {
		if got := showScenes(p.Scenes(&raw.Row{Completions: raw.Text(c.reply)})); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", name, got, c.want)
		}
	}
}

func TestSceneProfile(t *testing.T) {
	p := parser(t, testCard)
	for prompt, want := range map[string]string{
		"맥락:\n숲 속 작은 집에서 살았어요.\n\n위의 맥락을 바탕으로":          "숲 속 작은 집에서 살았어요.",
		"Context:\nShe lived there.\nImagine 20 scenes": "She lived there.", "아무것도 없음": "",
	} {
		s := p.Scenes(&raw.Row{Prompt: prompt, Completions: sceneA})
		if s.Scenes[0].Profile != want {
			t.Errorf("%q: got %q, want %q", prompt, s.Scenes[0].Profile, want)
		}
	}
	s := p.Scenes(&raw.Row{Profile: "문단", Completions: raw.Text(strings.Replace(sceneA, "일상", "잠자기", 1))})
	if s.Scenes[0].Profile != "문단" || s.Notes["unknown_type"] != 1 {
		t.Errorf("got %+v", s)
	}
	if s := p.Scenes(&raw.Row{Completions: raw.Text(strings.TrimSuffix(sceneA, ".\n\n")), DoneReason: "length"}); showScenes(s) != "-truncated\n" {
		t.Errorf("cut off by the limit: got %s", showScenes(s))
	}
}
