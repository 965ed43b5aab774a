package testmodel

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/persona-gguf/persona-gguf/gguf"
)

// Shape is one of Qwen3's real dense sizes.
type Shape struct {
	Name   string // 0.6b, 1.7b, 4b, 8b; tiny has two small blocks and the real vocabulary
	Shards int

	dims    dims
	context int
	theta   int
}

const qwenVocabSize = 151936

// Shapes returns the sizes that Qwen3 writes.
func Shapes() []Shape {
	size := func(blocks, hidden, ffn, heads int64, tied bool) dims {
		return dims{blocks: blocks, hidden: hidden, ffn: ffn, heads: heads, kvHeads: 8, headDim: 128, vocab: qwenVocabSize, tied: tied}
	}
	tiny := dims{blocks: 2, hidden: 32, ffn: 64, heads: 2, kvHeads: 1, headDim: 16, vocab: qwenVocabSize, tied: true}
	return []Shape{
		{"tiny", 1, tiny, 4096, 1000000},
		{"0.6b", 1, size(28, 1024, 3072, 16, true), 40960, 1000000},
		{"1.7b", 2, size(28, 2048, 6144, 16, true), 40960, 1000000},
		{"4b", 3, size(36, 2560, 9728, 32, true), 262144, 5000000}, // Qwen3-4B-Instruct-2507
		{"8b", 5, size(36, 4096, 12288, 32, false), 40960, 1000000},
	}
}

// FindShape returns the shape of that name.
func FindShape(name string) (Shape, error) {
	all := Shapes()
	i := slices.IndexFunc(all, func(s Shape) bool { return s.Name == name })
	if i < 0 {
		return Shape{}, fmt.Errorf("testmodel shape: unknown name: got %q, want tiny, 0.6b, 1.7b, 4b or 8b", name)
	}
	return all[i], nil
}

// Bytes returns the size of the shape's BF16 weights.
func (s Shape) Bytes() int64 {
	var n int64
	for _, t := range qwen3Tensors(s.dims) {
		n += 2 * t.elements()
	}
	return n
}

// Qwen3 writes a folder with the config of a real Qwen3 model, BF16 weights
// drawn from a normal distribution with standard deviation 0.02, and the real
// Qwen2 vocabulary out of vocabFile (llamacpp/models/ggml-vocab-qwen2.gguf). It
// needs a few MB of memory, whatever the size, and writes about as fast as the
// disk takes it.
func Qwen3(ctx context.Context, dir, vocabFile string, s Shape) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d := s.dims
	config := modelConfig("qwen3", d, jmap{"architectures": []string{"Qwen3ForCausalLM"}, "attention_bias": false, "attention_dropout": 0.0,
		"bos_token_id": 151643, "eos_token_id": 151645, "head_dim": d.headDim, "max_position_embeddings": s.context, "max_window_layers": d.blocks,
		"rope_scaling": nil, "rope_theta": s.theta, "sliding_window": nil, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
		"use_sliding_window": false, "vocab_size": d.vocab})
	if err := writeJSON(filepath.Join(dir, "config.json"), config); err != nil {
		return err
	}
	if err := writeQwenVocab(dir, vocabFile); err != nil {
		return err
	}
	generation := strings.NewReplacer("316", "151643", "318", "151645").Replace(sampling)
	if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(generation), 0o644); err != nil {
		return err
	}
	return writeLarge(ctx, dir, qwen3Tensors(d), s.Shards)
}

