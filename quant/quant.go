// Package quant turns a GGUF model into one with smaller tensor types.
//
// It decides and writes what llama.cpp v0.5.0's llama-quantize decides and
// writes: for the same source and options the output is the same file, byte for
// byte (sources: tools/quantize/quantize.cpp, src/llama-quant.cpp). What
// differs is the way: rows are read, encoded and written in pieces of about a
// megabyte, so that memory does not grow with the model; everything that can be refused is
// refused before a byte is written; the output appears under its name only when
// it is complete; and a run can be cancelled.
//
// Where it is stricter on purpose: numbers in overrides must be whole; an
// imatrix with bytes after its end, negative lengths or counts that are not
// finite is refused; so are what llama-quantize ends on with an abort (a type
// that does not fit the rows, tensors of four dimensions), a list of layers
// that leaves none, patterns that Go's regular expressions cannot express, and an output
// that is one of the input's files. The data is laid out by the value of
// general.alignment, where llama-quantize always takes 32 and so
// writes files that cannot be read when the value is another.
package quant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// Options are those of llama-quantize, and how to run.
type Options struct {
	Pure               bool             // every weight gets the base type: no mixture
	LeaveOutputTensor  bool             // output.weight keeps its type
	AllowRequantize    bool             // weights that are quantized already may be quantized again
	KeepSplit          bool             // write as many files as the input has
	DryRun             bool             // plan only: what would hinder writing becomes a warning
	OutputTensorType   *gguf.Type       // for output.weight, and for token embeddings that serve as it
	TokenEmbeddingType *gguf.Type       // for token_embd.weight
	TensorTypes        []TensorTypeRule // the first that matches a name counts, if the ftype is a quantized one
	Imatrix            string           // file with an importance matrix
	IncludeWeights     []string         // use only its entries whose name contains one of these …
	ExcludeWeights     []string         // … or none that contains one of these; not both lists
	OverrideKV         []KVOverride     // metadata keys to set
	PruneLayers        []int            // blocks to leave out; those behind move up

	Threads  int                     // goroutines that encode; 0 means GOMAXPROCS
	Budget   int64                   // bytes of data in memory; 0 means 512 MiB
	Progress func(done, total int64) // told after every piece, in bytes of the input, from one goroutine at a time
	Warn     func(msg string)        // told what is odd but no error
}

// What a caller may want to give a hint about; test with errors.Is.
var (
	ErrFType     = errors.New("unknown type")
	ErrQuantized = errors.New("the source is quantized already") // Options.AllowRequantize allows it
	ErrImatrix   = errors.New("needs an importance matrix")      // Options.Imatrix
	ErrNoSpace   = errors.New("not enough free disk space")
)

// PlannedTensor is one tensor of the output.
type PlannedTensor struct {
	Name        string
	SourceName  string // differs from Name when layers before it were pruned
	SourceType  gguf.Type
	Type        gguf.Type
	NE          []int64 // innermost first
	SourceBytes int64
	Bytes       int64
	Imatrix     bool // whether an importance matrix guides the encoding

	imatrix []float32 // ne[0] values per expert, or nil
	shard   int       // position of the source file, and of the output file when splits are kept
}

// PlannedFile is one file of the output.
type PlannedFile struct {
	Path string
	Size int64

	layout  *gguf.Layout
	tensors []PlannedTensor
}

// Plan is a checked conversion, ready to be written. It holds the input open until Close.
type Plan struct {
	In       string
	FType    string // the type's name as in FTypes
	Arch     string
	Tensors  []PlannedTensor // in the order of the output
	Files    []PlannedFile
	Meta     *gguf.Metadata // of the (first) output file
	Warnings []string

	SourceBytes int64  // of the tensors that are read
	TensorBytes int64  // of the tensors that are written
	Size        int64  // of all output files
	Fallbacks   int    // weights that got another type because their rows do not fit
	FreeDisk    uint64 // where the output goes; 0 for a dry run

	o          Options
	target     target
	src        Source
	hp         *hparams
	imatrix    *Imatrix
	rules      typeRules
	blocksLeft int   // after pruning
	blocked    error // what a dry run only warned about
	create     func(path string) (outFile, error)
}

