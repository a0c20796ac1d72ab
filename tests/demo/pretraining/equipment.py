"""Equipment of the scenes for pretraining. First what athletes play with, hold or ride; then what stands.

Each function returns shapes around an origin, as in harness/demo/scenery/equipment.py. That of a beam is its top.
"""

from __future__ import annotations

import math

from harness.demo.scenery.shapes import Ink, Shape, blob, fill, line, mesh, ring, shade


def oval_ball(ink: Ink) -> list[Shape]:
    return [blob(0, 0, 0.14, 0.08, ink.ball), line([(-0.06, 0.01), (0.06, 0.01)], 0.02, shade(ink.ball, 1.8))]


def puck(ink: Ink) -> list[Shape]:
    return [blob(0, 0.02, 0.085, 0.035, ink.ball)]


def disc(ink: Ink) -> list[Shape]:
    return [blob(0, 0, 0.14, 0.045, ink.ball), blob(0, 0.015, 0.09, 0.02, shade(ink.ball, 0.75))]


def shuttle(ink: Ink) -> list[Shape]:
    return [fill([(0, -0.03), (-0.09, 0.12), (0.09, 0.12)], ink.ball), blob(0, -0.03, 0.04, 0.04, ink.trim)]


def paddle(ink: Ink) -> list[Shape]:
    return [line([(0, 0), (0, 0.1)], 0.045, ink.trim), blob(0, 0.18, 0.10, 0.11, ink.gear)]


def flat_bat(ink: Ink) -> list[Shape]:
    return [
        line([(0, 0), (0, 0.16)], 0.04, ink.trim),
        fill([(-0.065, 0.16), (0.065, 0.16), (0.075, 0.55), (-0.075, 0.55)], ink.gear),
    ]


def stick(ink: Ink) -> list[Shape]:
    return [line([(0, -0.1), (0, 0.62), (0.17, 0.66)], 0.042, ink.gear)]


def club(ink: Ink) -> list[Shape]:
    return [
        line([(0, 0), (0, 0.62)], 0.022, ink.gear),
        fill([(-0.02, 0.58), (0.12, 0.62), (0.10, 0.69), (-0.02, 0.66)], ink.trim),
    ]


def double_paddle(ink: Ink) -> list[Shape]:
    blades = [blob(0, y, 0.07, 0.12, ink.trim) for y in (-0.55, 0.55)]
    return [line([(0, -0.55), (0, 0.55)], 0.028, ink.gear), *blades]


def foil(ink: Ink) -> list[Shape]:
    return [line([(0, 0), (0, 0.58)], 0.018, ink.gear), blob(0, 0.03, 0.055, 0.03, ink.trim)]


def javelin(ink: Ink) -> list[Shape]:
    return [line([(0, -0.5), (0, 0.6)], 0.022, ink.gear), line([(0, -0.06), (0, 0.06)], 0.04, ink.trim)]


def ribbon(ink: Ink) -> list[Shape]:
    curl = [(0.09 * math.sin(1.1 * step) + 0.03 * step, 0.25 + 0.05 * step) for step in range(13)]
    return [line([(0, 0), (0, 0.25)], 0.02, ink.trim), line([(0, 0.25), *curl], 0.038, ink.gear)]


def barbell(ink: Ink) -> list[Shape]:
    plates = [line([(x, -0.17), (x, 0.17)], 0.075, ink.trim) for x in (-0.5, 0.5)]
    return [line([(-0.58, 0), (0.58, 0)], 0.03, ink.gear), *plates]


def wide_hoop(ink: Ink) -> list[Shape]:
    return [ring(0, 0, 0.36, 0.12, 0.038, ink.gear)]


def wheel_board(ink: Ink) -> list[Shape]:
    wheels = [blob(x, -0.1, 0.05, 0.05, ink.trim) for x in (-0.24, 0.24)]
    return [line([(-0.42, 0.03), (-0.32, -0.04), (0.32, -0.04), (0.42, 0.03)], 0.05, ink.gear), *wheels]


def skis(ink: Ink) -> list[Shape]:
    sticks = [line([(0.3, 0.46), (-0.35, 0.2)], 0.02, ink.trim)]
    return [*sticks, line([(-0.5, -0.04), (0.5, -0.04), (0.62, 0.06)], 0.04, ink.gear)]


def kayak(ink: Ink) -> list[Shape]:
    return [fill([(-0.7, 0.12), (-0.3, 0.09), (0.3, 0.09), (0.7, 0.12), (0.35, -0.05), (-0.35, -0.05)], ink.gear)]


def sail(ink: Ink) -> list[Shape]:
    return [
        line([(0, 0), (0.1, 1.3)], 0.03, ink.trim),
        fill([(0.02, 0.25), (0.1, 1.28), (0.5, 0.5)], ink.gear),
        line([(0.02, 0.42), (0.5, 0.48)], 0.025, ink.trim),
    ]


def wheels(ink: Ink) -> list[Shape]:
    rims = [ring(x, 0.2, 0.19, 0.19, 0.028, ink.trim) for x in (-0.36, 0.36)]
    frame = line(
        [(-0.36, 0.2), (-0.12, 0.46), (0.26, 0.46), (0.0, 0.18), (-0.12, 0.46), (0.0, 0.18), (-0.36, 0.2)],
        0.03,
        ink.gear,
    )
    return [*rims, frame, line([(0.36, 0.2), (0.26, 0.56), (0.34, 0.56)], 0.03, ink.gear)]


def gloves(ink: Ink) -> list[Shape]:
    return [blob(0, 0, 0.075, 0.07, ink.gear)]


