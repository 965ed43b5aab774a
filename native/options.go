package llama

// ModelOptions says how [New] loads a model and makes its context. The fields
// are those of go-llama.cpp; where today's llama.cpp has nothing left that a
// field could set, the field is accepted and its comment says "no effect".
type ModelOptions struct {
	// ContextSize is the number of positions of the context; 0 takes the
	// model's training context. llama.cpp rounds it up to a multiple of 256.
	ContextSize int
	// Seed seeds [LLama.SpeculativeSampling] when the call itself asks for
	// no seed (-1) and Seed is not 0. Predict takes its own seed only.
	Seed int
	// NBatch is the largest number of tokens in one decode; a longer prompt
	// is decoded in pieces of that size. 0 or less takes 512.
	NBatch int
	// F16Memory has no effect: the KV cache is F16 anyway.
	F16Memory bool
	// MLock keeps the weights in memory, away from swap.
	MLock bool
	// MMap maps the file instead of reading it.
	MMap bool
	// LowVRAM has no effect.
	LowVRAM bool
	// Embeddings makes the context keep hidden states, which
	// [LLama.Embeddings] and [LLama.TokenEmbeddings] need.
	Embeddings bool
	// NUMA spreads threads over NUMA nodes, for the whole process: the first
	// New that asks for it switches it on.
	NUMA bool
	// NGPULayers is the number of layers on the GPU; less than 0 is all.
	NGPULayers int
	// MainGPU is the number of the main GPU in decimal; "" is 0.
	MainGPU string
	// TensorSplit gives the share of each GPU, numbers separated by "," or
	// "/"; "" leaves it to llama.cpp.
	TensorSplit string
	// FreqRopeBase is the rope base frequency. 0 and 10000 (the default, from
	// a time when every model had it) mean the model's own.
	FreqRopeBase float32
	// FreqRopeScale is the rope frequency scale. 0 and 1 mean the model's own.
	FreqRopeScale float32
	// MulMatQ has no effect.
	MulMatQ *bool
	// LoraBase has no effect: an adapter is applied at run time and needs no
	// second copy of the base model.
	LoraBase string
	// LoraAdapter is the path of a GGUF LoRA adapter, applied with scale 1.
	LoraAdapter string
	// Perplexity has no effect: logits of every row are asked for per batch.
	Perplexity bool
}

// PredictOptions says how one call ([LLama.Predict], [LLama.Eval],
// [LLama.SpeculativeSampling], …) runs.
type PredictOptions struct {
	// Seed seeds the sampler; -1 takes a random one.
	Seed int
	// Threads is the number of CPU threads; 0 or less keeps the last number.
	Threads int
	// Tokens is the largest number of tokens to generate; 0 or less is no
	// limit.
	Tokens int
	// TopK keeps the k likeliest tokens; 0 or less keeps all.
	TopK int
	// Repeat is how many of the last tokens the penalties look at: 0 none, -1
	// as many as the context holds.
	Repeat int
	// Batch has no effect: a prompt is cut into pieces of the context's
	// batch, ModelOptions.NBatch.
	Batch int
	// NKeep is how many tokens from the start stay when a full context drops
	// the older half of the others; less than 0 keeps the whole prompt.
	NKeep int
	// TopP keeps the likeliest tokens that together reach this probability.
	TopP float32
	// Temperature divides the logits; 0 or less takes the likeliest token
	// always.
	Temperature float32
	// Penalty divides the logits of tokens seen lately; 0 and 1 are off.
	Penalty float32
	// NDraft is how many tokens the draft model proposes at a time; 0 or less
	// takes 16.
	NDraft int
	// F16KV has no effect: the KV cache is F16 anyway.
	F16KV bool
	// DebugMode logs what a call does to the default [log/slog] logger.
	DebugMode bool
	// StopPrompts end the answer, which is cut in front of them.
	StopPrompts []string
	// IgnoreEOS forbids every end-of-generation token.
	IgnoreEOS bool

	// TailFreeSamplingZ has no effect: llama.cpp dropped that sampler.
	TailFreeSamplingZ float32
	// TypicalP is locally typical sampling's p; 1 is off.
	TypicalP float32
	// FrequencyPenalty is taken off a logit once per occurrence.
	FrequencyPenalty float32
	// PresencePenalty is taken off the logit of a token that occurred.
	PresencePenalty float32
	// Mirostat is 0 (off), 1 or 2; it replaces top-k, typical and top-p.
	Mirostat int
	// MirostatETA is Mirostat's learning rate.
	MirostatETA float32
	// MirostatTAU is Mirostat's target surprise.
	MirostatTAU float32
	// PenalizeNL lets the penalties apply to the newline token too.
	PenalizeNL bool
	// LogitBias is "ID+VALUE" or "ID-VALUE": VALUE is added to, or taken off,
	// the logit of token ID. "" is none; "ID-inf" forbids the token.
	LogitBias string
	// TokenCallback sees every generated token; see [LLama.SetTokenCallback].
	TokenCallback func(string) bool

	// PathPromptCache is a file that holds the state of an earlier prompt,
	// which is reused as far as the prompt agrees with it.
	PathPromptCache string
	// MLock has no effect: the model is loaded already.
	MLock bool
	// MMap has no effect: the model is loaded already.
	MMap bool
	// PromptCacheAll saves the generated tokens to PathPromptCache as well.
	PromptCacheAll bool
	// PromptCacheRO never writes PathPromptCache.
	PromptCacheRO bool
	// Grammar is a GBNF grammar with a rule named root.
	Grammar string
	// MainGPU is checked and has no effect: the model is loaded already.
	MainGPU string
	// TensorSplit is checked and has no effect: the model is loaded already.
	TensorSplit string

	// RopeFreqBase has no effect: the context is made already.
	RopeFreqBase float32
	// RopeFreqScale has no effect: the context is made already.
	RopeFreqScale float32

	// NegativePromptScale above 1 steers away from NegativePrompt by
	// classifier-free guidance of that strength.
	NegativePromptScale float32
	// NegativePrompt stands in the place of the prompt in the guiding run.
	NegativePrompt string
}

// A ModelOption changes one field of [ModelOptions].
type ModelOption func(p *ModelOptions)

// A PredictOption changes one field of [PredictOptions].
type PredictOption func(p *PredictOptions)

// DefaultModelOptions is what [NewModelOptions] starts from.
var DefaultModelOptions ModelOptions = ModelOptions{
	ContextSize:   512,
	NBatch:        512,
	MMap:          true,
	FreqRopeBase:  10000,
	FreqRopeScale: 1,
}

// DefaultOptions is what [NewPredictOptions] starts from.
var DefaultOptions PredictOptions = PredictOptions{
	Seed:              -1,
	Threads:           4,
	Tokens:            128,
	TopK:              40,
	Repeat:            64,
	Batch:             512,
	NKeep:             64,
	TopP:              0.95,
	Temperature:       0.8,
	Penalty:           1.1,
	TailFreeSamplingZ: 1,
	TypicalP:          1,
	MirostatETA:       0.1,
	MirostatTAU:       5,
	MMap:              true,
	RopeFreqBase:      10000,
	RopeFreqScale:     1,
}

// NewModelOptions applies opts, in order, to a copy of [DefaultModelOptions].
func NewModelOptions(opts ...ModelOption) ModelOptions {
	o := DefaultModelOptions
	for _, set := range opts {
		set(&o)
	}
	return o
}

// NewPredictOptions applies opts, in order, to a copy of [DefaultOptions].
func NewPredictOptions(opts ...PredictOption) PredictOptions {
	o := DefaultOptions
	for _, set := range opts {
		set(&o)
	}
	return o
}
