# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "torch==2.15.0",
#   "transformers==4.57.6",
#   "tokenizers==0.22.2",
#   "safetensors==0.8.0",
#   "numpy==2.4.6",
# ]
# ///
"""Make what the Snow White example has of PyTorch: the base model, and answers.json.

    go run ./examples/snow_white/teacher build/pairs.jsonl
    uv run examples/snow_white/make_checkpoint.py base build/pairs.jsonl
    uv run examples/snow_white/make_checkpoint.py answers MERGED MERGED_WITHOUT_NF4

base trains, from data/ and the teacher's pairs, which are made from data/ too, a byte-level BPE
tokenizer and a Qwen3 model that is a plain assistant and can write scenes and dialogues; with --start
it goes on with a model. answers stores PyTorch's own greedy answers of it and of base and adapter
merged; both folders come from make_adapter.sh. CPU only, fixed seeds: on one machine the same inputs
give the same bytes. The stored base/ was made in two runs, with data of before; README.md says how.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

SEED = 20251205
BPE_SIZE = 2500  # entries of the trained vocabulary, the 256 bytes included
VOCAB_ROWS = 2560  # rows of the embedding; the last ones have no token, as in the real Qwen3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MAX_NEW_TOKENS = 96
CONTEXT = 8192  # tokens that the configuration allows; the longest of training are about 1,200
BATCH_TOKENS = 1600  # of a training step, padding included

# The word pattern of Qwen2's and Qwen3's tokenizer.json, which llama.cpp calls "qwen2".
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Plain ChatML; it adds no system message of its own.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def read_dialogues(path):
    """The message lists of a JSONL file whose lines are {"messages": [...]}."""
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(path, value):
    """Writes value as indented UTF-8 JSON that ends in a newline."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


# --- tokenizer ---------------------------------------------------------------------------------


