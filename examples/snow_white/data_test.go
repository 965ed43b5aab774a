package snowwhite_test

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	llama "github.com/go-skynet/go-llama.cpp"
)

// maxFolder is what the whole example may weigh in a clone, in bytes.
const maxFolder = 8_000_000

func readDialogues(t *testing.T, name string) [][]llama.ChatMessage {
	t.Helper()
	f, err := os.Open(filepath.Join("data", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all [][]llama.ChatMessage
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var d struct {
			Messages []llama.ChatMessage `json:"messages"`
		}
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Fatalf("%s line %d: %v", name, len(all)+1, err)
		}
		all = append(all, d.Messages)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDialogues wants: an optional system message, then user and assistant in turn,
// ending with the assistant; no dialogue twice, and none of the unseen ones among the learned ones.
func TestDialogues(t *testing.T) {
	pairs := []struct {
		learned, unseen string
		atLeast         int
	}{{"base.jsonl", "base_heldout.jsonl", 150}, {"persona.jsonl", "heldout.jsonl", 150}}
	for _, p := range pairs {
		seen := map[string]string{}
		for _, name := range []string{p.learned, p.unseen} {
			dialogues := readDialogues(t, name)
			if name == p.learned && len(dialogues) < p.atLeast || len(dialogues) < 30 {
				t.Errorf("%s: got %d dialogues", name, len(dialogues))
			}
			for i, messages := range dialogues {
				if bad := badTurn(messages); bad >= 0 {
					t.Errorf("%s line %d: message %d is out of turn or empty", name, i+1, bad)
				}
				question := key(messages[:len(messages)-1])
				if first, ok := seen[question]; ok {
					t.Errorf("%s line %d: the question is in %s already: %s", name, i+1, first, question)
				}
				seen[question] = name
			}
		}
	}
}

// badTurn returns the index of the first message that should not be there, or -1.
func badTurn(messages []llama.ChatMessage) int {
	turns := messages
	if len(turns) > 0 && turns[0].Role == "system" {
		turns = turns[1:]
	}
	roles := [2]string{"user", "assistant"}
	for i, m := range turns {
		if m.Role != roles[i%2] || strings.TrimSpace(m.Content) != m.Content || m.Content == "" {
			return len(messages) - len(turns) + i
		}
	}
	if len(turns) == 0 || len(turns)%2 != 0 {
		return len(messages)
	}
	return -1
}

func key(messages []llama.ChatMessage) string {
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(m.Role + ": " + m.Content + "\n")
	}
	return b.String()
}

// TestPersonaSpeech wants the character's answers in polite Korean only: every sentence
// ends in 요 or 니다, and no Latin letter and no Chinese character occurs.
func TestPersonaSpeech(t *testing.T) {
	for _, name := range []string{"persona.jsonl", "heldout.jsonl"} {
		for i, messages := range readDialogues(t, name) {
			for _, m := range messages {
				if m.Role != "assistant" {
					continue
				}
				if bad := badSpeech(m.Content); bad != "" {
					t.Errorf("%s line %d: %s: %s", name, i+1, bad, m.Content)
				}
			}
		}
	}
	for text, want := range map[string]bool{
		"저는 백설공주예요. 반가워요!": true, "나는 백설공주야.": false, "저는 AI예요.": false, "저는 白雪이에요.": false,
		"저는 백설공주예요": false, "그렇습니다.": true,
	} {
		if got := badSpeech(text) == ""; got != want {
			t.Errorf("badSpeech(%q): got %v, want %v", text, got, want)
		}
	}
}

// badSpeech says what is wrong with an answer of the character, or "".
func badSpeech(text string) string {
	for _, r := range text {
		if unicode.Is(unicode.Latin, r) || unicode.Is(unicode.Han, r) {
			return "foreign letter " + string(r)
		}
	}
	end := func(r rune) bool { return r == '.' || r == '?' || r == '!' }
	if !strings.ContainsAny(text[len(text)-1:], ".?!") {
		return "no end of sentence"
	}
	for _, sentence := range strings.FieldsFunc(text, end) {
		if !strings.HasSuffix(sentence, "요") && !strings.HasSuffix(sentence, "니다") {
			return "not polite: " + sentence
		}
	}
	return ""
}

// TestFolder wants a small folder without traces of the machine it was made on.
func TestFolder(t *testing.T) {
	var total int64
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		if filepath.Ext(path) != ".json" {
			return nil
		}
		data, err := os.ReadFile(path)
		for _, trace := range []string{"/tmp/", "/home/", "/work/", "/root/"} {
			if strings.Contains(string(data), trace) {
				t.Errorf("%s: contains %q", path, trace)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > maxFolder {
		t.Errorf("folder: got %d bytes, want at most %d", total, maxFolder)
	}
}
