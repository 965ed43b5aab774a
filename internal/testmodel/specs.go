package testmodel

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

const chatML = `{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endfor %}` +
	`{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}`

const llama3Chat = `{{- bos_token }}{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}` +
	`{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}`

const instChat = `{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}` +
	`{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}`

const gemmaChat = `{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] + '<end_of_turn>\n' }}{% endfor %}`

const exaoneChat = `{% for message in messages %}{{ '[|' + message['role'] + '|]' + message['content'] + '[|endofturn|]\n' }}{% endfor %}`

const modelCard = `---
license: apache-2.0
license_link: https://example.com/LICENSE
language:
- en
- ko
base_model:
- Qwen/Qwen3-4B-Instruct-2507
pipeline_tag: text-generation
library_name: transformers
tags:
- persona
- fairy-tale
datasets:
- example/snow-white-dialogues
---

# A tiny model for tests
`

// sampling is a generation_config.json as Qwen3 ships it.
var sampling = `{
  "bos_token_id": 316,
  "do_sample": true,
  "eos_token_id": [318, 316],
  "pad_token_id": 316,
  "temperature": 0.7,
  "top_k": 20,
  "top_p": 0.8,
  "repetition_penalty": 1.05,
  "transformers_version": "4.51.0"
}
`

// bpeFolder writes b's tokenizer.json and a tokenizer_config.json with the
// added tokens, overlaid with config.
func bpeFolder(b *bpe, config jmap) func(dir string) error {
	return func(dir string) error {
		list, added, err := b.write(dir)
		if err != nil {
			return err
		}
		if _, slow := config["_slow"]; slow {
			_, merges, err := b.vocabulary()
			if err != nil {
				return err
			}
			if err := writeSlowFiles(dir, list, merges); err != nil {
				return err
			}
		}
		out := jmap{"added_tokens_decoder": decoderTable(added), "clean_up_tokenization_spaces": false}
		maps.Copy(out, config)
		delete(out, "_slow")
		return writeJSON(filepath.Join(dir, "tokenizer_config.json"), out)
	}
}

// spmFolder writes s's tokenizer.model, a tokenizer_config.json with config and
// decoder as added_tokens_decoder, and added as added_tokens.json if not empty.
func spmFolder(s *spm, config, added jmap, decoder ...addedToken) func(dir string) error {
	return func(dir string) error {
		n, err := s.write(dir)
		if err != nil {
			return err
		}
		decoder := slices.Clone(decoder)
		for i := range decoder {
			if decoder[i].ID < 0 {
				decoder[i].ID = n - 1 - decoder[i].ID // -1 is the first id after the pieces, -2 the next …
			}
		}
		if len(added) > 0 {
			ids := jmap{}
			for text, i := range added {
				ids[text] = n + i.(int)
			}
			if err := writeJSON(filepath.Join(dir, "added_tokens.json"), ids); err != nil {
				return err
			}
		}
		out := jmap{"added_tokens_decoder": decoderTable(decoder)}
		maps.Copy(out, config)
		return writeJSON(filepath.Join(dir, "tokenizer_config.json"), out)
	}
}

// qwenConfig is the tokenizer_config.json of Qwen2 and Qwen3.
func qwenConfig(extra jmap) jmap {
	out := jmap{"add_bos_token": false, "add_prefix_space": false, "bos_token": nil, "eos_token": "<|im_end|>", "errors": "replace",
		"pad_token": "<|endoftext|>", "unk_token": nil, "split_special_tokens": false, "model_max_length": 1010000,
		"tokenizer_class": "Qwen2Tokenizer", "additional_special_tokens": []string{"<|im_start|>", "<|im_end|>", "<|object_ref_start|>"}}
	maps.Copy(out, extra)
	return out
}

// modelConfig is the part of config.json that the Llama-like families share.
func modelConfig(modelType string, d dims, extra jmap) jmap {
	out := jmap{"model_type": modelType, "hidden_size": d.hidden, "intermediate_size": d.ffn, "num_hidden_layers": d.blocks,
		"num_attention_heads": d.heads, "num_key_value_heads": d.kvHeads, "hidden_act": "silu", "initializer_range": 0.02,
		"rms_norm_eps": 1e-06, "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": d.tied, "use_cache": true}
	maps.Copy(out, extra)
	return out
}

// Specs returns every tiny model.
func Specs() []Spec {
	specs := qwenSpecs()
	specs = append(specs, llamaSpecs()...)
	specs = append(specs, gemmaSpecs()...)
	return append(specs, exaoneSpecs()...)
}

