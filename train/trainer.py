# /// script
# requires-python = ">=3.10,<3.15"
# dependencies = [
#   "torch==2.15.0",
#   "transformers==5.23.0",
#   "peft==0.21.0",
#   "trl==1.16.0",
#   "bitsandbytes==0.50.2",
#   "accelerate==1.15.0",
#   "datasets==5.2.0",
#   "tokenizers==0.23.3",
#   "safetensors==0.8.0",
#   "huggingface-hub==2.4.0",
# ]
# ///
"""The training step of persona-gguf: LoRA or QLoRA of a causal language model on rendered dialogues.

    persona-gguf train --base_model DIR --data_path sft.jsonl --output_dir OUT

starts it. By itself it is run as `uv run trainer.py CONFIG.json`, or under torchrun or accelerate
with the same argument. It speaks one JSON object per line on standard output, each with the key
"event"; whatever the libraries print goes to standard error. When standard input ends it saves a
checkpoint after the step at hand and stops, as it does on SIGINT and SIGTERM.

The text of a record is tokenized as it is, nothing is added, and labels outside the spans are -100.
"""

import json
import os
import select
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

IGNORED = -100
EVENTS = os.dup(1)  # standard output belongs to the events alone
os.dup2(2, 1)


class Problem(Exception):
    """An error that is explained: kind says what part it is about, text what is wrong."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


def main_process():
    """Whether this is the process that reports and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def emit(event, **values):
    """Writes one event; only the first process does."""
    if main_process():
        line = json.dumps({"event": event, **values}, ensure_ascii=False, allow_nan=False)
        try:
            os.write(EVENTS, (line + "\n").encode("utf-8", "replace"))
        except BrokenPipeError:  # nobody listens any more; the checkpoint is still worth saving
            pass


# --- stopping ----------------------------------------------------------------------------------


class Stop:
    """Asked to stop: by a signal, or by the end of standard input."""

    def __init__(self, watch_stdin):
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.ask)
        if watch_stdin:
            threading.Thread(target=self.watch, daemon=True).start()

    def ask(self, *_):
        """Takes note; the training loop looks at it after each step."""
        self.asked = True

    def watch(self):
        """Waits for the end of standard input. If the reader of our output is gone too, there is no output."""
        while os.read(0, 4096):
            pass
        poll = select.poll()
        poll.register(2, 0)
        if poll.poll(0):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        self.asked = True

    def agreed(self, device):
        """Whether any process of the run was asked to stop: all must stop at the same step."""
        import torch

        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.asked
        flag = torch.tensor([int(self.asked)], device=device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag.item())


# --- base model --------------------------------------------------------------------------------


def fetch(name, what):
    """The local folder of a model of the hub: "config" fetches what describes it, "all" the weights too."""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.model", "*.txt", "*.jinja"] + (["*.safetensors"] if what == "all" else [])
    try:
        return snapshot_download(name, allow_patterns=patterns)
    except Exception as error:  # noqa: BLE001 - the hub has many kinds of errors, all mean the same here
        first = (str(error).strip().splitlines() or [""])[0]
        raise Problem("base", f"{name}: {type(error).__name__}: {first}") from error


