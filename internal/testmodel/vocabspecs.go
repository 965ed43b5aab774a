package testmodel

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// VocabSpecs returns models with tokenizers that are odd in one way each: what
// real folders show when they were saved by other versions or edited by hand.
// Their weights are as few as possible.
func VocabSpecs() []Spec {
	specs := append(oddQwen(), oddTemplates()...)
	return append(specs, oddOthers()...)
}

// edited runs write, then edit over the contents of tokenizer.json and
// tokenizer_config.json. A file whose content edit empties is removed.
func edited(write func(dir string) error, edit func(tok, cfg jmap)) func(dir string) error {
	return func(dir string) error {
		if err := write(dir); err != nil {
			return err
		}
		names := []string{"tokenizer.json", "tokenizer_config.json"}
		contents := []jmap{{}, {}}
		for i, name := range names {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				return err
			}
			if err := json.Unmarshal(data, &contents[i]); err != nil {
				return fmt.Errorf("edit %s: %w", name, err)
			}
		}
		edit(contents[0], contents[1])
		for i, name := range names {
			path := filepath.Join(dir, name)
			if len(contents[i]) == 0 {
				if err := os.RemoveAll(path); err != nil {
					return err
				}
				continue
			}
			if err := writeJSON(path, contents[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

// flag sets a flag of the named tokens in added_tokens and in added_tokens_decoder.
func flag(tok, cfg jmap, key string, value bool, contents ...string) {
	each := func(t jmap) {
		for _, c := range contents {
			if t["content"] == c {
				t[key] = value
			}
		}
	}
	if list, ok := tok["added_tokens"].([]any); ok {
		for _, t := range list {
			each(t.(jmap))
		}
	}
	if table, ok := cfg["added_tokens_decoder"].(jmap); ok {
		for _, t := range table {
			each(t.(jmap))
		}
	}
}

// oddSpec is a Qwen3 of one block around the given tokenizer.
func oddSpec(name string, tokens func(dir string) error, files map[string]string) Spec {
	d := dims{blocks: 1, hidden: 32, ffn: 32, heads: 2, kvHeads: 1, headDim: 16, vocab: 360, tied: true}
	return Spec{Name: name, HFArch: "Qwen3ForCausalLM", Pre: "qwen2", DType: F16, Shards: 1, dims: d, layout: qwen3Tensors, tokens: tokens, files: files,
		config: modelConfig("qwen3", d, jmap{"head_dim": d.headDim, "bos_token_id": 316, "eos_token_id": []int{318, 316}})}
}

func oddQwen() []Spec {
	qwen := func(edit func(tok, cfg jmap)) func(string) error {
		return edited(bpeFolder(qwenBPE(true), qwenConfig(jmap{"chat_template": chatML})), edit)
	}
	legacy := `{"eos_token": {"content": "<|im_end|>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false},
 "pad_token": "<|legacy_pad|>", "additional_special_tokens": ["<|im_start|>", {"content": "<legacy>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false}]}`
	return []Spec{
		oddSpec("vocab-flags", qwen(func(tok, cfg jmap) {
			flag(tok, cfg, "special", false, "<|im_start|>", "<|im_end|>", "<|endoftext|>")
			flag(jmap{}, cfg, "special", true, "</think>")
			flag(jmap{}, cfg, "normalized", true, "<think>", "<tool_call>")
			cfg["added_tokens_decoder"].(jmap)["500"] = jmap{"content": "<far▁away>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": false}
			cfg["pad_token"] = "<|mypad|>"
			cfg["unk_token"] = "Ġ"
			cfg["mask_token"] = jmap{"__type": "AddedToken", "content": "<think>", "lstrip": false, "normalized": true, "rstrip": false, "single_word": false}
			cfg["sep_token"] = jmap{"__type": "AddedToken", "content": "<sep> x", "lstrip": true, "normalized": false, "rstrip": false, "single_word": false}
			cfg["additional_special_tokens"] = []string{"<|im_start|>", "<extra>"}
		}), nil),
		oddSpec("vocab-legacy", qwen(func(tok, cfg jmap) {
			delete(cfg, "added_tokens_decoder")
			delete(cfg, "chat_template")
			delete(cfg, "additional_special_tokens")
		}), map[string]string{"special_tokens_map.json": legacy}),
		oddSpec("vocab-order", qwen(func(tok, cfg jmap) {
			list := tok["added_tokens"].([]any)
			list[2], list[20] = list[20], list[2] // the ids in the file no longer hold
			delete(cfg, "added_tokens_decoder")
		}), nil),
		oddSpec("vocab-no-config", qwen(func(tok, cfg jmap) { clear(cfg) }), map[string]string{"chat_template.jinja": chatML}),
		oddSpec("vocab-transformers5", qwen(func(tok, cfg jmap) {
			cfg["tokenizer_class"] = "PreTrainedTokenizerFast"
			delete(cfg, "eos_token")
			delete(cfg, "unk_token")
			flag(tok, cfg, "special", false, "<|im_start|>", "<|im_end|>")
		}), nil),
		oddSpec("vocab-extra", qwen(func(tok, cfg jmap) {
			flag(tok, cfg, "special", false, "<|vision_start|>", "<|image_pad|>")
			cfg["extra_special_tokens"] = jmap{"image_token": "<|image_pad|>", "audio_token": "<audio>"}
			cfg["image_token"] = "<|image_pad|>"
		}), nil),
		oddSpec("vocab-decode", qwen(func(tok, cfg jmap) {
			list := tok["added_tokens"].([]any)
			list[14].(jmap)["content"] = "Ġword" // byte symbols are decoded
			list[15].(jmap)["content"] = "é"     // one byte, no UTF-8
			list[16].(jmap)["content"] = "a ▁ . b"
			list[17].(jmap)["content"] = "ìķĪ" // three bytes: one Hangul syllable
			list[18].(jmap)["content"] = "ìķé"
			list[19].(jmap)["content"] = "<|a|> 's|>"
			list[20].(jmap)["content"] = "눈▁송이"
			list[20].(jmap)["normalized"] = true
			delete(cfg, "added_tokens_decoder")
			cfg["clean_up_tokenization_spaces"] = true
		}), nil),
		oddSpec("vocab-merges", qwen(func(tok, cfg jmap) {
			tok["model"].(jmap)["merges"] = []any{}
		}), map[string]string{"merges.txt": "#version: 0.2\r\nĠ t\r\n\r\nh e\nbad line here\ni n\n"}),
		oddSpec("vocab-merge-spaces", edited(bpeFolder(qwenBPE(true), qwenConfig(nil)), func(tok, cfg jmap) {
			model := tok["model"].(jmap)
			for _, s := range []string{"x y", " z", "x y z"} {
				model["vocab"].(jmap)[s] = len(model["vocab"].(jmap))
			}
			model["merges"] = append(model["merges"].([]any), []any{"x y", " z"})
		}), nil),
	}
}

func oddTemplates() []Spec {
	special := func(s string, typ int) jmap { return jmap{"SpecialToken": jmap{"id": s, "type_id": typ}} }
	sequence := func(s string) jmap { return jmap{"Sequence": jmap{"id": s, "type_id": 0}} }
	template := func(single, pair []any) jmap {
		ids := jmap{}
		for _, s := range []string{"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|box_start|>"} {
			ids[s] = jmap{"id": s, "ids": []int{316}, "tokens": []string{s}}
		}
		return jmap{"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": ids}
	}
	plain := func(edit func(tok, cfg jmap)) func(string) error {
		config := qwenConfig(jmap{"tokenizer_class": "PreTrainedTokenizerFast"})
		delete(config, "add_bos_token")
		return edited(bpeFolder(qwenBPE(false), config), edit)
	}
	start, end, text, box := "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|box_start|>"
	return []Spec{
		oddSpec("template-eot", plain(func(tok, cfg jmap) { // the trailing token becomes EOS, the configured one EOT
			cfg["bos_token"] = jmap{"__type": "AddedToken", "content": start, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false}
			tok["post_processor"] = template([]any{special(start, 0), sequence("A"), special(text, 0)},
				[]any{special(start, 0), sequence("A"), special(end, 0), sequence("B"), special(text, 1)})
		}), nil),
		oddSpec("template-sep", plain(func(tok, cfg jmap) { // a separator between the sequences
			cfg["cls_token"] = start
			cfg["sep_token"] = box
			cfg["eos_token"] = nil
			tok["post_processor"] = jmap{"type": "Sequence", "processors": []any{byteLevelStage(false),
				template([]any{special(start, 0), sequence("A")}, []any{special(start, 0), sequence("A"), special(box, 0), special(box, 0), sequence("B")})}}
		}), nil),
		oddSpec("template-roberta", plain(func(tok, cfg jmap) {
			tok["post_processor"] = jmap{"type": "RobertaProcessing", "sep": []any{end, 318}, "cls": []any{start, 317}, "trim_offsets": true, "add_prefix_space": false}
		}), nil),
		oddSpec("template-unconfigured", edited(bpeFolder(qwenBPE(false), nil), func(tok, cfg jmap) {
			clear(cfg)
			tok["post_processor"] = template([]any{special(box, 0), sequence("A"), special(end, 0)}, []any{sequence("A"), sequence("B")})
			tok["normalizer"] = jmap{"type": "Sequence", "normalizers": []any{jmap{"type": "NFC"}, jmap{"type": "Lowercase"}, jmap{"type": "StripAccents"}}}
		}), nil),
		oddSpec("template-bert", plain(func(tok, cfg jmap) {
			cfg["add_eos_token"] = true
			cfg["add_sep_token"] = false
			cfg["add_pad_token"] = true
			tok["normalizer"] = jmap{"type": "BertNormalizer", "clean_text": false, "handle_chinese_chars": false, "strip_accents": false, "lowercase": true}
			tok["post_processor"] = nil
		}), nil),
		oddSpec("chat-null", plain(func(tok, cfg jmap) { cfg["chat_template"] = nil }), map[string]string{"chat_template.jinja": chatML}),
		oddSpec("chat-crlf", plain(func(tok, cfg jmap) {}), map[string]string{"chat_template.jinja": "{# one #}\r\n{# two #}\r{# 셋 #}\n"}),
		oddSpec("chat-named", plain(func(tok, cfg jmap) {
			cfg["chat_template"] = []any{jmap{"name": "도구 use!", "template": chatML}, jmap{"name": "", "template": "x"}, jmap{"name": "default", "template": "d"}}
		}), nil),
		oddSpec("chat-no-default", plain(func(tok, cfg jmap) {
			cfg["chat_template"] = []any{jmap{"name": "rag", "template": chatML}}
		}), nil),
	}
}

func oddOthers() []Spec {
	d := dims{blocks: 1, hidden: 32, ffn: 32, heads: 2, kvHeads: 2, headDim: 16, vocab: 416}
	llama := func(name, pre string, d dims, tokens func(string) error, extra jmap) Spec {
		return Spec{Name: name, HFArch: "LlamaForCausalLM", Pre: pre, DType: F16, Shards: 1, dims: d, layout: llamaTensors, tokens: tokens,
			config: modelConfig("llama", d, extra)}
	}
	short := d
	short.vocab = 380
	code := d
	code.vocab = 32016
	granite := d
	granite.vocab = 49152
	spm := func(extra jmap, decoder ...addedToken) func(string) error {
		config := jmap{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer"}
		for k, v := range extra {
			config[k] = v
		}
		return spmFolder(llamaSPM(), config, jmap{"<|added|>": 0, "<added▁too>": 3}, decoder...)
	}
	ex := d
	ex.vocab = 340
	return []Spec{
		llama("spm-short", "default", short, spm(nil, addedToken{ID: 10, Content: "▁replaced"}, addedToken{ID: 370, Content: "<unused7>"}), jmap{"bos_token_id": 1, "eos_token_id": 400}),
		llama("spm-codellama", "default", code, spm(jmap{"add_bos_token": true, "eot_token": "<|added|>"}), nil),
		llama("spm-granite", "default", granite, spm(jmap{"add_bos_token": true, "chat_template": instChat}), nil),
		llama("hf-bpe-plain", "default", d, edited(bpeFolder(llamaFallbackBPE(), jmap{"bos_token": "<s>", "eos_token": "<|end|>", "unk_token": "<unk>", "pad_token": "<pad>",
			"additional_special_tokens": []string{"<tool>", "▁the"}, "tokenizer_class": "PreTrainedTokenizerFast"}), func(tok, cfg jmap) {}), nil),
		{Name: "gpt2-defaults", HFArch: "Exaone4ForCausalLM", Pre: "exaone4", DType: F16, Shards: 1, dims: ex, layout: exaone4Tensors,
			config: modelConfig("exaone4", ex, jmap{"head_dim": ex.headDim, "sliding_window": 512, "sliding_window_pattern": "LG"}),
			tokens: bpeFolder(exaoneBPE(false), jmap{"tokenizer_class": "GPT2Tokenizer"})},
	}
}