def train_tokenizer(texts):
    """A byte-level BPE tokenizer with Qwen's normalizer and pre-tokenizer, trained on texts."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=BPE_SIZE,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return tokenizer


def save_tokenizer(tokenizer, folder):
    """Writes tokenizer.json and tokenizer_config.json (with the chat template) into folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    added = {
        str(tokenizer.token_to_id(t)): {
            "content": t,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for t in SPECIAL
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": CONTEXT,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write_json(folder / "tokenizer_config.json", config)


# --- training examples -------------------------------------------------------------------------


def encode_dialogue(tokenizer, messages):
    """(ids, labels, user) of one dialogue in ChatML.

    labels are the ids inside assistant turns, end mark included, and -100 elsewhere; user marks
    the words of user turns, which training may disturb.
    """
    ids, labels, user = [], [], []
    for message in messages:
        head = tokenizer.encode(f"<|im_start|>{message['role']}\n", add_special_tokens=False)
        body = tokenizer.encode(message["content"], add_special_tokens=False)
        tail = tokenizer.encode("<|im_end|>\n", add_special_tokens=False)
        answer = message["role"] == "assistant"
        ids += head + body + tail
        labels += [-100] * len(head)
        labels += body + tail[:1] + [-100] if answer else [-100] * (len(body) + len(tail))
        user += [False] * len(head) + [message["role"] == "user"] * len(body) + [False] * len(tail)
    rendered = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    if ids != rendered:
        raise ValueError(f"encode dialogue: pieces and rendered template differ: {messages}")
    return ids, labels, user


def encode_pair(tokenizer, messages):
    """(ids, labels, user) of one of the teacher's pairs. The prompt is learned too: it has scenes and words of others."""
    ids, _, _ = encode_dialogue(tokenizer, messages)
    return ids, [-100] + ids[1:], [False] * len(ids)


def encode_text(tokenizer, text):
    """(ids, labels, user) of one paragraph of running text, every token of which is learned."""
    ids = tokenizer.encode(text + "<|endoftext|>", add_special_tokens=False)
    return ids, list(ids), [False] * len(ids)


def encode_interview(tokenizer, messages):
    """(ids, labels, user) of a dialogue written down as a page of a book, outside the chat format.

    From these pages the base knows the tale and its questions as any base model does, without
    taking the character's part in a chat; the adapter only has to turn the one into the other.
    """
    ids, labels, user = [], [], []
    for message in messages:
        who = {"user": "손님", "assistant": "공주"}.get(message["role"])
        if who is None:
            continue
        head, body, tail = (tokenizer.encode(t, add_special_tokens=False) for t in (f"{who}:\n", message["content"], "\n"))
        asked = message["role"] == "user"
        ids += head + body + tail
        labels += head + ([-100] * len(body) if asked else body) + tail
        user += [False] * len(head) + [asked] * len(body) + [False] * len(tail)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    return ids + [end], labels + [end], user + [False]


class Disturber:
    """Writes the user's words in other ways, so that no answer hangs on one spelling.

    A token may fall out, be another one, or come apart into the two it was merged from (and these
    again), as BPE dropout does. One example in four, and all but the user's words, stay as they are.
    """

    def __init__(self, tokenizer_file, seed):
        model = json.loads(tokenizer_file.read_text(encoding="utf-8"))["model"]
        ids = model["vocab"]
        self.parts = {ids[a + b]: (ids[a], ids[b]) for a, b in model["merges"]}
        self.rng = random.Random(seed)

    def split(self, token, share=0.25):
        """The token, or what it was merged from."""
        if token not in self.parts or self.rng.random() >= share:
            return [token]
        return [t for part in self.parts[token] for t in self.split(part, share)]

    def __call__(self, example):
        """A disturbed (ids, labels, user) of an example."""
        if self.rng.random() < 0.25:
            return example
        result = []
        for token, label, user in zip(*example):
            chance = self.rng.random() if user else 1.0
            if chance < 0.06:
                continue
            if chance < 0.12:
                token = self.rng.randrange(BPE_SIZE)
            result += [(t, label, user) for t in (self.split(token) if user else [token])]
        return tuple(zip(*result))


def collate(examples, pad):
    """Right-padded tensors (ids, labels, attention mask) of a list of examples."""
    width = max(len(e[0]) for e in examples)

    def rows(column, fill):
        return torch.tensor([list(e[column]) + [fill] * (width - len(e[column])) for e in examples])

    mask = torch.tensor([[1] * len(e[0]) + [0] * (width - len(e[0])) for e in examples])
    return rows(0, pad), rows(1, -100), mask


def batches(examples, generator):
    """One epoch of index lists: shuffled, then grouped by length so that little is padding."""
    order = torch.randperm(len(examples), generator=generator).tolist()
    groups = []
    for start in range(0, len(order), 512):
        group = []
        for i in sorted(order[start : start + 512], key=lambda i: len(examples[i][0])):
            if group and (len(group) + 1) * len(examples[i][0]) > BATCH_TOKENS:
                groups.append(group)
                group = []
            group.append(i)
        groups.append(group)
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    return [groups[i] for i in shuffled]


# --- training ----------------------------------------------------------------------------------


def answer_loss(model, ids, labels, mask):
    """The mean loss over the labelled tokens. Only their logits are computed."""
    hidden = model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    learned = target != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), target[learned])


