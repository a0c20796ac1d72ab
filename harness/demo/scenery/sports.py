"""The sports of the built-in scenes: pose, ground, equipment and its places. One row per class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from harness.demo.scenery import fixtures as there
from harness.demo.scenery import implements as use
from harness.demo.scenery.poses import POSES
from harness.demo.scenery.shapes import Ink, Shape, body, moved


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

    pose: str
    grounds: tuple[str, ...]
    parts: tuple[Part, ...]


def _rival(ink: Ink) -> list[Shape]:
    """A second athlete with a foil, facing the first."""
    pose = POSES["lunge"]
    other = dataclasses.replace(ink, shirt=ink.rival, shorts=ink.rival)
    facing = body(pose, other) + moved(use.foil(ink), pose["front_hand"], turn=-75)
    return [Shape(shape.points * np.array([-1.0, 1.0]), shape.width, shape.colour) for shape in facing]


DEMO_SPORTS: dict[str, Sport] = {
    "arrow_target": Sport(
        "aim", ("pitch", "boards", "mat"), (Part(use.bow, "front_hand"), Part(there.target, (1.15, 0), drift=0.06))
    ),
    "bat_diamond": Sport(
        "wind_up", ("diamond",), (Part(use.bat, "back_hand", 20), Part(use.small_ball, (0.75, 0.66), drift=0.1))
    ),
    "goal_kick": Sport(
        "kick",
        ("pitch", "diamond"),
        (Part(there.goal, (1.1, 0), behind=True), Part(use.ball, (0.62, 0.16), drift=0.05)),
    ),
    "hoop_shot": Sport(
        "reach",
        ("court", "boards"),
        (Part(there.basket, (0.95, 0), behind=True, drift=0.06), Part(use.big_ball, (0.12, 1.24), drift=0.04)),
    ),
    "hurdle_dash": Sport(
        "leap",
        ("lanes",),
        (Part(there.hurdle, (0.1, 0), behind=True), Part(there.hurdle, (0.85, 0.02), size=0.85, behind=True)),
    ),
    "oar_race": Sport("sit", ("water",), (Part(use.boat, (0, 0.04), size=0.9), Part(use.oar, "front_hand", -128, 1.2))),
    "pole_leap": Sport(
        "vault",
        ("lanes", "mat", "pitch"),
        (Part(there.cross_bar, (0.7, 0), behind=True), Part(use.long_pole, (-0.5, 0), -10)),
    ),
    "racket_rally": Sport(
        "lunge",
        ("court",),
        (
            Part(use.racket, "front_hand", -25),
            Part(use.small_ball, (0.85, 1.0), drift=0.1),
            Part(there.low_net, (1.0, 0), behind=True),
        ),
    ),
    "ring_hang": Sport("hang", ("mat", "boards"), (Part(there.hanging_rings, (0, 1.4)),)),
    "wave_glide": Sport(
        "balance", ("water", "snow"), (Part(there.wave, (-0.05, 0), behind=True), Part(use.surf_board, (0, 0.0), 6))
    ),
}

PRETRAIN_SPORTS: dict[str, Sport] = {
    "bar_swing": Sport("swing", ("mat", "boards"), (Part(there.high_bar, (0, 1.45), behind=True),)),
    "barbell_lift": Sport("lift", ("mat", "boards"), (Part(use.barbell, (0, 1.1)),)),
    "beam_split": Sport("split", ("mat", "boards"), (Part(there.beam, (0, 0.55)),)),
    "canoe_blades": Sport("sit", ("water",), (Part(use.kayak, (0, 0.06)), Part(use.double_paddle, "front_hand", -65))),
    "club_green": Sport(
        "putt",
        ("pitch", "diamond"),
        (
            Part(use.club, "front_hand", 185, 0.75),
            Part(use.small_ball, (0.42, 0.04), size=0.7),
            Part(there.hole_flag, (1.0, 0.05)),
        ),
    ),
    "disc_throw": Sport("throw", ("pitch", "diamond", "lanes"), (Part(use.disc, "back_hand", 15),)),
    "dive_keeper": Sport(
        "dive",
        ("pitch",),
        (Part(there.goal, (0.15, 0), size=1.25, behind=True), Part(use.ball, (0.95, 0.55), drift=0.06)),
    ),
    "foil_duel": Sport(
        "lunge", ("mat", "boards", "lanes"), (Part(use.foil, "front_hand", -75), Part(_rival, (1.35, 0)))
    ),
    "glove_ring": Sport(
        "guard",
        ("mat", "boards"),
        (Part(there.ropes, (0, 0), behind=True), Part(use.gloves, "front_hand"), Part(use.gloves, "back_hand")),
    ),
    "head_ball": Sport("stand", ("pitch", "diamond"), (Part(use.ball, (0.03, 1.12), drift=0.05),)),
    "high_bar_flop": Sport("arch", ("lanes", "mat"), (Part(there.low_cross_bar, (0, 0), behind=True),)),
    "hoop_dance": Sport("stand", ("mat", "boards"), (Part(use.wide_hoop, (0, 0.5)),)),
    "hold_climb": Sport("climb", ("mat", "boards"), (Part(there.holds, (0, 0), behind=True),)),
    "javelin_throw": Sport("throw", ("pitch", "lanes"), (Part(use.javelin, "back_hand", -65),)),
    "lane_swim": Sport(
        "swim", ("water",), (Part(there.lane_rope, (0, -0.12)), Part(there.lane_rope, (0, 0.42), size=0.8, behind=True))
    ),
    "net_spike": Sport(
        "spike",
        ("court", "boards"),
        (Part(there.high_net, (0.6, 0), behind=True), Part(use.big_ball, (0.34, 1.4), size=0.8, drift=0.05)),
    ),
    "oval_fork": Sport(
        "run", ("pitch", "lanes"), (Part(there.fork_goal, (1.0, 0), behind=True), Part(use.oval_ball, "front_hand", 25))
    ),
    "paddle_table": Sport(
        "lunge",
        ("boards", "mat"),
        (
            Part(there.table, (0.95, 0)),
            Part(use.paddle, "front_hand", -30),
            Part(use.small_ball, (0.85, 0.75), size=0.7, drift=0.08),
        ),
    ),
    "pin_bowl": Sport(
        "bowl",
        ("boards", "lanes"),
        (Part(there.pins, (0.85, 0.02), drift=0.06), Part(use.big_ball, "front_hand", size=0.8)),
    ),
    "ribbon_turn": Sport("balance", ("mat", "boards"), (Part(use.ribbon, "front_hand", -35),)),
    "sail_ride": Sport("crouch", ("water",), (Part(use.surf_board, (0.05, 0), 3), Part(use.sail, (0.28, 0)))),
    "shuttle_smash": Sport(
        "reach",
        ("court", "boards"),
        (
            Part(use.racket, "front_hand", -30),
            Part(use.shuttle, (0.62, 1.45), -35, drift=0.08),
            Part(there.high_net, (0.95, 0), behind=True),
        ),
    ),
    "ski_gate": Sport("crouch", ("snow",), (Part(use.skis, (0.02, 0), -6), Part(there.gate, (0.7, 0)))),
    "spring_flip": Sport("tuck", ("mat", "boards"), (Part(there.springs, (0, 0), behind=True),)),
    "stick_puck": Sport(
        "crouch", ("court", "snow"), (Part(use.stick, "front_hand", 205, 0.72), Part(use.puck, (0.78, 0.0), drift=0.06))
    ),
    "wheel_board": Sport("balance", ("boards", "lanes", "court"), (Part(use.wheel_board, (0, 0.12)),)),
    "wheel_race": Sport("ride", ("lanes", "boards", "pitch"), (Part(use.wheels, (0, 0)),)),
    "wicket_bat": Sport(
        "putt",
        ("pitch", "diamond"),
        (
            Part(use.flat_bat, "front_hand", 170, 0.85),
            Part(there.wicket, (-0.5, 0), behind=True),
            Part(use.small_ball, (0.8, 0.35), drift=0.1),
        ),
    ),
}
