package llama

import (
	"reflect"
	"slices"
	"testing"
)

// TestModelOptionsSetOneField runs each option on the zero value and looks at
// which field it changed, and to what.
func TestModelOptionsSetOneField(t *testing.T) {
	yes := true
	tests := []struct {
		field string
		opt   ModelOption
		want  any
	}{
		{"LowVRAM", EnabelLowVRAM, true},
		{"Embeddings", EnableEmbeddings, true},
		{"F16Memory", EnableF16Memory, true},
		{"MLock", EnableMLock, true},
		{"NUMA", EnableNUMA, true},
		{"ContextSize", SetContext(11), 11},
		{"Seed", SetModelSeed(12), 12},
		{"NBatch", SetNBatch(13), 13},
		{"MMap", SetMMap(true), true},
		{"NGPULayers", SetGPULayers(14), 14},
		{"MainGPU", SetMainGPU("1"), "1"},
		{"TensorSplit", SetTensorSplit("3,1"), "3,1"},
		{"FreqRopeBase", WithRopeFreqBase(1.5), float32(1.5)},
		{"FreqRopeScale", WithRopeFreqScale(2.5), float32(2.5)},
		{"MulMatQ", SetMulMatQ(true), &yes},
		{"LoraAdapter", SetLoraAdapter("a"), "a"},
		{"LoraBase", SetLoraBase("b"), "b"},
		{"Perplexity", SetPerplexity(true), true},
	}
	var seen []string
	for _, test := range tests {
		var o ModelOptions
		test.opt(&o)
		checkOneField(t, reflect.ValueOf(o), test.field, test.want)
		seen = append(seen, test.field)
	}
	checkAllFields(t, reflect.TypeFor[ModelOptions](), seen)
}

// TestPredictOptionsSetOneField does the same for the options of one call.
func TestPredictOptionsSetOneField(t *testing.T) {
	tests := []struct {
		field string
		opt   PredictOption
		want  any
	}{
		{"DebugMode", Debug, true},
		{"F16KV", EnableF16KV, true},
		{"PromptCacheAll", EnablePromptCacheAll, true},
		{"PromptCacheRO", EnablePromptCacheRO, true},
		{"IgnoreEOS", IgnoreEOS, true},
		{"Seed", SetSeed(1), 1},
		{"Threads", SetThreads(2), 2},
		{"Tokens", SetTokens(3), 3},
		{"TopK", SetTopK(4), 4},
		{"TopP", SetTopP(0.5), float32(0.5)},
		{"TypicalP", SetTypicalP(0.6), float32(0.6)},
		{"TailFreeSamplingZ", SetTailFreeSamplingZ(0.7), float32(0.7)},
		{"Temperature", SetTemperature(0.9), float32(0.9)},
		{"Penalty", SetPenalty(1.2), float32(1.2)},
		{"Repeat", SetRepeat(5), 5},
		{"FrequencyPenalty", SetFrequencyPenalty(0.1), float32(0.1)},
		{"PresencePenalty", SetPresencePenalty(0.2), float32(0.2)},
		{"PenalizeNL", SetPenalizeNL(true), true},
		{"Mirostat", SetMirostat(2), 2},
		{"MirostatETA", SetMirostatETA(0.3), float32(0.3)},
		{"MirostatTAU", SetMirostatTAU(0.4), float32(0.4)},
		{"LogitBias", SetLogitBias("5+1"), "5+1"},
		{"Grammar", WithGrammar("g"), "g"},
		{"StopPrompts", SetStopWords("x", "y"), []string{"x", "y"}},
		{"NDraft", SetNDraft(6), 6},
		{"NegativePrompt", SetNegativePrompt("n"), "n"},
		{"NegativePromptScale", SetNegativePromptScale(1.5), float32(1.5)},
		{"NKeep", SetNKeep(7), 7},
		{"PathPromptCache", SetPathPromptCache("p"), "p"},
		{"Batch", SetBatch(8), 8},
		{"MMap", SetMemoryMap(true), true},
		{"MLock", SetMlock(true), true},
		{"MainGPU", SetPredictionMainGPU("1"), "1"},
		{"TensorSplit", SetPredictionTensorSplit("1/2"), "1/2"},
		{"RopeFreqBase", SetRopeFreqBase(1.25), float32(1.25)},
		{"RopeFreqScale", SetRopeFreqScale(1.75), float32(1.75)},
	}
	seen := []string{"TokenCallback"} // a func cannot be compared: below
	for _, test := range tests {
		var o PredictOptions
		test.opt(&o)
		checkOneField(t, reflect.ValueOf(o), test.field, test.want)
		seen = append(seen, test.field)
	}
	checkAllFields(t, reflect.TypeFor[PredictOptions](), seen)

	var o PredictOptions
	SetTokenCallback(func(s string) bool { return s == "hit" })(&o)
	if o.TokenCallback == nil || !o.TokenCallback("hit") || o.TokenCallback("miss") {
		t.Error("SetTokenCallback: the callback in the options is not the one given")
	}
}

// TestOptionsApplyInOrder: a later option wins, and the defaults stay as they
// were.
func TestOptionsApplyInOrder(t *testing.T) {
	if got := NewModelOptions(SetContext(1), SetContext(2)).ContextSize; got != 2 {
		t.Errorf("context size: got %d, want 2", got)
	}
	if got := NewPredictOptions(SetTokens(1), SetTokens(2)).Tokens; got != 2 {
		t.Errorf("tokens: got %d, want 2", got)
	}
	if m, p := NewModelOptions(), NewPredictOptions(); m.ContextSize != 512 || p.Tokens != 128 {
		t.Errorf("defaults: got context %d and %d tokens, want 512 and 128", m.ContextSize, p.Tokens)
	}
}

func checkOneField(t *testing.T, o reflect.Value, field string, want any) {
	t.Helper()
	for i := range o.NumField() {
		name := o.Type().Field(i).Name
		switch value := o.Field(i); {
		case name == field:
			if !reflect.DeepEqual(value.Interface(), want) {
				t.Errorf("%s: got %v, want %v", field, value, want)
			}
		case !value.IsZero():
			t.Errorf("option for %s: also set %s to %v", field, name, value)
		}
	}
}

func checkAllFields(t *testing.T, o reflect.Type, seen []string) {
	t.Helper()
	for i := range o.NumField() {
		if name := o.Field(i).Name; !slices.Contains(seen, name) {
			t.Errorf("%s.%s: no option sets it", o.Name(), name)
		}
	}
}
