package convert

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

func parseObject(t *testing.T, text string) *object {
	t.Helper()
	v, err := parseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v.(*object)
}

// edit replaces the first occurrence of old in a file.
func edit(t *testing.T, dir, name, old, replacement string) {
	t.Helper()
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s: no %q in it", name, old)
	}
	data = bytes.Replace(data, []byte(old), []byte(replacement), 1)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func testConfig(t *testing.T, dir string) *config {
	t.Helper()
	c, err := loadConfig(dir, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// value returns the last value of a key.
func value(v *vocab, key string) any {
	var m gguf.Metadata
	if err := v.write(&m); err != nil {
		return err
	}
	x, _ := m.Get(key)
	return x
}

func tinyFolder(t *testing.T, name string) string {
	t.Helper()
	spec, err := testmodel.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), name)
	if err := testmodel.Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBadTokenizer breaks one thing at a time. Every error names the file and
// what is wrong in it.
func TestBadTokenizer(t *testing.T) {
	for _, c := range []struct {
		name, spec, file, old, replacement string
		family                             vocabFamily
		want                               string
	}{
		{"model type", "qwen3-untied", "tokenizer.json", `"type": "BPE"`, `"type": "Unigram"`, vocabQwen, `model.type: unsupported: got "Unigram", want BPE`},
		{"syntax", "qwen3-untied", "tokenizer.json", `"version": "1.0"`, `"version": 1.0.0`, vocabQwen, "line "},
		{"vocabulary list", "qwen3-untied", "tokenizer.json", `"vocab": {`, `"vocab": [], "other": {`, vocabQwen, "model.vocab: missing or empty"},
		{"negative id", "qwen3-untied", "tokenizer.json", `"!": 0`, `"!": -1`, vocabQwen, `token "!": got id -1`},
		{"fractional id", "qwen3-untied", "tokenizer.json", `"!": 0`, `"!": 0.5`, vocabQwen, `token "!": got id 0.5`},
		{"huge id", "qwen3-untied", "tokenizer.json", `"!": 0`, `"!": 99999999999`, vocabQwen, `token "!": got id 99999999999`},
		{"id twice", "qwen3-untied", "tokenizer.json", `"!": 0`, `"!": 1`, vocabQwen, "id 1 stands twice"},
		{"id beyond vocab_size", "qwen3-untied", "tokenizer.json", `"!": 0`, `"!": 5000`, vocabQwen, "got id 5000, want less than the vocab_size 352"},
		{"hole under an added token", "qwen3-untied", "tokenizer.json", `"!": 0`, `"!": 316`, vocabQwen, "model.vocab has holes"},
		{"small vocab_size", "qwen3-untied", "config.json", `"vocab_size": 352`, `"vocab_size": 341`, vocabQwen, "want less than the vocab_size 341"},
		{"huge vocab_size", "qwen3-untied", "config.json", `"vocab_size": 352`, `"vocab_size": 4000000000`, vocabQwen, "vocab_size: got 4000000000"},
		{"added tokens object", "qwen3-untied", "tokenizer.json", `"added_tokens": [`, `"added_tokens": {}, "x": [`, vocabQwen, "added_tokens: got an object, want an array"},
		{"added token without content", "qwen3-untied", "tokenizer.json", `"content": "<|endoftext|>"`, `"text": "<|endoftext|>"`, vocabQwen, "added_tokens[0]: content: missing"},
		{"added token flag", "qwen3-untied", "tokenizer.json", `"special": true`, `"special": "yes"`, vocabQwen, `special: got a string, want a boolean`},
		{"merge kind", "qwen3-untied", "tokenizer.json", `"merges": [`, `"merges": [7,`, vocabQwen, "model.merges[0]: got an integer, want a pair of strings"},
		{"merge triple", "qwen3-tied", "tokenizer.json", `"merges": [`, `"merges": [["a", "b", "c"],`, vocabQwen, "model.merges[0]"},
		{"mixed merges", "qwen3-untied", "tokenizer.json", `"merges": [`, `"merges": ["a b", ["c", "d"],`, vocabQwen, "model.merges[1]: got an array, want a string"},
		{"decoder", "qwen3-untied", "tokenizer.json", `"decoder": {`, `"decoder": {"type": "WordPiece"}, "x": {`, vocabQwen, `decoder: unsupported type: got "WordPiece"`},
		{"decoder table", "qwen3-untied", "tokenizer_config.json", `"added_tokens_decoder": {`, `"added_tokens_decoder": [], "x": {`, vocabQwen, "added_tokens_decoder: got an array, want an object"},
		{"decoder id", "qwen3-untied", "tokenizer_config.json", `"316": {`, `"three": {`, vocabQwen, `added_tokens_decoder: got id "three"`},
		{"special token", "qwen3-untied", "tokenizer_config.json", `"eos_token": "<|im_end|>"`, `"eos_token": 318`, vocabQwen, "eos_token: got an integer, want a string"},
		{"additional", "qwen3-untied", "tokenizer_config.json", `"additional_special_tokens": [`, `"additional_special_tokens": "x", "y": [`, vocabQwen, "additional_special_tokens: got a string, want an array"},
		{"chat templates", "qwen3-f32-head", "tokenizer_config.json", `"chat_template": [`, `"chat_template": ["x",`, vocabQwen, "chat_template[0]: got a string"},
		{"negative special id", "qwen2", "config.json", `"bos_token_id": 316`, `"bos_token_id": -1`, vocabQwen, "bos_token_id: got id -1"},
		{"huge special id", "qwen2", "config.json", `"bos_token_id": 316`, `"bos_token_id": 4294967296`, vocabQwen, "bos_token_id: got id 4294967296"},
		{"space prefix", "llama-spm", "tokenizer_config.json", `"add_prefix_space": true`, `"add_prefix_space": "yes"`, vocabLlama, "add_prefix_space: got a string, want a boolean"},
		{"DNA", "llama-spm", "tokenizer_config.json", `"LlamaTokenizer"`, `"HybridDNATokenizer"`, vocabLlama, "tokenizer_class: unsupported"},
		{"added id", "llama-spm", "added_tokens.json", `"<persona>": `, `"<persona>": -`, vocabLlama, `token "<persona>": got id -`},
		{"fallback hole", "llama-hf-bpe", "tokenizer.json", `"</s>": 2`, `"</s>": 400`, vocabLlama, "want every id from 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tinyFolder(t, c.spec)
			edit(t, dir, c.file, c.old, c.replacement)
			v, err := loadVocab(dir, testConfig(t, dir), c.family)
			if err == nil {
				t.Fatalf("got %d tokens, want an error with %q", v.size, c.want)
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Join(dir, c.file)) {
				t.Errorf("got %q, want the file %s and %q", err, c.file, c.want)
			}
		})
	}
}