// NewPlan opens the model at in (a file, or the first of a split model) and
// decides about every tensor. ftype is a name of FTypes in any case or
// llama.cpp's number of one. out may be empty: then it is the name that
// llama-quantize takes, ggml-model-FTYPE.gguf beside the input. Nothing is
// written. All that can be told from the metadata, the options and the
// importance matrix is checked here; not-a-number values in the weights are found by Write.
func NewPlan(ctx context.Context, in, out, ftype string, o Options) (*Plan, error) {
	p := &Plan{In: in, o: o, create: createAtomic}
	return p.finish(ctx, out, ftype)
}

// NewPlanFrom is NewPlan for a model that need not be a file: src, which errors
// call in. The plan's Close closes src, and so does a failure.
func NewPlanFrom(ctx context.Context, src Source, in, out, ftype string, o Options) (*Plan, error) {
	p := &Plan{In: in, o: o, create: createAtomic, src: src}
	return p.finish(ctx, out, ftype)
}

func (p *Plan) finish(ctx context.Context, out, ftype string) (*Plan, error) {
	if err := p.build(ctx, out, ftype); err != nil {
		p.Close()
		return nil, fmt.Errorf("quantize %s: %w", p.In, err)
	}
	return p, nil
}

// Close closes the input. A second Close does nothing.
func (p *Plan) Close() error {
	if p.src == nil {
		return nil
	}
	src := p.src
	p.src = nil
	return src.Close()
}

