package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/lora"
	"github.com/persona-gguf/persona-gguf/quant"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// Options are the choices of a conversion; the zero value is the reference's
// default.
type Options struct {
	// OutFile is the file to write, or a folder for the default name; empty
	// means the model folder. {ftype} and {FTYPE} (also {outtype}, {OUTTYPE})
	// in the name become the output type.
	OutFile string
	// OutType is "f32", "f16", "bf16", "q8_0" or "auto" (also empty), which is the type
	// of the first 16-bit matrix in the files; or any other type of package quant,
	// whose file is the one that converting to f16 and quantizing gives.
	OutType string
	// Threads is the number of encoders; 0 means one per CPU.
	Threads int
	// Budget bounds the bytes held in memory; 0 means 512 MiB.
	Budget int64
	// PreTokenizer is llama.cpp's name of the tokenizer's splitting rules, for a
	// tokenizer.json whose rules are not recognised; empty means to recognise.
	PreTokenizer string
	// Metadata is a JSON file whose general.* keys override what is found.
	Metadata string
	// ModelName overrides general.name.
	ModelName string
	// FixKeys adds keys that llama.cpp demands and the reference leaves out
	// (EXAONE 3.5's norm epsilon). The file then differs from the reference's.
	FixKeys bool
	// Extra are keys that the reference does not write, behind all others.
	Extra []gguf.KV
	// Adapters are LoRA adapters to merge into the weights on the way; Merge says
	// how. The file is the one that merging first would give (package lora).
	Adapters []lora.Source
	Merge    lora.Options
	// Quant holds the choices of a quantized output type; its Threads, Budget,
	// Progress and Warn are those given here.
	Quant quant.Options
	// Progress is told the bytes done so far and in all; calls come one at
	// a time.
	Progress func(done, total int64)
	// Warn is told what the caller should know about; nil drops it.
	Warn func(msg string)
}

// outTypes maps the names of output types to tensor types.
var outTypes = map[string]gguf.Type{"f32": gguf.F32, "f16": gguf.F16, "bf16": gguf.BF16, "q8_0": gguf.Q8_0}

// PlannedTensor is one tensor of the output.
type PlannedTensor struct {
	Name    string
	Type    gguf.Type
	NE      []int64  // innermost first
	Sources []string // names in the model folder; none for a computed tensor
	Bytes   int64    // in the output, without padding
}

// Plan is a conversion that has been checked as far as possible without
// reading weights. It holds the source files open until Close; its fields are
// read-only.
type Plan struct {
	Dir        string
	OutFile    string
	Arch       string // general.architecture, for example qwen3
	HFArch     string // for example Qwen3ForCausalLM
	OutType    string // never "auto"
	Meta       *gguf.Metadata
	Tensors    []PlannedTensor
	Size       int64  // bytes of the output
	InputBytes int64  // bytes of the weights read
	FreeDisk   uint64 // bytes free where the output goes

	// BaseQuant is what adapters were merged into: lora.QuantNone or lora.QuantNF4,
	// and Recorded whether the adapter's trainer had the same. Empty without adapters.
	BaseQuant string
	Recorded  bool

	opts    Options
	folder  string // where config and tokenizer are read: Dir, or what a merge makes of it
	model   *safetensors.Model
	tensors []*tensor
	layout  *gguf.Layout
	closers []io.Closer
	outFile func(outType string) (string, error)
	quant   *quant.Plan // of a quantized output type, with the f16 file as its source
}

