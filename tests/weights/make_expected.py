"""Writes expected.tsv: what torch and safetensors read from tests/models. Needs torch, safetensors and numpy.

One line per tensor: file, name, dtype, shape, CRC-32 of the values as little-endian f32.
"""
import glob
import os
import zlib

import torch
from safetensors.torch import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "models")
DTYPES = {torch.bfloat16: "bf16", torch.float32: "f32", torch.float16: "f16"}

rows = []
for model in ("diffusers-t2v", "shapes-t2v"):
    for path in sorted(glob.glob(os.path.join(MODELS, model, "**", "*"), recursive=True)):
        if path.endswith(".safetensors"):
            tensors = load_file(path)
        elif path.endswith(".pth"):
            tensors = torch.load(path, weights_only=True)
        else:
            continue
        for name, value in sorted(tensors.items()):
            crc = zlib.crc32(value.float().contiguous().numpy().astype("<f4").tobytes())
            shape = ",".join(map(str, value.shape))
            rows.append(f"{os.path.relpath(path, MODELS)}\t{name}\t{DTYPES[value.dtype]}\t{shape}\t{crc:08x}\n")
with open(os.path.join(HERE, "expected.tsv"), "w") as out:
    out.writelines(rows)
