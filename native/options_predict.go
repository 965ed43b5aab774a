package llama

// The switches for one call: options without an argument.
var (
	// Debug logs what a call does to the default slog logger.
	Debug PredictOption = func(p *PredictOptions) { p.DebugMode = true }
	// EnableF16KV sets F16KV, which has no effect.
	EnableF16KV PredictOption = func(p *PredictOptions) { p.F16KV = true }
	// EnablePromptCacheAll saves generated tokens to the prompt cache as well.
	EnablePromptCacheAll PredictOption = func(p *PredictOptions) { p.PromptCacheAll = true }
	// EnablePromptCacheRO reads the prompt cache and never writes it.
	EnablePromptCacheRO PredictOption = func(p *PredictOptions) { p.PromptCacheRO = true }
	// IgnoreEOS forbids every end-of-generation token.
	IgnoreEOS PredictOption = func(p *PredictOptions) { p.IgnoreEOS = true }
)

// SetSeed sets the sampler's seed; -1 takes a random one.
func SetSeed(seed int) PredictOption {
	return func(p *PredictOptions) { p.Seed = seed }
}

// SetThreads sets the number of CPU threads.
func SetThreads(threads int) PredictOption {
	return func(p *PredictOptions) { p.Threads = threads }
}

// SetTokens sets the largest number of tokens to generate; 0 is no limit.
func SetTokens(tokens int) PredictOption {
	return func(p *PredictOptions) { p.Tokens = tokens }
}

// SetTopK keeps the k likeliest tokens; 0 keeps all.
func SetTopK(k int) PredictOption {
	return func(p *PredictOptions) { p.TopK = k }
}

// SetTopP keeps the likeliest tokens that together reach probability topp.
func SetTopP(topp float32) PredictOption {
	return func(p *PredictOptions) { p.TopP = topp }
}

// SetTypicalP sets locally typical sampling's p; 1 is off.
func SetTypicalP(tp float32) PredictOption {
	return func(p *PredictOptions) { p.TypicalP = tp }
}

// SetTailFreeSamplingZ sets TailFreeSamplingZ, which has no effect.
func SetTailFreeSamplingZ(z float32) PredictOption {
	return func(p *PredictOptions) { p.TailFreeSamplingZ = z }
}

// SetTemperature sets the temperature; 0 takes the likeliest token always.
func SetTemperature(temp float32) PredictOption {
	return func(p *PredictOptions) { p.Temperature = temp }
}

// SetPenalty sets the repetition penalty; 0 and 1 are off.
func SetPenalty(penalty float32) PredictOption {
	return func(p *PredictOptions) { p.Penalty = penalty }
}

// SetRepeat sets how many of the last tokens the penalties look at.
func SetRepeat(n int) PredictOption {
	return func(p *PredictOptions) { p.Repeat = n }
}

// SetFrequencyPenalty sets what each occurrence of a token takes off its logit.
func SetFrequencyPenalty(fp float32) PredictOption {
	return func(p *PredictOptions) { p.FrequencyPenalty = fp }
}

// SetPresencePenalty sets what having occurred takes off a token's logit.
func SetPresencePenalty(pp float32) PredictOption {
	return func(p *PredictOptions) { p.PresencePenalty = pp }
}

// SetPenalizeNL says whether the penalties apply to the newline token.
func SetPenalizeNL(b bool) PredictOption {
	return func(p *PredictOptions) { p.PenalizeNL = b }
}

// SetMirostat chooses Mirostat sampling: 0 off, 1 or 2.
func SetMirostat(version int) PredictOption {
	return func(p *PredictOptions) { p.Mirostat = version }
}

// SetMirostatETA sets Mirostat's learning rate.
func SetMirostatETA(eta float32) PredictOption {
	return func(p *PredictOptions) { p.MirostatETA = eta }
}

// SetMirostatTAU sets Mirostat's target surprise.
func SetMirostatTAU(tau float32) PredictOption {
	return func(p *PredictOptions) { p.MirostatTAU = tau }
}

// SetLogitBias changes one token's logit: "ID+VALUE" or "ID-VALUE".
func SetLogitBias(lb string) PredictOption {
	return func(p *PredictOptions) { p.LogitBias = lb }
}

// WithGrammar holds the answer to a GBNF grammar.
func WithGrammar(gbnf string) PredictOption {
	return func(p *PredictOptions) { p.Grammar = gbnf }
}

// SetStopWords sets the strings that end an answer; it is cut before them.
func SetStopWords(stop ...string) PredictOption {
	return func(p *PredictOptions) { p.StopPrompts = stop }
}

// SetTokenCallback hands every generated token to fn, for one call; see
// [LLama.SetTokenCallback].
func SetTokenCallback(fn func(string) bool) PredictOption {
	return func(p *PredictOptions) { p.TokenCallback = fn }
}

// SetNDraft sets how many tokens the draft model proposes at a time.
func SetNDraft(n int) PredictOption {
	return func(p *PredictOptions) { p.NDraft = n }
}

// SetNegativePrompt sets the prompt to steer away from.
func SetNegativePrompt(np string) PredictOption {
	return func(p *PredictOptions) { p.NegativePrompt = np }
}

// SetNegativePromptScale sets how hard to steer; above 1 switches it on.
func SetNegativePromptScale(scale float32) PredictOption {
	return func(p *PredictOptions) { p.NegativePromptScale = scale }
}

// SetNKeep sets how many first tokens stay when the context is full.
func SetNKeep(n int) PredictOption {
	return func(p *PredictOptions) { p.NKeep = n }
}

// SetPathPromptCache sets the prompt cache file.
func SetPathPromptCache(path string) PredictOption {
	return func(p *PredictOptions) { p.PathPromptCache = path }
}

// SetBatch sets Batch, which has no effect.
func SetBatch(size int) PredictOption {
	return func(p *PredictOptions) { p.Batch = size }
}

// SetMemoryMap sets MMap, which has no effect on a loaded model.
func SetMemoryMap(b bool) PredictOption {
	return func(p *PredictOptions) { p.MMap = b }
}

// SetMlock sets MLock, which has no effect on a loaded model.
func SetMlock(b bool) PredictOption {
	return func(p *PredictOptions) { p.MLock = b }
}

// SetPredictionMainGPU sets MainGPU, which is checked and has no effect.
func SetPredictionMainGPU(maingpu string) PredictOption {
	return func(p *PredictOptions) { p.MainGPU = maingpu }
}

// SetPredictionTensorSplit sets TensorSplit, which is checked and has no effect.
func SetPredictionTensorSplit(split string) PredictOption {
	return func(p *PredictOptions) { p.TensorSplit = split }
}

// SetRopeFreqBase sets RopeFreqBase, which has no effect on a made context.
func SetRopeFreqBase(f float32) PredictOption {
	return func(p *PredictOptions) { p.RopeFreqBase = f }
}

// SetRopeFreqScale sets RopeFreqScale, which has no effect on a made context.
func SetRopeFreqScale(f float32) PredictOption {
	return func(p *PredictOptions) { p.RopeFreqScale = f }
}
