package convert

import (
	"strings"
	"testing"

	"github.com/persona-gguf/persona-gguf/internal/testmodel"
)

// byteLevel is the stage after the splits in real files.
const byteLevel = `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}`

func isolated(regexJSON string) string {
	return `{"type":"Split","pattern":{"Regex":"` + regexJSON + `"},"behavior":"Isolated","invert":false}`
}

func sequence(stages ...string) string {
	return `{"type":"Sequence","pretokenizers":[` + strings.Join(stages, ",") + `]}`
}

// The expressions as they stand in the tokenizer.json of Qwen2.5, Qwen3.5, Llama 3, Mistral
// Nemo, Llama 4, DeepSeek V3 and Seed-Coder.
const (
	jsonQwen2     = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
	jsonQwen35    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
	jsonLlama3    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
	jsonTekken    = `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
	jsonGPT4o     = `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`
	jsonDeepSeek3 = "[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\r\\n]*|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
	jsonSeedCoder = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+`
	jsonExaoneMoE = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`
	gpt2Stage     = `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}`
	digitsStage   = `{"type":"Digits","individual_digits":true}`
)

func TestRecognizePre(t *testing.T) {
	const llama, qwen = "LlamaForCausalLM", "Qwen3ForCausalLM"
	for _, c := range []struct {
		arch, want string
		rest       string // of tokenizer.json
		pre        string
	}{
		{qwen, "qwen2", `"normalizer":{"type":"NFC"}`, sequence(isolated(jsonQwen2), byteLevel)},
		{llama, "qwen2", ``, sequence(isolated(jsonQwen2), byteLevel)},
		{"Qwen2ForCausalLM", "deepseek-r1-qwen", `"added_tokens":[{"id":1,"content":"<｜begin▁of▁sentence｜>"}]`, sequence(isolated(jsonQwen2), byteLevel)},
		{qwen, "qwen35", `"normalizer":{"type":"NFC"}`, sequence(isolated(jsonQwen35), byteLevel)},
		{llama, "llama-bpe", `"model":{"ignore_merges":true}`, sequence(isolated(jsonLlama3), byteLevel)},
		{llama, "smaug-bpe", `"model":{"ignore_merges":false}`, sequence(isolated(jsonLlama3), byteLevel)},
		{"MistralForCausalLM", "tekken", ``, sequence(isolated(jsonTekken), byteLevel)},
		{llama, "gpt-4o", ``, sequence(isolated(jsonGPT4o), byteLevel)},
		{llama, "seed-coder", ``, sequence(isolated(jsonSeedCoder), byteLevel)},
		{"Exaone4ForCausalLM", "exaone-moe", ``, sequence(isolated(jsonExaoneMoE), byteLevel)},
		{llama, "deepseek-v3", ``, sequence(isolated(`\\p{N}{1,3}`), isolated(`[一-龥぀-ゟ゠-ヿ]+`), isolated(jsonDeepSeek3), byteLevel)},
		{llama, "deepseek-coder", ``, sequence(isolated(`[\r\n]`), isolated(`\\s?\\p{L}+`), isolated(`\\s?\\p{P}+`), isolated(`[一-龥ࠀ-一가-퟿]+`), digitsStage, byteLevel)},
		{"ExaoneForCausalLM", "exaone", ``, sequence(digitsStage, gpt2Stage)},
		{llama, "smollm", ``, sequence(digitsStage, gpt2Stage)},
		{"Exaone4ForCausalLM", "exaone4", ``, gpt2Stage},
		{llama, "gpt-2", ``, gpt2Stage},
		{llama, "gpt-2", ``, sequence(gpt2Stage)},
		{qwen, "qwen2", ``, sequence(`{"type":"Split","pattern":{"Regex":"`+jsonQwen2+`"},"behavior":"Removed","invert":true}`, byteLevel)},
	} {
		text := `{"pre_tokenizer":` + c.pre
		if c.rest != "" {
			text += "," + c.rest
		}
		got, err := recognizePre(parseObject(t, text+"}"), "tokenizer.json", c.arch)
		if err != nil || got != c.want {
			t.Errorf("%s %s: got %q, %v, want %q", c.arch, c.pre, got, err, c.want)
		}
	}
}

// TestRecognizePreUnknown: what splits differently in any way is no match, and
// the error shows what was found.
func TestRecognizePreUnknown(t *testing.T) {
	for name, c := range map[string]struct{ text, shows string }{
		"other digits":     {`{"pre_tokenizer":` + sequence(isolated(strings.Replace(jsonQwen2, `\\p{N}|`, `\\p{N}{1,2}|`, 1)), byteLevel) + `}`, `\p{N}{1,2}`},
		"no byte level":    {`{"pre_tokenizer":` + sequence(isolated(jsonQwen2)) + `}`, `split (?i:`},
		"merged":           {`{"pre_tokenizer":` + strings.Replace(sequence(isolated(jsonQwen2), byteLevel), "Isolated", "MergedWithPrevious", 1) + `}`, "MergedWithPrevious"},
		"space in front":   {`{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true,"use_regex":true}}`, "space in front"},
		"replaced spaces":  {`{"normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},"pre_tokenizer":` + gpt2Stage + `}`, "normalizer Replace"},
		"split by text":    {`{"pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false}}`, `Split MergedWithPrevious at " "`},
		"runs of digits":   {`{"pre_tokenizer":` + sequence(`{"type":"Digits","individual_digits":false}`, gpt2Stage) + `}`, "digits+"},
		"punctuation":      {`{"pre_tokenizer":` + sequence(`{"type":"Punctuation","behavior":"Contiguous"}`, gpt2Stage) + `}`, "Punctuation Contiguous"},
		"no pre-tokenizer": {`{"pre_tokenizer":null}`, "[]"},
		"other kind":       {`{"pre_tokenizer":{"type":"Metaspace"}}`, "Metaspace"},
	} {
		got, err := recognizePre(parseObject(t, c.text), "dir/tokenizer.json", "LlamaForCausalLM")
		if err == nil || !strings.Contains(err.Error(), "dir/tokenizer.json") || !strings.Contains(err.Error(), c.shows) {
			t.Errorf("%s: got %q, %v, want an error with the file and %q", name, got, err, c.shows)
		}
	}
}

// TestPreOverride converts a vocabulary whose pre-tokenizer is unknown once it
// is named.
func TestPreOverride(t *testing.T) {
	spec, err := testmodel.Find("qwen3-untied")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := testmodel.Write(dir, spec); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, "tokenizer.json", `"behavior": "Isolated"`, `"behavior": "Removed"`)
	c := testConfig(t, dir)
	if v, err := loadVocab(dir, c, vocabQwen); err == nil {
		t.Errorf("unknown pre-tokenizer: got %d tokens, want an error", v.size)
	}
	family := vocabQwen
	family.pre = "stablelm2"
	v, err := loadVocab(dir, c, family)
	if err != nil {
		t.Fatal(err)
	}
	if got := value(v, "tokenizer.ggml.pre"); got != "stablelm2" {
		t.Errorf("tokenizer.ggml.pre: got %v, want stablelm2", got)
	}
}