def load_tokenizer(base):
    """(transformers' tokenizer, the tokenizer that gives offsets) of the base's folder."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    file = Path(base) / "tokenizer.json"
    if file.exists():
        return tokenizer, Tokenizer.from_file(str(file))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise Problem("base", f"{base}: tokenizer: got {type(tokenizer).__name__}, want one that gives offsets")
    return tokenizer, backend


# --- data --------------------------------------------------------------------------------------


def single_token(backend, text):
    """The id of a text that must be one token."""
    ids = backend.encode(text, add_special_tokens=False).ids
    if len(ids) != 1:
        raise Problem("data", f"end token {text}: got {len(ids)} tokens {ids}, want one of the tokenizer's control tokens")
    return ids[0]


def tokenize(backend, record, where, ends):
    """(ids, labels) of a record: labels are the ids inside its spans and -100 elsewhere."""
    encoding = backend.encode(record["prompt"] + record["output"], add_special_tokens=False)
    labels = [IGNORED] * len(encoding.ids)
    spans, at = record["spans"], 0
    finished = [False] * len(spans)
    for i, (start, stop) in enumerate(encoding.offsets):
        while at < len(spans) and start >= spans[at][1]:
            at += 1
        if at == len(spans) or stop <= spans[at][0] or start == stop:
            continue
        if start < spans[at][0] or stop > spans[at][1]:
            text = (record["prompt"] + record["output"])[start:stop]
            raise Problem("data", f"{where}: token {i} ({text!r}): got one that crosses the border of the span {spans[at]}")
        labels[i] = encoding.ids[i]
        if stop == spans[at][1]:
            finished[at] = encoding.ids[i] == ends[record["end"]]
    if not all(finished):
        raise Problem("data", f"{where}: span {spans[finished.index(False)]}: got no {record['end']} at its end")
    return encoding.ids, labels


def read_data(config, backend):
    """{"train": [...], "eval": [...]} of token ids and labels. Too long records are counted, never cut."""
    ends, rows, lengths, learned = {}, {"train": [], "eval": []}, [], 0
    too_long = []
    with open(config["data"], encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            record = json.loads(line)
            where = f"record {number} ({record['source']})"
            if record["end"] not in ends:
                ends[record["end"]] = single_token(backend, record["end"])
            ids, labels = tokenize(backend, record, where, ends)
            if number == 1:
                emit("sample", text=record["prompt"] + record["output"], spans=record["spans"], ids=ids, labels=labels)
            lengths.append(len(ids))
            if len(ids) > config["max_length"]:
                too_long.append(where)
                continue
            learned += sum(label != IGNORED for label in labels)
            rows[record["split"]].append({"input_ids": ids, "labels": labels})
    share = len(too_long) / max(len(lengths), 1)
    emit("data", records=len(lengths), train=len(rows["train"]), eval=len(rows["eval"]), tokens=sum(lengths),
         learned=learned, longest=max(lengths, default=0), too_long=len(too_long), max_length=config["max_length"],
         end_tokens=ends)
    if share > config["max_truncated"]:
        raise Problem("length", f"got {len(too_long)} of {len(lengths)} records longer than {config['max_length']} tokens "
                      f"(the longest has {max(lengths)}; the first is {too_long[0]}), want at most {config['max_truncated']:.1%}")
    if not rows["train"]:
        raise Problem("data", "got no record to train on")
    return rows, ends


# --- model -------------------------------------------------------------------------------------


def short_sums(config, cuda):
    """Whether bfloat16 is computed with: on a GPU, and with NF4 on a CPU, unless it would have to be emulated.

    PyTorch's own loops, which then take over from oneDNN's, are about 50 times slower than float32.
    """
    import torch

    return cuda or config["four_bit"] and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def load_model(config, cuda):
    """The base model: NF4 with double quantization unless four_bit is off."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if short_sums(config, cuda) else torch.float32
    options = {"dtype": dtype, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0")) if cuda else "cpu"}}
    if config["four_bit"]:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    model = AutoModelForCausalLM.from_pretrained(config["base"], **options)
    if config["four_bit"]:
        keep_weights(model)
    return model


def keep_weights(model):
    """Has evaluations leave the NF4 weights as they are.

    On a CPU with AVX-512 and bfloat16 bitsandbytes packs them anew for a product without a gradient, and rounds
    their scales to bfloat16. Not all of that comes back: training would go on with another base.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def quantization(model):
    """How the base was quantized, with the offset (mean of absmax) of each linear layer; None if it was not."""
    import bitsandbytes as bnb

    offsets, block = {}, 0
    for name, module in model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            state = module.weight.quant_state
            offsets[name], block = float(f"{state.offset.item():.9g}"), state.blocksize
    if not offsets:
        return None
    return {"type": "nf4", "double_quant": True, "block_size": block, "compute_dtype": str(model.dtype).removeprefix("torch."), "device": model.device.type, "offsets": offsets}


def adapter_config(config):
    """The LoRA configuration."""
    from peft import LoraConfig

    return LoraConfig(
        r=config["lora_r"], lora_alpha=config["lora_alpha"], lora_dropout=config["lora_dropout"], bias="none", task_type="CAUSAL_LM",
        target_modules=config["target_modules"], use_rslora=config["rslora"], use_dora=config["dora"],
    )


def arguments(config, cuda, evaluate):
    """TRL's arguments. Every key of the configuration has its effect here or in the functions around."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=config["output"], run_name=config["run_name"], seed=config["seed"], data_seed=config["seed"],
        num_train_epochs=config["epochs"], learning_rate=config["learning_rate"], weight_decay=config["weight_decay"],
        per_device_train_batch_size=config["batch_size"], per_device_eval_batch_size=config["batch_size"],
        gradient_accumulation_steps=config["grad_accum"], gradient_checkpointing=config["gradient_checkpointing"],
        lr_scheduler_type=config["scheduler"], warmup_steps=config["warmup"], optim=config["optimizer"], max_grad_norm=config["max_grad_norm"],
        bf16=short_sums(config, cuda), use_cpu=not cuda, max_length=None, packing=False,
        logging_steps=config["logging_steps"], logging_first_step=True, logging_nan_inf_filter=False, disable_tqdm=True,
        eval_strategy="epoch" if evaluate else "no", save_strategy="epoch", save_total_limit=2, prediction_loss_only=True,
        load_best_model_at_end=evaluate, metric_for_best_model="eval_loss" if evaluate else None, greater_is_better=False if evaluate else None,
        report_to=["wandb"] if config["wandb"] else [], push_to_hub=False, dataloader_pin_memory=cuda, ddp_find_unused_parameters=False,
    )


