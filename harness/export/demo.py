"""A page that classifies an image and shows where the model looks: pip install timm gradio && python demo.py"""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model(f"local-dir:{Path(__file__).resolve().parent}", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)


@torch.no_grad()
def explain(image: Image.Image) -> tuple[dict[str, float], np.ndarray]:
    """Probabilities by class, and what the class token attends to in the last layer (mean of the heads), in red."""
    pixels = transform(ImageOps.exif_transpose(image).convert("RGB"))
    block, tokens = model.blocks[-1], []
    hook = block.norm1.register_forward_hook(lambda _, __, output: tokens.append(output))
    probabilities = model(pixels[None]).softmax(-1)[0]
    hook.remove()
    heads = block.attn.num_heads
    query, key, _ = block.attn.qkv(tokens[0])[0].unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)  # (heads, N, d)
    attention = (query[:, :1] @ key.mT * block.attn.scale).softmax(-1)[:, 0, 1:].mean(0)  # of each patch
    cells = (attention / attention.max()).view(1, 1, *model.patch_embed.grid_size)
    map_ = torch.nn.functional.interpolate(cells, pixels.shape[1:], mode="nearest")[0]
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    red = torch.tensor([1.0, 0.1, 0.1]).view(3, 1, 1)
    shown = (pixels * std + mean).clamp(0, 1) * (1 - 0.6 * map_) + red * 0.6 * map_
    names = model.pretrained_cfg["label_names"]
    return dict(zip(names, probabilities.tolist())), (shown * 255).byte().permute(1, 2, 0).numpy()


if __name__ == "__main__":
    import gradio

    outputs = [gradio.Label(num_top_classes=5), gradio.Image(label="Attention of the last layer")]
    gradio.Interface(explain, gradio.Image(type="pil"), outputs).launch()
