# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.15.0",
#   "transformers==5.23.0",
#   "peft==0.21.2",
#   "safetensors==0.8.0",
#   "numpy==2.4.6",
#   "sentencepiece>=0.2,<0.3",
# ]
# ///
"""Make the adapters and goldens of this folder with PEFT, in float32 on the CPU:

    uv run lora/testdata/make_golden.py

For a tiny model of internal/testmodel (written with `go run`) and a kind of adapter,
PEFT makes an adapter, random and not zero, which is saved to adapters/MODEL.KIND/, and
merges it with merge_and_unload. MODEL.KIND.golden.json holds the merged model:

    tensors  by the name in the base's files: shape, count, every step-th value of the
             flattened tensor, and the float64 sum and sum of squares of all
    absent   names that a merged folder must not have (a tied lm_head)
    logits   of the token ids in `ids`: every step-th value of the last position, its
             step, and the index of the largest

transformers 5 holds experts in stacked parameters; they are taken apart again into
the names of the files. A merge in which PEFT gives something else than what was
trained (LoRA on one side of tied embeddings) is made by hand: see untied.
"""

import argparse
import json
import random
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SAMPLES = 12
IDS = [3, 17, 5, 41, 29, 8, 60, 11]

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = ALL[:4]
MODELS = {
    "qwen3-tied": ALL, "qwen3-untied": ALL, "qwen2": ALL, "llama-bpe": ALL, "mistral-spm": ALL, "gemma3-f16": ALL,
    "exaone4": ALL, "qwen3moe": ATTENTION,
}
COMMON = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 3, r"layers\.1\.self_attn\.k_proj": 1},
        "alpha_pattern": {"v_proj": 11, r"layers\.0\..*o_proj": 2.5},
    },
    "dora": {"use_dora": True},
    "norm": {"modules_to_save": ["norm"]},
    "embeddings": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "lora-embedding": {"targets": ["embed_tokens"]},
}
MORE = [
    ("qwen2", "bias", {"bias": "lora_only"}),
    ("qwen2", "lora-bias", {"lora_bias": True, "target_modules": ["q_proj", "k_proj", "v_proj"]}),
    ("qwen3-tied", "tokens", {"trainable_token_indices": [5, 2, 40]}),
    ("qwen3-untied", "tokens", {"trainable_token_indices": {"embed_tokens": [1, 7], "lm_head": [9]}}),
    ("qwen3-untied", "dora-embedding", {"use_dora": True, "targets": ["embed_tokens"]}),
    ("qwen3-untied", "lora-head", {"targets": ["lm_head"]}),
    ("qwen3moe", "experts", {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], "alpha_pattern": {"down_proj": 5}}),
]


def fill(model, seed):
    """Random, telling values for everything that the adapter holds."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if any(s in name for s in ("lora_A", "lora_B", "lora_embedding")):
            p.data = torch.randn(p.shape, generator=g) * 0.2
        elif "lora_magnitude" in name:
            p.data = p.data * (1 + 0.3 * torch.rand(p.shape, generator=g))
        elif p.requires_grad:
            p.data = p.data + torch.randn(p.shape, generator=g) * 0.1


def in_files(state, base):
    """The state dict by the names of the base's files: stacked experts taken apart."""
    out = {}
    for name, t in state.items():
        if name.endswith("experts.gate_up_proj") and not any(n == name for n in base):
            for e in range(t.shape[0]):
                gate, up = t[e].chunk(2, dim=0)
                stem = name.removesuffix("gate_up_proj")
                out[f"{stem}{e}.gate_proj.weight"], out[f"{stem}{e}.up_proj.weight"] = gate, up
        elif name.endswith("experts.down_proj") and not any(n == name for n in base):
            for e in range(t.shape[0]):
                out[f"{name.removesuffix('down_proj')}{e}.down_proj.weight"] = t[e]
        else:
            out[name] = t
    return out


