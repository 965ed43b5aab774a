package lora

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzConfig wants an error or a configuration that a merge can use, for any text, and a second reading equal to
// the first.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/adapters/*/" + configName)
	if err != nil || len(files) == 0 {
		f.Fatalf("got %d files (%v)", len(files), err)
	}
	for _, file := range files[:12] {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"peft_type":"LORA","r":1,"lora_alpha":1e308,"target_modules":"all-linear","rank_pattern":{".*[":1}}`))
	f.Add([]byte(`{"peft_type":"LORA","trainable_token_indices":{"a":[1,-1]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		if c.R < 1 || c.Bias != "none" && c.Bias != "all" && c.Bias != "lora_only" {
			t.Fatalf("accepted r %d, bias %q", c.R, c.Bias)
		}
		path := "model.layers.3.self_attn.q_proj"
		first := c.targets(path)
		again, err := parseConfig(data)
		if err != nil || again.R != c.R || again.targets(path) != first {
			t.Fatalf("read again: %+v, %v", again, err)
		}
	})
}
