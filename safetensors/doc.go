// Package safetensors reads and writes the safetensors format: one file, and a
// Hugging Face model folder of one or many files.
//
// A file is
//
//	header length u64, little-endian
//	header: a JSON object, padded with spaces
//	data
//
// The header maps every tensor name to {"dtype": "F32", "shape": [2, 3],
// "data_offsets": [begin, end]}, with offsets from the start of the data, and
// may map "__metadata__" to an object of strings.
//
// The source of the format is https://github.com/huggingface/safetensors
// (README.md and safetensors/src/tensor.rs). The rules that [Open] checks:
//
//  1. the header length is at most 100,000,000 bytes and within the file;
//  2. the header is UTF-8, begins with '{', and is one JSON object followed by white space only;
//  3. no key occurs twice, on any level;
//  4. "__metadata__" holds strings only;
//  5. a tensor has dtype, shape and data_offsets, each once, and nothing else;
//  6. the dtype is known, the shape is of whole numbers that are not negative;
//  7. end − begin is the product of shape and dtype size, computed without overflow;
//  8. the ranges, in order, cover the data from its first byte to the last of
//     the file: no hole, no overlap, no trailing bytes.
//
// What the format library accepts and we do not: unknown fields, a header that
// begins with white space, "__metadata__": null.
//
// Pickle files (pytorch_model.bin) are never read, because loading one can run any code.
package safetensors