func (p *Plan) build(ctx context.Context, out, ftype string) error {
	if err := p.checkOptions(ftype); err != nil {
		return err
	}
	steps := []func() error{
		p.openModel,
		p.loadImatrix,
		p.listTensors,
		p.chooseTypes,
		p.checkTensors,
		p.planMeta,
		func() error { return p.planFiles(out) },
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) checkOptions(ftype string) (err error) {
	if p.target, err = parseTarget(ftype); err != nil {
		return err
	}
	p.FType = p.target.name
	if len(p.o.IncludeWeights) > 0 && len(p.o.ExcludeWeights) > 0 {
		return errors.New("options: got weights to include and weights to exclude, want only one of them")
	}
	for name, t := range map[string]*gguf.Type{"output tensor type": p.o.OutputTensorType, "token embedding type": p.o.TokenEmbeddingType} {
		if t != nil && !t.Valid() {
			return fmt.Errorf("options: %s: got %d, want a ggml type", name, uint32(*t))
		}
	}
	for _, o := range p.o.OverrideKV {
		if err := o.check(); err != nil {
			return err
		}
	}
	for _, n := range p.o.PruneLayers {
		if n < 0 {
			return fmt.Errorf("options: layer to prune: got %d, want 0 or more", n)
		}
	}
	p.rules, err = compileRules(p.o.TensorTypes)
	return err
}

func (p *Plan) openModel() (err error) {
	if p.src == nil {
		model, err := gguf.OpenModel(p.In)
		if err != nil {
			return err
		}
		p.src = fileSource{model}
	}
	p.hp, err = readHParams(p.reader())
	if err != nil {
		return err
	}
	p.Arch = p.hp.arch
	return nil
}

func (p *Plan) reader() metaReader { return metaReader{p.src.Metadata(), p.o.OverrideKV} }

func (p *Plan) loadImatrix() (err error) {
	if p.o.Imatrix == "" {
		return nil
	}
	m, err := LoadImatrix(p.o.Imatrix)
	if err != nil {
		return err
	}
	m.filter(p.o.IncludeWeights, p.o.ExcludeWeights)
	if len(m.Entries) == 0 {
		p.warn("imatrix %s: no entry is left to use: quantizing without it", p.o.Imatrix)
		return nil
	}
	p.imatrix = m
	return nil
}

func (p *Plan) warn(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	p.Warnings = append(p.Warnings, msg)
	if p.o.Warn != nil {
		p.o.Warn(msg)
	}
}

// inBlockOrder gives the source's tensors as the reference's loader sorts them:
// those outside blocks by name, then block by block.
func (p *Plan) inBlockOrder() []gguf.TensorInfo {
	sorted := slices.Clone(p.src.TensorInfos())
	slices.SortFunc(sorted, func(a, b gguf.TensorInfo) int {
		blockA, _ := blockOf(a.Name)
		blockB, _ := blockOf(b.Name)
		return cmp.Or(cmp.Compare(blockA, blockB), strings.Compare(a.Name, b.Name))
	})
	return sorted
}

// listTensors orders the tensors block by block, or as they lie in the files
// when splits are kept, and leaves pruned blocks out.
func (p *Plan) listTensors() error {
	sorted := p.inBlockOrder()
	prune := newPruner(p.o.PruneLayers)
	for _, t := range sorted {
		name, err := prune.rename(t.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		p.Tensors = append(p.Tensors, PlannedTensor{
			Name: name, SourceName: t.Name, SourceType: t.Type, Type: t.Type, NE: gguf.TrimNE(t.NE),
			SourceBytes: t.Bytes(), shard: p.src.Shard(t.Name),
		})
	}
	if p.o.KeepSplit {
		offset := func(t PlannedTensor) uint64 { info, _ := p.src.Tensor(t.SourceName); return info.Offset }
		slices.SortStableFunc(p.Tensors, func(a, b PlannedTensor) int {
			return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(offset(a), offset(b)))
		})
	}
	return p.planPrune(prune)
}

// chooseTypes decides about the types, in the order of the output, which matters
// where a rule counts layers.
func (p *Plan) chooseTypes() error {
	m := &mixer{
		hp: p.hp, target: p.target, hasImatrix: p.imatrix != nil, tied: true,
		outputType: p.o.OutputTensorType, seen: map[category]int{},
	}
	for _, t := range p.Tensors {
		cat := categoryOf(t.Name)
		if cat.isAttnV() {
			m.values++
		}
		if cat == catOutput {
			m.tied = false
		}
	}
	for i := range p.Tensors {
		t := &p.Tensors[i]
		if p.target.copy || !isQuantizable(t.Name, t.NE, p.o.LeaveOutputTensor) {
			continue
		}
		typ, err := p.chooseType(m, t)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		t.Type = typ
	}
	if p.Fallbacks > 0 {
		p.warn("%d of %d tensors got another type because their rows do not fit the wanted one", p.Fallbacks, len(p.Tensors))
	}
	return nil
}

// chooseType decides about one weight (llama_tensor_get_type in src/llama-quant.cpp).
func (p *Plan) chooseType(m *mixer, t *PlannedTensor) (gguf.Type, error) {
	cat := categoryOf(t.Name)
	byRule, hasRule := p.rules.find(t.Name)
	if p.o.TokenEmbeddingType != nil && cat == catTokenEmbd && !(t.Name == perLayerTokenEmbd && hasRule) {
		return *p.o.TokenEmbeddingType, nil
	}
	if p.o.OutputTensorType != nil && cat == catOutput {
		return *p.o.OutputTensorType, nil
	}
	typ := p.target.base
	if !typ.IsQuantized() {
		return typ, nil
	}
	var err error
	switch {
	case hasRule:
		typ = byRule
	case !p.o.Pure:
		if typ, err = m.choose(t.Name, t.NE); err != nil {
			return 0, err
		}
	}
	fitting, err := fit(typ, t.NE[0])
	if err == nil && fitting != typ {
		p.Fallbacks++
	}
	return fitting, err
}