func qwenSpecs() []Spec {
	tiny := dims{blocks: 2, hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 32, vocab: 352}
	tied := tiny
	tied.blocks, tied.tied = 12, true
	odd := tiny
	odd.ffn = 80 // rows that are no multiple of 32: Q8_0 falls back to F16
	head := tiny
	q2 := tiny
	q2.headDim, q2.tied = 16, true
	moe := tiny
	moe.experts, moe.expertFFN = 4, 32
	fused := moe
	fused.fused, fused.tied = true, true
	qwen3 := func(d dims, extra jmap) jmap {
		base := jmap{"head_dim": d.headDim, "attention_bias": false, "bos_token_id": 316, "eos_token_id": 318,
			"rope_theta": 5000000, "max_position_embeddings": 262144, "sliding_window": nil, "use_sliding_window": false}
		maps.Copy(base, extra)
		return modelConfig("qwen3", d, base)
	}
	moeConfig := func(d dims, extra jmap) jmap {
		base := jmap{"model_type": "qwen3_moe", "num_experts": d.experts, "num_experts_per_tok": 2, "moe_intermediate_size": d.expertFFN,
			"decoder_sparse_step": 1, "norm_topk_prob": true, "mlp_only_layers": []int{}}
		maps.Copy(base, extra)
		return qwen3(d, base)
	}
	headConfig := qwen3(head, nil)
	headConfig["tie_word_embeddings"] = true // the files hold an lm_head all the same, as after some merges
	return []Spec{
		{Name: "qwen3-tied", HFArch: "Qwen3ForCausalLM", Pre: "qwen2", DType: BF16, Shards: 2, dims: tied, layout: qwen3Tensors,
			config: qwen3(tied, nil), tokens: bpeFolder(qwenBPE(true), qwenConfig(jmap{"chat_template": chatML})),
			files: map[string]string{"README.md": modelCard, "generation_config.json": sampling}},
		{Name: "qwen3-untied", HFArch: "Qwen3ForCausalLM", Pre: "qwen2", DType: F16, Shards: 1, dims: odd, layout: qwen3Tensors,
			config: qwen3(odd, nil), tokens: bpeFolder(qwenBPE(false), qwenConfig(jmap{"_slow": true})),
			files: map[string]string{"chat_template.jinja": chatML}},
		{Name: "qwen3-f32-head", HFArch: "Qwen3ForCausalLM", Pre: "qwen2", DType: F32, Shards: 1, dims: head, layout: qwen3Tensors,
			config: headConfig, tokens: bpeFolder(qwenBPE(false), qwenConfig(jmap{"chat_template": []jmap{
				{"name": "default", "template": chatML}, {"name": "tool-use", "template": chatML + "{# tools #}"}}})), extremes: true},
		{Name: "Qwen3-4B-Instruct-2507-yarn", HFArch: "Qwen3ForCausalLM", Pre: "qwen2", DType: BF16, Shards: 3, dims: tiny, layout: qwen3Tensors,
			config: qwen3(tiny, jmap{"rope_scaling": jmap{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "beta_fast": 32.0, "beta_slow": 1.0}}),
			tokens: bpeFolder(qwenBPE(true), qwenConfig(nil)),
			files:  map[string]string{"chat_template.jinja": chatML, "additional_chat_templates/rag v2.jinja": chatML + "{# rag #}"}},
		{Name: "qwen2", HFArch: "Qwen2ForCausalLM", Pre: "qwen2", DType: BF16, Shards: 1, dims: q2, layout: qwen2Tensors,
			config: modelConfig("qwen2", q2, jmap{"rope_scaling": jmap{"type": "linear", "factor": 2.0}, "bos_token_id": 316, "eos_token_id": 318,
				"sliding_window": 131072, "use_sliding_window": false, "max_window_layers": 28}),
			tokens: bpeFolder(qwenBPE(false), qwenConfig(jmap{"_slow": true, "chat_template": chatML}))},
		{Name: "qwen3moe", HFArch: "Qwen3MoeForCausalLM", Pre: "qwen2", DType: BF16, Shards: 3, dims: moe, layout: qwen3MoeTensors,
			config: moeConfig(moe, nil), tokens: bpeFolder(qwenBPE(true), qwenConfig(jmap{"chat_template": chatML}))},
		{Name: "qwen3moe-fused", HFArch: "Qwen3MoeForCausalLM", Pre: "qwen2", DType: F16, Shards: 1, dims: fused, layout: qwen3MoeTensors,
			config: moeConfig(fused, nil), tokens: bpeFolder(qwenBPE(true), qwenConfig(nil)),
			files: map[string]string{"chat_template.json": fmt.Sprintf("{\"chat_template\": %q}\n", chatML)}},
	}
}

