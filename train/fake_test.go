package train

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	exampleBase = "../examples/snow_white/base"
	cacheDir    = "../.cache/python"
	secret      = "hf_ThisIsSecret123"
)

// fakeTrainer stands in for Python: it answers the check, and on a configuration does what FAKE says.
const fakeTrainer = `#!/bin/bash
if [ "$2" = check ]; then echo "{\"event\":\"check\",\"missing\":[$FAKE_MISSING]}"; exit; fi
config=${!#}
field() { sed -n "s/^  \"$1\": \"\(.*\)\",\$/\1/p" "$config"; }
out=$(field output)
cp "$config" "$out/seen.json"
echo "loading with $HF_TOKEN" >&2
echo "a library prints $HF_TOKEN"
echo '{"event":"sample","text":"질문 답.<end>","spans":[[3,10]],"ids":[1,2],"labels":[-100,2]}'
echo '{"event":"data","records":8,"train":7,"eval":1,"tokens":80,"learned":20,"longest":11,"too_long":0,"max_length":64,"end_tokens":{"<|im_end|>":2002}}'
echo '{"event":"start","versions":{"torch":"2.15.0"},"device":"cpu","processes":1,"optimizer":"adamw_torch","compute":"bfloat16"}'
echo '{"event":"begin","step":0,"steps":4}'
echo '{"event":"step","step":1,"steps":4,"epoch":0.5,"loss":2.5,"tokens":40,"tokens_per_second":100,"learning_rate":0.1}'
echo '{"event":"eval","step":1,"epoch":0.5,"eval_loss":2.25}'
checkpoint() { mkdir -p "$out/checkpoint-$1"; echo '{}' >"$out/checkpoint-$1/trainer_state.json"; echo "{\"event\":\"checkpoint\",\"step\":$1}"; }
case $FAKE in
ok)
	checkpoint 1
	echo '{"event":"step","step":2,"steps":4,"epoch":1,"loss":1.5,"tokens":80,"tokens_per_second":100,"learning_rate":0.1}'
	echo '{}' >"$out/adapter_config.json"; echo weights >"$out/adapter_model.safetensors"; echo card >"$out/README.md"
	echo '{"event":"done","step":2,"train_loss":2,"best_eval_loss":2.25,"best_step":1,"base_quant":{"type":"nf4","offsets":{"model.a":0.120975494}},"end_tokens":{"<|im_end|>":2002},"eos_token_id":2002,"pad_token_id":2000,"generation_eos_token_id":[2002,2000],"trainable":5}' ;;
memory) echo '{"event":"error","kind":"memory","text":"OutOfMemoryError: tried to allocate 4.03 GiB"}'; exit 1 ;;
base) echo '{"event":"error","kind":"base","text":"Qwen/Qwen3-4B-Instruct: 404"}'; exit 1 ;;
crash) checkpoint 1; mkdir "$out/checkpoint-2"; echo "Segmentation fault near $HF_TOKEN" >&2; exit 139 ;;
slow) checkpoint 1; cat >/dev/null; checkpoint 3; echo '{"event":"interrupted","step":3}'; exit 3 ;;
deaf) exec sleep 1000 ;;
esac
`

// sftLine is a record of the example.
func sftLine(i int, split string) string {
	prompt := "<|im_start|>user\\n너는 누구야?" + strings.Repeat("!", i%3) + "<|im_end|>\\n<|im_start|>assistant\\n"
	if split != "" {
		split = `,"split":"` + split + `"`
	}
	start := len([]rune(prompt)) - 3 // two-letter line ends are one
	answer := "저는 백설공주예요."
	return fmt.Sprintf(`{"prompt":"","output":"%s%s<|im_end|>\n","source":"s%d","spans":[[%d,%d]],"end":"<|im_end|>","format":"chatml"%s}`+"\n",
		prompt, answer, i, start, start+len([]rune(answer))+10, split)
}

func writeSFT(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sft.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// messages collects what a run says.
type messages struct {
	mu   sync.Mutex
	text []string
}

func (m *messages) add(s string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.text = append(m.text, s)
}

func (m *messages) has(part string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.text, func(s string) bool { return strings.Contains(s, part) })
}

// fakeOptions are options of a run with the fake trainer.
func fakeOptions(t *testing.T, behaviour string) (Options, *messages) {
	t.Helper()
	dir := t.TempDir()
	python := filepath.Join(dir, "python")
	if err := os.WriteFile(python, []byte(fakeTrainer), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OLLAMA_HOST", "127.0.0.1:1") // nobody listens there
	var lines []string
	for i := range 8 {
		lines = append(lines, sftLine(i, ""))
	}
	said := &messages{}
	o := DefaultOptions()
	o.BaseModel, o.DataPath, o.OutputDir = exampleBase, writeSFT(t, lines...), filepath.Join(dir, "out")
	o.Python, o.CacheDir = python, filepath.Join(dir, "cache")
	o.Env = []string{"PATH=/usr/bin:/bin", "FAKE=" + behaviour, "HF_TOKEN=" + secret, "OTHER_API_KEY=short"}
	o.Info, o.Warn = said.add, said.add
	return o, said
}

// grep lists the files under dir that contain text.
func grep(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), text) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
