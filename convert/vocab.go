package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// Token types of tokenizer.ggml.token_type (llamacpp/include/llama.h).
const (
	tokenNormal      int32 = 1
	tokenUnknown     int32 = 2
	tokenControl     int32 = 3
	tokenUserDefined int32 = 4
	tokenUnused      int32 = 5
	tokenByte        int32 = 6
)

// maxVocab bounds the number of tokens; the largest real vocabulary has about
// 262,000.
const maxVocab = 1 << 24

// errNoFile marks a vocabulary of a kind that the folder does not hold; the
// next kind of the family is tried.
var errNoFile = errors.New("not found")

// vocabFamily says how the vocabulary of an architecture is read.
type vocabFamily struct {
	load func(l *vocabLoader) error
	// pre overrides the recognition of the pre-tokenizer when not empty.
	pre string
}

// The families (set_vocab in llamacpp/conversion/{base,qwen,llama,gemma}.py).
var (
	vocabGPT2   = vocabFamily{load: (*vocabLoader).loadBPE}
	vocabQwen   = vocabFamily{load: (*vocabLoader).loadQwen}
	vocabLlama  = vocabFamily{load: (*vocabLoader).loadLlama}
	vocabGemma3 = vocabFamily{load: (*vocabLoader).loadGemma3}
)

// vocab is a model's tokenizer as GGUF metadata.
type vocab struct {
	size     int       // number of tokens written
	keys     []gguf.KV // in the reference's order; a key may stand twice
	warnings []string
}

// loadVocab reads the tokenizer files of the model folder dir for a model with
// the config c. Everything is checked: a vocabulary that the reference would
// fail on, or that leaves room for two readings, is an error.
func loadVocab(dir string, c *config, f vocabFamily) (*vocab, error) {
	files, err := readTokenizerFiles(dir, c)
	if err != nil {
		return nil, err
	}
	l := &vocabLoader{tokenizerFiles: files, cfg: c, pre: f.pre, v: &vocab{}}
	if err := f.load(l); err != nil {
		return nil, err
	}
	return l.v, nil
}

// write sets the tokenizer.* keys.
func (v *vocab) write(m *gguf.Metadata) error {
	for _, kv := range v.keys {
		if err := m.Set(kv.Key, kv.Value); err != nil {
			return err
		}
	}
	return nil
}

// add appends a key. Empty strings and arrays are left out, as the reference does.
func (v *vocab) add(key string, value any) {
	switch x := value.(type) {
	case string:
		if x == "" {
			return
		}
	case []string:
		if len(x) == 0 {
			return
		}
	}
	v.keys = append(v.keys, gguf.KV{Key: key, Value: value})
}

func (v *vocab) warnf(format string, args ...any) {
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...))
}

// tokenizerFiles are the parsed JSON files of a tokenizer; a file that is not
// there is nil.
type tokenizerFiles struct {
	dir       string
	tokenizer *object // tokenizer.json
	config    *object // tokenizer_config.json
	model     *object // config.json as it stands
}

// readTokenizerFiles reads the JSON files that every kind of vocabulary uses.
func readTokenizerFiles(dir string, c *config) (*tokenizerFiles, error) {
	f := &tokenizerFiles{dir: dir}
	if c != nil {
		f.model = c.raw
	}
	var err error
	if f.tokenizer, err = readOptionalObject(filepath.Join(dir, "tokenizer.json")); err != nil {
		return nil, err
	}
	f.config, err = readOptionalObject(filepath.Join(dir, "tokenizer_config.json"))
	return f, err
}

// readOptionalObject reads a JSON object, or returns nil when there is no file.
func readOptionalObject(path string) (*object, error) {
	o, err := readObject(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return o, err
}

func (f *tokenizerFiles) path(name string) string { return filepath.Join(f.dir, name) }

// isFile reports whether the folder has a regular file of that name.
func (f *tokenizerFiles) isFile(name string) bool {
	st, err := os.Stat(f.path(name))
	return err == nil && st.Mode().IsRegular()
}

// vocabLoader is one run of loadVocab.
type vocabLoader struct {
	*tokenizerFiles
	cfg *config
	pre string
	v   *vocab
}

// loadQwen tries SentencePiece, then byte-level BPE.
func (l *vocabLoader) loadQwen() error {
	err := l.loadSentencePiece()
	if errors.Is(err, errNoFile) {
		return l.loadBPE()
	}
	return err
}

// loadGemma3 takes tokenizer.model where there is one.
func (l *vocabLoader) loadGemma3() error {
	if !l.isFile("tokenizer.model") {
		return l.loadBPE()
	}
	if err := l.loadSentencePiece(); err != nil {
		return err
	}
	l.v.add("tokenizer.ggml.add_space_prefix", false)
	return nil
}

// loadLlama tries SentencePiece, then Llama's BPE with byte fallback, then
// byte-level BPE.
func (l *vocabLoader) loadLlama() error {
	if l.tokenizer == nil && l.isFile("tekken.json") {
		return fmt.Errorf("read %s: unsupported: Mistral's tekken.json without a tokenizer.json; "+
			"take the tokenizer.json of the model's Hugging Face form", l.path("tekken.json"))
	}
	if v, ok := l.config.get("add_prefix_space"); ok && v != nil {
		b, ok := v.(bool)
		if !ok {
			return fmt.Errorf("read %s: add_prefix_space: got %s, want a boolean", l.path("tokenizer_config.json"), jsonKind(v))
		}
		l.v.add("tokenizer.ggml.add_space_prefix", b)
	}
	if class, _ := l.config.string("tokenizer_class"); class == "HybridDNATokenizer" {
		return fmt.Errorf("read %s: tokenizer_class: unsupported: got %s", l.path("tokenizer_config.json"), class)
	}
	err := l.loadSentencePiece()
	if errors.Is(err, errNoFile) {
		err = l.loadLlamaHF()
	}
	if errors.Is(err, errNoFile) {
		err = l.loadBPE()
	}
	if err != nil {
		return err
	}
	return l.addLlamaVariants()
}

// addLlamaVariants adds what the reference decides by vocab_size alone: the
// infill tokens of CodeLlama (32016) and no BOS for small Granite (49152).
func (l *vocabLoader) addLlamaVariants() error {
	size := uint32(32000)
	if n, ok, err := l.cfg.uint32("vocab_size"); err != nil {
		return err
	} else if ok {
		size = n
	}
	switch size {
	case 32016:
		sv, err := l.readSpecial(false, []string{"prefix", "suffix", "middle", "eot"}, -1)
		if err != nil {
			return err
		}
		sv.set("eot", 32010) // the others have no key
		sv.addTo(l.v)
	case 49152:
		l.v.add("tokenizer.ggml.add_bos_token", false)
	}
	return nil
}

// looksSpecial reports whether an added token is treated as a control token
// although it is not flagged special (does_token_look_special).
func looksSpecial(token string) bool {
	switch token {
	case "<pad>", "<mask>", "<2mass>", "[@BOS@]":
		return true
	}
	return strings.HasPrefix(token, "<|") && strings.HasSuffix(token, "|>") ||
		strings.HasPrefix(token, "<｜") && strings.HasSuffix(token, "｜>") ||
		strings.HasPrefix(token, "<unused") && strings.HasSuffix(token, ">")
}

// userDefined spells the spaces of a user-defined token as llama.cpp's
// tokenizer expects them.
func userDefined(token string) string { return strings.ReplaceAll(token, "▁", " ") }
