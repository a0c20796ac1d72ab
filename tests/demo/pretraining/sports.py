"""The sports that the demo weights are pretrained on; none of them is in the demo data. One row per class."""

from __future__ import annotations

import dataclasses

import numpy as np

from harness.demo.scenery import equipment as use
from harness.demo.scenery import sports
from harness.demo.scenery.shapes import Ink, Shape, body, moved
from harness.demo.scenery.sports import Part, Pose, Sport, pose
from tests.demo.pretraining import equipment as there

# The joints in the order of harness/demo/scenery/sports.py.
POSES: dict[str, Pose] = sports.POSES | {
    "stand": pose("2 90  0 76  0 46  18 62  30 72  -18 62  -30 70  8 24  10 2  -8 24  -12 2"),
    "run": pose("20 88  14 75  0 46  22 56  38 62  -8 60  -20 46  24 40  22 12  -12 24  -40 22"),
    "swing": pose("28 110  20 100  46 78  14 118  5 142  8 118  -3 142  64 60  84 48  62 56  80 42"),
    "crouch": pose("24 70  14 59  -14 36  16 40  32 46  10 42  26 50  14 28  2 4  8 26  -6 4"),
    "throw": pose("4 88  -2 75  -2 45  18 76  36 84  -24 78  -30 100  20 26  36 2  -16 24  -30 2"),
    "lift": pose("0 90  0 76  0 44  24 88  26 110  -24 88  -26 110  18 26  16 2  -18 26  -20 2"),
    "split": pose("0 116  0 102  0 74  20 112  34 126  -20 112  -34 126  28 78  54 82  -28 78  -54 82"),
    "putt": pose("20 80  14 67  -6 44  20 52  28 42  14 50  26 40  8 24  6 2  -6 24  -14 2"),
    "dive": pose("54 58  42 52  12 42  58 64  78 66  60 52  78 54  -14 44  -38 50  -10 30  -36 26"),
    "guard": pose("5 90  0 76  -2 46  20 64  36 80  8 62  20 84  14 24  20 2  -12 24  -22 2"),
    "arch": pose("34 72  26 82  -2 86  42 86  56 78  36 94  52 92  -22 66  -40 82  -24 62  -44 74"),
    "climb": pose("0 106  0 92  2 62  22 100  34 118  -22 88  -34 108  26 54  26 28  -12 42  -20 20"),
    "swim": pose("42 22  28 18  -2 12  34 42  60 34  36 4  56 0  -26 14  -52 20  -26 8  -52 6"),
    "spike": pose("6 112  0 99  -4 70  12 116  24 134  -20 104  -30 118  6 48  -10 28  -16 52  -36 42"),
    "bowl": pose("24 68  16 57  -6 36  28 38  42 16  -6 62  -26 72  24 28  24 2  -20 16  -46 4"),
    "tuck": pose("16 86  6 92  -16 106  16 106  16 122  12 102  14 118  8 118  -6 130  4 114  -10 126"),
    "ride": pose("24 98  14 88  -14 60  20 70  34 60  18 70  32 60  12 44  2 14  2 40  -8 22"),
}


def _rival(ink: Ink) -> list[Shape]:
    """A second athlete with a foil, facing the first."""
    lunge = POSES["lunge"]
    other = dataclasses.replace(ink, shirt=ink.rival, shorts=ink.rival)
    facing = body(lunge, other) + moved(there.foil(ink), lunge["front_hand"], turn=-75)
    return [Shape(shape.points * np.array([-1.0, 1.0]), shape.width, shape.colour) for shape in facing]


