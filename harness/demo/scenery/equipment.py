"""Equipment of the built-in scenes. First what athletes play with, hold or ride; then what stands or hangs.

Each function returns shapes around an origin. It is the centre of a ball, the grip of what is held or hung on, the
place of the feet on what is ridden, and the foot of what stands. What is held points up. Units are body heights.
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


def racket(ink: Ink) -> list[Shape]:
    strings = mesh(((-0.08, 0.28), (0.08, 0.28), (0.08, 0.48), (-0.08, 0.48)), 3, 4, 0.010, ink.trim)
    return [line([(0, -0.02), (0, 0.24)], 0.04, ink.gear), *strings, ring(0, 0.38, 0.12, 0.16, 0.032, ink.gear)]


def bat(ink: Ink) -> list[Shape]:
    return [
        fill([(-0.02, -0.06), (0.02, -0.06), (0.055, 0.52), (-0.055, 0.52)], ink.gear),
        blob(0, 0.52, 0.055, 0.05, ink.gear),
    ]


def oar(ink: Ink) -> list[Shape]:
    return [
        line([(0, -0.12), (0, 0.62)], 0.03, ink.gear),
        fill([(-0.03, 0.56), (0.03, 0.56), (0.07, 0.82), (-0.07, 0.82)], ink.trim),
    ]


def bow(ink: Ink) -> list[Shape]:
    angles = [math.radians(degree) for degree in range(-70, 71, 10)]
    limbs = [(0.42 * math.cos(angle) - 0.36, 0.42 * math.sin(angle)) for angle in angles]
    string = [limbs[0], (-0.36, 0.0), limbs[-1]]
    arrow = [line([(-0.36, 0), (0.2, 0)], 0.018, ink.trim), fill([(0.16, -0.04), (0.16, 0.04), (0.26, 0)], ink.trim)]
    return [line(string, 0.010, ink.trim), line(limbs, 0.035, ink.gear), *arrow]


def long_pole(ink: Ink) -> list[Shape]:
    bend = [(0.16 * math.sin(math.pi * share), 1.5 * share - 0.08) for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    return [line(bend, 0.032, ink.gear)]


def surf_board(ink: Ink) -> list[Shape]:
    return [
        fill([(-0.52, -0.02), (-0.3, -0.09), (0.35, -0.08), (0.62, 0.08), (0.3, 0.0), (-0.3, 0.0)], ink.gear),
        fill([(-0.42, -0.06), (-0.3, -0.06), (-0.42, -0.2)], ink.trim),
    ]


def boat(ink: Ink) -> list[Shape]:
    return [
        fill([(-0.85, 0.14), (0.85, 0.14), (0.62, -0.06), (-0.62, -0.06)], ink.gear),
        line([(-0.83, 0.14), (0.83, 0.14)], 0.03, ink.trim),
    ]


def target(ink: Ink) -> list[Shape]:
    legs = [line([(0, 0.55), (x, 0)], 0.035, shade(ink.gear, 0.7)) for x in (-0.14, 0.14)]
    colours = (ink.trim, ink.gear, ink.trim, ink.ball)
    return [
        *legs,
        *(blob(0, 0.62, 0.72 * r, r, colour) for r, colour in zip((0.27, 0.20, 0.13, 0.06), colours, strict=True)),
    ]


def basket(ink: Ink) -> list[Shape]:
    net = mesh(((-0.36, 0.98), (-0.18, 0.98), (-0.14, 1.14), (-0.40, 1.14)), 3, 2, 0.012, ink.trim)
    board = [fill([(-0.11, 1.08), (-0.03, 1.08), (-0.03, 1.48), (-0.11, 1.48)], ink.trim)]
    return [
        line([(0.05, 0), (0.05, 1.2), (-0.06, 1.25)], 0.05, shade(ink.gear, 0.7)),
        *board,
        *net,
        ring(-0.27, 1.15, 0.14, 0.035, 0.03, ink.gear),
    ]


def goal(ink: Ink) -> list[Shape]:
    front, back = ((-0.42, 0.0), (-0.42, 0.72), (0.36, 0.72), (0.36, 0.0)), ((0.5, 0.0), (0.5, 0.56))
    net = mesh(((-0.42, 0.0), (0.36, 0.0), (0.36, 0.72), (-0.42, 0.72)), 6, 5, 0.010, shade(ink.trim, 0.9))
    sides = [line([front[2], back[1], back[0]], 0.018, ink.trim)]
    return [*net, *sides, line(front, 0.048, ink.trim)]


def low_net(ink: Ink) -> list[Shape]:
    strings = mesh(((-0.1, 0.02), (0.16, 0.16), (0.16, 0.52), (-0.1, 0.36)), 5, 4, 0.011, ink.trim)
    return [
        *strings,
        line([(-0.1, 0.36), (0.16, 0.52)], 0.04, ink.trim),
        line([(-0.1, 0), (-0.1, 0.37)], 0.035, ink.gear),
        line([(0.16, 0.14), (0.16, 0.54)], 0.035, ink.gear),
    ]


def hurdle(ink: Ink) -> list[Shape]:
    legs = [line([(x + 0.1, 0), (x, 0), (x, 0.4)], 0.03, shade(ink.gear, 0.75)) for x in (-0.2, 0.2)]
    return [
        *legs,
        line([(-0.24, 0.4), (0.24, 0.4)], 0.075, ink.gear),
        line([(-0.06, 0.4), (0.06, 0.4)], 0.07, ink.trim),
    ]


def hanging_rings(ink: Ink) -> list[Shape]:
    straps = [line([(x, 0.08), (0.8 * x, 0.5)], 0.02, ink.trim) for x in (-0.16, 0.16)]
    rings = [ring(x, 0, 0.075, 0.085, 0.032, ink.gear) for x in (-0.16, 0.16)]
    return [*straps, *rings, line([(-0.3, 0.5), (0.3, 0.5)], 0.04, shade(ink.gear, 0.75))]


def cross_bar(ink: Ink) -> list[Shape]:
    posts = [line([(x, 0), (x, 1.55)], 0.032, shade(ink.gear, 0.75)) for x in (-0.32, 0.32)]
    return [*posts, line([(-0.36, 1.35), (0.36, 1.35)], 0.03, ink.trim)]


def wave(ink: Ink) -> list[Shape]:
    crest = [
        (-0.95, -0.22),
        (-0.85, 0.25),
        (-0.65, 0.6),
        (-0.35, 0.78),
        (-0.02, 0.72),
        (-0.25, 0.62),
        (-0.42, 0.38),
        (-0.3, 0.08),
        (0.1, -0.1),
        (0.8, -0.22),
    ]
    return [fill(crest, shade(ink.trim, 0.8)), line(crest[1:6], 0.05, ink.trim)]