// TestMissingTokenizer: no tokenizer at all, and one in a form only the
// original tools read.
func TestMissingTokenizer(t *testing.T) {
	dir := tinyFolder(t, "mistral-tekken")
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	c := testConfig(t, dir)
	for _, f := range []vocabFamily{vocabQwen, vocabGPT2, vocabLlama, vocabGemma3} {
		if _, err := loadVocab(dir, c, f); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
			t.Errorf("no tokenizer: got %v, want an error that names tokenizer.json", err)
		}
	}
	if _, err := gemmaVocabRows(dir, c); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("no tokenizer: got %v, want an error that names tokenizer.json", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tekken.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadVocab(dir, c, vocabLlama); err == nil || !strings.Contains(err.Error(), "tekken.json") {
		t.Errorf("tekken.json alone: got %v, want an error that names it", err)
	}
}

// TestGemmaVocabRows: with tokenizer.json alone the rows are its entries.
func TestGemmaVocabRows(t *testing.T) {
	dir := tinyFolder(t, "gemma3")
	if n, err := gemmaVocabRows(dir, testConfig(t, dir)); n != 416 || err != nil {
		t.Errorf("tokenizer.model: got %d, %v, want 416", n, err)
	}
	dir = tinyFolder(t, "qwen3-untied")
	if n, err := gemmaVocabRows(dir, testConfig(t, dir)); n != 316+26 || err != nil {
		t.Errorf("tokenizer.json: got %d, %v, want 342", n, err)
	}
}