// NewPlan reads the configuration, the tokenizer and the headers of the
// weights in the folder dir, checks them against each other, and lays out the
// GGUF file. Nothing is written. Errors name the file, then the key or tensor.
func NewPlan(ctx context.Context, dir string, o Options) (*Plan, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	ftype, err := quantized(o.OutType)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", dir, err)
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, fmt.Errorf("convert %s: not a folder", dir)
	}
	p := &Plan{Dir: dir, folder: dir, opts: o}
	if ftype != "" {
		p.opts.OutType = "f16"
	}
	err = p.open(ctx)
	if err == nil && ftype != "" {
		err = p.planQuant(ctx, ftype)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close closes the source files. Closing twice is fine.
func (p *Plan) Close() error {
	var errs []error
	for _, c := range p.closers {
		errs = append(errs, c.Close())
	}
	p.closers, p.model = nil, nil
	return errors.Join(errs...)
}

// open opens the weights and plans.
func (p *Plan) open(ctx context.Context) error {
	if len(p.opts.Adapters) > 0 {
		return p.openMerged(ctx)
	}
	return p.build(ctx, func() error {
		model, err := safetensors.OpenModel(p.Dir)
		if err != nil {
			return err
		}
		p.model, p.closers = model, append(p.closers, model)
		return nil
	})
}

// build plans the output; open sets p.model.
func (p *Plan) build(ctx context.Context, open func() error) error {
	c, a, err := p.readConfig()
	if err != nil {
		return err
	}
	if err := open(); err != nil {
		return err
	}
	p.OutType = p.opts.OutType
	if p.OutType == "" || p.OutType == "auto" {
		p.OutType = guessType(p.model)
	}
	if err := p.planTensors(c, a); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.planMetadata(c, a); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.planFile()
}

// readConfig reads everything in the folder that is neither tokenizer nor
// weights.
func (p *Plan) readConfig() (*config, *arch, error) {
	if _, err := os.Stat(filepath.Join(p.folder, "hf_quant_config.json")); err == nil {
		return nil, nil, fmt.Errorf("read %s: unsupported: hf_quant_config.json says that the weights are quantized, want F32, F16 or BF16 weights", p.folder)
	}
	c, err := loadConfig(p.folder, p.opts.Warn)
	if err != nil {
		return nil, nil, err
	}
	if c.readme, err = readCardText(filepath.Join(p.folder, "README.md")); err != nil {
		return nil, nil, err
	}
	a, err := findArch(c)
	if err != nil {
		return nil, nil, err
	}
	if a.check != nil {
		if err := a.check(c); err != nil {
			return nil, nil, err
		}
	}
	p.Arch, p.HFArch = a.name, a.hf
	return c, a, nil
}

func (p *Plan) planTensors(c *config, a *arch) error {
	cut := int64(math.MaxInt64)
	var err error
	if slices.ContainsFunc(a.rules, func(r rule) bool { return r.op == opCutRows }) {
		if cut, err = gemmaVocabRows(p.folder, c); err != nil {
			return err
		}
	}
	mapped, err := mapTensors(c, a, p.model, outTypes[p.OutType], cut)
	if err != nil {
		return err
	}
	rope, err := newRopeParams(c)
	if err != nil {
		return err
	}
	factors, err := ropeFreqs(c, rope, a.ropeFreqs)
	if err != nil {
		return err
	}
	if factors != nil {
		p.tensors = append(p.tensors, &tensor{
			TensorInfo: gguf.TensorInfo{Name: "rope_freqs.weight", Type: gguf.F32, NE: []int64{int64(len(factors))}},
			values:     factors,
		})
	}
	p.tensors = append(p.tensors, mapped...)
	return nil
}

// planMetadata writes every key in the reference's order.
func (p *Plan) planMetadata(c *config, a *arch) error {
	p.Meta = &gguf.Metadata{}
	meta, err := loadMetadata(c, &p.opts, countParams(p.tensors), p.opts.Warn)
	if err != nil {
		return err
	}
	rope, err := newRopeParams(c)
	if err != nil {
		return err
	}
	family := a.vocab
	if p.opts.PreTokenizer != "" {
		family.pre = p.opts.PreTokenizer
	}
	vocab, err := loadVocab(p.folder, c, family)
	if err != nil {
		return err
	}
	for _, w := range vocab.warnings {
		p.opts.Warn(w)
	}
	b := &kvBuilder{c: c, a: a, m: p.Meta, rope: rope, outType: p.OutType, warn: p.opts.Warn}
	for _, step := range []func() error{
		func() error { return p.Meta.Set("general.architecture", a.name) },
		func() error { return p.Meta.Set("general.type", "model") },
		func() error { return meta.write(p.Meta) },
		b.write,
		func() error { return fixExaoneNorm(b, p.opts.FixKeys) },
		func() error { return p.Meta.Set("general.quantization_version", uint32(2)) },
		func() error { return vocab.write(p.Meta) },
		p.addExtra,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	p.outFile = func(outType string) (string, error) { return outFile(p.Dir, p.opts.OutFile, meta, outType) }
	p.OutFile, err = p.outFile(p.OutType)
	return err
}

// addExtra adds the caller's own keys. None may replace one of the model's.
func (p *Plan) addExtra() error {
	for _, kv := range p.opts.Extra {
		if _, ok := p.Meta.Get(kv.Key); ok {
			return fmt.Errorf("convert %s: extra key %s: got one that the model has, want another", p.Dir, kv.Key)
		}
		if err := p.Meta.Set(kv.Key, kv.Value); err != nil {
			return fmt.Errorf("convert %s: extra key %s: %w", p.Dir, kv.Key, err)
		}
	}
	return nil
}

// planFile lays out the output and looks at where it goes.
func (p *Plan) planFile() error {
	infos := make([]gguf.TensorInfo, len(p.tensors))
	for i, t := range p.tensors {
		infos[i] = t.TensorInfo
	}
	var err error
	if p.layout, err = gguf.NewLayout(p.Meta, infos, 0); err != nil {
		return fmt.Errorf("convert %s: %w", p.Dir, err)
	}
	p.Size = p.layout.FileSize
	for _, t := range p.tensors {
		pt := PlannedTensor{Name: t.Name, Type: t.Type, NE: t.NE, Bytes: t.Bytes()}
		for _, s := range t.segs {
			if n := len(pt.Sources); n == 0 || pt.Sources[n-1] != s.src.Name {
				pt.Sources = append(pt.Sources, s.src.Name)
			}
			p.InputBytes += s.rows * s.rowBytes()
		}
		p.Tensors = append(p.Tensors, pt)
	}
	if err := p.checkTarget(); err != nil {
		return err
	}
	p.FreeDisk, err = atomicfile.FreeSpace(filepath.Dir(p.OutFile))
	return err
}

// checkTarget refuses targets that cannot or must not be replaced.
func (p *Plan) checkTarget() error {
	parent := filepath.Dir(p.OutFile)
	if st, err := os.Stat(parent); err != nil {
		return err
	} else if !st.IsDir() {
		return fmt.Errorf("write %s: %s is not a folder", p.OutFile, parent)
	}
	st, err := os.Stat(p.OutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("write %s: exists and is not a regular file", p.OutFile)
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		in, err := os.Stat(filepath.Join(p.Dir, e.Name()))
		if err == nil && os.SameFile(st, in) && !strings.HasSuffix(e.Name(), ".gguf") {
			return fmt.Errorf("write %s: would replace %s of the model folder", p.OutFile, e.Name())
		}
	}
	return nil
}
