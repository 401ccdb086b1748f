"""Reads and writes safetensors files: the length of a JSON header, the header, then the bytes of all tensors."""

from __future__ import annotations

import ctypes
import json
import struct
from pathlib import Path
from typing import Any

import torch

KINDS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8, "I64": torch.int64}
NAMES = {kind: name for name, kind in KINDS.items()}


def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Replaces the file only when it is complete."""
    header, end = {}, 0
    for name, tensor in sorted(tensors.items()):
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in sorted(tensors.items()):
            tensor = tensor.contiguous()
            file.write(ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size()))
    part.replace(path)


def read(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a file."""
    raw = bytearray(Path(path).read_bytes())
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    data = memoryview(raw)[8 + length :]
    return {name: tensor(data, entry) for name, entry in header.items()}


def tensor(data: memoryview, entry: dict[str, Any]) -> torch.Tensor:
    start, end = entry["data_offsets"]
    # A copy: tensors in the file need not be aligned.
    numbers = torch.frombuffer(bytearray(data[start:end]), dtype=KINDS[entry["dtype"]])
    return numbers.reshape(entry["shape"])
