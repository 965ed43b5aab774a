# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["torch==2.11.0", "transformers==4.57.6", "numpy~=2.2.6"]
# ///
"""Remakes defaults.json: what transformers' AutoConfig fills into config.json.

Run from the repository's root:

    uv run convert/testdata/make_defaults.py

Each entry is a config.json and what AutoConfig.from_pretrained(...).to_dict()
makes of it, without the keys that are the same for every class and unknown to
the converter; null where AutoConfig refuses the file, so that the converter
reads it as it stands.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
from transformers import AutoConfig  # noqa: E402

HERE = Path(__file__).resolve().parent
KEYS = """
vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim
max_position_embeddings rms_norm_eps tie_word_embeddings rope_theta rope_scaling rope_parameters rope_local_base_freq
attention_bias mlp_bias moe_intermediate_size num_experts_per_tok num_experts final_logit_softcapping
attn_logit_softcapping extra bos_token_id eos_token_id
""".split()
CLASSES = {
    "qwen3": "Qwen3ForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM", "gemma3_text": "Gemma3ForCausalLM", "exaone4": "Exaone4ForCausalLM",
}
WINDOW = ["sliding_window", "sliding_window_pattern", "layer_types"]
EDITS = [
    {},
    {"num_attention_heads": 16, "num_key_value_heads": None, "head_dim": None, "hidden_size": 1024, "extra": 1},
    {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_scaling": {"type": "linear"}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
    {"rope_scaling": {"rope_type": "unheard", "x": 1}},
    {"rope_scaling": {}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}},
    {"torch_dtype": "bfloat16"},
    {"torch_dtype": "auto"},
    {"sliding_window": None},
    {"use_bidirectional_attention": True, "sliding_window": 513},
    {"sliding_window": 7, "sliding_window_pattern": "LLLG", "num_hidden_layers": 5},
    {"sliding_window": 7, "sliding_window_pattern": 3, "num_hidden_layers": 7},
]


def load(config):
    with tempfile.TemporaryDirectory() as tmp:
        (Path(tmp) / "config.json").write_text(json.dumps(config))
        try:
            return AutoConfig.from_pretrained(tmp, trust_remote_code=False).to_dict()
        except Exception:
            return None


def main():
    cases = []
    for model_type, arch in CLASSES.items():
        keys = KEYS + (["sliding_window"] if model_type in ("mistral", "gemma3_text", "exaone4") else [])
        keys = keys + (WINDOW[1:] if model_type == "exaone4" else [])
        for edit in EDITS:
            config = {"architectures": [arch], "model_type": model_type, **edit}
            got = load(config)
            cases.append({"config": config, "want": got and {k: got[k] for k in keys if k in got}})
    (HERE / "defaults.json").write_text(json.dumps(cases, indent=0).replace("\n", "").replace('{"config"', '\n{"config"') + "\n")


if __name__ == "__main__":
    main()
