"""Images that live in device memory as uint8, and augmentation of whole batches there.

Legend: b images, S output side, K filter taps. Boxes and colour factors come from `augment.draw`, so an image is
cropped and coloured as on the per-image path; pixels agree within two levels, and exactly where nothing is resized.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness.data.augment import BRIGHTNESS, CONTRAST, LUMA, AugmentParams, Box
from harness.data.cache import PixelCache

logger = logging.getLogger(__name__)

_SHARE_OF_FREE_MEMORY = 0.4
_UPLOAD = (1 << 26) // 3  # pixels that are copied to the device at once
_CHUNK = 256  # images whose int64 addresses (0.4 MB each at S = 224) are in memory at once


@dataclass(frozen=True)
class ResidentPixels:
    """Images of a PixelCache on a device."""

    pixels: torch.Tensor  # uint8 (total pixels, 3)
    starts: torch.Tensor  # int64 (N,): each image's first row in `pixels`
    widths: torch.Tensor  # int64 (N,)


def fits(cache_bytes: int, device: torch.device) -> bool:
    """Whether images of so many bytes may stay on the device: a GPU, and two fifths of its free memory at most.

    Of a GPU that several processes share, two fifths of this one's part of that.
    """
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return cache_bytes < _SHARE_OF_FREE_MEMORY * free * torch.cuda.get_per_process_memory_fraction(device)


class ImagesOnDevice:
    """The images of a cache in device memory, for training, scoring and explaining, until memory runs out there."""

    def __init__(self, cache: PixelCache, device: torch.device) -> None:
        self._cache, self._device = cache, device
        self._all: ResidentPixels | None = upload(cache, np.arange(len(cache.heights)), device)

    @property
    def resident(self) -> bool:
        return self._all is not None

    def of(self, images: np.ndarray) -> tuple[ResidentPixels, np.ndarray]:
        """Pixels on the device, and the places of `images` (b,) among them; after `drop`, they are copied there."""
        if self._all:
            return self._all, images
        return upload(self._cache, images, self._device), np.arange(len(images))

    def drop(self) -> bool:
        """Free the memory; False if it is free already. Batches stay the same to the last bit."""
        if self._all is None:
            return False
        self._all = None
        logger.info("Out of memory: images no longer stay on the device; each batch copies its images there.")
        return True


def upload(cache: PixelCache, images: np.ndarray, device: torch.device) -> ResidentPixels:
    """Copy the images at `images` (n,) in the cache to the device, one after another."""
    ends = np.cumsum(cache.heights[images].astype(np.int64) * cache.widths[images])
    starts = np.append(0, ends)
    pixels = torch.empty((int(starts[-1]), 3), dtype=torch.uint8, device=device)
    # About 64 MB at a time: torch takes no read-only memory map, and a copy of all images would double the need.
    for places in np.split(np.arange(len(ends)), np.flatnonzero(np.diff(ends // _UPLOAD)) + 1):
        if len(places):
            part = np.concatenate([cache.image(index).reshape(-1, 3) for index in images[places]])
            pixels[starts[places[0]] : ends[places[-1]]] = torch.from_numpy(part)
    widths = torch.from_numpy(cache.widths[images].astype(np.int64)).to(device)
    return ResidentPixels(pixels, torch.from_numpy(starts[:-1]).to(device), widths)


def batch(on_device: ImagesOnDevice, images: np.ndarray, drawn: Sequence[AugmentParams], size: int) -> torch.Tensor:
    """Levels (b, 3, S, S) of the images at `images` (b,) in the cache, as of `crop_and_resize`; all but the erasing."""
    parts = []
    for start in range(0, len(images), _CHUNK):
        chunk = drawn[start : start + _CHUNK]
        boxes, flips = [params.box for params in chunk], [params.flip for params in chunk]
        part = crop_and_resize(*on_device.of(images[start : start + _CHUNK]), boxes, flips, size)
        parts.append(jitter(part, chunk) if chunk[0].jitter else part)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def crop_and_resize(
    resident: ResidentPixels, images: np.ndarray, boxes: Sequence[Box], flips: Sequence[bool], size: int
) -> torch.Tensor:
    """Antialiased bilinear resize of each image's box, mirrored where asked: float32 (b, 3, S, S) of whole levels.

    If every box has S x S pixels, they are read as they are: uint8.
    """
    device = resident.pixels.device
    as_they_are = all(box.height == box.width == size for box in boxes)
    geometry = torch.tensor(np.array(boxes, dtype=np.int64)).to(device, non_blocking=True)
    top, left, height, width = geometry.unbind(1)
    if as_they_are:
        row = column = torch.arange(size, device=device)[None, :, None]
    else:
        row, row_weight = _taps(height, size, max(box.height for box in boxes))  # (b, S, K)
        column, column_weight = _taps(width, size, max(box.width for box in boxes))
    flip = torch.tensor(flips).to(device, non_blocking=True)[:, None, None]
    column = torch.where(flip, column.flip(1), column) + left[:, None, None]

    index = torch.from_numpy(images).to(device, non_blocking=True)
    row = resident.starts[index, None, None] + (row + top[:, None, None]) * resident.widths[index, None, None]
    if as_they_are:
        return resident.pixels[row + column.transpose(1, 2)].permute(0, 3, 1, 2)
    column_weight = torch.where(flip, column_weight.flip(1), column_weight)
    levels = torch.zeros(len(boxes), size, size, 3, device=device)
    for i in range(row.shape[2]):
        for j in range(column.shape[2]):
            address = row[:, :, None, i] + column[:, None, :, j]  # (b, S, S)
            weight = row_weight[:, :, None, i] * column_weight[:, None, :, j]
            levels += resident.pixels[address] * weight[..., None]
    return levels.permute(0, 3, 1, 2).round().contiguous()


def _taps(length: torch.Tensor, size: int, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Source pixels of every output pixel along one axis and their weights: int64 and float32 (b, S, K).

    A triangle around the output pixel's centre, one source pixel wide to each side, or one output pixel where the
    image shrinks, cut off at the box: PIL's and torchvision's bilinear filter.
    """
    scale = length.double()[:, None, None] / size
    reach = scale.clamp(min=1)
    output = torch.arange(size, device=length.device, dtype=torch.float64)[:, None]
    centre = (output + 0.5) * scale - 0.5  # in source pixels
    # An open interval of 2 * reach holds at most ceil(2 * reach) whole numbers, from this one on.
    first = torch.floor(centre - reach + 1)
    taps = first + torch.arange(math.ceil(2 * max(longest / size, 1)), device=length.device)
    last = length[:, None, None] - 1
    inside = (taps >= 0) & (taps <= last)
    weight = (1 - (taps - centre).abs() / reach).clamp(min=0) * inside
    weight /= weight.sum(2, keepdim=True)
    return taps.long().clamp(min=0).minimum(last), weight.float()


def jitter(images: torch.Tensor, drawn: Sequence[AugmentParams]) -> torch.Tensor:
    """Brightness, contrast and saturation of float32 (b, 3, S, S) whole levels, each image in its own order.

    As torchvision blends uint8 tensors: x * f + (1 - f) * d, clamped, fraction dropped; d is 0 for brightness, the
    mean grey for contrast, the pixel's grey for saturation.
    """
    steps = torch.tensor([params.jitter for params in drawn]).to(images.device, non_blocking=True)  # (b, 3, 2)
    luma = torch.tensor(LUMA).to(images.device, non_blocking=True)[:, None, None]
    for step in steps.unbind(1):
        operation, factor = step[:, :, None, None, None].unbind(1)  # (b, 1, 1, 1)
        grey = (images * luma).sum(1, keepdim=True).floor()
        degenerate = torch.where(operation == CONTRAST, grey.mean((2, 3), keepdim=True), grey)
        degenerate = torch.where(operation == BRIGHTNESS, 0.0, degenerate)
        images = (images * factor + degenerate * (1 - factor)).clamp(0, 255).floor()
    return images
