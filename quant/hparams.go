package quant

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

const (
	keyArch         = "general.architecture"
	keyFileType     = "general.file_type"
	keyQuantVersion = "general.quantization_version"
	keyAlignment    = "general.alignment"
	keySplitNo      = "split.no"
	keySplitCount   = "split.count"
	keySplitTensors = "split.tensors.count"

	archCLIP   = "clip"
	archFalcon = "falcon"

	maxBlocks           = 512  // LLAMA_MAX_LAYERS of src/llama-hparams.h
	maxExperts          = 1024 // LLAMA_MAX_EXPERTS
	quantizationVersion = 2    // GGML_QNT_VERSION of ggml/include/ggml.h
)

// hparams is what the metadata says about the model, as far as types depend on it.
type hparams struct {
	arch     string
	nBlocks  int // blocks of the loaded model (n_layer_all)
	nExperts uint32
	gqa      uint32 // query heads per KV head in block 0; 0 if there are no KV heads
	hasHeads bool   // false for clip, whose heads the reference does not read
	is70B    bool   // loaded as LLM_TYPE_70B
}

// metaReader reads metadata values as the reference's loader does: the first
// override of a key with a fitting type comes before the file's value, whose
// type must be the expected one (src/llama-model-loader.cpp).
type metaReader struct {
	meta      *gguf.Metadata
	overrides []KVOverride
}

func (r metaReader) override(key string) (any, bool) {
	for _, o := range r.overrides {
		if o.Key == key {
			return o.Value, true
		}
	}
	return nil, false
}

func (r metaReader) str(key string) (string, bool, error) {
	if v, ok := r.override(key); ok {
		if s, ok := v.(string); ok {
			return s, true, nil
		}
	}
	return fileValue[string](r.meta, key)
}

func (r metaReader) uint32(key string) (uint32, bool, error) {
	if v, ok := r.override(key); ok {
		if n, ok := v.(int64); ok {
			return uint32(n), true, nil
		}
	}
	return fileValue[uint32](r.meta, key)
}

// float32 reads a number whose value does not matter here, only that it is there.
func (r metaReader) float32(key string) (float32, bool, error) {
	if v, ok := r.override(key); ok {
		if f, ok := v.(float64); ok {
			return float32(f), true, nil
		}
	}
	return fileValue[float32](r.meta, key)
}

func fileValue[T any](m *gguf.Metadata, key string) (T, bool, error) {
	v, ok := m.Get(key)
	if !ok {
		var zero T
		return zero, false, nil
	}
	t, ok := v.(T)
	if !ok {
		return t, false, fmt.Errorf("key %s: got a value of type %s, want %s", key, typeName(v), typeName(t))
	}
	return t, true, nil
}

func typeName(v any) string {
	t, elem, _, _ := gguf.TypeOf(v)
	if t == gguf.TypeArray {
		return "array of " + elem.String()
	}
	return t.String()
}

// perBlock reads one number per block or one for all. An array must have one
// element per block; an override counts only for a single number, and only if
// the file has the key.
func (r metaReader) perBlock(key string, nBlocks int) (first uint32, highest uint32, ok bool, err error) {
	v, ok := r.meta.Get(key)
	if !ok {
		return 0, 0, false, nil
	}
	var all []uint32
	switch v := v.(type) {
	case []uint32:
		all = v
	case []int32:
		for _, n := range v {
			all = append(all, uint32(n))
		}
	case []bool:
		for _, b := range v {
			n := uint32(0)
			if b {
				n = 1
			}
			all = append(all, n)
		}
	default:
		n, ok, err := r.uint32(key)
		return n, n, ok, err
	}
	if len(all) != nBlocks {
		return 0, 0, false, fmt.Errorf("key %s: got %d elements, want one per block, %d", key, len(all), nBlocks)
	}
	return all[0], slices.Max(all), true, nil
}

