"""A page that classifies an image and shows where the model looks: pip install timm gradio && python demo.py"""

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model(f"local-dir:{Path(__file__).resolve().parent}", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)
mean, std, red = (torch.tensor(values).view(3, 1, 1) for values in (config["mean"], config["std"], (1.0, 0.1, 0.1)))


@torch.no_grad()
def explain(image: Image.Image) -> tuple[dict[str, float], np.ndarray]:
    """Probabilities by class, and what the class token attends to in the last layer (mean of the heads), in red."""
    pixels, attention, seen = transform(ImageOps.exif_transpose(image).convert("RGB")), model.blocks[-1].attn, []
    hook = attention.qkv.register_forward_hook(lambda _, __, output: seen.append(output))
    probabilities = model(pixels[None]).softmax(-1)[0]
    hook.remove()
    query, key, _ = seen[0][0].unflatten(-1, (3, attention.num_heads, -1)).permute(1, 2, 0, 3)  # (heads, tokens, d)
    row = (query[:, :1] @ key.mT * attention.scale).softmax(-1)[:, 0, 1:].mean(0)  # one share for each patch
    cells = 0.6 * (row / row.max()).view(1, 1, *model.patch_embed.grid_size)
    map_ = torch.nn.functional.interpolate(cells, pixels.shape[1:], mode="nearest")[0]
    shown = 255 * ((pixels * std + mean).clamp(0, 1) * (1 - map_) + red * map_)
    names = zip(model.pretrained_cfg["label_names"], probabilities.tolist(), strict=True)
    return dict(names), shown.byte().permute(1, 2, 0).numpy()


def page() -> Any:
    import gradio

    return gradio.Interface(explain, gradio.Image(type="pil"), [gradio.Label(num_top_classes=5), gradio.Image()])


if __name__ == "__main__":
    page().launch()
