"""Trains the weights of `--weights demo`, `vit_demo.safetensors`, from scratch: python -m tests.demo.pretraining.train

A small ViT learns to classify the sports of PRETRAIN_SPORTS, which are not in the demo data, and to outline their
objects. With outlines it needs far fewer images: they give a target to every patch, the class only to one token.
The file holds the backbone in float16, without both heads. Training takes about 15 minutes on one core. The weights
are the same for the same libraries and processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.models import VisionTransformer
from tqdm import tqdm

from harness.demo import scenes
from harness.model.architectures import ARCHITECTURES
from harness.model.pretrained import DEMO_FILE
from tests.demo.pretraining.sports import PRETRAIN_SPORTS

PREPROCESSING = {
    "resize_size": scenes.SIZE,
    "crop_size": scenes.SIZE,
    "interpolation": "bilinear",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
_HELD_OUT = 20  # images per class
_LARGEST_SHIFT = 4  # pixels, in each direction
_PATCH = ARCHITECTURES["vit_demo"].patch_size


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that the weights depend on, except the versions of the libraries. Stored with the weights."""

    epochs: int = 6
    pictures: int = 800  # training images per class; named as in the metadata of the shipped weights
    batch_size: int = 16
    lr: float = 1e-3
    warmup: int = 300  # steps
    weight_decay: float = 0.05
    outline_weight: float = 3.0
    label_smoothing: float = 0.1
    seed: int = 0
    threads: int = 1


class Learner(nn.Module):
    """The ViT with its classification head, and a second head that predicts the object's mask in every patch."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        sizes = dataclasses.asdict(ARCHITECTURES["vit_demo"])
        self.vit = VisionTransformer(**sizes, num_classes=classes)
        grid = sizes["image_size"] // _PATCH
        with torch.no_grad():
            self.vit.encoder.pos_embedding[0, 1:] = 0.3 * grid_waves(grid, sizes["hidden_dim"])
        self.outline = nn.Linear(sizes["hidden_dim"], _PATCH**2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) in -1..1 -> class logits (B, classes), outline logits (B, patches, pixels of a patch)."""
        patches = self.vit.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.vit.class_token.expand(len(patches), -1, -1), patches], dim=1)
        tokens = self.vit.encoder(tokens)
        return self.vit.heads(tokens[:, 0]), self.outline(tokens[:, 1:])


def grid_waves(grid: int, width: int) -> Tensor:
    """Sines and cosines of row and column (grid * grid, width): the initial position embedding.

    After Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k" (arXiv 2205.01580), with a smaller base for
    this small grid.
    """
    frequencies = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, width)


def draw_all(split: str, per_class: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images uint8 (N, 3, S, S), masks uint8 (N, 1, S, S) and labels int64 (N,) of all pretraining classes."""
    names = list(PRETRAIN_SPORTS)
    count = len(names) * per_class
    images = np.empty((count, scenes.SIZE, scenes.SIZE, 3), dtype=np.uint8)
    masks = np.empty((count, 1, scenes.SIZE, scenes.SIZE), dtype=np.uint8)
    labels = np.arange(count) // per_class
    for i in tqdm(range(count), desc=f"Drawing {split} scenes", unit="image"):
        images[i], masks[i, 0] = scenes.draw(
            names[labels[i]], seed=seed, index=i % per_class + 1, split=split, sports=PRETRAIN_SPORTS
        )
    return (
        torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(masks),
        torch.from_numpy(labels),
    )


def shifted(images: Tensor, masks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images and their masks, shifted by a few pixels and half of them mirrored; edge pixels are repeated."""
    margin, side = _LARGEST_SHIFT, scenes.SIZE
    both = F.pad(torch.cat([images, masks], dim=1).float(), (margin,) * 4, mode="replicate")
    moved = []
    for padded in both:
        top, left = rng.integers(0, 2 * margin + 1, size=2)
        window = padded[:, top : top + side, left : left + side]
        moved.append(window.flip(-1) if rng.random() < 0.5 else window)
    stacked = torch.stack(moved)
    return stacked[:, :3] / 127.5 - 1, stacked[:, 3:]


def outlines(masks: Tensor) -> Tensor:
    """Masks (B, 1, S, S) cut into patches: (B, patches, pixels of a patch)."""
    return F.unfold(masks, _PATCH, stride=_PATCH).transpose(1, 2)


def pretrain(recipe: Recipe) -> tuple[VisionTransformer, float]:
    """Train; returns the ViT and its accuracy on held-out scenes of the same sports."""
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    train = draw_all("train", recipe.pictures, recipe.seed)
    images, _, labels = draw_all("valid", _HELD_OUT, recipe.seed)
    learner = Learner(len(PRETRAIN_SPORTS))
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * (len(train[0]) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / steps)),
    )
    accuracy = 0.0
    # On a CPU in bfloat16, the backward pass of the fused attention kernel is several times slower.
    with sdpa_kernel(SDPBackend.MATH):
        for epoch in range(recipe.epochs):
            train_epoch(learner, train, optimizer, schedule, recipe, epoch)
            accuracy = measure(learner, images, labels)
            print(f"Epoch {epoch + 1}: accuracy {accuracy:.4f} on held-out scenes", flush=True)
    return learner.vit, accuracy


def train_epoch(
    learner: Learner,
    train: tuple[Tensor, Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    epoch: int,
) -> None:
    """One pass over the images in full batches."""
    images, masks, labels = train
    rng = np.random.Generator(np.random.Philox(key=[recipe.seed, epoch]))
    steps = len(labels) // recipe.batch_size
    order = torch.from_numpy(rng.permutation(len(labels))[: steps * recipe.batch_size])
    for rows in tqdm(order.split(recipe.batch_size), desc=f"Epoch {epoch + 1}", unit="step"):
        inputs, targets = shifted(images[rows], masks[rows], rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits, drawn = learner(inputs)
        loss = F.cross_entropy(logits.float(), labels[rows], label_smoothing=recipe.label_smoothing)
        loss = loss + recipe.outline_weight * F.binary_cross_entropy_with_logits(drawn.float(), outlines(targets))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def measure(learner: Learner, images: Tensor, labels: Tensor) -> float:
    """Accuracy: the fraction of images with the right prediction."""
    learner.eval()
    predictions = [learner(batch.float() / 127.5 - 1)[0].argmax(dim=1) for batch in images.split(100)]
    learner.train()
    return (torch.cat(predictions) == labels).float().mean().item()


def save(vit: VisionTransformer, recipe: Recipe, accuracy: float, output: Path) -> None:
    """Save the backbone in float16 under torchvision's names, without the head, which is for other classes."""
    state = {name: tensor.half().contiguous() for name, tensor in vit.state_dict().items() if name[:6] != "heads."}
    source = {
        "script": "python -m tests.demo.pretraining.train",
        "objective": "class of the scene and outline of its object; both heads are left out",
        "classes": list(PRETRAIN_SPORTS),
        "held_out_accuracy": round(accuracy, 4),
        "held_out_pictures": _HELD_OUT * len(PRETRAIN_SPORTS),
        **dataclasses.asdict(recipe),
    }
    metadata = {"preprocessing": json.dumps(PREPROCESSING), "source": json.dumps(source)}
    output.write_bytes(safetensors.torch.save(state, metadata=metadata))


def main() -> None:
    argparse.ArgumentParser(description="Train the demo weights from scratch and replace them.").parse_args()
    recipe = Recipe()
    vit, accuracy = pretrain(recipe)
    save(vit, recipe, accuracy, DEMO_FILE)


if __name__ == "__main__":
    main()
