package convert

import (
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// realVocab builds the tokenizer of a vocabulary file in llama.cpp's tree: its
// tokens and merges, with the given rest of tokenizer.json. Tokens that the
// file types as control or user-defined are the added ones.
func realVocab(t *testing.T, name, rest string) (*hfTokenizer, *tokenizerFiles) {
	t.Helper()
	f, err := gguf.Open("../llamacpp/models/ggml-vocab-" + name + ".gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tokens, ok1 := f.Meta.Strings("tokenizer.ggml.tokens")
	merges, ok2 := f.Meta.Strings("tokenizer.ggml.merges")
	v, _ := f.Meta.Get("tokenizer.ggml.token_type")
	types, ok3 := v.([]int32)
	if !ok1 || !ok2 || !ok3 {
		t.Fatalf("%s: tokens, merges or types are missing", name)
	}
	tok := parseObject(t, "{"+rest+"}")
	h := &hfTokenizer{path: name, ids: map[string]int{}, tokens: map[int]string{}}
	for id, token := range tokens {
		h.ids[token], h.tokens[id] = id, token
		if types[id] != tokenNormal && types[id] != tokenUnused && !strings.HasPrefix(token, "[PAD") {
			h.added = append(h.added, addedToken{content: token, id: id})
		}
	}
	list := make([]any, len(merges))
	for i, m := range merges {
		list[i] = m
	}
	model := tok.object("model")
	if model == nil {
		model = newObject()
		tok.set("model", model)
	}
	model.set("merges", list)
	return h, &tokenizerFiles{dir: name, tokenizer: tok}
}

// prefixed is a post-processor that puts one token in front.
func prefixed(token, id string) string {
	return `"post_processor":{"type":"Sequence","processors":[` + byteLevel + `,{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"` + token +
		`","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"` + token + `":{"id":"` + token + `","ids":[` + id + `],"tokens":["` + token + `"]}}}]}`
}

// TestDigest tokenizes the reference's text with real vocabularies and finds
// the digest that the reference has for each.
func TestDigest(t *testing.T) {
	nfc := `"normalizer":{"type":"NFC"},`
	for _, c := range []struct{ vocab, want, rest string }{
		{"qwen2", "qwen2", nfc + `"pre_tokenizer":` + sequence(isolated(jsonQwen2), byteLevel)},
		// With Qwen2's tokens, which this file has, the text does not tell the two expressions apart.
		{"qwen35", "qwen2", nfc + `"pre_tokenizer":` + sequence(isolated(jsonQwen35), byteLevel)},
		{"llama-bpe", "llama-bpe", `"model":{"ignore_merges":true},` + prefixed("<|begin_of_text|>", "128000") + `,"pre_tokenizer":` + sequence(isolated(jsonLlama3), byteLevel)},
		{"llama-bpe", "smaug-bpe", `"pre_tokenizer":` + sequence(isolated(jsonLlama3), byteLevel)},
		{"gpt-2", "gpt-2", `"pre_tokenizer":` + gpt2Stage},
		{"starcoder", "starcoder", `"pre_tokenizer":` + sequence(digitsStage, gpt2Stage)},
		{"refact", "refact", `"pre_tokenizer":` + sequence(digitsStage, gpt2Stage)},
		{"command-r", "command-r", nfc + prefixed("<BOS_TOKEN>", "5") + `,"pre_tokenizer":` + sequence(digitsStage, gpt2Stage)},
		{"mpt", "olmo", nfc + `"pre_tokenizer":` + gpt2Stage},
		{"falcon", "falcon", `"pre_tokenizer":` + sequence(`{"type":"Punctuation","behavior":"Contiguous"}`, gpt2Stage,
			`{"type":"Digits","individual_digits":false}`, isolated("[0-9][0-9][0-9]"))},
		{"deepseek-coder", "deepseek-coder", prefixed("<｜begin▁of▁sentence｜>", "32013") + `,"pre_tokenizer":` + sequence(isolated(`[\r\n]`), isolated(`\\s?\\p{L}+`), isolated(`\\s?\\p{P}+`), isolated(`[一-龥ࠀ-一가-퟿]+`), digitsStage, byteLevel)},
	} {
		h, files := realVocab(t, c.vocab, c.rest)
		l := &vocabLoader{tokenizerFiles: files, cfg: fuzzConfig(t), v: &vocab{}}
		digest, err := l.digest(h, "")
		if got := knownDigests[digest]; got != c.want || err != nil {
			t.Errorf("%s: got %q (%s), %v, want %q", c.vocab, got, digest, err, c.want)
		}
	}
}