// writeQwenVocab writes tokenizer.json and tokenizer_config.json of Qwen3.
func writeQwenVocab(dir, vocabFile string) error {
	f, err := gguf.Open(vocabFile)
	if err != nil {
		return err
	}
	defer f.Close()
	list, ok1 := f.Meta.Strings("tokenizer.ggml.tokens")
	merges, ok2 := f.Meta.Strings("tokenizer.ggml.merges")
	first := slices.Index(list, "<|endoftext|>")
	if !ok1 || !ok2 || first < 0 {
		return fmt.Errorf("read %s: tokens, merges or <|endoftext|>: missing, want Qwen2's vocabulary", vocabFile)
	}
	vocab := make(map[string]int, first)
	for i, token := range list[:first] {
		vocab[token] = i
	}
	b := qwenBPE(false)
	added := b.number(list[:first])
	err = writeJSON(filepath.Join(dir, "tokenizer.json"), jmap{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": b.normalizer, "pre_tokenizer": b.pretokenizer,
		"post_processor": b.post, "decoder": b.decoder,
		"model": jmap{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
			"byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges},
	})
	if err != nil {
		return err
	}
	out := jmap{"added_tokens_decoder": decoderTable(added), "clean_up_tokenization_spaces": false}
	maps.Copy(out, qwenConfig(jmap{"chat_template": chatML}))
	return writeJSON(filepath.Join(dir, "tokenizer_config.json"), out)
}

// normalTable holds 65536 equally likely BF16 values of a normal distribution
// around 0 with standard deviation 0.02.
func normalTable() *[1 << 16]uint16 {
	t := new([1 << 16]uint16)
	for i := range t {
		p := (float64(i) + 0.5) / (1 << 16)
		t[i] = toBF16(float32(0.02 * math.Sqrt2 * math.Erfinv(2*p-1)))
	}
	return t
}

// chunk is a run of elements of one tensor at a place in a file.
type chunk struct {
	file    *os.File
	offset  int64
	tensor  tensor
	from, n int64
}

const chunkElements = 4 << 20

// fillNormal writes the elements from, from+1, … of the tensor named by hash:
// four of them from every word of the stream. from is a multiple of 4.
func fillNormal(dst []byte, table *[1 << 16]uint16, hash uint64, from int64) {
	i := uint64(from / 4)
	for ; len(dst) >= 8; dst = dst[8:] {
		x := mix(hash + i)
		i++
		binary.LittleEndian.PutUint64(dst, uint64(table[x&0xffff])|uint64(table[x>>16&0xffff])<<16|
			uint64(table[x>>32&0xffff])<<32|uint64(table[x>>48])<<48)
	}
	x := mix(hash + i)
	for ; len(dst) >= 2; dst = dst[2:] {
		binary.LittleEndian.PutUint16(dst, table[x&0xffff])
		x >>= 16
	}
}

// writeLarge writes ts as BF16 into shards with one goroutine per core.
func writeLarge(ctx context.Context, dir string, ts []tensor, shards int) error {
	parts := split(ts, shards)
	var total int64
	for i, part := range parts {
		n, err := writeLargeShard(ctx, filepath.Join(dir, shardName(i, len(parts))), part)
		if err != nil {
			return err
		}
		total += n
	}
	if len(parts) == 1 {
		return nil
	}
	return writeIndex(dir, parts, total)
}

func writeLargeShard(ctx context.Context, path string, ts []tensor) (size int64, err error) {
	head, size, err := header(ts, BF16)
	if err != nil {
		return 0, err
	}
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := f.Write(head); err != nil {
		return 0, err
	}
	table := normalTable()
	workers := runtime.GOMAXPROCS(0)
	free := make(chan []byte, workers)
	for range workers {
		free <- make([]byte, 2*chunkElements)
	}
	g, group := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	offset := int64(len(head))
	for _, t := range ts {
		for from := int64(0); from < t.elements() && group.Err() == nil; from += chunkElements {
			c := chunk{f, offset + 2*from, t, from, min(chunkElements, t.elements()-from)}
			g.Go(func() error {
				buf := <-free
				defer func() { free <- buf }()
				return c.write(buf, table)
			})
		}
		offset += 2 * t.elements()
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return size, ctx.Err()
}

// write makes the chunk in buf and puts it in its place.
func (c *chunk) write(buf []byte, table *[1 << 16]uint16) error {
	if c.tensor.role == roleNorm {
		buf = fill(buf[:0], c.tensor.name, c.n, BF16, roleNorm, false)
	} else {
		buf = buf[:2*c.n]
		fillNormal(buf, table, nameHash(c.tensor.name), c.from)
	}
	_, err := c.file.WriteAt(buf, c.offset)
	return err
}
