"""Flat shapes for the built-in scenes: strokes, fills, the athlete's body, and painting them with a mask.

Coordinates are in body heights, x to the right, y up, with the ground under the athlete at y = 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Points = np.ndarray  # float64 (n, 2)

JOINTS = (
    "head",
    "neck",
    "hip",
    "front_elbow",
    "front_hand",
    "back_elbow",
    "back_hand",
    "front_knee",
    "front_foot",
    "back_knee",
    "back_foot",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """A filled polygon (width 0) or a stroke with round ends (width in body heights)."""

    points: Points
    width: float
    colour: Colour


@dataclasses.dataclass(frozen=True)
class Ink:
    """The colours one scene is drawn with."""

    skin: Colour
    hair: Colour
    shirt: Colour
    shorts: Colour
    shoes: Colour
    gear: Colour
    trim: Colour
    ball: Colour
    rival: Colour


def line(points: Iterable[tuple[float, float]], width: float, colour: Colour) -> Shape:
    """A stroke through `points`."""
    return Shape(np.array(list(points), dtype=np.float64), width, colour)


def fill(points: Iterable[tuple[float, float]], colour: Colour) -> Shape:
    """A filled polygon."""
    return Shape(np.array(list(points), dtype=np.float64), 0.0, colour)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Points:
    angle = np.linspace(0, 2 * math.pi, 25)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def blob(x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> Shape:
    """A filled ellipse."""
    return Shape(_ellipse(x, y, radius_x, radius_y), 0.0, colour)


def ring(x: float, y: float, radius_x: float, radius_y: float, width: float, colour: Colour) -> Shape:
    """The outline of an ellipse."""
    return Shape(_ellipse(x, y, radius_x, radius_y), width, colour)


def mesh(
    corners: tuple[tuple[float, float], ...], across: int, along: int, width: float, colour: Colour
) -> list[Shape]:
    """Strings of a net inside the quadrilateral `corners` (lower left, lower right, upper right, upper left)."""
    low_left, low_right, high_right, high_left = (np.array(corner) for corner in corners)
    strings = []
    for share in np.linspace(0, 1, across + 1):
        ends = [low_left + share * (low_right - low_left), high_left + share * (high_right - high_left)]
        strings.append(Shape(np.stack(ends), width, colour))
    for share in np.linspace(0, 1, along + 1):
        ends = [low_left + share * (high_left - low_left), low_right + share * (high_right - low_right)]
        strings.append(Shape(np.stack(ends), width, colour))
    return strings


def moved(shapes: list[Shape], at: tuple[float, float], turn: float = 0.0, size: float = 1.0) -> list[Shape]:
    """The shapes scaled by `size`, turned counter-clockwise by `turn` degrees and put with their origin at `at`."""
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    rotation = size * np.array([[cosine, sine], [-sine, cosine]])
    return [Shape(shape.points @ rotation + np.array(at), shape.width * size, shape.colour) for shape in shapes]


def body(joints: dict[str, tuple[float, float]], ink: Ink) -> list[Shape]:
    """An athlete whose `joints` (all of JOINTS) lie where given; the front limbs are drawn last."""
    head, neck, hip = (np.array(joints[name]) for name in ("head", "neck", "hip"))
    spine = neck - hip
    side = np.array([spine[1], -spine[0]]) / max(float(np.hypot(*spine)), 1e-6)
    far_skin = shade(ink.skin, 0.82)
    torso = [neck + 0.085 * side, hip + 0.065 * side, hip - 0.065 * side, neck - 0.085 * side]
    upward = head - neck
    crown = head + 0.030 * upward / max(float(np.hypot(*upward)), 1e-6)
    return [
        *_limb(joints, "neck", "back_elbow", "back_hand", 0.055, shade(ink.shirt, 0.8), far_skin),
        *_limb(joints, "hip", "back_knee", "back_foot", 0.075, shade(ink.shorts, 0.8), far_skin),
        line([joints["back_foot"], _toe(joints["back_foot"])], 0.055, shade(ink.shoes, 0.8)),
        line([joints["neck"], joints["head"]], 0.06, ink.skin),
        *_limb(joints, "hip", "front_knee", "front_foot", 0.075, ink.shorts, ink.skin),
        line([joints["front_foot"], _toe(joints["front_foot"])], 0.055, ink.shoes),
        fill([tuple(point) for point in torso], ink.shirt),
        line([tuple(point) for point in (*torso, torso[0])], 0.05, ink.shirt),
        blob(crown[0], crown[1], 0.088, 0.088, ink.hair),
        blob(head[0] + 0.012, head[1] - 0.012, 0.074, 0.074, ink.skin),
        *_limb(joints, "neck", "front_elbow", "front_hand", 0.055, ink.shirt, ink.skin),
    ]


def _limb(
    joints: dict[str, tuple[float, float]], root: str, bend: str, end: str, width: float, upper: Colour, lower: Colour
) -> list[Shape]:
    return [line([joints[bend], joints[end]], 0.85 * width, lower), line([joints[root], joints[bend]], width, upper)]


def _toe(foot: tuple[float, float]) -> tuple[float, float]:
    return foot[0] + 0.06, foot[1]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor below 1) or lighter (above 1)."""
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return red, green, blue


def bounds(shapes: list[Shape]) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of everything drawn."""
    lows = np.min([shape.points.min(axis=0) - shape.width / 2 for shape in shapes], axis=0)
    highs = np.max([shape.points.max(axis=0) + shape.width / 2 for shape in shapes], axis=0)
    return float(lows[0]), float(lows[1]), float(highs[0]), float(highs[1])


def paint(shapes: list[Shape], canvas: Image.Image, mask: Image.Image, origin: Points, axes: Points) -> None:
    """Draw on an RGB image and, in white, on an L mask. Pixel = origin (2,) + point @ axes (2, 2)."""
    on_canvas, on_mask = ImageDraw.Draw(canvas), ImageDraw.Draw(mask)
    unit = math.sqrt(abs(float(np.linalg.det(axes))))
    for shape in shapes:
        points = [tuple(point) for point in (origin + shape.points @ axes).tolist()]
        width = max(1, round(shape.width * unit))
        for draw, colour in ((on_canvas, shape.colour), (on_mask, 255)):
            if shape.width == 0:
                draw.polygon(points, fill=colour)
                continue
            draw.line(points, fill=colour, width=width, joint="curve")
            if width > 3:
                for x, y in (points[0], points[-1]):
                    draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=colour)
