package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gen/raw"
	"github.com/persona-gguf/persona-gguf/persona"
)

// wanted is what a person reads in a row of gen/testdata; gen/fixture decides it.
type wanted struct {
	ID         string     `json:"gen_answer_id"`
	Shape      string     `json:"shape"`
	Code       string     `json:"code"`
	Background string     `json:"background"`
	Turns      []raw.Turn `json:"turns"`
}

// score counts turns: right ones, and those that are wrong or missing.
type score struct{ right, wrong, missing, of int }

// compare aligns two lists of turns: what is in both in the same order is right.
func compare(got, want []raw.Turn) score {
	key := func(t raw.Turn) string {
		return t.Role + "\x00" + t.Action + "\x00" + strings.Join(strings.Fields(t.Content), " ")
	}
	table := make([][]int, len(got)+1) // longest common subsequence
	for i := range table {
		table[i] = make([]int, len(want)+1)
	}
	for i := range got {
		for j := range want {
			if key(got[i]) == key(want[j]) {
				table[i+1][j+1] = table[i][j] + 1
			} else {
				table[i+1][j+1] = max(table[i][j+1], table[i+1][j])
			}
		}
	}
	n := table[len(got)][len(want)]
	return score{n, len(got) - n, len(want) - n, len(want)}
}

func readWanted(t *testing.T, data []byte) (out []wanted) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	for d.More() {
		var w wanted
		if err := d.Decode(&w); err != nil {
			t.Fatal(err)
		}
		out = append(out, w)
	}
	return out
}

// TestFixtures reads the rows of gen/testdata, and wants at least 999 of 1,000 turns that a person accepts, and none
// that is wrong. Another character, with other names and no other code, has to do as well.
func TestFixtures(t *testing.T) {
	renamed := strings.NewReplacer("백설공주", "인어공주", "백설공스", "인어공쥬", "난쟁이들", "거북이들", "난쟁이", "거북이", "snow_white", "little_mermaid", "사용자", "여행자")
	for _, c := range []struct {
		name, file string
		rename     func(string) string
		rows       int
	}{
		{"Snow White", "snow_white", strings.Clone, 500}, {"an English character", "clockmaker", strings.Clone, 300},
		{"a second Korean character", "snow_white", renamed.Replace, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := func(suffix string) []byte {
				data, err := os.ReadFile(filepath.Join("..", "testdata", c.file+suffix))
				if err != nil {
					t.Fatal(err)
				}
				return []byte(c.rename(string(data)))
			}
			card, err := persona.Parse(read(".yaml"), c.file+".yaml")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "raw.jsonl")
			if err := os.WriteFile(path, read(".jsonl"), 0o644); err != nil {
				t.Fatal(err)
			}
			runFixtures(t, card, path, readWanted(t, read(".want.jsonl")), c.rows)
		})
	}
}

func runFixtures(t *testing.T, card *persona.Card, path string, wants []wanted, least int) {
	f, err := raw.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Len() != len(wants) || f.Len() < least || len(f.Damage) != 0 {
		t.Fatalf("got %d rows, %v, want %d without damage", f.Len(), f.Problems(3), len(wants))
	}
	p := New(card)
	var sum score
	bad := map[string]int{}
	for i, want := range wants {
		row, err := f.Row(i)
		if err != nil || string(row.ID) != want.ID {
			t.Fatalf("row %d: got id %s, %v, want %s", i+1, row.ID, err, want.ID)
		}
		d := p.Dialogue(row)
		if d.Code != want.Code {
			t.Errorf("%s, %s: got code %q, want %q: %s", want.Shape, want.ID, d.Code, want.Code, show(d))
		}
		if want.Code != "" {
			continue
		}
		if d.Background != want.Background {
			t.Errorf("%s, %s: got background %q, want %q", want.Shape, want.ID, d.Background, want.Background)
		}
		s := compare(d.Turns, want.Turns)
		sum = score{sum.right + s.right, sum.wrong + s.wrong, sum.missing + s.missing, sum.of + s.of}
		if s.wrong+s.missing > 0 {
			if bad[want.Shape]++; bad[want.Shape] == 1 {
				t.Logf("%s, %s: got\n%swant\n%s", want.Shape, want.ID, show(d), show(Dialogue{Turns: want.Turns}))
			}
		}
		if _, structured := findJSON(string(row.Completions)); !structured {
			notInserted(t, string(row.Completions), d)
		}
	}
	t.Logf("%d rows, %d of %d turns right, %d wrong, %d missing", len(wants), sum.right, sum.of, sum.wrong, sum.missing)
	if sum.wrong > 0 || float64(sum.right) < 0.999*float64(sum.of) {
		t.Errorf("got %d of %d turns right, %d wrong, want 99.9%% right and none wrong: %s", sum.right, sum.of, sum.wrong, fmt.Sprint(bad))
	}
}
