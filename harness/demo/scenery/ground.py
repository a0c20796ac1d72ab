"""The place of a built-in scene: its colours, its perspective, and the ground with the markings of a sport."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from PIL import ImageDraw

from harness.demo.scenery.palette import PALETTES, tinted
from harness.demo.scenery.shapes import Colour, shade


@dataclasses.dataclass(frozen=True)
class Place:
    """A palette, and the horizon and vanishing point on a canvas of `side` pixels."""

    side: int
    horizon: float
    vanish: float
    sky: Colour
    haze: Colour
    far: Colour
    ground: Colour
    marks: Colour

    def on_ground(self, across: float, depth: float) -> tuple[float, float]:
        """Pixel of a point of the ground: across -1..1 at the front edge, depth 0 (front) to 1 (horizon)."""
        nearness = 1 - depth
        x = self.vanish + (across * self.side * 0.75 + self.side / 2 - self.vanish) * (0.3 + 0.7 * nearness)
        return x, self.horizon + nearness**1.4 * (self.side - self.horizon)


def choose_place(side: int, base: float, rng: np.random.Generator) -> Place:
    """A palette with a random rotation of hue. The horizon is above the row `base` on which the athlete stands."""
    hue = float(rng.choice([0.0, rng.uniform(0, 1)]))
    sky, haze, far, ground, marks = (tinted(code, rng, hue) for code in PALETTES[rng.integers(len(PALETTES))])
    horizon = base - side * rng.uniform(0.14, 0.36)
    return Place(side, horizon, side * rng.uniform(0.25, 0.75), sky, haze, far, ground, marks)


# Lines on the ground: points (across, depth) as Place.on_ground takes them.
_LINES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "court": (
        ((-0.8, 0.1), (-0.8, 0.85), (0.8, 0.85), (0.8, 0.1), (-0.8, 0.1)),
        ((-0.8, 0.5), (0.8, 0.5)),
        ((0, 0.1), (0, 0.85)),
    ),
    "pitch": (((-2, 0.72), (2, 0.72)), ((0.2, 0.72), (0.1, 0.3), (2, 0.3))),
    "lanes": tuple(((across / 5, -0.2), (across / 5, 1)) for across in range(-15, 16, 2)),
    "diamond": (((0, -0.1), (0.9, 0.45), (0, 0.9), (-0.9, 0.45), (0, -0.1)),),
}
_DIAMOND = _LINES["diamond"][0]
_MAT = ((-0.8, 0.1), (0.8, 0.1), (0.8, 0.75), (-0.8, 0.75))
_MAT_INSIDE = ((-0.68, 0.18), (0.68, 0.18), (0.68, 0.66), (-0.68, 0.66))


def paint_ground(draw: ImageDraw.ImageDraw, place: Place, kind: str, rng: np.random.Generator) -> None:
    """The ground with its markings: court, pitch, lanes, diamond, water, snow, mat or boards."""
    side = place.side
    draw.rectangle((0, place.horizon, side, side), fill=place.ground)
    width, shift = round(side * rng.uniform(0.010, 0.018)), rng.uniform(-0.15, 0.15)
    dark, light = shade(place.ground, 0.88), shade(place.ground, 1.1)

    def on_ground(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [place.on_ground(across + shift, depth) for across, depth in points]

    if kind == "pitch":
        for near in (0, 0.25, 0.5, 0.75):
            draw.polygon(on_ground(((-3, near), (3, near), (3, near + 0.125), (-3, near + 0.125))), fill=dark)
    elif kind == "boards":
        for left in np.arange(-4, 4, 0.5):
            draw.polygon(on_ground(((left, -0.2), (left + 0.25, -0.2), (left + 0.25, 1), (left, 1))), fill=dark)
    elif kind == "diamond":
        draw.polygon(on_ground(_DIAMOND), fill=shade(place.ground, 1.25))
    elif kind == "mat":
        draw.polygon(on_ground(_MAT), fill=shade(place.marks, 0.9))
        draw.polygon(on_ground(_MAT_INSIDE), fill=light)
    elif kind == "water":
        _paint_ripples(draw, place, (light, dark), rng)
    elif kind == "snow":
        _paint_slope(draw, place, dark, rng)
    for line in _LINES.get(kind, ()):
        draw.line(on_ground(line), fill=place.marks, width=width, joint="curve")
    for _ in range(40):
        x, y = rng.uniform(0, side), rng.uniform(max(place.horizon, 0), side)
        draw.ellipse((x, y, x + 3, y + 2), fill=(light, dark)[rng.integers(2)])


def _paint_ripples(
    draw: ImageDraw.ImageDraw, place: Place, tones: tuple[Colour, Colour], rng: np.random.Generator
) -> None:
    depth = place.side - place.horizon
    for _ in range(34):
        x, down = rng.uniform(0, place.side), rng.random() ** 1.3 * depth
        y, half = place.horizon + down, 2 + 0.045 * down
        crests = [(x - 2 * half, y), (x - half, y - 2), (x, y), (x + half, y - 2), (x + 2 * half, y)]
        draw.line(crests, fill=tones[rng.integers(2)], width=3)


def _paint_slope(draw: ImageDraw.ImageDraw, place: Place, tone: Colour, rng: np.random.Generator) -> None:
    side = place.side
    tilt = side * rng.uniform(0.10, 0.20) * rng.choice([-1, 1])
    left, right = place.horizon - tilt, place.horizon + tilt
    draw.polygon([(0, left), (side, right), (side, side), (0, side)], fill=place.ground)
    for offset in rng.uniform(0.1, 0.9, size=5) * (side - place.horizon):
        draw.line([(0, left + offset), (side, right + offset)], fill=tone, width=3)
