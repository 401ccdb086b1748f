"""Images and lists of images for the trainer: single colours without loss, and textures as JPEG like photographs."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from .context import Context

if TYPE_CHECKING:
    import torch

CLASSES = 100


def data_set(context: Context, name: str, images: list[bytes], kind: str, rows: int) -> Path:
    """A preset for `-d`: `rows` training images with a long tail of classes, of which each file is used many times."""
    folder = context.path(name, "images", "x").parent
    preset = context.path(f"{name}.toml")
    if preset.exists():
        return preset
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        (folder / f"{number}.{kind}").write_bytes(image)
    lines = []
    for row in range(rows):
        # One file under many names: a list with repeated lines would be reported.
        os.link(folder / f"{row % len(images)}.{kind}", folder / f"row{row}.{kind}")
        lines.append(f"row{row}.{kind} {label(row, rows)}\n")
    root = folder.parent
    (root / "train.txt").write_text("".join(lines))
    (root / "test.txt").write_text("".join(f"{number}.{kind} {number % CLASSES}\n" for number in range(len(images))))
    (root / "names.txt").write_text("".join(f"class {number}\n" for number in range(CLASSES)))
    lists = 'train_list = "train.txt"\ntest_list = "test.txt"\nclass_names = "names.txt"\nimages = "images"'
    preset.write_text(f'[data]\nlayout = "lists"\nroot = "{root}"\n{lists}\n')
    return preset


def label(row: int, rows: int) -> int:
    """The first half of the rows covers all classes evenly, the second half favours the first classes."""
    return row % CLASSES if row < rows // 2 else (row * row) % CLASSES // 4


def colours(count: int, side: int) -> list[bytes]:
    """Images of one colour each, as PPM. Any crop, resize or flip of one leaves its pixels as they are."""
    header = f"P6 {side} {side} 255\n".encode()
    return [header + bytes([n * 53 % 256, n * 97 % 256, n * 193 % 256]) * (side * side) for n in range(count)]


def photographs(count: int, width: int = 500, height: int = 375) -> list[bytes]:
    """Textures of the usual size of an image of ImageNet, in pixels and in bytes (about 100 kB)."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    return [jpeg(texture(height, width, numbers)) for _ in range(count)]


def texture(height: int, width: int, numbers: torch.Generator) -> torch.Tensor:
    """Noise whose strength falls with its frequency, as in photographs: `[3, height, width]`, from 0 to 255."""
    import torch
    from torch.nn.functional import interpolate

    image = torch.zeros(1, 3, height, width)
    for cells in (2, 4, 8, 16, 32, 64, 128, 256, 512):
        noise = torch.randn(1, 3, cells, cells, generator=numbers)
        image += interpolate(noise, (height, width), mode="bilinear") * 40 / cells**0.25
    return (image[0] + 128).clamp(0, 255)


# Position in a block of 8 x 8 coefficients, by position in the file.
ZIGZAG = sorted(range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8))
DC_SYMBOLS = list(range(12))
AC_SYMBOLS = [0x00, 0xF0] + [run << 4 | size for run in range(16) for size in range(1, 11)]
DC_BITS, AC_BITS = 4, 8
QUANTUM = 12


def jpeg(image: torch.Tensor) -> bytes:
    """Baseline JPEG with colours at half the resolution. All codes of a Huffman table have the same length."""
    height, width = image.shape[1:]
    coefficients = quantised(image)
    bits = entropy_coded(coefficients)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    components = bytes([1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0])
    return b"".join([
        b"\xff\xd8",
        segment(0xDB, bytes([0]) + bytes([QUANTUM]) * 64),
        segment(0xC0, struct.pack(">BHHB", 8, height, width, 3) + components),
        segment(0xC4, huffman_table(0x00, DC_BITS, DC_SYMBOLS)),
        segment(0xC4, huffman_table(0x10, AC_BITS, AC_SYMBOLS)),
        segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
        scan,
        b"\xff\xd9",
    ])


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def huffman_table(target: int, bits: int, symbols: list[int]) -> bytes:
    counts = [len(symbols) if length == bits else 0 for length in range(1, 17)]
    return bytes([target, *counts, *symbols])


def quantised(image: torch.Tensor) -> list[list[list[int]]]:
    """Blocks of coefficients in the order of the file, by luminance and the two colours: `[units, 6, 64]`."""
    import torch
    from torch.nn.functional import avg_pool2d, pad

    height, width = image.shape[1:]
    image = pad(image[None], (0, -width % 16, 0, -height % 16), mode="replicate")[0]
    to_ycc = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    luminance, *colour = torch.einsum("ij,jhw->ihw", to_ycc, image).unbind()
    luminance = blocks(luminance - 128)
    rows, columns = luminance.shape[0] // 2, luminance.shape[1] // 2
    # Four blocks of luminance to one of each colour.
    luminance = luminance.reshape(rows, 2, columns, 2, 8, 8).transpose(1, 2).reshape(rows * columns, 4, 8, 8)
    colour = [blocks(avg_pool2d(plane[None], 2)[0]).reshape(rows * columns, 1, 8, 8) for plane in colour]
    units = torch.cat([luminance, *colour], 1)
    n = torch.arange(8.0)
    cosines = torch.cos((2 * n[None, :] + 1) * n[:, None] * torch.pi / 16) / 2
    cosines[0] /= 2**0.5
    units = torch.round(cosines @ units @ cosines.T / QUANTUM).int()
    return units.reshape(-1, 6, 64)[:, :, ZIGZAG].tolist()


def blocks(plane: torch.Tensor) -> torch.Tensor:
    """`[height, width] -> [rows, columns, 8, 8]`"""
    height, width = plane.shape
    return plane.reshape(height // 8, 8, width // 8, 8).transpose(1, 2)


def entropy_coded(units: list[list[list[int]]]) -> str:
    bits: list[str] = []
    before = [0, 0, 0]
    for unit in units:
        for number, block in enumerate(unit):
            component = max(0, number - 3)
            bits += difference(block[0] - before[component])
            before[component] = block[0]
            bits += remaining(block[1:])
    return "".join(bits)


def difference(value: int) -> list[str]:
    size = abs(value).bit_length()
    return [format(size, f"0{DC_BITS}b"), magnitude(value, size)]


AC_CODES = {symbol: format(code, f"0{AC_BITS}b") for code, symbol in enumerate(AC_SYMBOLS)}


def remaining(values: list[int]) -> list[str]:
    bits, zeros = [], 0
    for value in values:
        if value == 0:
            zeros += 1
            continue
        bits += [AC_CODES[0xF0]] * (zeros // 16)
        size = abs(value).bit_length()
        bits += [AC_CODES[zeros % 16 << 4 | size], magnitude(value, size)]
        zeros = 0
    return bits + [AC_CODES[0x00]] if zeros else bits


def magnitude(value: int, size: int) -> str:
    if size == 0:
        return ""
    return format(value if value > 0 else value + (1 << size) - 1, f"0{size}b")