func llamaSpecs() []Spec {
	d := dims{blocks: 2, hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 16, vocab: 320}
	l3 := d
	l3.tied = true
	spm := d
	spm.vocab = 416
	mistral := d
	mistral.headDim, mistral.vocab = 32, 416
	llama3Rope := jmap{"rope_type": "llama3", "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
	return []Spec{
		{Name: "llama-bpe", HFArch: "LlamaForCausalLM", Pre: "llama-bpe", DType: BF16, Shards: 2, dims: l3, layout: llamaTensors,
			config: modelConfig("llama", l3, jmap{"rope_scaling": llama3Rope, "rope_theta": 500000.0, "head_dim": l3.headDim, "bos_token_id": 306,
				"eos_token_id": []int{307, 311}, "rms_norm_eps": 1e-05, "attention_bias": false, "mlp_bias": false, "pretraining_tp": 1, "max_position_embeddings": 131072}),
			tokens: bpeFolder(llama3BPE(), jmap{"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": llama3Chat,
				"clean_up_tokenization_spaces": true, "model_max_length": 131072, "tokenizer_class": "PreTrainedTokenizerFast"})},
		{Name: "llama-spm", HFArch: "LlamaForCausalLM", Pre: "default", DType: F16, Shards: 1, dims: spm, layout: llamaTensors,
			config: modelConfig("llama", spm, jmap{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
			tokens: spmFolder(llamaSPM(), jmap{"add_bos_token": true, "add_eos_token": false, "add_prefix_space": true, "legacy": false,
				"bos_token":       jmap{"__type": "AddedToken", "content": "<s>", "lstrip": false, "normalized": true, "rstrip": false, "single_word": false},
				"eos_token":       "</s>",
				"chat_template":   instChat,
				"tokenizer_class": "LlamaTokenizer"}, jmap{"<|im_start|>": 0, "<persona>": 1},
				addedToken{ID: 0, Content: "<unk>", Normalized: true, Special: true}, addedToken{ID: 1, Content: "<s>", Normalized: true, Special: true},
				addedToken{ID: 2, Content: "</s>", Normalized: true, Special: true}, addedToken{ID: -1, Content: "<|im_start|>"},
				addedToken{ID: -4, Content: "▁snow▁white"})},
		{Name: "llama-hf-bpe", HFArch: "LlamaForCausalLM", Pre: "default", DType: F32, Shards: 1, dims: spm, layout: llamaTensors,
			config: modelConfig("llama", spm, jmap{"bos_token_id": 1, "eos_token_id": 2, "rope_scaling": jmap{"type": "linear", "factor": 4.0}}),
			tokens: bpeFolder(llamaFallbackBPE(), jmap{"add_bos_token": true, "add_eos_token": false, "bos_token": "<s>", "eos_token": "</s>",
				"unk_token": "<unk>", "pad_token": nil, "legacy": true, "chat_template": instChat, "tokenizer_class": "LlamaTokenizerFast"})},
		{Name: "mistral-spm", HFArch: "MistralForCausalLM", Pre: "default", DType: BF16, Shards: 2, dims: mistral, layout: llamaTensors,
			config: modelConfig("mistral", mistral, jmap{"head_dim": mistral.headDim, "sliding_window": nil, "bos_token_id": 1, "eos_token_id": 2, "rope_theta": 1000000.0}),
			tokens: spmFolder(mistralSPM(), jmap{"add_bos_token": true, "add_eos_token": false, "add_prefix_space": true, "bos_token": "<s>",
				"eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "LlamaTokenizer", "chat_template": instChat}, nil,
				addedToken{ID: 3, Content: "[INST]", Special: true}, addedToken{ID: 4, Content: "[/INST]", Special: true})},
		{Name: "mistral-tekken", HFArch: "MistralForCausalLM", Pre: "tekken", DType: BF16, Shards: 1, dims: mistral, layout: llamaTensors,
			config: modelConfig("mistral", mistral, jmap{"head_dim": mistral.headDim, "sliding_window": 4096, "bos_token_id": 1, "eos_token_id": 2, "rope_theta": 1000000.0}),
			tokens: bpeFolder(tekkenBPE(), jmap{"add_bos_token": true, "add_eos_token": false, "add_prefix_space": false, "bos_token": "<s>", "eos_token": "</s>",
				"pad_token": "<pad>", "unk_token": "<unk>", "tokenizer_class": "GPT2Tokenizer", "chat_template": instChat})},
	}
}

func gemmaSpecs() []Spec {
	d := dims{blocks: 3, hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 32, vocab: 416, tied: true}
	oov := d
	oov.extraRows = 8
	tokens := func() func(dir string) error {
		return spmFolder(gemmaSPM(), jmap{"add_bos_token": true, "add_eos_token": false, "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
			"unk_token": "<unk>", "tokenizer_class": "GemmaTokenizer", "chat_template": gemmaChat, "sp_model_kwargs": nil}, nil,
			addedToken{ID: 4, Content: "<mask>"}, addedToken{ID: 5, Content: "[multimodal]"}, addedToken{ID: 6, Content: "<unused0>"},
			addedToken{ID: 9, Content: "▁▁"}, addedToken{ID: 7, Content: "<start_of_turn>", Special: true}, addedToken{ID: -1, Content: "<image_soft_token>", Special: true})
	}
	// As in Google's small text models, most keys are left to the class.
	bare := jmap{"model_type": "gemma3_text", "hidden_size": d.hidden, "intermediate_size": d.ffn, "num_hidden_layers": d.blocks,
		"num_attention_heads": d.heads, "num_key_value_heads": d.kvHeads, "head_dim": d.headDim, "sliding_window": 512, "query_pre_attn_scalar": 32}
	full := maps.Clone(bare)
	maps.Copy(full, jmap{"rope_scaling": jmap{"factor": 8.0, "rope_type": "linear"}, "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0,
		"rms_norm_eps": 1e-06, "max_position_embeddings": 32768, "sliding_window_pattern": 3, "final_logit_softcapping": 30.0, "bos_token_id": 2, "eos_token_id": []int{1, 8}, "pad_token_id": 0})
	return []Spec{
		{Name: "gemma3", HFArch: "Gemma3ForCausalLM", Pre: "default", DType: BF16, Shards: 2, dims: oov, layout: gemma3Tensors, config: bare, tokens: tokens()},
		{Name: "gemma3-f16", HFArch: "Gemma3ForCausalLM", Pre: "default", DType: F16, Shards: 1, dims: d, layout: gemma3Tensors, config: full, tokens: tokens()},
	}
}

func exaoneSpecs() []Spec {
	d := dims{blocks: 4, hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 16, vocab: 336}
	tied := d
	tied.blocks, tied.tied = 2, true
	llama3Rope := jmap{"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
	tokenConfig := jmap{"bos_token": "[BOS]", "eos_token": "[|endofturn|]", "pad_token": "[PAD]", "unk_token": "[UNK]", "tokenizer_class": "GPT2Tokenizer",
		"chat_template": exaoneChat, "clean_up_tokenization_spaces": true, "add_prefix_space": false}
	exaone := jmap{"model_type": "exaone", "activation_function": "silu", "attention_dropout": 0.0, "bos_token_id": 1, "embed_dropout": 0.0, "eos_token_id": 313,
		"head_dim": d.headDim, "hidden_size": d.hidden, "intermediate_size": d.ffn, "layer_norm_epsilon": 1e-05, "max_position_embeddings": 32768,
		"num_attention_heads": d.heads, "num_key_value_heads": d.kvHeads, "num_layers": tied.blocks, "pad_token_id": 0, "rope_scaling": llama3Rope,
		"rope_theta": 1000000.0, "tie_word_embeddings": true}
	ex4 := func(d dims, extra jmap) jmap {
		base := jmap{"bos_token_id": 1, "eos_token_id": 313, "pad_token_id": 0, "head_dim": d.headDim, "max_position_embeddings": 65536, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0}
		maps.Copy(base, extra)
		return modelConfig("exaone4", d, base)
	}
	types := []string{"sliding_attention", "sliding_attention", "sliding_attention", "full_attention"}
	return []Spec{
		{Name: "exaone35", HFArch: "ExaoneForCausalLM", Pre: "exaone", DType: BF16, Shards: 1, dims: tied, layout: exaoneTensors, config: exaone, tokens: bpeFolder(exaoneBPE(true), tokenConfig)},
		{Name: "exaone4", HFArch: "Exaone4ForCausalLM", Pre: "exaone4", DType: BF16, Shards: 1, dims: tied, layout: exaone4Tensors,
			config: ex4(tied, jmap{"sliding_window": nil, "rope_scaling": nil}), tokens: bpeFolder(exaoneBPE(false), tokenConfig)},
		{Name: "exaone4-swa", HFArch: "Exaone4ForCausalLM", Pre: "exaone4", DType: BF16, Shards: 2, dims: d, layout: exaone4Tensors,
			config: ex4(d, jmap{"sliding_window": 4096, "sliding_window_pattern": "LLLG", "layer_types": types, "rope_scaling": llama3Rope}), tokens: bpeFolder(exaoneBPE(false), tokenConfig)},
		{Name: "exaone4-pattern", HFArch: "Exaone4ForCausalLM", Pre: "exaone4", DType: F16, Shards: 1, dims: d, layout: exaone4Tensors,
			config: ex4(d, jmap{"sliding_window": 1024, "sliding_window_pattern": 4}), tokens: bpeFolder(exaoneBPE(false), tokenConfig)},
	}
}
