"""The sports of the built-in scenes: pose, ground, equipment and its places. One row per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from harness.demo.scenery import equipment as use
from harness.demo.scenery.shapes import JOINTS, Ink, Shape

Pose = dict[str, tuple[float, float]]  # joints by name, of an athlete who faces right


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


def pose(hundredths: str) -> Pose:
    """x and y of every joint, in the order of JOINTS, in hundredths of a body height."""
    numbers = [int(word) / 100 for word in hundredths.split()]
    return dict(zip(JOINTS, zip(numbers[::2], numbers[1::2], strict=True), strict=True))


# head, neck, hip; front elbow and hand; back elbow and hand; front knee and foot; back knee and foot.
POSES: dict[str, Pose] = {
    "reach": pose("3 90  0 76  -2 46  15 90  16 110  -10 92  4 110  8 24  8 2  -10 24  -14 2"),
    "aim": pose("3 90  0 76  -2 46  20 76  38 77  -24 78  -2 80  12 24  18 2  -14 24  -20 2"),
    "wind_up": pose("4 86  0 72  -6 42  -4 58  -20 74  -22 60  -24 78  16 24  26 2  -18 22  -26 2"),
    "lunge": pose("16 84  10 71  0 42  28 68  44 78  -12 60  -28 66  28 30  34 2  -16 22  -36 3"),
    "leap": pose("24 102  16 90  0 66  34 82  50 92  -6 76  -22 70  32 72  58 70  -20 48  -48 60"),
    "kick": pose("-14 88  -10 75  0 46  10 68  26 78  -26 66  -42 60  22 38  44 24  -4 24  -12 2"),
    "sit": pose("-10 66  -8 53  -2 22  8 42  24 40  4 40  22 36  20 34  42 18  18 32  40 16"),
    "hang": pose("0 120  0 106  2 76  17 118  16 140  -17 118  -16 140  6 52  3 28  -2 52  -5 28"),
    "balance": pose("5 80  2 66  -2 38  22 64  40 74  -20 62  -38 56  20 26  22 3  -20 24  -26 3"),
    "vault": pose("-10 120  -2 112  22 138  -12 126  -34 132  -16 114  -38 112  44 152  62 166  42 142  64 152"),
}

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