// readHParams reads the keys that the reference reads before it quantizes, with
// the conditions on which it ends (llama_model_base::load_hparams in
// src/llama-model.cpp).
func readHParams(r metaReader) (*hparams, error) {
	arch, _, err := r.str(keyArch)
	if err != nil {
		return nil, err
	}
	if _, ok := slices.BinarySearch(knownArchs, arch); !ok {
		return nil, fmt.Errorf("key %s: got %q, want an architecture that llama.cpp v0.5.0 can load", keyArch, arch)
	}
	if kind, ok := r.meta.String("general.type"); ok && kind == "adapter" {
		return nil, fmt.Errorf("key general.type: got %q, want a model: adapters cannot be quantized", kind)
	}
	h := &hparams{arch: arch}
	if arch == archCLIP {
		return h, nil
	}
	for _, name := range append([]string{"context_length", "embedding_length", "block_count"}, requiredInts[arch]...) {
		if _, ok, err := r.uint32(arch + "." + name); err != nil || !ok {
			return nil, missing(arch+"."+name, err)
		}
	}
	if rmsNormArchs[arch] {
		const eps = ".attention.layer_norm_rms_epsilon"
		if _, ok, err := r.float32(arch + eps); err != nil || !ok {
			return nil, missing(arch+eps, err)
		}
	}
	blocks, _, _ := r.uint32(arch + ".block_count")
	if blocks < 1 || blocks > maxBlocks {
		return nil, fmt.Errorf("key %s.block_count: got %d, want 1 to %d", arch, blocks, maxBlocks)
	}
	h.nBlocks = int(blocks)
	if err := h.readExperts(r); err != nil {
		return nil, err
	}
	if err := h.readHeads(r); err != nil {
		return nil, err
	}
	return h, nil
}

func missing(key string, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("key %s: missing: llama.cpp cannot load the model without it", key)
}

// rmsNormArchs are architectures whose loader demands the RMS epsilon first of
// all: those that this project converts, and their relatives.
var rmsNormArchs = map[string]bool{
	"llama": true, "llama-embed": true, "llama4": true, "mistral3": true, "qwen2": true, "qwen2moe": true, "qwen3": true,
	"qwen3moe": true, "gemma2": true, "gemma3": true, "exaone": true, "exaone4": true, "phi3": true,
}

var requiredInts = map[string][]string{"llama4": {"interleave_moe_layer_step"}}

func (h *hparams) readExperts(r metaReader) error {
	n, _, err := r.uint32(h.arch + ".expert_count")
	if err != nil {
		return err
	}
	h.nExperts = n
	_, used, _, err := r.perBlock(h.arch+".expert_used_count", h.nBlocks)
	if err != nil {
		return err
	}
	if n <= 1 && (h.arch == "hunyuan_vl" || h.arch == "hunyuan-dense") {
		h.nExperts = 0 // dense models with the keys of sparse ones
		return nil
	}
	switch {
	case n > maxExperts:
		return fmt.Errorf("key %s.expert_count: got %d, want at most %d", h.arch, n, maxExperts)
	case used > n, n > 0 && used == 0:
		return fmt.Errorf("key %s.expert_used_count: got %d, want 1 to %s.expert_count (%d)", h.arch, used, h.arch, n)
	}
	return nil
}

func (h *hparams) readHeads(r metaReader) error {
	nextN, _, err := r.uint32(h.arch + ".nextn_predict_layers")
	if err != nil {
		return err
	}
	if int(nextN) > h.nBlocks {
		return fmt.Errorf("key %s.nextn_predict_layers: got %d, want at most the %d blocks", h.arch, nextN, h.nBlocks)
	}
	heads, _, _, err := r.perBlock(h.arch+".attention.head_count", h.nBlocks)
	if err != nil {
		return err
	}
	kvHeads, _, ok, err := r.perBlock(h.arch+".attention.head_count_kv", h.nBlocks)
	if err != nil {
		return err
	}
	if !ok {
		kvHeads = heads
	}
	h.hasHeads = true
	if kvHeads > 0 {
		h.gqa = heads / kvHeads
	}
	if err := h.checkRope(r, heads); err != nil {
		return err
	}
	mainBlocks := h.nBlocks - int(nextN)
	h.is70B = h.loadsAs70B(mainBlocks, heads, kvHeads)
	return h.adjustBlocks(r, mainBlocks)
}