PRETRAIN_SPORTS: dict[str, Sport] = {
    "bar_swing": Sport(POSES["swing"], ("mat", "boards"), (Part(there.high_bar, (0, 1.45), behind=True),)),
    "barbell_lift": Sport(POSES["lift"], ("mat", "boards"), (Part(there.barbell, (0, 1.1)),)),
    "beam_split": Sport(POSES["split"], ("mat", "boards"), (Part(there.beam, (0, 0.55)),)),
    "canoe_blades": Sport(
        POSES["sit"], ("water",), (Part(there.kayak, (0, 0.06)), Part(there.double_paddle, "front_hand", -65))
    ),
    "club_green": Sport(
        POSES["putt"],
        ("pitch", "diamond"),
        (
            Part(there.club, "front_hand", 185, 0.75),
            Part(use.small_ball, (0.42, 0.04), size=0.7),
            Part(there.hole_flag, (1.0, 0.05)),
        ),
    ),
    "disc_throw": Sport(POSES["throw"], ("pitch", "diamond", "lanes"), (Part(there.disc, "back_hand", 15),)),
    "dive_keeper": Sport(
        POSES["dive"],
        ("pitch",),
        (Part(use.goal, (0.15, 0), size=1.25, behind=True), Part(use.ball, (0.95, 0.55), drift=0.06)),
    ),
    "foil_duel": Sport(
        POSES["lunge"], ("mat", "boards", "lanes"), (Part(there.foil, "front_hand", -75), Part(_rival, (1.35, 0)))
    ),
    "glove_ring": Sport(
        POSES["guard"],
        ("mat", "boards"),
        (
            Part(there.ropes, (0, 0), behind=True),
            Part(there.gloves, "front_hand"),
            Part(there.gloves, "back_hand"),
        ),
    ),
    "head_ball": Sport(POSES["stand"], ("pitch", "diamond"), (Part(use.ball, (0.03, 1.12), drift=0.05),)),
    "high_bar_flop": Sport(POSES["arch"], ("lanes", "mat"), (Part(there.low_cross_bar, (0, 0), behind=True),)),
    "hoop_dance": Sport(POSES["stand"], ("mat", "boards"), (Part(there.wide_hoop, (0, 0.5)),)),
    "hold_climb": Sport(POSES["climb"], ("mat", "boards"), (Part(there.holds, (0, 0), behind=True),)),
    "javelin_throw": Sport(POSES["throw"], ("pitch", "lanes"), (Part(there.javelin, "back_hand", -65),)),
    "lane_swim": Sport(
        POSES["swim"],
        ("water",),
        (Part(there.lane_rope, (0, -0.12)), Part(there.lane_rope, (0, 0.42), size=0.8, behind=True)),
    ),
    "net_spike": Sport(
        POSES["spike"],
        ("court", "boards"),
        (Part(there.high_net, (0.6, 0), behind=True), Part(use.big_ball, (0.34, 1.4), size=0.8, drift=0.05)),
    ),
    "oval_fork": Sport(
        POSES["run"],
        ("pitch", "lanes"),
        (Part(there.fork_goal, (1.0, 0), behind=True), Part(there.oval_ball, "front_hand", 25)),
    ),
    "paddle_table": Sport(
        POSES["lunge"],
        ("boards", "mat"),
        (
            Part(there.table, (0.95, 0)),
            Part(there.paddle, "front_hand", -30),
            Part(use.small_ball, (0.85, 0.75), size=0.7, drift=0.08),
        ),
    ),
    "pin_bowl": Sport(
        POSES["bowl"],
        ("boards", "lanes"),
        (Part(there.pins, (0.85, 0.02), drift=0.06), Part(use.big_ball, "front_hand", size=0.8)),
    ),
    "ribbon_turn": Sport(POSES["balance"], ("mat", "boards"), (Part(there.ribbon, "front_hand", -35),)),
    "sail_ride": Sport(POSES["crouch"], ("water",), (Part(use.surf_board, (0.05, 0), 3), Part(there.sail, (0.28, 0)))),
    "shuttle_smash": Sport(
        POSES["reach"],
        ("court", "boards"),
        (
            Part(use.racket, "front_hand", -30),
            Part(there.shuttle, (0.62, 1.45), -35, drift=0.08),
            Part(there.high_net, (0.95, 0), behind=True),
        ),
    ),
    "ski_gate": Sport(POSES["crouch"], ("snow",), (Part(there.skis, (0.02, 0), -6), Part(there.gate, (0.7, 0)))),
    "spring_flip": Sport(POSES["tuck"], ("mat", "boards"), (Part(there.springs, (0, 0), behind=True),)),
    "stick_puck": Sport(
        POSES["crouch"],
        ("court", "snow"),
        (Part(there.stick, "front_hand", 205, 0.72), Part(there.puck, (0.78, 0.0), drift=0.06)),
    ),
    "wheel_board": Sport(POSES["balance"], ("boards", "lanes", "court"), (Part(there.wheel_board, (0, 0.12)),)),
    "wheel_race": Sport(POSES["ride"], ("lanes", "boards", "pitch"), (Part(there.wheels, (0, 0)),)),
    "wicket_bat": Sport(
        POSES["putt"],
        ("pitch", "diamond"),
        (
            Part(there.flat_bat, "front_hand", 170, 0.85),
            Part(there.wicket, (-0.5, 0), behind=True),
            Part(use.small_ball, (0.8, 0.35), drift=0.1),
        ),
    ),
}
