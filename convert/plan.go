package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/safetensors"
)

// Options are the choices of a conversion; the zero value is the reference's
// default.
type Options struct {
	// OutFile is the file to write, or a folder for the default name; empty
	// means the model folder. {ftype} and {FTYPE} (also {outtype}, {OUTTYPE})
	// in the name become the output type.
	OutFile string
	// OutType is "f32", "f16", "bf16", "q8_0" or "auto" (also empty): the type
	// of the first 16-bit matrix in the files.
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
	// Progress is told the bytes written so far and in all; calls come one at
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

	opts    Options
	model   *safetensors.Model
	tensors []*tensor
	layout  *gguf.Layout
}

// NewPlan reads the configuration, the tokenizer and the headers of the
// weights in the folder dir, checks them against each other, and lays out the
// GGUF file. Nothing is written. Errors name the file, then the key or tensor.
func NewPlan(ctx context.Context, dir string, o Options) (*Plan, error) {
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	if _, ok := outTypes[o.OutType]; !ok && o.OutType != "" && o.OutType != "auto" {
		return nil, fmt.Errorf("convert %s: output type: got %q, want f32, f16, bf16, q8_0 or auto", dir, o.OutType)
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !st.IsDir() {
		return nil, fmt.Errorf("convert %s: not a folder", dir)
	}
	p := &Plan{Dir: dir, opts: o}
	if err := p.build(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close closes the source files. Closing twice is fine.
func (p *Plan) Close() error {
	if p.model == nil {
		return nil
	}
	m := p.model
	p.model = nil
	return m.Close()
}

func (p *Plan) build(ctx context.Context) error {
	c, a, err := p.readConfig()
	if err != nil {
		return err
	}
	if p.model, err = safetensors.OpenModel(p.Dir); err != nil {
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
	if _, err := os.Stat(filepath.Join(p.Dir, "hf_quant_config.json")); err == nil {
		return nil, nil, fmt.Errorf("read %s: unsupported: hf_quant_config.json says that the weights are quantized, want F32, F16 or BF16 weights", p.Dir)
	}
	c, err := loadConfig(p.Dir, p.opts.Warn)
	if err != nil {
		return nil, nil, err
	}
	if c.readme, err = readCardText(filepath.Join(p.Dir, "README.md")); err != nil {
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
		if cut, err = gemmaVocabRows(p.Dir, c); err != nil {
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
	vocab, err := loadVocab(p.Dir, c, family)
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
	} {
		if err := step(); err != nil {
			return err
		}
	}
	p.OutFile, err = outFile(p.Dir, p.opts.OutFile, meta, p.OutType)
	return err
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

// outFile decides the name of the output: given, or the reference's default
// name in the given folder or the model folder.
func outFile(dir, given string, meta *metadata, outType string) (string, error) {
	if given == "" {
		given = dir
	}
	if st, err := os.Stat(given); err == nil && st.IsDir() {
		return filepath.Join(given, defaultName(meta, outType)+".gguf"), nil
	}
	parent, name := filepath.Split(given)
	name, err := fillTemplate(name, outType)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", given, err)
	}
	return filepath.Join(parent, name), nil
}

// fillTemplate puts the output type into a file name, by the rules of Python's
// str.format.
func fillTemplate(name, outType string) (string, error) {
	upper := strings.ToUpper(outType)
	fields := map[string]string{
		"": outType, "0": outType, "ftype": outType, "outtype": outType, "FTYPE": upper, "OUTTYPE": upper,
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(name) && name[i+1] == c:
			b.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(name[i:], '}')
			if end < 0 {
				return "", errors.New("file name: a brace without end; write {{ for a brace")
			}
			field, ok := fields[name[i+1:i+end]]
			if !ok {
				return "", fmt.Errorf("file name: got {%s}, want {ftype} or {FTYPE}; write {{ for a brace", name[i+1:i+end])
			}
			b.WriteString(field)
			i += end
		case c == '}':
			return "", errors.New("file name: a closing brace without an opening one; write }} for a brace")
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
