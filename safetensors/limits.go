package safetensors

// Limits on what [Open], [OpenModel] and [Write] accept.
const (
	// MaxHeaderLen is the longest header, in bytes: MAX_HEADER_SIZE of the safetensors library.
	MaxHeaderLen = 100_000_000
	// MaxIndexLen is the longest model.safetensors.index.json, in bytes.
	MaxIndexLen = 100_000_000
	// MaxDims is the largest number of dimensions of a tensor.
	MaxDims = 64
	// MaxTensors is the largest number of tensors in a file.
	MaxTensors = 1 << 20
	// MaxShards is the largest number of files of a model.
	MaxShards = 10_000
)

const metadataKey = "__metadata__"
