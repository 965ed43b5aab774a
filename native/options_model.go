package llama

// The switches for [New]: options without an argument.
var (
	// EnabelLowVRAM sets LowVRAM, which has no effect. (The spelling is
	// go-llama.cpp's, and part of its API.)
	EnabelLowVRAM ModelOption = func(p *ModelOptions) { p.LowVRAM = true }
	// EnableEmbeddings makes Embeddings and TokenEmbeddings available.
	EnableEmbeddings ModelOption = func(p *ModelOptions) { p.Embeddings = true }
	// EnableF16Memory sets F16Memory, which has no effect.
	EnableF16Memory ModelOption = func(p *ModelOptions) { p.F16Memory = true }
	// EnableMLock keeps the weights in memory, away from swap.
	EnableMLock ModelOption = func(p *ModelOptions) { p.MLock = true }
	// EnableNUMA switches llama.cpp's NUMA mode on for the whole process.
	EnableNUMA ModelOption = func(p *ModelOptions) { p.NUMA = true }
)

// SetContext sets the number of positions of the context.
func SetContext(c int) ModelOption {
	return func(p *ModelOptions) { p.ContextSize = c }
}

// SetModelSeed sets the seed that SpeculativeSampling falls back on.
func SetModelSeed(c int) ModelOption {
	return func(p *ModelOptions) { p.Seed = c }
}

// SetNBatch sets the largest number of tokens in one decode.
func SetNBatch(n int) ModelOption {
	return func(p *ModelOptions) { p.NBatch = n }
}

// SetMMap says whether the model file is mapped (true) or read.
func SetMMap(b bool) ModelOption {
	return func(p *ModelOptions) { p.MMap = b }
}

// SetGPULayers sets the number of layers on the GPU; less than 0 is all.
func SetGPULayers(n int) ModelOption {
	return func(p *ModelOptions) { p.NGPULayers = n }
}

// SetMainGPU sets the number of the main GPU, in decimal.
func SetMainGPU(maingpu string) ModelOption {
	return func(p *ModelOptions) { p.MainGPU = maingpu }
}

// SetTensorSplit sets each GPU's share of the model, such as "3,1".
func SetTensorSplit(split string) ModelOption {
	return func(p *ModelOptions) { p.TensorSplit = split }
}

// WithRopeFreqBase sets the rope base frequency; 0 and 10000 mean the model's.
func WithRopeFreqBase(f float32) ModelOption {
	return func(p *ModelOptions) { p.FreqRopeBase = f }
}

// WithRopeFreqScale sets the rope frequency scale; 0 and 1 mean the model's.
func WithRopeFreqScale(f float32) ModelOption {
	return func(p *ModelOptions) { p.FreqRopeScale = f }
}

// SetMulMatQ sets MulMatQ, which has no effect.
func SetMulMatQ(b bool) ModelOption {
	return func(p *ModelOptions) { p.MulMatQ = &b }
}

// SetLoraAdapter sets the path of a GGUF LoRA adapter.
func SetLoraAdapter(s string) ModelOption {
	return func(p *ModelOptions) { p.LoraAdapter = s }
}

// SetLoraBase sets LoraBase, which has no effect.
func SetLoraBase(s string) ModelOption {
	return func(p *ModelOptions) { p.LoraBase = s }
}

// SetPerplexity sets Perplexity, which has no effect.
func SetPerplexity(b bool) ModelOption {
	return func(p *ModelOptions) { p.Perplexity = b }
}