def train(model, examples, shares, disturb, pad, *, rate, seed, name):
    """Trains the parameters that require a gradient; AdamW, short warm-up, cosine decay.

    There are as many epochs as shares. Each has all examples, their users' words disturbed, and its share as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    total = sum(len(batches(examples + share, torch.Generator().manual_seed(seed))) for share in shares)
    step, began = 0, time.monotonic()
    model.train()
    for epoch, share in enumerate(shares):
        losses, now = [], [disturb(e) for e in examples] + share
        for indices in batches(examples + share, generator):
            step += 1
            factor = min(1.0, step / 30) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
            for group in optimizer.param_groups:
                group["lr"] = rate * max(factor, 0.01)
            ids, labels, mask = collate([now[i] for i in indices], pad)
            loss = answer_loss(model, ids, labels, mask)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            losses.append(loss.item())
        seconds = time.monotonic() - began
        print(f"{name} epoch {epoch + 1}/{len(shares)} loss {sum(losses) / len(losses):.4f} {seconds:.0f} s", flush=True)
    model.eval()


def model_config(tokenizer):
    """The Qwen3 configuration: every trait of the 4B model (GQA, q/k norm, tied, head_dim of its own), tiny."""
    return Qwen3Config(
        architectures=["Qwen3ForCausalLM"],
        vocab_size=VOCAB_ROWS,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        rope_theta=5000000.0,
        tie_word_embeddings=True,
        attention_bias=False,
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        dtype="bfloat16",
    )


def save_model(model, tokenizer, folder):
    """Writes a bf16 Hugging Face folder; the tied output matrix is not stored a second time."""
    model.config._name_or_path = ""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=[tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")],
        do_sample=True,
        temperature=0.7,
        top_k=20,
        top_p=0.8,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def load_model(folder):
    """The saved bf16 weights, computed with in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def tokens_of(examples):
    """How many tokens the examples have."""
    return sum(len(e[0]) for e in examples)


def running_text(data):
    """The tale and the other pages, a paragraph each."""
    return [line for name in ("tale.txt", "pages.txt") for line in (data / name).read_text(encoding="utf-8").splitlines()]


def make_base(tokenizer, data, pairs, folder, *, epochs, start):
    """Trains the assistant from random weights, or from those of the folder start, and saves it."""
    save_tokenizer(tokenizer, folder)
    encoder = AutoTokenizer.from_pretrained(folder)
    examples = [encode_dialogue(encoder, m) for m in read_dialogues(data / "base.jsonl")]
    examples += [encode_text(encoder, line) for line in running_text(data)]
    found = {json.dumps(p): p for p in (encode_interview(encoder, m) for m in read_dialogues(data / "persona.jsonl"))}
    pages = list(found.values())  # each once, whatever system message it had
    pairs = [encode_pair(encoder, m) for m in pairs]
    random.Random(SEED).shuffle(pairs)
    shares = [pairs[epoch::epochs] + pages[epoch % 2 :: 2] for epoch in range(epochs)]
    print(f"an epoch's examples have {tokens_of(examples)} tokens, the shares {tokens_of(sum(shares, []))}", flush=True)
    torch.manual_seed(SEED)
    model = Qwen3ForCausalLM(model_config(tokenizer)) if start is None else load_model(start)
    disturb = Disturber(folder / "tokenizer.json", SEED + 1)
    train(model, examples, shares, disturb, encoder.pad_token_id, rate=2e-3, seed=SEED + 1, name="base")
    save_model(model, tokenizer, folder)


# --- answers -----------------------------------------------------------------------------------


def greedy(model, encoder, messages):
    """PyTorch's greedy answer: prompt text, token ids, answer and the smallest lead of a chosen token."""
    prompt = encoder.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = encoder.encode(prompt, add_special_tokens=False)
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        temperature=None,
        top_k=None,
        top_p=None,
        max_new_tokens=MAX_NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
    )
    answer = out.sequences[0, len(ids) :].tolist()
    top = torch.stack(out.logits)[:, 0].topk(2, dim=-1).values
    return {
        "messages": messages,
        "prompt": prompt,
        "prompt_tokens": ids,
        "answer": encoder.decode(answer, skip_special_tokens=True),
        "answer_tokens": answer,
        "min_gap": round((top[:, 0] - top[:, 1]).min().item(), 4),
    }


def interview(model, encoder, prompts):
    """The greedy answers to the prompts; each user turn but the last is answered by the model itself first."""
    results = []
    for prompt in prompts:
        messages = [{"role": "system", "content": prompt["system"]}] if "system" in prompt else []
        for turn in prompt["user"]:
            messages = messages + [{"role": "user", "content": turn}]
            result = greedy(model, encoder, messages)
            messages = messages + [{"role": "assistant", "content": result["answer"]}]
        results.append({"id": prompt["id"], **result})
    return results


