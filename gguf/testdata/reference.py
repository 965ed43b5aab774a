"""Writes reference.gguf, the file that TestWriterEqualsReference compares with, by llama.cpp's own gguf-py.

From the repository's root: PYTHONPATH=llamacpp/gguf-py python3 gguf/testdata/reference.py gguf/testdata/reference.gguf
(needs numpy). The keys cover every value type, the tensors several types, 1 to 4 dimensions and every length of padding.
"""

import sys

import numpy as np

from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

w = GGUFWriter(sys.argv[1], "qwen3")
w.add_uint8("t.u8", 200)
w.add_int8("t.i8", -100)
w.add_uint16("t.u16", 60000)
w.add_int16("t.i16", -30000)
w.add_uint32("t.u32", 4000000000)
w.add_int32("t.i32", -2000000000)
w.add_uint64("t.u64", 2**64 - 1)
w.add_int64("t.i64", -(2**63))
w.add_float32("t.f32", 1.1)
w.add_float64("t.f64", 1.1)
w.add_bool("t.yes", True)
w.add_bool("t.no", False)
w.add_string("t.str", "백설공주 Snow White")
w.add_array("t.strings", ["a", "", "거울아"])
w.add_array("t.ints", [1, -2, 3])
w.add_array("t.floats", [0.5, -1.25])
w.add_array("t.bools", [True, False, True])
w.add_key_value("t.u8s", [1, 2, 255], GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT8)
w.add_key_value("t.u64s", [2**63], GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT64)
w.add_uint32("t.u32", 7)  # set again: keeps its place


def numbers(n, dtype):
    return ((np.arange(n) * 37 + 11) % 251).astype(dtype)


w.add_tensor("one.weight", numbers(3, np.float32))
w.add_tensor("two.weight", numbers(5 * 7, np.float16).reshape(5, 7))
w.add_tensor("three.weight", numbers(2 * 3 * 4, np.int8).reshape(2, 3, 4))
w.add_tensor("four.weight", numbers(2 * 1 * 3 * 1, np.float64).reshape(2, 1, 3, 1))
w.add_tensor("q8.weight", numbers(2 * 68, np.uint8).reshape(2, 68), raw_dtype=GGMLQuantizationType.Q8_0)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