// encodePiece encodes a SentencePiece message.
func encodePiece(text string, score float32, typ uint64) []byte {
	b := append([]byte{1<<3 | 2, byte(len(text))}, text...)
	b = binary.LittleEndian.AppendUint32(append(b, 2<<3|5), math.Float32bits(score))
	return binary.AppendUvarint(append(b, 3<<3), typ)
}

func encodeModel(pieces ...[]byte) []byte {
	var b []byte
	for _, p := range pieces {
		b = append(binary.AppendUvarint(append(b, 1<<3|2), uint64(len(p))), p...)
	}
	return b
}

func TestParseSentencePiece(t *testing.T) {
	unk := encodePiece("<unk>", 0, spUnknown)
	good := append(encodeModel(unk, encodePiece("▁a", -1.5, spNormal)), 2<<3|2, 2, 3<<3, 2, 15<<3|1, 1, 2, 3, 4, 5, 6, 7, 8, 16<<3&0x7f|5, 1, 2, 3, 4, 5)
	good = append(encodeModel(unk, encodePiece("▁a", -1.5, spNormal)), 2<<3|2, 2, 3<<3, 2, 15<<3|1, 1, 2, 3, 4, 5, 6, 7, 8, 14<<3|5, 1, 2, 3, 4)
	got, err := parseSentencePiece(good)
	if err != nil || len(got) != 2 || got[1] != (spPiece{"▁a", -1.5, spNormal}) || got[0].typ != spUnknown {
		t.Errorf("good model: got %v, %v", got, err)
	}
	noType := append([]byte{1<<3 | 2, 1, 'x'}, 2<<3|5, 0, 0, 128, 63)
	if got, err := parseSentencePiece(encodeModel(unk, noType)); err != nil || got[1] != (spPiece{"x", 1, spNormal}) {
		t.Errorf("piece without a type: got %v, %v, want a normal one", got, err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty file":           {nil, "no unknown piece"},
		"text file":            {[]byte("version https://git-lfs.github.com/spec/v1\n"), "protobuf"},
		"truncated":            {good[:len(good)-1], "truncated"},
		"length beyond end":    {[]byte{1<<3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, "truncated"},
		"varint without end":   {bytes.Repeat([]byte{0xff}, 11), "varint"},
		"field number 0":       {[]byte{0, 0}, "field number"},
		"group":                {[]byte{5<<3 | 3}, "wire type: got 3"},
		"piece as a number":    {[]byte{1 << 3, 1}, "piece 0: protobuf wire type"},
		"score as a number":    {encodeModel([]byte{1<<3 | 2, 1, 'x', 2 << 3, 1}), "field 2: protobuf wire type: got 0, want 5"},
		"no unknown":           {encodeModel(encodePiece("a", 0, spNormal)), "no unknown piece"},
		"two unknown":          {encodeModel(unk, encodePiece("b", 0, spUnknown)), "second unknown piece"},
		"twice":                {encodeModel(unk, encodePiece("a", 0, spNormal), encodePiece("a", -1, spNormal)), `piece 2: "a" is already piece 1`},
		"empty text":           {encodeModel(unk, encodePiece("", 0, spNormal)), "piece 1: empty text"},
		"no UTF-8":             {encodeModel(unk, encodePiece("\xff", 0, spNormal)), "no valid UTF-8"},
		"type 7":               {encodeModel(unk, encodePiece("a", 0, 7)), "type: got 7"},
		"type 0":               {encodeModel(unk, encodePiece("a", 0, 0)), "type: got 0"},
		"infinite score":       {encodeModel(unk, encodePiece("a", float32(math.Inf(1)), spNormal)), "score: got +Inf"},
		"score not a number":   {encodeModel(unk, encodePiece("a", float32(math.NaN()), spNormal)), "score: got NaN"},
		"truncated in a piece": {encodeModel(unk, encodePiece("a", 0, spNormal)[:6]), "piece 1: truncated"},
	} {
		if got, err := parseSentencePiece(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %d pieces, %v, want an error with %q", name, len(got), err, c.want)
		}
	}
}

func TestLossyUTF8(t *testing.T) {
	// As Rust's String::from_utf8_lossy: one mark for each longest beginning of a sequence.
	for in, want := range map[string]string{
		"plain 눈":        "plain 눈",
		"\xff":           "\ufffd",
		"\xff\xfe":       "\ufffd\ufffd",
		"\xec\x95":       "\ufffd",
		"\xec\x95x":      "\ufffdx",
		"\xec\xec\x95":   "\ufffd\ufffd",
		"\xf0\x9f\x98":   "\ufffd",
		"\xed\xa0\x80":   "\ufffd\ufffd\ufffd", // a surrogate: no beginning of anything
		"a\xc3\xa9\xc3b": "aé\ufffdb",
		"\ufffd":         "\ufffd",
	} {
		if got := lossyUTF8([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzSentencePiece(f *testing.F) {
	f.Add(encodeModel(encodePiece("<unk>", 0, spUnknown), encodePiece("▁a", -1.5, spNormal)))
	f.Add(append(encodeModel(encodePiece("<unk>", 0, spUnknown)), 2<<3|2, 2, 3<<3, 2))
	f.Add([]byte("version https://git-lfs.github.com/spec/v1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pieces, err := parseSentencePiece(data)
		if err != nil {
			return
		}
		var again [][]byte
		seen := map[string]bool{}
		for _, p := range pieces {
			if p.text == "" || seen[p.text] || p.typ < spNormal || p.typ > spByte {
				t.Fatalf("accepted a bad piece: %+v", p)
			}
			seen[p.text] = true
			if len(p.text) > 127 {
				return // encodePiece writes short lengths only
			}
			again = append(again, encodePiece(p.text, p.score, p.typ))
		}
		if back, err := parseSentencePiece(encodeModel(again...)); err != nil || len(back) != len(pieces) {
			t.Fatalf("written and read again: got %d pieces, %v, want %d", len(back), err, len(pieces))
		}
	})
}

// FuzzTokenizerJSON reads arbitrary tokenizer.json and tokenizer_config.json: an
// accepted vocabulary has one type per token and no empty key.
func FuzzTokenizerJSON(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"added_tokens":[{"id":3,"content":"<|x|>","special":true,"normalized":false}],`+
		`"pre_tokenizer":`+gpt2Stage+`,"decoder":{"type":"ByteLevel"}}`), []byte(`{"eos_token":"<|x|>","tokenizer_class":"GPT2TokenizerFast","chat_template":"t"}`))
	f.Add([]byte(`{"model":{"type":"BPE","byte_fallback":true,"vocab":{"<unk>":0,"<s>":1,"</s>":2,"<0x41>":3},"merges":[["a","b"]]},"decoder":{"type":"Sequence","decoders":[]},`+
		`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],"pair":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"</s>"}},{"Sequence":{"id":"B"}}]}}`),
		[]byte(`{"added_tokens_decoder":{"1":{"content":"<s>","special":true}},"bos_token":{"content":"<s>"},"chat_template":[{"name":"default","template":"x"}]}`))
	f.Fuzz(func(t *testing.T, tokenizer, config []byte) {
		tok, err1 := parseJSON(tokenizer)
		cfg, err2 := parseJSON(config)
		tokObject, ok1 := tok.(*object)
		cfgObject, ok2 := cfg.(*object)
		if err1 != nil || err2 != nil || !ok1 || !ok2 {
			return
		}
		c := fuzzConfig(t)
		for _, load := range []func(*vocabLoader) error{(*vocabLoader).loadBPE, (*vocabLoader).loadLlamaHF} {
			l := &vocabLoader{tokenizerFiles: &tokenizerFiles{dir: "no such folder", tokenizer: tokObject, config: cfgObject}, cfg: c, v: &vocab{}}
			if load(l) != nil {
				continue
			}
			tokens, _ := value(l.v, "tokenizer.ggml.tokens").([]string)
			types, _ := value(l.v, "tokenizer.ggml.token_type").([]int32)
			if len(tokens) != l.v.size || len(types) != l.v.size {
				t.Fatalf("got %d tokens and %d types, want %d", len(tokens), len(types), l.v.size)
			}
		}
	})
}

// fuzzConfig is a config without vocab_size.
func fuzzConfig(t *testing.T) *config {
	o := parseObject(t, `{"model_type":"qwen3","architectures":["Qwen3ForCausalLM"]}`)
	return &config{object: o, raw: o, path: "config.json", hfArch: "Qwen3ForCausalLM"}
}
