"""Colours of the built-in scenes. A scene of any class may have any of them."""

from __future__ import annotations

import colorsys

import numpy as np

from harness.demo.scenery.shapes import Colour, Ink

# Sky at the top, sky at the horizon, far things, ground, markings.
PALETTES: tuple[tuple[str, str, str, str, str], ...] = (
    ("#4a90d9", "#cfe8f7", "#6f9f7c", "#5aa55f", "#f4f6ee"),
    ("#f28f6b", "#fde0b8", "#9a6a7d", "#c98256", "#fff3dc"),
    ("#1d2a52", "#5b5f97", "#2f3564", "#2f6f73", "#d8f0e6"),
    ("#e8dccb", "#f7f1e6", "#b79d84", "#c99a63", "#6b3f2a"),
    ("#7fc4c9", "#e4f5ef", "#4f8a8b", "#e4cf9f", "#8a5a3b"),
    ("#8d7fc7", "#f3c6d8", "#6a5a94", "#7e6bb0", "#fbeef6"),
    ("#9fb4c7", "#eef3f8", "#8496a9", "#dfe8f0", "#4a6fa5"),
    ("#2b2b33", "#5a4a4f", "#3d3338", "#8c3f3f", "#f2d9b8"),
    ("#f5c84c", "#fdf0bf", "#c98f3a", "#3f8f86", "#fdf7e3"),
    ("#5fa8a0", "#c9ead9", "#3f6f5f", "#3f7fb8", "#eaf6ff"),
    ("#d9869b", "#fbe3df", "#a85f76", "#4f9a8f", "#fff7ef"),
    ("#6d8f4e", "#dfe8b9", "#4f6b3a", "#a9674a", "#f7e9d3"),
)
VIVID = (
    "#e63946",
    "#f77f00",
    "#fcbf49",
    "#2a9d8f",
    "#1d6fd1",
    "#6a4c93",
    "#ef476f",
    "#06a77d",
    "#f4f1de",
    "#22223b",
    "#8ac926",
    "#00b4d8",
)
SKIN = ("#f6d2b8", "#e8b48f", "#c98d63", "#a66a43", "#7a4a2c", "#55321f")
HAIR = ("#22181c", "#4a2c1d", "#8a5a2b", "#d9a94f", "#a33b20", "#7d7d85")


def tinted(code: str, rng: np.random.Generator, hue: float = 0.0) -> Colour:
    """A colour code with its hue rotated by `hue` and a small random change."""
    red, green, blue = (int(code[start : start + 2], 16) / 255 for start in (1, 3, 5))
    tint, light, strength = colorsys.rgb_to_hls(red, green, blue)
    light = min(0.97, max(0.04, light + rng.uniform(-0.06, 0.06)))
    strength = min(0.9, strength * rng.uniform(0.8, 1.15)) * (0.7 if hue else 1.0)  # a turned hue soon looks garish
    red, green, blue = colorsys.hls_to_rgb((tint + hue) % 1, light, strength)
    return round(255 * red), round(255 * green), round(255 * blue)


def choose_ink(surroundings: list[Colour], rng: np.random.Generator) -> Ink:
    """Colours of clothes and equipment that differ visibly from the `surroundings`."""
    avoid = np.array(surroundings, dtype=np.float64)

    def clear(codes: tuple[str, ...], tries: int) -> Colour:
        options = [tinted(codes[rng.integers(len(codes))], rng) for _ in range(tries)]
        return max(options, key=lambda option: float(np.abs(avoid - option).sum(axis=1).min()))

    return Ink(
        skin=clear(SKIN, 2),
        hair=clear(HAIR, 1),
        shirt=clear(VIVID, 4),
        shorts=clear(VIVID, 3),
        shoes=clear(VIVID, 2),
        gear=clear(VIVID, 4),
        trim=clear(VIVID, 4),
        ball=clear(VIVID, 5),
        rival=clear(VIVID, 3),
    )
