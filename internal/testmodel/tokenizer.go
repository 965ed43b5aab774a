package testmodel

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The pre-tokenizer expressions of the real families (tokenizer.json).
const (
	splitQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	splitTekken = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// jmap is a JSON object.
type jmap = map[string]any

// addedToken is an entry of added_tokens in tokenizer.json.
type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	Lstrip     bool   `json:"lstrip"`
	Rstrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// bpe describes a tokenizer.json with a BPE model.
type bpe struct {
	first        []string     // tokens with the ids 0, 1, … before the byte symbols
	merges       int          // how many merges to learn
	pairs        bool         // merges as pairs (new form) instead of "a b"
	added        []addedToken // an ID of -1 takes the next free id, or that of an equal token in first
	normalizer   any
	pretokenizer any
	post         any
	decoder      any
	ignoreMerges bool
	byteFallback bool // SentencePiece-like: characters and <0xNN> instead of byte symbols
	unk          string
}

// byteLevelStage is the ByteLevel stage after a Split, or alone.
func byteLevelStage(useRegex bool) jmap {
	return jmap{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": useRegex, "use_regex": useRegex}
}

// splitThenBytes is the pre-tokenizer of Qwen, Llama 3 and Tekken.
func splitThenBytes(expr string) jmap {
	return jmap{"type": "Sequence", "pretokenizers": []any{
		jmap{"type": "Split", "pattern": jmap{"Regex": expr}, "behavior": "Isolated", "invert": false},
		byteLevelStage(false),
	}}
}

// bosTemplate is the post-processor that puts bos in front.
func bosTemplate(bos string, id int) jmap {
	special := jmap{"SpecialToken": jmap{"id": bos, "type_id": 0}}
	return jmap{
		"type":   "TemplateProcessing",
		"single": []any{special, jmap{"Sequence": jmap{"id": "A", "type_id": 0}}},
		"pair": []any{
			special, jmap{"Sequence": jmap{"id": "A", "type_id": 0}},
			jmap{"SpecialToken": jmap{"id": bos, "type_id": 1}}, jmap{"Sequence": jmap{"id": "B", "type_id": 1}},
		},
		"special_tokens": jmap{bos: jmap{"id": bos, "ids": []int{id}, "tokens": []string{bos}}},
	}
}

// tokens numbers added tokens that have no id of their own.
func tokens(special bool, contents ...string) []addedToken {
	var out []addedToken
	for _, c := range contents {
		out = append(out, addedToken{ID: -1, Content: c, Special: special})
	}
	return out
}

// vocabulary returns the tokens in id order and the merges.
func (b *bpe) vocabulary() ([]string, [][2]string, error) {
	list := append([]string(nil), b.first...)
	seen := map[string]bool{}
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	for _, s := range list {
		seen[s] = true
	}
	spell := byteLevel
	if b.byteFallback {
		spell = func(s string) string { return strings.ReplaceAll(s, " ", "▁") }
		for i := range 256 {
			add(fmt.Sprintf("<0x%02X>", i))
		}
	} else {
		symbol, order := byteSymbols()
		for _, i := range order {
			add(string(symbol[i]))
		}
	}
	words := corpusWords(spell)
	if b.byteFallback {
		for _, w := range words {
			for _, s := range w.symbols {
				add(s)
			}
		}
	}
	merges, err := learnMerges(words, b.merges)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range merges {
		add(m[0] + m[1])
	}
	return list, merges, nil
}

// number gives ids to the added tokens that have none.
func (b *bpe) number(vocab []string) []addedToken {
	at := map[string]int{}
	for i, s := range vocab {
		at[s] = i
	}
	next := len(vocab)
	out := append([]addedToken(nil), b.added...)
	for i := range out {
		if out[i].ID >= 0 {
			continue
		}
		if id, ok := at[out[i].Content]; ok {
			out[i].ID = id
			continue
		}
		out[i].ID = next
		next++
	}
	return out
}

// write writes tokenizer.json and returns the tokens by id and the added ones.
func (b *bpe) write(dir string) ([]string, []addedToken, error) {
	list, pairs, err := b.vocabulary()
	if err != nil {
		return nil, nil, err
	}
	added := b.number(list)
	vocab := jmap{}
	for i, s := range list {
		vocab[s] = i
	}
	var merges []any
	for _, m := range pairs {
		if b.pairs {
			merges = append(merges, []string{m[0], m[1]})
		} else {
			merges = append(merges, m[0]+" "+m[1])
		}
	}
	var unk any
	if b.unk != "" {
		unk = b.unk
	}
	err = writeJSON(filepath.Join(dir, "tokenizer.json"), jmap{
		"version": "1.0", "truncation": nil, "padding": nil,
		"added_tokens": added, "normalizer": b.normalizer, "pre_tokenizer": b.pretokenizer,
		"post_processor": b.post, "decoder": b.decoder,
		"model": jmap{
			"type": "BPE", "dropout": nil, "unk_token": unk, "continuing_subword_prefix": nil,
			"end_of_word_suffix": nil, "fuse_unk": b.byteFallback, "byte_fallback": b.byteFallback,
			"ignore_merges": b.ignoreMerges, "vocab": vocab, "merges": merges,
		},
	})
	return list, added, err
}

// writeSlowFiles writes vocab.json and merges.txt beside tokenizer.json, as
// Qwen's folders have them.
func writeSlowFiles(dir string, list []string, merges [][2]string) error {
	vocab := jmap{}
	for i, s := range list {
		vocab[s] = i
	}
	var b strings.Builder
	b.WriteString("#version: 0.2\n")
	for _, m := range merges {
		b.WriteString(m[0] + " " + m[1] + "\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "merges.txt"), []byte(b.String()), 0o644); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, "vocab.json"), vocab)
}

// decoderTable is the added_tokens_decoder of tokenizer_config.json.
func decoderTable(added []addedToken) jmap {
	out := jmap{}
	for _, t := range added {
		out[fmt.Sprint(t.ID)] = jmap{"content": t.Content, "lstrip": t.Lstrip, "normalized": t.Normalized,
			"rstrip": t.Rstrip, "single_word": t.SingleWord, "special": t.Special}
	}
	return out
}

var byteLevelDecoder = jmap{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}

// qwenAdded are the added tokens of Qwen3 in their order; the tool and thinking
// marks are not flagged special there.
func qwenAdded() []addedToken {
	out := tokens(true, "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
		"<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
		"<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
	return append(out, tokens(false, "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
		"<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>")...)
}

func qwenBPE(pairs bool) *bpe {
	return &bpe{merges: 60, pairs: pairs, added: qwenAdded(), normalizer: jmap{"type": "NFC"},
		pretokenizer: splitThenBytes(splitQwen2), post: byteLevelStage(false), decoder: byteLevelDecoder}
}

func llama3BPE() *bpe {
	added := tokens(true, "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>",
		"<|end_header_id|>", "<|eot_id|>")
	return &bpe{merges: 50, added: added, pretokenizer: splitThenBytes(splitLlama3), ignoreMerges: true, decoder: byteLevelDecoder,
		post: jmap{"type": "Sequence", "processors": []any{byteLevelStage(false), bosTemplate("<|begin_of_text|>", 306)}}}
}

func tekkenBPE() *bpe {
	first := []string{"<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
		"[/TOOL_RESULTS]", "[TOOL_CALLS]", "<pad>", "<SPECIAL_11>"}
	return &bpe{first: first, merges: 50, pairs: true, added: tokens(true, first...), pretokenizer: splitThenBytes(splitTekken),
		ignoreMerges: true, post: bosTemplate("<s>", 1), decoder: byteLevelDecoder}
}

func exaoneBPE(digits bool) *bpe {
	first := []string{"[PAD]", "[BOS]", "[EOS]", "[UNK]"}
	added := append(tokens(true, first...), tokens(true, "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]")...)
	added = append(added, tokens(false, "<thought>", "</thought>", "é", "▁▁")...)
	var pre any = byteLevelStage(true)
	if digits {
		pre = jmap{"type": "Sequence", "pretokenizers": []any{jmap{"type": "Digits", "individual_digits": true}, pre}}
	}
	return &bpe{first: first, merges: 50, added: added, pretokenizer: pre, post: byteLevelStage(true), decoder: byteLevelDecoder, unk: "[UNK]"}
}

// llamaFallbackBPE is Llama 2's vocabulary as the tokenizers library stores it.
func llamaFallbackBPE() *bpe {
	first := []string{"<unk>", "<s>", "</s>"}
	return &bpe{first: first, merges: 40, byteFallback: true, unk: "<unk>",
		added: append(tokens(true, first...), tokens(false, "<tool>", "<|end|>")...),
		normalizer: jmap{"type": "Sequence", "normalizers": []any{
			jmap{"type": "Prepend", "prepend": "▁"},
			jmap{"type": "Replace", "pattern": jmap{"String": " "}, "content": "▁"},
		}},
		post: bosTemplate("<s>", 1),
		decoder: jmap{"type": "Sequence", "decoders": []any{
			jmap{"type": "Replace", "pattern": jmap{"String": "▁"}, "content": " "},
			jmap{"type": "ByteFallback"}, jmap{"type": "Fuse"},
			jmap{"type": "Strip", "content": " ", "start": 1, "stop": 0},
		}}}
}
