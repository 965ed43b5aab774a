// Package gguf reads and writes GGUF, the file format of llama.cpp models.
//
// A file is, little-endian throughout:
//
//	magic "GGUF", version u32, tensor count u64, KV count u64
//	KV count times:     key string, value type u32, value
//	tensor count times: name string, dimensions u32, that many ne u64
//	                    (innermost first), tensor type u32, offset u64
//	zeros up to a multiple of the alignment
//	data: every tensor at its offset, followed by zeros up to a multiple of the alignment
//
// A string is its length as u64 and its bytes. An array is the value type of
// its elements as u32, their count as u64, and the elements; arrays of arrays
// are not part of what llama.cpp reads. The alignment is the u32 value of the
// key general.alignment, 32 if there is none. Offsets count from the start of
// the data, and tensors lie in the order of their infos without gaps.
//
// The source of the format is llama.cpp v0.5.0: ggml/include/gguf.h and
// ggml/src/gguf.cpp (reader and writer of the runtime and of llama-quantize),
// gguf-py/gguf/gguf_writer.py (writer of the converter), src/llama-model-loader.cpp
// (split models) and ggml/src/ggml-common.h (block sizes).
//
// [Open] trusts nothing in the file: every count, length, dimension and offset
// is checked against the bytes left and a named limit before it is used.
package gguf
