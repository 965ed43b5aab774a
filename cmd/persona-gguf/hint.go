package main

import (
	"errors"
	"io/fs"
	"syscall"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/deploy"
	"github.com/persona-gguf/persona-gguf/deploy/vtuber"
	"github.com/persona-gguf/persona-gguf/eval"
	"github.com/persona-gguf/persona-gguf/gen"
	"github.com/persona-gguf/persona-gguf/gen/check"
	"github.com/persona-gguf/persona-gguf/gen/engine"
	"github.com/persona-gguf/persona-gguf/gen/journal"
	"github.com/persona-gguf/persona-gguf/gen/parse"
	"github.com/persona-gguf/persona-gguf/gen/prompt"
	"github.com/persona-gguf/persona-gguf/gen/sft"
	"github.com/persona-gguf/persona-gguf/gguf"
	"github.com/persona-gguf/persona-gguf/internal/chat"
	"github.com/persona-gguf/persona-gguf/internal/summary"
	"github.com/persona-gguf/persona-gguf/pipeline"
	"github.com/persona-gguf/persona-gguf/quant"
	"github.com/persona-gguf/persona-gguf/train"
)

// hints says what to do next after an error. The first that fits counts.
var hints = []struct {
	err  error
	hint string
}{
	{pipeline.ErrLocked, "wait for it, or give this one another --root"},
	{pipeline.ErrStep, "'persona-gguf run CARD --dry-run' shows the steps"},
	{pipeline.ErrBaseModel, "name the folder with --base-model, or as base_model in run.yaml; a folder base beside the card is found by itself"},
	{pipeline.ErrOpen, "run the same command again: only what is open is asked for; --min-yield lets the run go on with less"},
	{pipeline.ErrNotServed, "start the server ('ollama serve'), name it with --host, or take --engine local"},
	{pipeline.ErrReport, "see in the report which records or replies are at fault; more dialogues, longer training or other limits (gates, eval.gates in run.yaml) go on from here"},
	{pipeline.ErrProvenance, "give a JSON object, or auto with an adapter that 'persona-gguf train' has made"},
	{chat.ErrContextFull, "choose a longer context with --num-ctx, or forget the conversation with /clear"},
	{summary.ErrFormat, "inspect takes a .gguf file, a .safetensors file, or a folder with config.json and safetensors files"},
	{gguf.ErrMagic, "the file is no GGUF model; a Hugging Face folder becomes one with 'persona-gguf convert'"},
	{quant.ErrQuantized, "take the f16 or bf16 file that it was made from, or add --allow-requantize"},
	{quant.ErrImatrix, "give an importance matrix with --imatrix, or choose a type that needs none, such as Q4_0"},
	{quant.ErrNoSpace, "free some disk space, or write to another disk"},
	{llama.ErrNoKVSlot, "choose a longer context with --num-ctx"},
	{train.ErrTooLong, "raise --max-length, or let some be left out with --max-truncated 0.01"},
	{train.ErrMemory, "lower --batch-size and raise --grad-accum by as much, lower --max-length, or keep NF4 (no --no-4bit); --unload-ollama frees what Ollama holds"},
	{train.ErrExists, "go on with it with --resume, or choose another --output-dir"},
	{train.ErrResume, "take the flags and files that the run was started with, or start anew in another --output-dir"},
	{train.ErrBase, "check the spelling: real names of the hub look like Qwen/Qwen3-4B-Instruct-2507; a private one needs HF_TOKEN"},
	{train.ErrEnvironment, "check the network and run it again; 'persona-gguf doctor' says what is there, --python takes an interpreter of yours"},
	{train.ErrNoSpace, "free some disk space, or write to another disk"},
	{parse.ErrYield, "see which codes are many; run without --min-yield to have the report with every row that is left out"},
	{parse.ErrNothing, "check that the card names who speaks (name, aliases, user, cast): only they are read"},
	{sft.ErrNothing, "check that the card names who speaks (name, aliases, user, cast): only they are read"},
	{check.ErrFault, "protective dialogues are read with 'parse dialogue --kind protective'; a contradiction is mended in the card or the profile"},
	{check.ErrGate, "--html shows the records behind each figure; the limits are the card's gates"},
	{eval.ErrGate, "--html shows the replies behind each score; if the first file fails the training is at fault, else the step that made the file"},
	{eval.ErrEnd, "say with --end which one it is: the training records have it as \"end\""},
	{eval.ErrDown, "start it with 'ollama serve', or name it with --host"},
	{eval.ErrNoEval, "take the file that 'persona-gguf prepare' wrote: it holds out a part of the scenes"},
	{sft.ErrEnd, "name a token of the model with --end, for example <|im_end|>"},
	{sft.ErrTemplate, "take the plain form with --template own"},
	{deploy.ErrDown, "start it with 'ollama serve', or set OLLAMA_HOST to where it is"},
	{deploy.ErrTooOld, "update Ollama"},
	{deploy.ErrFull, "remove models with 'ollama rm', or have the server keep them on another disk (OLLAMA_MODELS)"},
	{deploy.ErrChecksum, "take the file that belongs to the hash, or leave --sha256 away"},
	{deploy.ErrEnd, "say with --end which one it is: the training records have it as \"end\""},
	{vtuber.ErrLayout, "give the folder of Open-LLM-VTuber 1.1 or 1.2 with --dir; nothing was written"},
	{vtuber.ErrUnknown, "'persona-gguf vtuber --list' shows the characters"},
	{errVTuber, "'persona-gguf vtuber --persona CARD --model NAME' sets what is wrong in the configuration"},
	{deploy.ErrModelfile, "'persona-gguf register' sends the text through Ollama's API, which takes it"},
	{gen.ErrOpen, "run the same command again: only what is open is asked for"},
	{gen.ErrNoServer, "start the server ('ollama serve'), or name it with --host; then run the same command again"},
	{gen.ErrEdited, "files of result/ are never edited: move it away, and run the same command again to have it written from the journal"},
	{journal.ErrLocked, "'persona-gguf gen status' tells how far the other run is; several characters at once need a --root each"},
	{engine.ErrModel, "'ollama list' shows the models that a server has; 'ollama pull MODEL' gets one"},
	{engine.ErrContext, "lower --num-predict, raise --num-ctx, or take a model with a longer context"},
	{prompt.ErrTemplate, "{name} stands for a variable and {{ }} for braces; the number of scenes is {scene_count}"},
	{syscall.ENOSPC, "free some disk space, or write to another disk"},
	{syscall.EROFS, "choose a folder that you may write to"},
	{fs.ErrExist, "choose another name with --out, or remove the file"},
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
