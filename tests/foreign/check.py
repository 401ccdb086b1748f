"""Compares the logits of exported models in their own libraries with those of `lift-trainer eval --logits`.

Reads one JSON object a line: the format, the paths of the model and of the logits, the folder of the images, and for PEFT the
base. Prints one JSON object a line: the format with the largest difference of a logit and the number of images, or with the
library that is missing.
"""

import json
import re
import sys
from pathlib import Path

try:
    import numpy as np
    import torch
    from PIL import Image
    from safetensors import safe_open
except ImportError as error:
    for line in sys.stdin:
        print(json.dumps({"missing": error.name}))
    sys.exit()

# Images that are compared, at most.
IMAGES = 100
PAGE = Path(__file__).parents[2] / "docs/export.md"


def documented():
    """The Python of the documentation, as a module."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S))
    module = {}
    exec(compile(code, str(PAGE), "exec"), module)
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


def logits_of(case, images, pixels, ours):
    path, folder, head = case["model"], Path(case["model"]), ours["head"]
    if case["format"] == "safetensors":
        return ours["LiftModel"](path)(pixels)
    if case["format"] == "onnx":
        import onnx
        import onnxruntime

        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(["logits"], {"images": images})[0])
    if case["format"] == "timm":
        import timm

        model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
        features = model(pixels)
        return features if model.num_classes else head(features, folder / "head.safetensors")
    if case["format"] == "open-clip":
        import open_clip

        model = open_clip.create_model(f"local-dir:{path}").eval()
        model.visual.proj = None
        return head(model.visual(pixels), folder / "head.safetensors")
    from transformers import CLIPVisionModelWithProjection

    if case["format"] == "peft":
        from peft import PeftModel

        model = CLIPVisionModelWithProjection.from_pretrained(case["base"])
        model = PeftModel.from_pretrained(model, path).eval().base_model.model
    else:
        model = CLIPVisionModelWithProjection.from_pretrained(path).eval()
    return head(model.vision_model(pixel_values=pixels).pooler_output, folder / "head.safetensors")


def compared(case, ours):
    with safe_open(case["logits"], "np") as file:
        names = json.loads(file.metadata()["names"])[:IMAGES]
        expected = file.get_tensor("logits")[:IMAGES]
    # The safetensors export of the same run says how pixels are made.
    with safe_open(case["view"], "pt") as file:
        view = json.loads(file.metadata()["config"])
    images = np.stack([crop(Path(case["root"]) / name, view) for name in names])
    mean, std = (torch.tensor(view[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = (torch.from_numpy(images).float() / 255 - mean) / std
    try:
        with torch.inference_mode():
            found = logits_of(case, images, pixels, ours)
    except ImportError as error:
        return {"missing": error.name}
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return {"difference": float(np.abs(found.numpy() - expected).max()), "images": len(names)}


for line in sys.stdin:
    case = json.loads(line)
    print(json.dumps({"format": case["format"], **compared(case, documented())}))