# --- reporting ---------------------------------------------------------------------------------


def finite(value):
    """value as a float, None if it is not a number."""
    value = float(value)
    return value if value == value and abs(value) != float("inf") else None


def reporter(stop, config):
    """The callback that turns what happens into events, saves now and then, and stops when asked."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        """Keeps the time and the tokens of the last report."""

        def __init__(self):
            self.time, self.tokens, self.interrupted, self.broken = None, 0, False, None

        def on_train_begin(self, args, state, control, **_):
            """The number of steps is known now."""
            self.time = time.monotonic()
            emit("begin", step=state.global_step, steps=state.max_steps)

        def on_step_begin(self, args, state, control, **_):
            """Has each step draw its own random numbers, so that a run that goes on draws the same as one that did not stop."""
            import torch

            torch.manual_seed(config["seed"] + (state.global_step + 1) * 65_537 + int(os.environ.get("RANK", "0")))

        def on_step_end(self, args, state, control, **_):
            """Saves when it is time to, and when asked to stop; after an epoch's last step its end does, with the evaluation."""
            if stop.agreed(args.device) and state.global_step < state.max_steps:
                self.interrupted = control.should_training_stop = True
            due = config["save_steps"] and state.global_step % config["save_steps"] == 0
            if (due or self.interrupted) and not state.epoch.is_integer():
                control.should_save = True

        def on_epoch_end(self, args, state, control, **_):
            """An epoch that was cut short is not evaluated: the best adapter is that of a run that did not stop."""
            if self.broken or not state.epoch.is_integer():
                control.should_evaluate = control.should_save = False

        def on_log(self, args, state, control, logs=None, **_):
            """Loss of the last steps, or of an evaluation."""
            logs = logs or {}
            if "eval_loss" in logs:
                emit("eval", step=state.global_step, epoch=state.epoch, eval_loss=finite(logs["eval_loss"]))
            if "loss" in logs:
                now, tokens = time.monotonic(), logs.get("num_tokens", 0)
                rate = (tokens - self.tokens) / max(now - self.time, 1e-9)
                self.time, self.tokens = now, tokens
                loss = finite(logs["loss"])
                if loss is None:
                    self.broken = f"step {state.global_step}: loss: got {logs['loss']}, want a number"
                    control.should_training_stop, control.should_save = True, False
                emit("step", step=state.global_step, steps=state.max_steps, epoch=state.epoch, loss=loss,
                     grad_norm=finite(logs.get("grad_norm", 0)), learning_rate=logs.get("learning_rate"), tokens=tokens,
                     tokens_per_second=rate, memory=peak_memory())

        def on_save(self, args, state, control, **_):
            """A checkpoint is complete."""
            emit("checkpoint", step=state.global_step, path=os.path.join(args.output_dir, f"checkpoint-{state.global_step}"))

    return Reporter()


