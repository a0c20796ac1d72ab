"""The sports of the built-in scenes: pose, ground, equipment and its places. One row per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from harness.demo.scenery import equipment as use
from harness.demo.scenery.poses import POSES, Pose
from harness.demo.scenery.shapes import Ink, Shape


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of equipment: at a joint of the athlete or at a point, rotated (degrees) and scaled."""

    shapes: Callable[[Ink], list[Shape]]
    at: str | tuple[float, float]
    turn: float = 0.0
    size: float = 1.0
    behind: bool = False
    drift: float = 0.02


@dataclasses.dataclass(frozen=True)
class Sport:
    """A class: the pose, the possible kinds of ground, and the equipment with its places."""

    pose: Pose
    grounds: tuple[str, ...]
    parts: tuple[Part, ...]


DEMO_SPORTS: dict[str, Sport] = {
    "arrow_target": Sport(
        POSES["aim"],
        ("pitch", "boards", "mat"),
        (Part(use.bow, "front_hand"), Part(use.target, (1.15, 0), drift=0.06)),
    ),
    "bat_diamond": Sport(
        POSES["wind_up"],
        ("diamond",),
        (Part(use.bat, "back_hand", 20), Part(use.small_ball, (0.75, 0.66), drift=0.1)),
    ),
    "goal_kick": Sport(
        POSES["kick"],
        ("pitch", "diamond"),
        (Part(use.goal, (1.1, 0), behind=True), Part(use.ball, (0.62, 0.16), drift=0.05)),
    ),
    "hoop_shot": Sport(
        POSES["reach"],
        ("court", "boards"),
        (Part(use.basket, (0.95, 0), behind=True, drift=0.06), Part(use.big_ball, (0.12, 1.24), drift=0.04)),
    ),
    "hurdle_dash": Sport(
        POSES["leap"],
        ("lanes",),
        (Part(use.hurdle, (0.1, 0), behind=True), Part(use.hurdle, (0.85, 0.02), size=0.85, behind=True)),
    ),
    "oar_race": Sport(
        POSES["sit"],
        ("water",),
        (Part(use.boat, (0, 0.04), size=0.9), Part(use.oar, "front_hand", -128, 1.2)),
    ),
    "pole_leap": Sport(
        POSES["vault"],
        ("lanes", "mat", "pitch"),
        (Part(use.cross_bar, (0.7, 0), behind=True), Part(use.long_pole, (-0.5, 0), -10)),
    ),
    "racket_rally": Sport(
        POSES["lunge"],
        ("court",),
        (
            Part(use.racket, "front_hand", -25),
            Part(use.small_ball, (0.85, 1.0), drift=0.1),
            Part(use.low_net, (1.0, 0), behind=True),
        ),
    ),
    "ring_hang": Sport(POSES["hang"], ("mat", "boards"), (Part(use.hanging_rings, (0, 1.4)),)),
    "wave_glide": Sport(
        POSES["balance"],
        ("water", "snow"),
        (Part(use.wave, (-0.05, 0), behind=True), Part(use.surf_board, (0, 0.0), 6)),
    ),
}
