"""Writes reference.safetensors, the file that TestWriteEqualsReference compares with, by the safetensors library.

python3 safetensors/testdata/reference.py safetensors/testdata/reference.safetensors (needs torch and safetensors; made with 0.8.0).
One metadata key only: the library writes several in random order.
"""

import sys

import torch
from safetensors.torch import save_file


def tensor(dtype, shape, size):
    n = size
    for d in shape:
        n *= d
    data = bytearray((i * 31 + 7) % 256 for i in range(n))
    if dtype == "bool":
        data = bytearray(b & 1 for b in data)
    dtype = getattr(torch, dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(shape) if n else torch.empty(shape, dtype=dtype)


tensors = {
    "z.weight": tensor("bfloat16", [3, 5], 2),
    "a.weight": tensor("float16", [4], 2),
    "model.layers.10.weight": tensor("bfloat16", [2], 2),
    "model.layers.2.weight": tensor("bfloat16", [2, 1], 2),
    "ids": tensor("int64", [3], 8),
    "scalar": tensor("float32", [], 4),
    "c64": tensor("complex64", [2], 8),
    "empty": tensor("float32", [0, 4], 4),
    "mask": tensor("bool", [5], 1),
    "f8": tensor("float8_e4m3fn", [3], 1),
    "f8b": tensor("float8_e5m2", [3], 1),
    "u8": tensor("uint8", [1], 1),
    "i8": tensor("int8", [1], 1),
    "i16": tensor("int16", [2], 2),
    "u16": tensor("uint16", [2], 2),
    "i32": tensor("int32", [2], 4),
    "u32": tensor("uint32", [2], 4),
    "double": tensor("float64", [1], 8),
    "u64": tensor("uint64", [1], 8),
    'quoted "name" <&> 거울\n': tensor("float32", [1], 4),
}
save_file(tensors, sys.argv[1], {"format": "pt"})
