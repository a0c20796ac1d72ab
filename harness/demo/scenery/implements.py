"""Equipment that athletes of the built-in scenes play with, hold or ride.

Each function returns shapes around an origin: the centre of a ball, the grip of equipment in a hand (pointing up), the
place of the feet on equipment that is ridden. Units are body heights.
"""

from __future__ import annotations

import math

from harness.demo.scenery.shapes import Ink, Shape, blob, fill, line, mesh, ring, shade


def small_ball(ink: Ink) -> list[Shape]:
    return [blob(0, 0, 0.055, 0.055, ink.ball)]


def ball(ink: Ink) -> list[Shape]:
    return [blob(0, 0, 0.10, 0.10, ink.ball), blob(0, 0, 0.04, 0.04, shade(ink.ball, 0.45))]


def big_ball(ink: Ink) -> list[Shape]:
    seam = shade(ink.ball, 0.5)
    cross = [line([(-0.13, 0), (0.13, 0)], 0.018, seam), line([(0, -0.13), (0, 0.13)], 0.018, seam)]
    return [blob(0, 0, 0.14, 0.14, ink.ball), *cross]


def oval_ball(ink: Ink) -> list[Shape]:
    return [blob(0, 0, 0.14, 0.08, ink.ball), line([(-0.06, 0.01), (0.06, 0.01)], 0.02, shade(ink.ball, 1.8))]


def puck(ink: Ink) -> list[Shape]:
    return [blob(0, 0.02, 0.085, 0.035, ink.ball)]


def disc(ink: Ink) -> list[Shape]:
    return [blob(0, 0, 0.14, 0.045, ink.ball), blob(0, 0.015, 0.09, 0.02, shade(ink.ball, 0.75))]


def shuttle(ink: Ink) -> list[Shape]:
    return [fill([(0, -0.03), (-0.09, 0.12), (0.09, 0.12)], ink.ball), blob(0, -0.03, 0.04, 0.04, ink.trim)]


def racket(ink: Ink) -> list[Shape]:
    strings = mesh(((-0.08, 0.28), (0.08, 0.28), (0.08, 0.48), (-0.08, 0.48)), 3, 4, 0.010, ink.trim)
    return [line([(0, -0.02), (0, 0.24)], 0.04, ink.gear), *strings, ring(0, 0.38, 0.12, 0.16, 0.032, ink.gear)]


def paddle(ink: Ink) -> list[Shape]:
    return [line([(0, 0), (0, 0.1)], 0.045, ink.trim), blob(0, 0.18, 0.10, 0.11, ink.gear)]


def bat(ink: Ink) -> list[Shape]:
    return [
        fill([(-0.02, -0.06), (0.02, -0.06), (0.055, 0.52), (-0.055, 0.52)], ink.gear),
        blob(0, 0.52, 0.055, 0.05, ink.gear),
    ]


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


def oar(ink: Ink) -> list[Shape]:
    return [
        line([(0, -0.12), (0, 0.62)], 0.03, ink.gear),
        fill([(-0.03, 0.56), (0.03, 0.56), (0.07, 0.82), (-0.07, 0.82)], ink.trim),
    ]


def double_paddle(ink: Ink) -> list[Shape]:
    blades = [blob(0, y, 0.07, 0.12, ink.trim) for y in (-0.55, 0.55)]
    return [line([(0, -0.55), (0, 0.55)], 0.028, ink.gear), *blades]


def bow(ink: Ink) -> list[Shape]:
    angles = [math.radians(degree) for degree in range(-70, 71, 10)]
    limbs = [(0.42 * math.cos(angle) - 0.36, 0.42 * math.sin(angle)) for angle in angles]
    string = [limbs[0], (-0.36, 0.0), limbs[-1]]
    arrow = [line([(-0.36, 0), (0.2, 0)], 0.018, ink.trim), fill([(0.16, -0.04), (0.16, 0.04), (0.26, 0)], ink.trim)]
    return [line(string, 0.010, ink.trim), line(limbs, 0.035, ink.gear), *arrow]


def foil(ink: Ink) -> list[Shape]:
    return [line([(0, 0), (0, 0.58)], 0.018, ink.gear), blob(0, 0.03, 0.055, 0.03, ink.trim)]


def javelin(ink: Ink) -> list[Shape]:
    return [line([(0, -0.5), (0, 0.6)], 0.022, ink.gear), line([(0, -0.06), (0, 0.06)], 0.04, ink.trim)]


def long_pole(ink: Ink) -> list[Shape]:
    bend = [(0.16 * math.sin(math.pi * share), 1.5 * share - 0.08) for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    return [line(bend, 0.032, ink.gear)]


def ribbon(ink: Ink) -> list[Shape]:
    curl = [(0.09 * math.sin(1.1 * step) + 0.03 * step, 0.25 + 0.05 * step) for step in range(13)]
    return [line([(0, 0), (0, 0.25)], 0.02, ink.trim), line([(0, 0.25), *curl], 0.038, ink.gear)]


def barbell(ink: Ink) -> list[Shape]:
    plates = [line([(x, -0.17), (x, 0.17)], 0.075, ink.trim) for x in (-0.5, 0.5)]
    return [line([(-0.58, 0), (0.58, 0)], 0.03, ink.gear), *plates]


def wide_hoop(ink: Ink) -> list[Shape]:
    return [ring(0, 0, 0.36, 0.12, 0.038, ink.gear)]


def surf_board(ink: Ink) -> list[Shape]:
    return [
        fill([(-0.52, -0.02), (-0.3, -0.09), (0.35, -0.08), (0.62, 0.08), (0.3, 0.0), (-0.3, 0.0)], ink.gear),
        fill([(-0.42, -0.06), (-0.3, -0.06), (-0.42, -0.2)], ink.trim),
    ]


def wheel_board(ink: Ink) -> list[Shape]:
    wheels = [blob(x, -0.1, 0.05, 0.05, ink.trim) for x in (-0.24, 0.24)]
    return [line([(-0.42, 0.03), (-0.32, -0.04), (0.32, -0.04), (0.42, 0.03)], 0.05, ink.gear), *wheels]


def skis(ink: Ink) -> list[Shape]:
    sticks = [line([(0.3, 0.46), (-0.35, 0.2)], 0.02, ink.trim)]
    return [*sticks, line([(-0.5, -0.04), (0.5, -0.04), (0.62, 0.06)], 0.04, ink.gear)]


def boat(ink: Ink) -> list[Shape]:
    return [
        fill([(-0.85, 0.14), (0.85, 0.14), (0.62, -0.06), (-0.62, -0.06)], ink.gear),
        line([(-0.83, 0.14), (0.83, 0.14)], 0.03, ink.trim),
    ]


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
