"""The surroundings of a built-in scene: sky, skyline, distractors and light.

They do not depend on the class. They are drawn on the large canvas, before it is reduced.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from harness.demo.scenery.ground import Place, paint_ground
from harness.demo.scenery.palette import SKIN, VIVID, tinted
from harness.demo.scenery.shapes import shade


def paint_backdrop(place: Place, ground: str, rng: np.random.Generator) -> Image.Image:
    """RGB canvas with sky, skyline, a ground of this kind, and distractors."""
    side = place.side
    height = np.clip(np.arange(side)[:, None] / max(place.horizon, 1), 0, 1)
    column = np.array(place.sky) * (1 - height) + np.array(place.haze) * height
    canvas = Image.fromarray(np.repeat(column[:, None, :], side, axis=1).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    _paint_far(draw, place, rng)
    paint_ground(draw, place, ground, rng)
    _paint_distractors(draw, place, rng)
    return canvas


def _paint_far(draw: ImageDraw.ImageDraw, place: Place, rng: np.random.Generator) -> None:
    """Sun, clouds, and either hills, houses, a stand full of people or none of these."""
    side, horizon = place.side, place.horizon
    if rng.random() < 0.4:
        x, y, radius = rng.uniform(0, side), rng.uniform(0, max(horizon, 1) * 0.7), side * rng.uniform(0.03, 0.09)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade(place.haze, 1.12))
    for _ in range(rng.integers(0, 3)):
        x, y, width = rng.uniform(0, side), rng.uniform(0, max(horizon, 1) * 0.6), side * rng.uniform(0.06, 0.14)
        for offset in (-0.5, 0.0, 0.55):
            middle, half = x + offset * width, width * (0.32 if offset else 0.45)
            draw.ellipse(
                (middle - width * 0.6, y - half * 0.6, middle + width * 0.6, y + half * 0.6),
                fill=shade(place.haze, 1.06),
            )
    kind = rng.integers(4)
    if kind == 0:
        for layer in (1.12, 0.95):
            phase, tall = rng.uniform(0, 6), side * rng.uniform(0.03, 0.12)
            ridge = [(x, horizon - tall * (1 + math.sin(phase + x * 0.03 * layer))) for x in range(0, side + 9, 8)]
            draw.polygon([(0, side), *ridge, (side, side)], fill=shade(place.far, layer))
    elif kind == 1:
        x = -10.0
        while x < side:
            width, tall = side * rng.uniform(0.04, 0.12), side * rng.uniform(0.04, 0.22)
            draw.rectangle((x, horizon - tall, x + width, horizon), fill=shade(place.far, rng.uniform(0.85, 1.2)))
            x += width + side * rng.uniform(0, 0.04)
    elif kind == 2:
        tall = side * rng.uniform(0.10, 0.24)
        draw.rectangle((0, horizon - tall, side, horizon), fill=place.far)
        for _ in range(60):
            x, y = rng.uniform(0, side), horizon - rng.uniform(0.08, 0.95) * tall
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=shade(place.far, rng.uniform(0.6, 1.6)))


def _paint_distractors(draw: ImageDraw.ImageDraw, place: Place, rng: np.random.Generator) -> None:
    """Small objects near the horizon, outside the mask: trees, cones, onlookers, boards, lamps, stray balls."""
    side = place.side
    for _ in range(rng.integers(1, 6)):
        x, foot = rng.uniform(0, side), place.horizon + side * rng.uniform(0, 0.06)
        tall, tone = side * rng.uniform(0.05, 0.13), tinted(VIVID[rng.integers(len(VIVID))], rng)
        kind = rng.integers(6)
        if kind == 0:
            draw.line([(x, foot), (x, foot - tall)], fill=shade(place.far, 0.6), width=5)
            draw.ellipse(
                (x - tall * 0.4, foot - tall * 1.4, x + tall * 0.4, foot - tall * 0.5), fill=shade(place.far, 0.8)
            )
        elif kind == 1:
            draw.polygon([(x - tall * 0.3, foot), (x + tall * 0.3, foot), (x, foot - tall * 0.7)], fill=tone)
        elif kind == 2:
            draw.rectangle((x - tall * 0.18, foot - tall * 0.75, x + tall * 0.18, foot), fill=tone)
            draw.ellipse(
                (x - tall * 0.15, foot - tall * 1.05, x + tall * 0.15, foot - tall * 0.75),
                fill=tinted(SKIN[rng.integers(len(SKIN))], rng),
            )
        elif kind == 3:
            draw.rectangle((x - tall * 0.8, foot - tall * 0.4, x + tall * 0.8, foot), fill=tone)
        elif kind == 4:
            draw.line([(x, foot), (x, foot - tall * 1.8)], fill=shade(place.far, 0.6), width=4)
            draw.ellipse((x - 7, foot - tall * 1.8 - 7, x + 7, foot - tall * 1.8 + 7), fill=shade(place.haze, 1.2))
        else:
            radius = tall * 0.22
            draw.ellipse((x - radius, foot, x + radius, foot + 2 * radius), fill=tone)


def light_up(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3) -> the same with random gain, contrast, tint, light gradient and noise."""
    height, width = pixels.shape[:2]
    slant = rng.uniform(-0.18, 0.18, size=2)
    across, down = np.linspace(-1, 1, width)[None, :, None], np.linspace(-1, 1, height)[:, None, None]
    gain = rng.uniform(0.75, 1.15) * rng.uniform(0.93, 1.07, size=3) * (1 + slant[0] * across + slant[1] * down)
    lit = 128 + rng.uniform(0.8, 1.1) * (pixels * gain - 128)
    lit += rng.normal(0, rng.uniform(1, 6), size=pixels.shape)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
