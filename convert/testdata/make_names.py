# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["numpy~=2.2.6", "pyyaml>=6", "tqdm", "requests"]
# ///
"""Remakes names.jsonl: what llama.cpp reads out of model names.

Run from the repository's root:

    uv run convert/testdata/make_names.py

Each line is a JSON array: id, number of weights, then name, organization,
basename, fine-tune, version and size label of gguf-py's
Metadata.get_model_id_components, then Metadata.id_to_title of the id, then the
default file name for type f16.
"""

import itertools
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "llamacpp" / "gguf-py"))

from gguf import Metadata, naming_convention  # noqa: E402

REAL = """
Qwen/Qwen3-4B-Instruct-2507 Qwen/Qwen3-4B Qwen/Qwen3-0.6B-Base Qwen/Qwen3-30B-A3B-Instruct-2507 Qwen/Qwen2.5-7B-Instruct-1M
Qwen/Qwen2.5-Coder-32B-Instruct Qwen/Qwen3-Embedding-0.6B Qwen/Qwen3-235B-A22B-Thinking-2507 Qwen/Qwen3-Coder-480B-A35B-Instruct
meta-llama/Llama-3.2-1B-Instruct meta-llama/Meta-Llama-3.1-8B-Instruct meta-llama/Llama-2-7b-hf meta-llama/Llama-2-13b-chat-hf
mistralai/Mistral-7B-Instruct-v0.3 mistralai/Mixtral-8x7B-Instruct-v0.1 mistralai/Mistral-Nemo-Instruct-2407 mistralai/Mistral-Small-24B-Instruct-2501
google/gemma-3-1b-it google/gemma-3-270m google/gemma-2-9b-it google/gemma-3-4b-pt LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct
LGAI-EXAONE/EXAONE-4.0-1.2B LGAI-EXAONE/EXAONE-4.0-32B LGAI-EXAONE/EXAONE-Deep-7.8B bigscience/bloom-7b1 tiiuae/falcon-40b
EleutherAI/pythia-70m-deduped EleutherAI/gpt-neox-20b openai-community/gpt2-xl openai-community/gpt2-medium microsoft/phi-4
microsoft/Phi-3-mini-4k-instruct microsoft/Phi-3-medium-128k-instruct TheBloke/Mistral-7B-Instruct-v0.2-GGUF NousResearch/Hermes-2-Pro-Llama-3-8B
teknium/OpenHermes-2.5-Mistral-7B upstage/SOLAR-10.7B-Instruct-v1.0 yanolja/EEVE-Korean-10.8B-v1.0 beomi/Llama-3-Open-Ko-8B
MLP-KTLim/llama-3-Korean-Bllossom-8B kakaocorp/kanana-nano-2.1b-instruct naver-hyperclovax/HyperCLOVAX-SEED-Text-Instruct-0.5B
skt/A.X-4.0-Light K-intelligence/Midm-2.0-Mini-Instruct HuggingFaceTB/SmolLM2-135M-Instruct allenai/OLMo-2-1124-7B-Instruct
deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B deepseek-ai/DeepSeek-V3-0324 CohereForAI/aya-23-8B databricks/dbrx-instruct stabilityai/stablelm-2-1_6b-chat
Snow-White-Qwen3-4B-Instruct-2507 snow-white merged out model checkpoint-500 final qwen3-snow_white-lora lora-Qwen3 Lora
8a1f3c0d9e7b6a5f4c3d2e1f0a9b8c7d6e5f4a3b Q8_0 model-Q4_K_M model-f16 model-BF16 fp32 v1 v1.2-beta iter-3 iter3 2507 3.5 my-model-v2.1-chat
small-model model-small model-small-7B model-XL-large model-xxl mini-mini medium A-3B-A3B a-b-c-d -leading trailing- --double--dash--
with_underscore-7B UPPER-CASE lower-case MiXeD-Case x-8x7B x-8x22b-Instruct x-1.5t x-300k x-7b1 x-7B1 x-1_5B x-1.5.6B x-128k x-32K-chat
한국어-모델-4B 백설공주 백설공주-4B-Instruct été-modèle-7b straße-1B élan-v2 Ünïcödé ñandú-Chat ./relative/path ../up/x .hidden/model /absolute/model
a/b/c org/ /model sentence with-spaces 7B 7b-chat 7B-Instruct-v0.1 chat-7B instruct vision-7B x-Vision-x x-LORA x-Lora-v1 x- -x
model.v1 model.7B 1.5-x 1-2-3 v1-v2-v3 x-v1-y-v2 x-v1-v2 x-2024-01-01 base-7B-base 4bit-model-4bit x-4bit-7B x-Q4 x-IQ2_XXS-7B x-bf16-7B x-F32
snow.white-0.6B-GGUF L3.1-8B-sunfall-v0.6.1-dpo Nous-Hermes-2-Mixtral-8x7B-DPO WizardLM-2-8x22B Yi-1.5-34B-Chat-16K c4ai-command-r-08-2024 granite-3.1-2b-instruct
""".split()


def names():
    yield from REAL
    yield from ["a sentence as a name", "Qwen3 4B Instruct", " lead", "tail ", "tab\tname", "a/b c"]
    heads = ["Qwen3", "snow-white", "gemma-3", "EXAONE-3.5", "백설공주", "x.y"]
    sizes = ["", "4B", "0.6b", "350M", "8x7B", "small"]
    tails = ["", "Instruct", "it", "v0.1", "2507", "Instruct-2507", "chat-v2"]
    for h, s, t in itertools.product(heads, sizes, tails):
        yield "-".join(p for p in (h, s, t) if p)


def main():
    seen = set()
    with open(HERE / "names.jsonl", "w", encoding="utf-8") as out:
        for name in names():
            for params in (0, 320_000, 596_049_920, 4_022_468_096, 8_030_261_248):
                if (name, params) in seen or (params in (0, 8_030_261_248) and name not in REAL):
                    continue
                seen.add((name, params))
                full, org, base, tune, version, size = Metadata.get_model_id_components(name, params)
                title = Metadata.id_to_title(full)
                file = naming_convention(title, base, tune, version, size, "F16")
                print(json.dumps([name, params, full, org, base, tune, version, size, title, file], ensure_ascii=False), file=out)


if __name__ == "__main__":
    main()
