#!/usr/bin/env python3
"""Compares the loader of `lift-trainer` with loaders for PyTorch, on the same files in the same run.

    benches/peers/data.py --images DIR [--trainer target/release/lift-trainer] [--rounds 5] [--seconds 3]

The work is that of training: read, decode, random resized crop with the bicubic filter, random flip, bytes channel by
channel. Peers:

- torchvision: `DataLoader` over Pillow images with `RandomResizedCrop`, `RandomHorizontalFlip` and `PILToTensor`
- SPDL, if it is installed: crops of the mean area of random ones, resized and flipped by FFmpeg
- libjpeg-turbo, through Pillow: decodes whole JPEG files and does nothing else

Variants take turns; a figure is the median of the rounds, and a ratio is the median of the ratios within a round. So
other load on the machine affects them equally. The first round of each variant is not counted.
"""

import argparse
import importlib.util
import io
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}


def main():
    arguments = parse()
    # One thread for each worker, as in training.
    os.environ["OMP_NUM_THREADS"] = "1"
    files = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in ENDINGS)
    if not files:
        sys.exit(f"error: `{arguments.images}`: expected images, found no file")
    variants = choose(arguments, files)
    rounds = {name: [] for name in variants}
    for number in range(arguments.rounds + 1):
        for name, run in variants.items():
            speed = run(arguments.seconds if number else min(1.0, arguments.seconds))
            if number:
                rounds[name].append(speed)
    report(arguments, files, rounds)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder with image files, also below it")
    parser.add_argument("--trainer", type=Path, default=Path("target/release/lift-trainer"))
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="time of each measurement")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="threads, or workers of a DataLoader")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def choose(arguments, files):
    """The variants: a name, and a function from seconds to images per second."""
    variants = {}
    for threads in arguments.threads:
        for mode in ["exact", "fast"]:
            variants[f"lift {mode}, {threads} thread(s)"] = lift(arguments, mode, threads)
        variants[f"torchvision, {threads} worker(s)"] = torchvision(arguments, files, threads)
        if has_spdl(files[0]):
            variants[f"SPDL, {threads} thread(s)"] = spdl(arguments, files, threads)
    variants["libjpeg-turbo by Pillow, whole files"] = whole_files(files, pillow_decoder())
    return variants


def has_spdl(file):
    """Whether SPDL is installed, with the libraries of FFmpeg that it needs."""
    if not importlib.util.find_spec("spdl"):
        return False
    import spdl.io

    try:
        spdl.io.demux_image(str(file))
    except RuntimeError as error:
        print(f"note: SPDL is left out: {error}", file=sys.stderr)
        return False
    return True


def lift(arguments, mode, threads):
    def run(seconds):
        command = [arguments.trainer, "bench", "data", "--images", arguments.images, "--json"]
        command += ["--resolution", arguments.resolution, "--batch-size", arguments.batch_size]
        command += ["--decode", mode, "--threads", threads, "--seconds", seconds]
        done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)["images_per_second"]

    return run


def torchvision(arguments, files, workers):
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import Compose, InterpolationMode, PILToTensor, RandomHorizontalFlip, RandomResizedCrop

    torch.set_num_threads(1)
    view = Compose([
        RandomResizedCrop(arguments.resolution, interpolation=InterpolationMode.BICUBIC),
        RandomHorizontalFlip(),
        PILToTensor(),
    ])

    class Files(Dataset):
        """Yields images without an end, so that workers start once."""

        def __len__(self):
            return 1 << 30

        def __getitem__(self, index):
            with Image.open(files[index % len(files)]) as image:
                return view(image.convert("RGB"))

    def run(seconds):
        # One worker against one thread: a DataLoader without workers loads in the calling process.
        processes = 0 if workers == 1 else workers
        ahead = {} if processes == 0 else {"prefetch_factor": 4}
        loader = DataLoader(Files(), batch_size=arguments.batch_size, num_workers=processes, **ahead)
        batches = iter(loader)
        if processes:
            # The start of the workers is not counted.
            next(batches)
        return speed(seconds, (len(batch) for batch in batches))

    return run


def spdl(arguments, files, threads):
    import spdl.io
    from spdl.pipeline import PipelineBuilder

    size = arguments.resolution

    def decode(path):
        # A box of the mean area of random crops.
        crop = f"crop=iw*0.65:ih*0.65:(iw-ow)*{random.random():.4f}:(ih-oh)*{random.random():.4f}"
        flip = "hflip," if random.random() < 0.5 else ""
        chain = f"{crop},scale={size}:{size}:flags=bicubic,{flip}format=rgb24"
        packets = spdl.io.demux_image(str(path))
        return spdl.io.to_numpy(spdl.io.convert_frames(spdl.io.decode_packets(packets, filter_desc=chain)))

    def endless():
        while True:
            yield from files

    def run(seconds):
        builder = PipelineBuilder().add_source(endless()).pipe(decode, concurrency=threads)
        pipeline = builder.aggregate(arguments.batch_size).add_sink(4).build(num_threads=threads)
        with pipeline.auto_stop():
            return speed(seconds, (len(batch) for batch in pipeline))

    return run


def whole_files(files, decode):
    contents = [path.read_bytes() for path in files if path.suffix.lower() in {".jpg", ".jpeg"}]

    def one_by_one():
        while contents:
            for content in contents:
                decode(content)
                yield 1

    return lambda seconds: speed(seconds, one_by_one())


def pillow_decoder():
    from PIL import Image

    return lambda content: Image.open(io.BytesIO(content)).convert("RGB").load()


def speed(seconds, counts):
    start, images = time.perf_counter(), 0
    for count in counts:
        images += count
        if time.perf_counter() - start >= seconds:
            break
    return images / (time.perf_counter() - start)


def report(arguments, files, rounds):
    medians = {name: statistics.median(speeds) for name, speeds in rounds.items() if speeds}
    ratios = {}
    for threads in arguments.threads:
        peer = f"torchvision, {threads} worker(s)"
        for mode in ["exact", "fast"]:
            name = f"lift {mode}, {threads} thread(s)"
            pairs = zip(rounds[name], rounds[peer])
            ratios[f"{name} / {peer}"] = statistics.median(ours / theirs for ours, theirs in pairs)
    if arguments.json:
        print(json.dumps({"images_per_second": medians, "ratios": ratios, "rounds": rounds}))
        return
    print(f"{len(files)} images of {arguments.images}, crop {arguments.resolution}, medians of {arguments.rounds} rounds")
    for title, figures, form in [("images per second", medians, "{:9.0f}"), ("ratio", ratios, "{:9.2f}")]:
        print(f"\n{title}")
        for name, figure in figures.items():
            print(f"  {name:<60}" + form.format(figure))


if __name__ == "__main__":
    main()