def describe(t):
    v = t.detach().float().contiguous().numpy().reshape(-1)
    step = max(1, len(v) // SAMPLES)
    return {
        "shape": list(t.shape), "count": len(v), "step": step, "values": [float(f"{x:.9g}") for x in v[::step]],
        "sum": float(v.astype(np.float64).sum()), "squares": float((v.astype(np.float64) ** 2).sum()),
    }


def untied(model, config):
    """Which side of tied embeddings an adapter changes: merged as it was trained, PEFT would change both."""
    targets = list(config.target_modules or [])
    return bool(getattr(model.config, "tie_word_embeddings", False)) and ("embed_tokens" in targets)


def make(folder, model_name, kind, extra, seed):
    extra = dict(extra)
    torch.manual_seed(seed)
    more = extra.pop("targets", [])
    targets = extra.pop("target_modules", [] if "target_parameters" in extra else MODELS[model_name]) + more
    out = HERE / "adapters" / f"{model_name}.{kind}"
    load = lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    base = load()
    tied = base.get_output_embeddings().weight is base.get_input_embeddings().weight
    config = LoraConfig(r=2, lora_alpha=5, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM", **extra)
    peft = get_peft_model(base, config)
    fill(peft, seed)
    shutil.rmtree(out, ignore_errors=True)
    peft.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    weights = out / "adapter_model.safetensors"  # half the size, and no rounding where PEFT reads it again
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in load_file(weights).items()}, weights, {"format": "pt"})
    saved = json.loads((out / "adapter_config.json").read_text())
    saved["base_model_name_or_path"] = model_name
    (out / "adapter_config.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")

    fresh = load()
    before = fresh.get_input_embeddings().weight.detach().clone()
    peft = PeftModel.from_pretrained(fresh, out).eval()
    with torch.no_grad():
        want = peft(torch.tensor([IDS])).logits[0, -1]
        merged = peft.merge_and_unload()
        got = merged(torch.tensor([IDS])).logits[0, -1]
    error = float((want - got).abs().max() / want.abs().max())
    state = {k: v.clone() for k, v in merged.state_dict().items()}
    still = merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    if tied and untied(fresh, config):
        state["lm_head.weight"] = before
        logits = want
    else:
        logits = got
        if tied and (still or torch.equal(state["model.embed_tokens.weight"], state["lm_head.weight"])):
            state.pop("lm_head.weight", None)
    names = [line for line in subprocess.run(["python3", "-c", LIST, str(folder)], check=True, capture_output=True, text=True).stdout.split()]
    described = {k: describe(v) for k, v in sorted(in_files(state, names).items())}
    v = logits.numpy()
    step = max(1, len(v) // 64)
    golden = {
        "model": model_name, "kind": kind, "error_of_merge": error, "tensors": described,
        "absent": [] if "lm_head.weight" in described else ["lm_head.weight"],
        "ids": IDS, "logits": {"step": step, "values": [float(f"{x:.9g}") for x in v[::step]], "argmax": int(v.argmax())},
    }
    (HERE / f"{model_name}.{kind}.golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(f"{model_name}.{kind}: PEFT's merged logits differ by {error:.1e} from its unmerged ones")


def for_transformers(folder):
    """Say in transformers 5's words what config.json means to its authors and to llama.cpp."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if config["model_type"] == "gemma3_text":
        config["final_logit_softcapping"] = float(config["final_logit_softcapping"])
        scaling = config.pop("rope_scaling")
        config["rope_parameters"] = {
            "full_attention": {"rope_theta": config.pop("rope_theta"), **scaling},
            "sliding_attention": {"rope_type": "default", "rope_theta": config.pop("rope_local_base_freq")},
        }
        # llama.cpp's Gemma 3 has every sixth layer see all, whatever sliding_window_pattern says
        config["layer_types"] = ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(config["num_hidden_layers"])]
    if config["model_type"] == "exaone4":  # no sliding window: every layer sees all, which the class cannot work out
        config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]
    path.write_text(json.dumps(config))


LIST = """
import json, pathlib, struct, sys
for f in sorted(pathlib.Path(sys.argv[1]).glob('*.safetensors')):
    data = f.read_bytes(); n = struct.unpack('<Q', data[:8])[0]
    print('\\n'.join(k for k in json.loads(data[8:8 + n]) if k != '__metadata__'))
"""


def main():
    warnings.filterwarnings("ignore")
    transformers_logging.disable_progress_bar()
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", help="MODEL.KIND to make; all without")
    only = parser.parse_args().only
    jobs = [(m, k, e) for m in MODELS for k, e in COMMON.items()] + MORE
    with tempfile.TemporaryDirectory() as temp:
        for i, (model, kind, extra) in enumerate(jobs):
            if only and f"{model}.{kind}" not in only:
                continue
            folder = Path(temp) / model
            if not folder.exists():
                subprocess.run(["go", "run", "./internal/testmodel/write", "-spec", model, str(folder)], check=True, cwd=ROOT)
                for_transformers(folder)
            make(folder, model, kind, extra, 1000 + i)


main()
