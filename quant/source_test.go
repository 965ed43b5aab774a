package quant

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// source reads a file of the llama.cpp checkout, which build.sh fills.
func source(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../llamacpp/" + path)
	if err != nil {
		t.Fatalf("%v: run ./build.sh first: it fetches llama.cpp's source", err)
	}
	return string(text)
}

// The tables of names and numbers are those of llama.cpp's source.
func TestFTypesAreTheSources(t *testing.T) {
	numbers := map[string]ftype{}
	for _, m := range regexp.MustCompile(`(?m)^ +(LLAMA_FTYPE_\w+) *= (\d+),`).FindAllStringSubmatch(source(t, "include/llama.h"), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		numbers[m[1]] = ftype(n)
	}
	if numbers["LLAMA_FTYPE_GUESSED"] != ftypeGuessed {
		t.Errorf("guessed: got %d", ftypeGuessed)
	}
	type pair struct {
		name string
		f    ftype
	}
	var want, got []pair
	for _, m := range regexp.MustCompile(`(?m)^ +\{ "(\w+)", *(LLAMA_FTYPE_\w+),`).FindAllStringSubmatch(source(t, "tools/quantize/quantize.cpp"), -1) {
		want = append(want, pair{m[1], numbers[m[2]]})
	}
	for _, tt := range targets {
		got = append(got, pair{tt.name, tt.ftype})
	}
	if len(want) < 30 || !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestKeptPartsAreTheSources(t *testing.T) {
	var want []string
	for _, m := range regexp.MustCompile(`quantize &= name\.find\("([^"]+)"\)`).FindAllStringSubmatch(source(t, "src/llama-quant.cpp"), -1) {
		want = append(want, m[1])
	}
	got := slices.Sorted(slices.Values(keptParts))
	slices.Sort(want)
	if len(want) < 30 || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestArchsAreTheSources(t *testing.T) {
	names := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ +\{ (LLM_ARCH_\w+), *"([^"]+)" *\},`).FindAllStringSubmatch(source(t, "src/llama-arch.cpp"), -1) {
		names[m[1]] = m[2]
	}
	var want []string
	for _, m := range regexp.MustCompile(`case (LLM_ARCH_\w+):\s+return new llama_model_`).FindAllStringSubmatch(source(t, "src/llama-model.cpp"), -1) {
		want = append(want, names[m[1]])
	}
	slices.Sort(want)
	if len(want) < 100 || !slices.Equal(knownArchs, want) {
		t.Errorf("got %q, want %q", knownArchs, want)
	}
}

// The architectures loaded as 70B are the ones with that type in their source.
func Test70BIsTheSources(t *testing.T) {
	entries, err := os.ReadDir("../llamacpp/src/models")
	if err != nil {
		t.Fatalf("%v: run ./build.sh first", err)
	}
	var with []string
	for _, e := range entries {
		if !e.IsDir() && regexp.MustCompile(`LLM_TYPE_70B`).MatchString(source(t, "src/models/"+e.Name())) {
			with = append(with, e.Name())
		}
	}
	if want := []string{"deci.cpp", "jais2.cpp", "llama.cpp", "olmo.cpp", "qwen2.cpp"}; !slices.Equal(with, want) {
		t.Fatalf("sources with 70B: got %v, want %v", with, want)
	}
	for _, tt := range []struct {
		arch            string
		blocks          int
		heads, kv, exps uint32
		want            bool
	}{
		{"llama", 80, 64, 8, 0, true}, {"llama", 80, 64, 64, 0, false}, {"llama", 80, 64, 8, 8, false}, {"llama", 79, 64, 8, 0, false},
		{"llama-embed", 80, 64, 8, 0, true}, {"deci", 80, 1, 1, 0, true}, {"olmo", 80, 1, 1, 0, true}, {"qwen2", 80, 1, 1, 0, true},
		{"jais2", 68, 1, 1, 0, true}, {"jais2", 80, 1, 1, 0, false}, {"qwen3", 80, 64, 8, 0, false},
	} {
		h := hparams{arch: tt.arch, nExperts: tt.exps}
		if got := h.loadsAs70B(tt.blocks, tt.heads, tt.kv); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}
