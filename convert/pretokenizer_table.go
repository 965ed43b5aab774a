package convert

// Expressions of real pre-tokenizers, as their tokenizer.json has them.
const (
	contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	spaceTail    = `\s*[\r\n]+|\s+(?!\S)|\s+`
	wordQwen     = contractions + `|[^\r\n\p{L}\p{N}]?\p{L}+`

	splitQwen2     = wordQwen + `|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|` + spaceTail
	splitQwen35    = contractions + `|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|` + spaceTail
	splitLlama3    = wordQwen + `|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|` + spaceTail
	splitSeedCoder = wordQwen + `|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|` + spaceTail
	splitMiniCPM5  = wordQwen + `|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|` + spaceTail
	splitExaoneMoE = contractions + `|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+`
	splitUfakzeka  = `[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|` + spaceTail

	upperLower = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	upperOnly  = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`

	splitTekken = upperLower + `|` + upperOnly + `|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|` + spaceTail
	splitGPT4o  = upperLower + contractions + `?|` + upperOnly + contractions + `?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|` + spaceTail

	splitDeepSeek3 = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" +
		`[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|` + spaceTail
	splitHanKana = `[一-龥぀-ゟ゠-ヿ]+`
)

// preRules is the table of known pre-tokenizers. The names and what llama.cpp
// does for each are in llamacpp/src/llama-vocab.cpp (llm_tokenizer_bpe and
// llama_vocab::impl::load); several names share one behaviour there, and the
// rule then gives the one of the family at hand.
var preRules = []preRule{
	{stages: []string{"split " + splitQwen2, "bytes"}, name: "deepseek-r1-qwen", archs: []string{"Qwen2ForCausalLM"}, when: hasAddedToken("<｜begin▁of▁sentence｜>")},
	{stages: []string{"split " + splitQwen2, "bytes"}, name: "qwen2"},
	{stages: []string{"split " + splitQwen35, "bytes"}, name: "qwen35"},
	// Llama 3 takes words of the vocabulary whole; early fine-tunes and Smaug do not.
	{stages: []string{"split " + splitLlama3, "bytes"}, name: "llama-bpe", when: ignoresMerges},
	{stages: []string{"split " + splitLlama3, "bytes"}, name: "smaug-bpe"},
	{stages: []string{"split " + splitTekken, "bytes"}, name: "tekken"},
	{stages: []string{"split " + splitGPT4o, "bytes"}, name: "gpt-4o"},
	{stages: []string{"split " + splitSeedCoder, "bytes"}, name: "seed-coder"},
	{stages: []string{"split " + splitExaoneMoE, "bytes"}, name: "exaone-moe"},
	{stages: []string{"split " + splitUfakzeka, "bytes"}, name: "ufakzeka"},
	{stages: []string{`split \p{N}{1,3}`, "split " + splitMiniCPM5, "bytes"}, name: "minicpm5"},
	{stages: []string{`split \p{N}{1,3}`, "split " + splitHanKana, "split " + splitDeepSeek3, "bytes"}, name: "deepseek-v3"},
	{stages: []string{`split [\r\n]`, `split \s?\p{L}+`, `split \s?\p{P}+`, `split [一-龥ࠀ-一가-퟿]+`, "digits", "bytes"}, name: "deepseek-coder"},
	{stages: []string{"digits", "gpt2"}, name: "exaone", archs: []string{"ExaoneForCausalLM"}},
	{stages: []string{"digits", "gpt2"}, name: "smollm"},
	{stages: []string{"gpt2"}, name: "exaone4", archs: []string{"Exaone4ForCausalLM"}},
	{stages: []string{"gpt2"}, name: "gpt-2"},
}