def peak_memory():
    """Peak bytes on the GPU, or of the process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def versions():
    """The versions of what the result depends on."""
    from importlib.metadata import version

    names = ["torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "tokenizers"]
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def missing():
    """The packages that cannot be found, looked for but not loaded."""
    from importlib.util import find_spec

    names = ["torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "tokenizers"]
    return [name for name in names if find_spec(name) is None]


# --- the run -----------------------------------------------------------------------------------


def save_adapter(trainer, config):
    """Writes the adapter beside its place and moves it there, adapter_config.json last."""
    if not main_process():
        return
    out, partial = Path(config["output"]), Path(config["output"]) / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(partial)
    path = partial / "adapter_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    saved["base_model_name_or_path"] = config["base_name"]
    saved["target_modules"] = config["target_modules"]  # a set in PEFT, whose order changes from run to run
    path.write_text(json.dumps(saved, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (partial / name).chmod(path.stat().st_mode)  # safetensors makes files for the owner only
        with open(partial / name, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial / name, out / name)
    shutil.rmtree(partial)


def train(config):
    """The whole run; emits what happens and ends with "done" or "interrupted"."""
    stop = Stop(config["watch_stdin"])
    if "RANK" not in os.environ:  # one process uses one GPU; for more there are the launchers
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    tokenizer, backend = load_tokenizer(config["base"])
    rows, ends = read_data(config, backend)

    import torch
    from datasets import Dataset
    from transformers import EarlyStoppingCallback
    from trl import SFTTrainer

    cuda = torch.cuda.is_available() and not config["cpu"]
    config["optimizer"] = "paged_adamw_32bit" if cuda else "adamw_torch"
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    torch.manual_seed(config["seed"])
    emit("start", versions=versions(), device=torch.cuda.get_device_name() if cuda else "cpu", processes=int(os.environ.get("WORLD_SIZE", "1")),
         optimizer=config["optimizer"], compute="bfloat16" if short_sums(config, cuda) else "float32")
    model = load_model(config, cuda)
    base_quant = quantization(model)
    if stop.asked and "RANK" not in os.environ:  # several processes stop together after their first step
        emit("interrupted", step=0)
        return 3
    evaluate = bool(rows["eval"])
    report = reporter(stop, config)
    callbacks = [report]
    if evaluate and config["early_stopping"]:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=config["early_stopping"]))
    trainer = SFTTrainer(
        model=model, args=arguments(config, cuda, evaluate), train_dataset=Dataset.from_list(rows["train"]),
        eval_dataset=Dataset.from_list(rows["eval"]) if evaluate else None, processing_class=tokenizer,
        peft_config=adapter_config(config), callbacks=callbacks,
    )
    for parameter in trainer.model.parameters():  # TRL makes them bf16, in which small updates are lost
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    result = trainer.train(resume_from_checkpoint=config["resume"] or None)
    if report.broken:
        raise Problem("loss", report.broken)
    if report.interrupted:
        emit("interrupted", step=trainer.state.global_step)
        return 3
    save_adapter(trainer, config)
    made = trainer.model.config.get_text_config()
    emit("done", step=trainer.state.global_step, train_loss=finite(result.training_loss), best_eval_loss=trainer.state.best_metric,
         best_step=trainer.state.best_global_step, base_quant=base_quant, end_tokens=ends,
         eos_token_id=made.eos_token_id, pad_token_id=made.pad_token_id, generation_eos_token_id=trainer.model.generation_config.eos_token_id,
         trainable=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad))
    return 0


def run(arguments_):
    """check, fetch NAME WHAT, or the path of a configuration."""
    if arguments_ == ["check"]:
        emit("check", missing=missing())
        return 0
    if arguments_[:1] == ["fetch"] and len(arguments_) == 3:
        emit("base", path=fetch(arguments_[1], arguments_[2]))
        return 0
    if len(arguments_) != 1:
        raise Problem("usage", "want the path of a configuration, or: check, or: fetch NAME config|all")
    return train(json.loads(Path(arguments_[0]).read_text(encoding="utf-8")))


def main():
    """Runs, and explains what goes wrong in an event."""
    try:
        return run(sys.argv[1:])
    except Problem as problem:
        emit("error", kind=problem.kind, text=str(problem))
    except Exception as error:  # noqa: BLE001 - the last place to explain it
        text = f"{type(error).__name__}: {error}"
        memory = "OutOfMemoryError" in type(error).__name__ or isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        emit("error", kind="memory" if memory else "crash", text=text)
        import traceback

        traceback.print_exc()
    return 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if status and "RANK" in os.environ:
        os._exit(status)  # the other processes wait for this one otherwise
    sys.exit(status)
