package main

import (
	"errors"
	"io/fs"
	"syscall"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/chat"
	"github.com/persona-gguf/persona-gguf/internal/summary"
	"github.com/persona-gguf/persona-gguf/quant"
)

// hints says what to do next after an error. The first that fits counts.
var hints = []struct {
	err  error
	hint string
}{
	{chat.ErrContextFull, "choose a longer context with --num-ctx, or forget the conversation with /clear"},
	{summary.ErrFormat, "inspect takes a .gguf file, a .safetensors file, or a folder with config.json and safetensors files"},
	{gguf.ErrMagic, "the file is no GGUF model; a Hugging Face folder becomes one with 'persona-gguf convert'"},
	{quant.ErrQuantized, "take the f16 or bf16 file that it was made from, or add --allow-requantize"},
	{quant.ErrImatrix, "give an importance matrix with --imatrix, or choose a type that needs none, such as Q4_0"},
	{quant.ErrNoSpace, "free some disk space, or write to another disk"},
	{llama.ErrNoKVSlot, "choose a longer context with --num-ctx"},
	{syscall.ENOSPC, "free some disk space, or write to another disk"},
	{syscall.EROFS, "choose a folder that you may write to"},
	{fs.ErrPermission, "check the permissions of the file and of its folder, or choose another folder"},
	{fs.ErrNotExist, "check the spelling of the path"},
}

// hintFor gives the hint for an error, or "".
func hintFor(err error) string {
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return "run '" + usage.command + " --help' for the commands and flags"
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	return ""
}