def mean_loss(model, encoder, dialogues):
    """Mean negative log-likelihood per answer token (end mark included), in nats."""
    total, count = 0.0, 0
    for messages in dialogues:
        ids, labels, _ = encode_dialogue(encoder, messages)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        target = torch.tensor(labels[1:])
        total += torch.nn.functional.cross_entropy(logits, target, ignore_index=-100, reduction="sum").item()
        count += int((target != -100).sum())
    return total / count


def held_out(model, encoder, path):
    """How a model does on dialogues it was not trained on: loss, and answers equal to the written ones."""
    dialogues = read_dialogues(path)
    wrong = []
    for messages in dialogues:
        result = greedy(model, encoder, messages[:-1])
        if result["answer"] != messages[-1]["content"]:
            wrong.append((messages[-2]["content"], result["answer"]))
    for question, answer in wrong:
        print(f"  {path.name}: {question} -> {answer}")
    return {
        "dialogues": len(dialogues),
        "loss": round(mean_loss(model, encoder, dialogues), 4),
        "expected_answers": len(dialogues) - len(wrong),
    }


def write_answers(here, folders, path):
    """Asks the models everything and writes answers.json; of those whose name is no example's only the losses."""
    prompts = json.loads((here / "data" / "prompts.json").read_text(encoding="utf-8"))
    report = {
        "about": "Greedy answers of PyTorch (transformers generate, do_sample off) from the stored weights, computed in "
        "float32 on CPU. min_gap is the smallest difference between the best and the second-best logit. persona is base "
        "and adapter merged into the NF4 weights that the adapter was trained on, persona_plain into those of the files.",
        "max_new_tokens": MAX_NEW_TOKENS,
        "held_out": {},
        "models": {},
    }
    for name, folder, unseen in folders:
        model, encoder = load_model(folder), AutoTokenizer.from_pretrained(folder)
        report["held_out"][name] = held_out(model, encoder, here / "data" / unseen)
        print(f"{name} held out: {report['held_out'][name]}", flush=True)
        if name == "persona_plain":
            continue
        report["models"][name] = interview(model, encoder, prompts)
        for answer in report["models"][name]:
            print(f"{name} {answer['id']} gap {answer['min_gap']}: {answer['answer']}")
    write_json(path, report)


def main():
    """Does one of the two steps; --out writes somewhere else than beside this file."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["base", "answers"])
    parser.add_argument("inputs", type=Path, nargs="*", help="for base: the teacher's pairs; for answers: the merged folders")
    parser.add_argument("--out", type=Path, default=here)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--start", type=Path, help="for base: go on with the model of this folder, tokenizer and all")
    options = parser.parse_args()
    data, base = here / "data", options.out / "base"
    if len(options.inputs) != (2 if options.step == "answers" else 1):
        parser.error(f"{options.step}: got {len(options.inputs)} inputs")

    transformers_logging.set_verbosity_error()
    torch.set_num_threads(1)  # the same sums on any number of cores
    torch.use_deterministic_algorithms(True)

    if options.step == "base":
        texts, pairs = running_text(data), read_dialogues(options.inputs[0])
        if options.start is not None:
            tokenizer = Tokenizer.from_file(str(options.start / "tokenizer.json"))
            make_base(tokenizer, data, pairs, base, epochs=options.epochs, start=options.start)
            return
        for dialogues in (read_dialogues(data / "base.jsonl"), read_dialogues(data / "persona.jsonl"), pairs[::8]):
            texts += [m["content"] for messages in dialogues for m in messages]
        make_base(train_tokenizer(texts), data, pairs, base, epochs=options.epochs, start=None)
        return
    merged, plain = options.inputs
    folders = [("base", base, "base_heldout.jsonl"), ("persona", merged, "heldout.jsonl"), ("persona_plain", plain, "heldout.jsonl")]
    write_answers(here, folders, options.out / "answers.json")


if __name__ == "__main__":
    main()
