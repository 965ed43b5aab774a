package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/internal/filehash"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// ErrBase says that the base model is not there, or not one that can be trained.
var ErrBase = errors.New("base model")

// base is what is read of the base model before any other work.
type base struct {
	name, dir     string // as given; the folder
	arch          string // Qwen3ForCausalLM
	maxLength     int    // positions of the model; 0 if the config does not say
	hidden, inter int64
	blocks        int64
	linear, other int64    // weights in the linear layers of blocks, and in everything else
	adapted       []string // the projections that this architecture has
	shapes        [][2]int64
}

var hubName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[\w.-]+$`)

// isHubName tells a name on the hub from a folder.
func isHubName(name string) bool {
	if _, err := os.Stat(name); err == nil {
		return false
	}
	return hubName.MatchString(name)
}

// openBase reads configuration and tokenizer of the folder dir, and the headers of its weights if weights is set.
func openBase(name, dir string, weights bool) (*base, error) {
	b := &base{name: name, dir: dir}
	err := b.readConfig()
	if err == nil {
		err = b.findTokenizer()
	}
	if err == nil && weights {
		err = b.readWeights()
	}
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrBase, name, err)
	}
	return b, nil
}

func (b *base) readConfig() error {
	data, err := os.ReadFile(filepath.Join(b.dir, "config.json"))
	if err != nil {
		return fmt.Errorf("want a folder with config.json, or ORGANISATION/NAME on the hub: %w", err)
	}
	type shape struct {
		Hidden    int64 `json:"hidden_size"`
		Inter     int64 `json:"intermediate_size"`
		Blocks    int64 `json:"num_hidden_layers"`
		Positions int   `json:"max_position_embeddings"`
	}
	var config struct {
		Architectures []string `json:"architectures"`
		Quantization  any      `json:"quantization_config"`
		shape
		Text *shape `json:"text_config"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	if len(config.Architectures) != 1 || !strings.HasSuffix(config.Architectures[0], "ForCausalLM") {
		return fmt.Errorf("config.json: architectures: got %q, want one that ends in ForCausalLM", config.Architectures)
	}
	if config.Quantization != nil {
		return errors.New("config.json: quantization_config: got one, want the model as it was before it was quantized")
	}
	if config.Text != nil {
		config.shape = *config.Text
	}
	b.arch, b.maxLength = config.Architectures[0], config.Positions
	b.hidden, b.inter, b.blocks = config.Hidden, config.Inter, config.Blocks
	return nil
}

func (b *base) findTokenizer() error {
	for _, name := range []string{"tokenizer.json", "tokenizer.model", "vocab.json"} {
		if _, err := os.Stat(filepath.Join(b.dir, name)); err == nil {
			return nil
		}
	}
	return errors.New("tokenizer: got none, want tokenizer.json or tokenizer.model in the folder")
}

// readWeights counts the weights and finds which projections there are.
func (b *base) readWeights() error {
	m, err := safetensors.OpenModel(b.dir)
	if err != nil {
		return err
	}
	defer m.Close()
	for _, t := range m.Tensors() {
		parts := strings.Split(strings.TrimSuffix(t.Name, ".weight"), ".")
		last := parts[len(parts)-1]
		inBlock := slices.Contains(parts, "layers") || slices.Contains(parts, "h")
		if !inBlock || len(t.Shape) != 2 || !strings.HasSuffix(t.Name, ".weight") {
			b.other += t.Elements()
			continue
		}
		b.linear += t.Elements()
		if slices.Contains(projections, last) {
			b.shapes = append(b.shapes, [2]int64{t.Shape[0], t.Shape[1]})
			if !slices.Contains(b.adapted, last) {
				b.adapted = append(b.adapted, last)
			}
		}
	}
	slices.SortFunc(b.adapted, func(x, y string) int { return slices.Index(projections, x) - slices.Index(projections, y) })
	if missing := slices.DeleteFunc(slices.Clone(projections), func(p string) bool { return slices.Contains(b.adapted, p) }); len(missing) > 0 {
		return fmt.Errorf("%s: got no layers called %s, want all of %s", b.arch, strings.Join(missing, ", "), strings.Join(projections, ", "))
	}
	return nil
}

// sha256Files is the hash of the weights: of the one file, or of a list "hash  name" of all.
func (b *base) sha256Files() (string, error) {
	names, err := filepath.Glob(filepath.Join(b.dir, "*.safetensors"))
	if err != nil {
		return "", err
	}
	var list strings.Builder
	var one string
	for _, name := range names {
		if one, _, err = filehash.SHA256(name); err != nil {
			return "", err
		}
		fmt.Fprintf(&list, "%s  %s\n", one, filepath.Base(name))
	}
	if len(names) == 1 {
		return one, nil
	}
	return sha256Text(list.String()), nil
}

func sha256Text(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// estimate is the memory in bytes that training takes at batchSize records of tokens tokens each: the weights (NF4
// takes 4 bits and, for its block scales, 8 bits per 64 weights), the adapter with gradient and two moments in
// float32, the activations that checkpointing keeps (one vector per block and token) or makes again (one block),
// a chunk of logits, and 1 GiB for CUDA itself. It is an estimate: kernels differ in what they need besides.
func (b *base) estimate(o *Options, gpu bool, batchSize, tokens int) int64 {
	full := int64(4) // on a CPU: one without bfloat16 computes in float32
	if gpu {
		full = 2
	}
	weights := full * (b.linear + b.other)
	if !o.No4Bit {
		weights = b.linear/2 + b.linear/64 + full*b.other
	}
	adapter := 16 * b.adapterWeights(o.LoraR)
	batch := int64(batchSize) * int64(tokens)
	activations := batch * (full*b.hidden*(b.blocks+2) + 4*(12*b.hidden+6*b.inter))
	total := float64(weights+adapter+activations) * 1.1
	if gpu {
		total += 1 << 30
	}
	return int64(math.Min(total, math.MaxInt64/2))
}

// adapterWeights is the number of weights of the adapter: r rows of each input and columns of each output.
func (b *base) adapterWeights(r int) (n int64) {
	for _, s := range b.shapes {
		n += int64(r) * (s[0] + s[1])
	}
	return n
}