// checkRope follows two conditions of the loader on the rotary dimensions.
func (h *hparams) checkRope(r metaReader, heads uint32) error {
	scaling, ok, err := r.str(h.arch + ".rope.scaling.type")
	if err != nil {
		return err
	}
	if ok && !slices.Contains([]string{"none", "linear", "yarn", "longrope"}, scaling) {
		return fmt.Errorf("key %s.rope.scaling.type: got %q, want none, linear, yarn or longrope", h.arch, scaling)
	}
	if heads == 0 || !slices.Contains([]string{"llama", "llama-embed", "deci", archFalcon}, h.arch) {
		return nil
	}
	width, _, err := r.uint32(h.arch + ".embedding_length")
	if err != nil {
		return err
	}
	headDim := width / heads
	if n, ok, err := r.uint32(h.arch + ".attention.key_length"); err != nil {
		return err
	} else if ok {
		headDim = n
	}
	n, ok, err := r.uint32(h.arch + ".rope.dimension_count")
	if ok && n != headDim {
		return fmt.Errorf("key %s.rope.dimension_count: got %d, want the head size %d", h.arch, n, headDim)
	}
	return err
}

// loadsAs70B is the condition of LLM_TYPE_70B in the files of src/models.
func (h *hparams) loadsAs70B(blocks int, heads, kvHeads uint32) bool {
	switch h.arch {
	case "llama", "llama-embed":
		return blocks == 80 && heads != kvHeads && h.nExperts != 8
	case "deci", "olmo", "qwen2":
		return blocks == 80
	case "jais2":
		return blocks == 68
	}
	return false
}

// adjustBlocks follows the two architectures whose loader changes the number of
// blocks (src/models/granite-switch.cpp, src/models/nanbeige.cpp).
func (h *hparams) adjustBlocks(r metaReader, mainBlocks int) error {
	switch h.arch {
	case "graniteswitch":
		h.nBlocks = mainBlocks + 1
	case "nanbeige":
		loops, ok, err := r.uint32(h.arch + ".num_loops")
		if err != nil {
			return err
		}
		if ok && (loops < 1 || int64(loops)*int64(mainBlocks) > maxBlocks) {
			return fmt.Errorf("key %s.num_loops: got %d, want 1 to %d for %d blocks", h.arch, loops, maxBlocks/max(1, mainBlocks), mainBlocks)
		}
		if ok && loops > 1 {
			h.nBlocks = mainBlocks * int(loops)
		}
	}
	return nil
}

// sourceFType gives the ftype of the input: general.file_type, or a guess from
// the type that most tensors have, where the first to reach the top count wins.
func sourceFType(r metaReader, tensors []gguf.TensorInfo) (ftype, error) {
	if n, ok, err := r.uint32(keyFileType); err != nil || ok {
		return ftype(n), err
	}
	count := map[gguf.Type]int{}
	most, top := gguf.F32, 0
	for _, t := range tensors {
		count[t.Type]++
		if count[t.Type] > top {
			most, top = t.Type, count[t.Type]
		}
	}
	return ftypeOf[most] | ftypeGuessed, nil
}

// blockOf gives the number in a name that begins with "blk.N", as sscanf reads it.
func blockOf(name string) (n int, ok bool) {
	rest, found := strings.CutPrefix(name, "blk.")
	if !found {
		return -1, false
	}
	rest = strings.TrimLeft(rest, " \t\n\v\f\r")
	end := 0
	if end < len(rest) && (rest[end] == '-' || rest[end] == '+') {
		end++
	}
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		return -1, false
	}
	return n, true
}
