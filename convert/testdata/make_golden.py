# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = [
#   "torch==2.11.0",
#   "transformers==4.57.6",
#   "numpy~=2.2.6",
#   "sentencepiece>=0.1.98,<0.3.0",
#   "protobuf>=4.21,<5",
# ]
# ///
"""Remakes the golden files in this folder with llama.cpp's own converter.

Run from the repository's root, on a POSIX system:

    uv run convert/testdata/make_golden.py

It writes internal/testmodel's folders to a temporary place with `go run`,
converts each with llamacpp/convert_hf_to_gguf.py to every output type, and
describes the result in convert/testdata/MODEL.TYPE.golden. Models that are there
for their odd tokenizers are converted to f16 only, into vocabulary/. A file:

    file <sha256> <size in bytes>
    name <the file name that the reference chose>
    kv <key> <type> <value>            in the file's order
    tensor <name> <type> <ne, innermost first> <offset> <sha256 of the data>

Types are u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 bool str and arr[TYPE]. Strings
are JSON in ASCII, floats the hexadecimal bits (1.0 is 3f800000), arrays
their length and the SHA-256 of their elements as the file stores them.

The converter knows a BPE pre-tokenizer by the digest of a token list, which no
tiny vocabulary has, so get_vocab_base_pre is replaced by one that returns the
name that the model should get. A Qwen3 folder with the real Qwen2 vocabulary is
converted without that replacement, into vocabulary/qwen2-vocabulary.f16.golden.
"""

import argparse
import hashlib
import json
import os
import runpy
import struct
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LLAMA = ROOT / "llamacpp"
TYPES = ["f32", "f16", "bf16", "q8_0", "auto"]

SCALARS = {0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "str", 10: "u64", 11: "i64", 12: "f64"}
CODES = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
BITS = {6: "<I", 12: "<Q"}


class Reader:
    """A plain GGUF reader, so that the description does not rest on gguf-py."""

    def __init__(self, data):
        self.data, self.pos = data, 0

    def take(self, n):
        piece = self.data[self.pos:self.pos + n]
        if len(piece) != n:
            raise ValueError("truncated file")
        self.pos += n
        return piece

    def number(self, code):
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self):
        return self.take(self.number("<Q")).decode("utf-8")

    def scalar(self, typ):
        if typ == 8:
            return json.dumps(self.text(), ensure_ascii=True)
        if typ in BITS:
            return f"{self.number(BITS[typ]):0{struct.calcsize(CODES[typ]) * 2}x}"
        value = self.number(CODES[typ])
        return str(value).lower() if typ == 7 else str(value)

    def value(self):
        typ = self.number("<I")
        if typ != 9:
            return f"{SCALARS[typ]} {self.scalar(typ)}"
        elem, n = self.number("<I"), self.number("<Q")
        start = self.pos
        for _ in range(n):
            self.scalar(elem)
        return f"arr[{SCALARS[elem]}] {n} {hashlib.sha256(self.data[start:self.pos]).hexdigest()}"


def describe(path, type_of):
    """Returns the golden text of a GGUF file."""
    data = path.read_bytes()
    lines = [f"file {hashlib.sha256(data).hexdigest()} {len(data)}", f"name {path.name}"]
    r = Reader(data)
    if r.take(4) != b"GGUF" or r.number("<I") != 3:
        raise ValueError(f"{path}: not GGUF version 3")
    n_tensors, n_kv = r.number("<Q"), r.number("<Q")
    for _ in range(n_kv):
        key = r.text()
        lines.append(f"kv {key} {r.value()}")
    infos = []
    for _ in range(n_tensors):
        name = r.text()
        ne = [r.number("<Q") for _ in range(r.number("<I"))]
        infos.append((name, ne, r.number("<I"), r.number("<Q")))
    start = -(-r.pos // 32) * 32
    for name, ne, typ, offset in infos:
        label, block, size = type_of(typ)
        count = size
        for i, n in enumerate(ne):
            count *= n // block if i == 0 else n
        digest = hashlib.sha256(data[start + offset:start + offset + count]).hexdigest()
        lines.append(f"tensor {name} {label} {' '.join(map(str, ne))} {offset} {digest}")
    return "\n".join(lines) + "\n"


def reference(folder, pre, outtype, log):
    """The converter itself, in the forked child."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    from conversion import base

    if pre != "-":
        base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    script = str(LLAMA / "convert_hf_to_gguf.py")
    sys.argv = [script, str(folder), "--outtype", outtype]
    runpy.run_path(script, run_name="__main__")


def convert(folder, pre, outtype):
    """Runs the reference in a child process and returns the file it wrote."""
    log = folder.parent / "log"
    pid = os.fork()
    if pid == 0:
        try:
            reference(folder, pre, outtype, log)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError(f"{folder.name} {outtype}: the reference failed:\n{log.read_text()[-3000:]}")
    (out,) = folder.glob("*.gguf")
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="make only the goldens of this model, or of the kind model or vocabulary")
    args = parser.parse_args()

    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    sys.path[:0] = [str(LLAMA), str(LLAMA / "gguf-py")]
    import gguf
    import conversion  # noqa: F401  loaded once, for every child
    import transformers  # noqa: F401

    def type_of(typ):
        t = gguf.GGMLQuantizationType(typ)
        block, size = gguf.GGML_QUANT_SIZES[t]
        return t.name.lower(), block, size

    with tempfile.TemporaryDirectory() as tmp:
        program = Path(tmp) / "write"
        subprocess.run(["go", "build", "-o", program, "./internal/testmodel/write"], cwd=ROOT, check=True)
        models = subprocess.run([program, "-list"], check=True, capture_output=True, text=True).stdout
        jobs = []
        for line in models.splitlines():
            kind, name, pre = line.split()
            if args.only in (None, kind, name):
                subprocess.run([program, "-spec", name, Path(tmp) / name], check=True)
                jobs.append((name, pre, TYPES, HERE) if kind == "model" else (name, pre, ["f16"], HERE / kind))
        if args.only in (None, "vocabulary", "qwen2-vocabulary"):
            subprocess.run([program, "-shape", "tiny", Path(tmp) / "qwen2-vocabulary"], cwd=ROOT, check=True)
            jobs.append(("qwen2-vocabulary", "-", ["f16"], HERE / "vocabulary"))
        failed = 0
        for name, pre, types, where in jobs:
            where.mkdir(exist_ok=True)
            for outtype in types:
                try:
                    out = convert(Path(tmp) / name, pre, outtype)
                except RuntimeError as err:
                    print(err, file=sys.stderr)
                    failed += 1
                    break  # the other types would fail alike
                (where / f"{name}.{outtype}.golden").write_text(describe(out, type_of), encoding="utf-8")
                out.unlink()
            print(name, flush=True)
        if failed:
            raise SystemExit(f"{failed} models failed")


if __name__ == "__main__":
    main()
