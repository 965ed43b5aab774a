# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["torch==2.15.0", "bitsandbytes==0.50.0", "numpy==2.4.6"]
# ///
"""Make nf4.golden.json with bitsandbytes on the CPU:

    uv run lora/testdata/make_nf4_golden.py

A case is a tensor whose elements follow from their index (see values, and
nf4Values in nf4_test.go), a dtype, and whether the absmax values are quantized
too. Stored are the SHA-256 of the dequantized bytes and the bits of the offset that
double quantization subtracts. tables holds the bits of the 16 NF4 levels and of the
256 levels of double quantization.
"""

import hashlib
import json
from pathlib import Path

import bitsandbytes.functional as bnb
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SIZES = [2, 64, 66, 100, 64 * 256, 64 * 256 + 130, 200_000, 64 * 33_000]


def values(kind, n):
    """n float32 numbers: hash gives spread ones; the others put odd blocks among them."""
    i = np.arange(n, dtype=np.uint64)
    h = ((i * np.uint64(2654435761) + np.uint64(12345)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    h ^= h >> np.uint32(15)
    v = (h.astype(np.float64) / 2147483648.0 - 1.0).astype(np.float32)
    v *= np.float32(0.05) * (np.float32(1) + (i // np.uint64(64) % np.uint64(37)).astype(np.float32))
    if kind == "odd":
        block = i // np.uint64(64) % np.uint64(8)
        v[block == 1] = 0
        v[block == 2] = np.float32(0.75)
        v[block == 3] *= np.float32(2.0**-70)
        v[(block == 4) & (i % np.uint64(64) == 5)] = np.float32(3e4)
        v[block == 5] = np.where(i[block == 5] % np.uint64(2) == 0, np.float32(-1), np.float32(1))
    return v


def bits(t):
    return [int(x) for x in t.detach().cpu().float().numpy().view(np.uint32).reshape(-1)]


def main():
    cases = []
    for kind in ["hash", "odd"]:
        for n in SIZES:
            for name, dtype in DTYPES.items():
                for double in [False, True]:
                    w = torch.from_numpy(values(kind, n)).to(dtype).reshape(n // 2, 2)
                    q, state = bnb.quantize_4bit(w, blocksize=64, compress_statistics=double, quant_type="nf4")
                    out = bnb.dequantize_4bit(q, state).reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
                    cases.append({
                        "kind": kind, "n": n, "dtype": name, "double_quant": double,
                        "offset": bits(state.offset)[0] if double else 0,
                        "sha256": hashlib.sha256(out).hexdigest(),
                    })
    tables = {"nf4": bits(state.code), "map": bits(state.state2.code)}
    (HERE / "nf4.golden.json").write_text(json.dumps({"tables": tables, "cases": cases}, separators=(",", ":")).replace("},", "},\n") + "\n")
    print(len(cases), "cases")


main()
