"""Compares the logits of an exported model in its own library with those of `lift-trainer eval --logits`.

Prints the largest difference over the first images. Ends with code 77 and the name of the library if it is missing.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np


def missing(error):
    print(error.name)
    sys.exit(77)


try:
    import torch
    from PIL import Image
    from safetensors import safe_open
except ImportError as error:
    missing(error)


def documented(page):
    """The Python of the documentation, as a module."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", Path(page).read_text(), re.S))
    module = {}
    exec(compile(code, page, "exec"), module)
    return module


def crop(path, view):
    """The view of LIFT's test, as torchvision's Resize and CenterCrop compute it on Pillow images."""
    image = Image.open(path).convert("RGB")
    (width, height), short, size = image.size, view["resize"], view["image_size"]
    if width <= height:
        width, height = short, int(short * height / width)
    else:
        width, height = int(short * width / height), short
    image = image.resize((width, height), {"bilinear": 2, "bicubic": 3}[view["filter"]])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def views(arguments, names, view):
    images = np.stack([crop(Path(arguments.root) / name, view) for name in names])
    mean, std = (torch.tensor(view[key]).view(3, 1, 1) for key in ("mean", "std"))
    return images, (torch.from_numpy(images).float() / 255 - mean) / std


def logits_of(arguments, images, pixels, head):
    path, folder = arguments.model, Path(arguments.model)
    if arguments.format == "safetensors":
        return documented(arguments.docs)["LiftModel"](path)(pixels)
    if arguments.format == "onnx":
        import onnx
        import onnxruntime

        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["logits"], {"images": images})[0])
    if arguments.format == "timm":
        import timm

        model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
        features = model(pixels)
        return features if model.num_classes else head(features, folder / "head.safetensors")
    if arguments.format == "open-clip":
        import open_clip

        model = open_clip.create_model(f"local-dir:{path}").eval()
        model.visual.proj = None
        return head(model.visual(pixels), folder / "head.safetensors")
    from transformers import CLIPVisionModelWithProjection

    if arguments.format == "peft":
        from peft import PeftModel

        model = CLIPVisionModelWithProjection.from_pretrained(arguments.base)
        model = PeftModel.from_pretrained(model, path).eval().base_model.model
    else:
        model = CLIPVisionModelWithProjection.from_pretrained(path).eval()
    return head(model.vision_model(pixel_values=pixels).pooler_output, folder / "head.safetensors")


def main():
    parser = argparse.ArgumentParser()
    for name in ("format", "model", "logits", "view", "root", "docs"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--base")
    parser.add_argument("--images", type=int, default=100)
    arguments = parser.parse_args()
    with safe_open(arguments.logits, "np") as file:
        names = json.loads(file.metadata()["names"])[: arguments.images]
        expected = file.get_tensor("logits")[: arguments.images]
    # The safetensors export of the same model says how its pixels are made.
    with safe_open(arguments.view, "pt") as file:
        view = json.loads(file.metadata()["config"])
    images, pixels = views(arguments, names, view)
    try:
        with torch.inference_mode():
            found = logits_of(arguments, images, pixels, documented(arguments.docs)["head"])
    except ImportError as error:
        missing(error)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    print(float(np.abs(found.numpy() - expected).max()), len(names))


main()
