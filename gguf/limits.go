package gguf

// Limits on what [Open] accepts and what [NewLayout] writes. They bound the
// memory that a hostile file can claim; real models stay far below them.
const (
	// MaxKVs is the largest number of metadata keys in a file.
	MaxKVs = 1 << 16
	// MaxTensors is the largest number of tensors in a file.
	MaxTensors = 1 << 20
	// MaxKeyLen is the longest metadata key, in bytes (the limit of the GGUF specification).
	MaxKeyLen = 1<<16 - 1
	// MaxNameLen is the longest tensor name, in bytes: GGML_MAX_NAME of ggml.h less the final NUL.
	MaxNameLen = 63
	// MaxStringLen is the longest string value, in bytes.
	MaxStringLen = 1 << 26
	// MaxArrayLen is the largest number of elements of an array value.
	MaxArrayLen = 1 << 24
	// MaxDims is the largest number of dimensions of a tensor: GGML_MAX_DIMS of ggml.h.
	MaxDims = 4
	// MaxShards is the largest number of files of a split model: split.no is a u16 and file names have five digits.
	MaxShards = 1<<16 - 1
	// DefaultAlignment is the alignment of a file without the key general.alignment.
	DefaultAlignment = 32
	// MaxAlignment is the largest alignment: a huge page. Padding is written, and made in memory.
	MaxAlignment = 1 << 21
)

// Version is the version that this package writes. It reads 2 and 3, which
// differ only in that version 3 may also be big-endian (not supported).
const Version = 3

const magic = "GGUF"

// Keys that the format itself gives a meaning.
const (
	keyAlignment    = "general.alignment"
	keySplitNo      = "split.no"
	keySplitCount   = "split.count"
	keySplitTensors = "split.tensors.count"
)
