package convert

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// TestParseModelID compares the name heuristics with llama.cpp's on the table
// that testdata/make_names.py makes.
func TestParseModelID(t *testing.T) {
	f, err := os.Open("testdata/names.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		var row struct {
			id                                                         string
			params                                                     int64
			name, organization, basename, finetune, version, sizeLabel *string
			title, file                                                string
		}
		fields := []any{&row.id, &row.params, &row.name, &row.organization, &row.basename, &row.finetune, &row.version, &row.sizeLabel, &row.title, &row.file}
		if err := json.Unmarshal(s.Bytes(), &fields); err != nil {
			t.Fatal(err)
		}
		np := parseModelID(row.id, row.params)
		for _, c := range []struct {
			what      string
			got, want *string
		}{
			{"name", np.name, row.name}, {"organization", np.organization, row.organization}, {"basename", np.basename, row.basename},
			{"finetune", np.finetune, row.finetune}, {"version", np.version, row.version}, {"size label", np.sizeLabel, row.sizeLabel},
		} {
			if text(c.got) != text(c.want) {
				t.Errorf("%q with %d weights: %s: got %s, want %s", row.id, row.params, c.what, text(c.got), text(c.want))
			}
		}
		if got := idToTitle(*np.name); got != row.title {
			t.Errorf("%q: title: got %q, want %q", row.id, got, row.title)
		}
		m := &metadata{vals: map[string]any{"name": row.title}, from: map[string]string{}}
		for field, v := range map[string]*string{"basename": np.basename, "finetune": np.finetune, "version": np.version, "size_label": np.sizeLabel} {
			if v != nil {
				m.vals[field] = *v
			}
		}
		if got := defaultName(m, "f16"); got != row.file {
			t.Errorf("%q: file name: got %q, want %q", row.id, got, row.file)
		}
	}
	if lines < 500 {
		t.Errorf("names.jsonl: got %d lines, want the whole table", lines)
	}
}

func text(s *string) string {
	if s == nil {
		return "none"
	}
	return "\"" + *s + "\""
}

// TestSizeLabel checks the rounding of weight counts.
func TestSizeLabel(t *testing.T) {
	for _, c := range []struct {
		n    paramCounts
		want string
	}{
		{paramCounts{total: 320}, "0.32K"}, {paramCounts{total: 4_022_468_096}, "4.0B"}, {paramCounts{total: 596_049_920}, "596M"},
		{paramCounts{total: 1_000_000}, "1000K"}, {paramCounts{total: 1_000_001}, "1.0M"}, {paramCounts{total: 10_500_000}, "10M"},
		{paramCounts{total: 9_500_000}, "10M"}, {paramCounts{total: 9_400_000}, "9.4M"}, {paramCounts{total: 2_000_000_000_000}, "2.0T"},
		{paramCounts{total: 30_500_000_000, shared: 1_500_000_000, expert: 226_000_000, experts: 128}, "128x1.7B"},
	} {
		if got := c.n.sizeLabel(); got != c.want {
			t.Errorf("size label of %+v: got %s, want %s", c.n, got, c.want)
		}
	}
}
