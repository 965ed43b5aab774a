package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/envconfig"

	"github.com/persona-gguf/persona-gguf/internal/atomicfile"
	"github.com/persona-gguf/persona-gguf/internal/meminfo"
	"github.com/persona-gguf/persona-gguf/internal/unit"
)

// ErrMemory says that the memory does not suffice, as estimated before or as found out.
var ErrMemory = errors.New("not enough memory")

// ErrNoSpace says that the disk does not suffice.
var ErrNoSpace = errors.New("not enough disk space")

// gpu is a graphics card as the driver shows it; sizes are bytes.
type gpu struct {
	name        string
	free, total int64
	users       []string // other processes on it
}

// findGPU asks the driver for the first card that the trainer would use; nil without one.
func findGPU(ctx context.Context, o *Options) *gpu {
	visible := lookEnv(o.Env, "CUDA_VISIBLE_DEVICES")
	tool := (&setup{env: o.Env}).lookPath("nvidia-smi")
	if o.CPU || tool == "" || visible == "-1" {
		return nil
	}
	query := func(what string) [][]string {
		args := []string{"--query-" + what, "--format=csv,noheader,nounits"}
		if _, err := strconv.Atoi(strings.Split(visible, ",")[0]); err == nil {
			args = append(args, "--id="+strings.Split(visible, ",")[0])
		}
		cmd := exec.CommandContext(ctx, tool, args...)
		cmd.Env = o.Env
		out, err := cmd.Output()
		if err != nil {
			return nil
		}
		var rows [][]string
		for line := range bytes.Lines(out) {
			rows = append(rows, strings.Split(strings.TrimSpace(string(line)), ", "))
		}
		return rows
	}
	for _, row := range query("gpu=name,memory.free,memory.total") {
		if len(row) != 3 {
			continue
		}
		g := &gpu{name: row[0], free: mebibytes(row[1]), total: mebibytes(row[2])}
		for _, user := range query("compute-apps=pid,process_name,used_memory") {
			if len(user) == 3 {
				g.users = append(g.users, fmt.Sprintf("process %s (%s): %s", user[0], user[1], unit.Bytes(mebibytes(user[2]))))
			}
		}
		return g
	}
	return nil
}

func mebibytes(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n << 20
}

// preflight looks at the disk, at what Ollama holds, and at the memory, before anything is loaded.
func preflight(ctx context.Context, o *Options, b *base, d *data) error {
	if err := checkDisk(o, b); err != nil {
		return err
	}
	loaded, err := ollamaModels(ctx, o)
	if err != nil {
		return err
	}
	g := findGPU(ctx, o)
	if g == nil {
		how := "with bitsandbytes' CPU kernels, NF4 weights, and sums in bfloat16 or, on a CPU that has it not, float32"
		if o.No4Bit {
			how = "in full precision (float32)"
		}
		o.info("no GPU: training on the CPU, %s, with plain AdamW in place of the paged one", how)
	}
	return checkMemory(o, b, d, g, loaded)
}

// checkDisk wants room for the adapter and three checkpoints, each with optimizer state.
func checkDisk(o *Options, b *base) error {
	free, err := atomicfile.FreeSpace(o.OutputDir)
	if err != nil {
		return err
	}
	want := uint64(4*12*b.adapterWeights(o.LoraR) + 64<<20)
	if free < want {
		return fmt.Errorf("%w: %s: got %s free, want %s for the adapter and its checkpoints", ErrNoSpace, o.OutputDir, unit.Bytes(int64(free)), unit.Bytes(int64(want)))
	}
	return nil
}

// ollamaTimeout is long for a server on the machine; unloadTimeout for one that has to give memory back.
const (
	ollamaTimeout = 2 * time.Second
	unloadTimeout = time.Minute
)

// ollamaModels lists the models that an Ollama server holds in memory, and unloads them if that is wanted.
func ollamaModels(ctx context.Context, o *Options) ([]string, error) {
	client := api.NewClient(envconfig.Host(), http.DefaultClient)
	short, cancel := context.WithTimeout(ctx, ollamaTimeout)
	defer cancel()
	running, err := client.ListRunning(short)
	if err != nil {
		if o.UnloadOllama {
			return nil, fmt.Errorf("unload ollama: %s: %w", envconfig.Host(), err)
		}
		return nil, nil // no server, nothing loaded
	}
	var loaded []string
	for _, m := range running.Models {
		text := fmt.Sprintf("Ollama model %s: %s on the GPU, %s in all", m.Name, unit.Bytes(m.SizeVRAM), unit.Bytes(m.Size))
		if !o.UnloadOllama {
			loaded = append(loaded, text)
			o.warn("%s is loaded: --unload-ollama frees its memory", text)
			continue
		}
		if err := unload(ctx, client, m.Name); err != nil {
			return nil, fmt.Errorf("unload ollama: %s: %w", m.Name, err)
		}
		o.info("unloaded %s", text)
	}
	return loaded, nil
}

// unload has the server drop a model and waits until it is gone.
func unload(ctx context.Context, client *api.Client, name string) error {
	ctx, cancel := context.WithTimeout(ctx, unloadTimeout)
	defer cancel()
	now := api.Duration{}
	if err := client.Generate(ctx, &api.GenerateRequest{Model: name, KeepAlive: &now}, func(api.GenerateResponse) error { return nil }); err != nil {
		return err
	}
	for {
		running, err := client.ListRunning(ctx)
		if err != nil {
			return err
		}
		gone := true
		for _, m := range running.Models {
			gone = gone && m.Name != name
		}
		if gone {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("got it still loaded: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// checkMemory compares the estimate with what is free, and suggests a batch size.
func checkMemory(o *Options, b *base, d *data, g *gpu, loaded []string) error {
	free, where := int64(0), "memory of this machine"
	if g != nil {
		free, where = g.free, g.name
	} else if free = meminfo.Available(); free == 0 {
		return nil // not known here
	}
	tokens := min(o.MaxLength, d.longest)
	need := b.estimate(o, g != nil, o.BatchSize, tokens)
	fits := b.suggest(o, g != nil, tokens, free)
	o.info("memory: about %s needed at batch size %d and %d tokens, %s free on %s", unit.Bytes(need), o.BatchSize, tokens, unit.Bytes(free), where)
	if need <= free {
		if effective := o.BatchSize * o.GradAccum; fits > o.BatchSize && o.GradAccum > 1 {
			best := o.BatchSize
			for size := o.BatchSize; size <= min(fits, effective); size++ {
				if effective%size == 0 {
					best = size
				}
			}
			if best > o.BatchSize {
				o.info("batch size: %d would fit and be faster: --batch-size %d --grad-accum %d is the same %d records per step", fits, best, effective/best, effective)
			}
		}
		return nil
	}
	text := fmt.Sprintf("%s: got %s free, want about %s at batch size %d and %d tokens", where, unit.Bytes(free), unit.Bytes(need), o.BatchSize, tokens)
	if fits > 0 {
		text += fmt.Sprintf("; batch size %d would fit", fits)
	}
	if g != nil {
		loaded = append(loaded, g.users...)
	}
	for _, user := range loaded {
		text += "; " + user
	}
	if o.NoMemoryCheck {
		o.warn("%s", text)
		return nil
	}
	return fmt.Errorf("%w: %s", ErrMemory, text)
}

// suggest is the largest batch size whose estimate leaves a tenth of the memory free; 0 if none does.
func (b *base) suggest(o *Options, onGPU bool, tokens int, free int64) (size int) {
	for next := 1; next <= 256 && b.estimate(o, onGPU, next, tokens) <= free-free/10; next *= 2 {
		size = next
	}
	return size
}