def fork_goal(ink: Ink) -> list[Shape]:
    return [
        line([(0, 0), (0, 0.5)], 0.05, ink.trim),
        line([(-0.28, 1.4), (-0.28, 0.5), (0.28, 0.5), (0.28, 1.4)], 0.04, ink.trim),
    ]


def high_net(ink: Ink) -> list[Shape]:
    strings = mesh(((-0.14, 0.66), (0.14, 0.76), (0.14, 1.14), (-0.14, 1.02)), 5, 4, 0.011, ink.trim)
    return [
        *strings,
        line([(-0.14, 0), (-0.14, 1.04)], 0.035, ink.gear),
        line([(0.14, 0.12), (0.14, 1.16)], 0.035, ink.gear),
        line([(-0.14, 1.02), (0.14, 1.14)], 0.035, ink.trim),
    ]


def table(ink: Ink) -> list[Shape]:
    legs = [line([(x, 0), (x, 0.36)], 0.035, shade(ink.gear, 0.6)) for x in (-0.35, 0.35)]
    return [
        *legs,
        fill([(-0.5, 0.34), (0.5, 0.34), (0.42, 0.46), (-0.42, 0.46)], ink.gear),
        line([(0, 0.36), (0, 0.56)], 0.03, ink.trim),
    ]


def high_bar(ink: Ink) -> list[Shape]:
    posts = [line([(x, -1.45), (x, 0)], 0.035, shade(ink.gear, 0.75)) for x in (-0.45, 0.45)]
    return [*posts, line([(-0.47, 0), (0.47, 0)], 0.032, ink.gear)]


def low_cross_bar(ink: Ink) -> list[Shape]:
    posts = [line([(x, 0), (x, 0.78)], 0.032, shade(ink.gear, 0.75)) for x in (-0.45, 0.45)]
    cushion = fill([(-0.35, 0), (0.75, 0), (0.72, 0.16), (-0.32, 0.16)], shade(ink.gear, 0.9))
    return [*posts, line([(-0.48, 0.66), (0.48, 0.66)], 0.03, ink.trim), cushion]


def beam(ink: Ink) -> list[Shape]:
    legs = [line([(x, -0.5), (x, -0.08)], 0.04, shade(ink.gear, 0.6)) for x in (-0.38, 0.38)]
    return [*legs, line([(-0.55, -0.07), (0.55, -0.07)], 0.085, ink.gear)]


def gate(ink: Ink) -> list[Shape]:
    flags = [fill([(x, 0.36), (x + 0.2, 0.36), (x + 0.2, 0.58), (x, 0.58)], ink.gear) for x in (0.0, 0.34)]
    return [line([(0, 0), (0, 0.6)], 0.03, ink.trim), line([(0.54, 0.05), (0.54, 0.6)], 0.03, ink.trim), *flags]


def pins(ink: Ink) -> list[Shape]:
    places = ((0.0, 0.0), (0.13, 0.05), (0.26, 0.0), (0.39, 0.05))
    return [
        shape
        for x, y in places
        for shape in (
            blob(x, y + 0.1, 0.055, 0.11, ink.trim),
            blob(x, y + 0.24, 0.035, 0.05, ink.trim),
            line([(x - 0.03, y + 0.18), (x + 0.03, y + 0.18)], 0.025, ink.gear),
        )
    ]


def wicket(ink: Ink) -> list[Shape]:
    return [
        *(line([(x, 0), (x, 0.42)], 0.035, ink.trim) for x in (-0.09, 0.0, 0.09)),
        line([(-0.11, 0.43), (0.11, 0.43)], 0.03, ink.gear),
    ]


def hole_flag(ink: Ink) -> list[Shape]:
    return [
        blob(0, 0, 0.08, 0.025, shade(ink.gear, 0.3)),
        line([(0, 0), (0, 0.8)], 0.025, ink.trim),
        fill([(0, 0.8), (0, 0.58), (0.26, 0.69)], ink.gear),
    ]


def ropes(ink: Ink) -> list[Shape]:
    posts = [line([(x, 0), (x, 0.72)], 0.05, shade(ink.gear, 0.75)) for x in (-0.8, 0.8)]
    return [*(line([(-0.8, y), (0.8, y)], 0.022, ink.trim) for y in (0.25, 0.45, 0.65)), *posts]


def holds(ink: Ink) -> list[Shape]:
    places = (
        (-0.42, 0.2),
        (-0.3, 0.62),
        (0.02, 1.22),
        (0.34, 0.3),
        (0.4, 0.9),
        (-0.45, 1.05),
        (0.1, 0.1),
        (0.3, 1.3),
        (-0.1, 0.88),
    )
    wall = fill([(-0.58, -0.02), (0.5, -0.02), (0.58, 1.45), (-0.5, 1.45)], shade(ink.trim, 0.75))
    return [wall, *(blob(x, y, 0.06, 0.045, ink.gear) for x, y in places)]


def springs(ink: Ink) -> list[Shape]:
    legs = [line([(x, 0), (1.1 * x, 0.2)], 0.035, shade(ink.gear, 0.7)) for x in (-0.45, 0.45)]
    return [*legs, blob(0, 0.2, 0.58, 0.075, ink.gear), blob(0, 0.2, 0.45, 0.045, ink.trim)]


def lane_rope(ink: Ink) -> list[Shape]:
    floats = [
        blob(x, 0, 0.045, 0.03, ink.gear if step % 2 else ink.trim)
        for step, x in enumerate((-0.75, -0.6, -0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9))
    ]
    return [line([(-0.8, 0), (0.95, 0)], 0.015, ink.trim), *floats]
