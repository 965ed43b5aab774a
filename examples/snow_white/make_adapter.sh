#!/usr/bin/env bash
# Make adapter/ and answers.json from base/ and data/ with the program itself: SFT records, QLoRA training on the CPU,
# merge. Then PyTorch answers. About a quarter of an hour on two cores; needs bin/persona-gguf (./build.sh) and uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=examples/snow_white work=build/snow_white
rm -rf "$work"
mkdir -p "$work"

go run "./$here/sft" "$work/sft.jsonl"
bin/persona-gguf train --base-model "$here/base" --data-path "$work/sft.jsonl" --output-dir "$work/adapter" --cpu \
	--epochs 1 --threads 1 --learning-rate 2e-3 --batch-size 16 --grad-accum 1 --max-length 512 --lora-dropout 0 --weight-decay 0.05 --seed 1
mkdir -p "$here/adapter"
cp "$work"/adapter/{adapter_config.json,adapter_model.safetensors,training.json,loss.png} "$here/adapter/"

bin/persona-gguf merge --base "$here/base" --adapter "$here/adapter" --out "$work/persona"
bin/persona-gguf merge --base "$here/base" --adapter "$here/adapter" --base-quant none --out "$work/persona-plain"
uv run "$here/make_checkpoint.py" answers "$work/persona" "$work/persona-plain"
