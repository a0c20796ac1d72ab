"""Fixed equipment of the built-in scenes: goals, nets, bars, targets.

Each function returns shapes around an origin: the foot of equipment that stands, the grip of equipment to hang on, the
top of a beam. Units are body heights.
"""

from __future__ import annotations

from harness.demo.scenery.shapes import Ink, Shape, blob, fill, line, mesh, ring, shade


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


def fork_goal(ink: Ink) -> list[Shape]:
    return [
        line([(0, 0), (0, 0.5)], 0.05, ink.trim),
        line([(-0.28, 1.4), (-0.28, 0.5), (0.28, 0.5), (0.28, 1.4)], 0.04, ink.trim),
    ]


def low_net(ink: Ink) -> list[Shape]:
    strings = mesh(((-0.1, 0.02), (0.16, 0.16), (0.16, 0.52), (-0.1, 0.36)), 5, 4, 0.011, ink.trim)
    return [
        *strings,
        line([(-0.1, 0.36), (0.16, 0.52)], 0.04, ink.trim),
        line([(-0.1, 0), (-0.1, 0.37)], 0.035, ink.gear),
        line([(0.16, 0.14), (0.16, 0.54)], 0.035, ink.gear),
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


def high_bar(ink: Ink) -> list[Shape]:
    posts = [line([(x, -1.45), (x, 0)], 0.035, shade(ink.gear, 0.75)) for x in (-0.45, 0.45)]
    return [*posts, line([(-0.47, 0), (0.47, 0)], 0.032, ink.gear)]


def cross_bar(ink: Ink) -> list[Shape]:
    posts = [line([(x, 0), (x, 1.55)], 0.032, shade(ink.gear, 0.75)) for x in (-0.32, 0.32)]
    return [*posts, line([(-0.36, 1.35), (0.36, 1.35)], 0.03, ink.trim)]


def low_cross_bar(ink: Ink) -> list[Shape]:
    posts = [line([(x, 0), (x, 0.78)], 0.032, shade(ink.gear, 0.75)) for x in (-0.45, 0.45)]
    cushion = fill([(-0.35, 0), (0.75, 0), (0.72, 0.16), (-0.32, 0.16)], shade(ink.gear, 0.9))
    return [*posts, line([(-0.48, 0.66), (0.48, 0.66)], 0.03, ink.trim), cushion]


def beam(ink: Ink) -> list[Shape]:
    legs = [line([(x, -0.5), (x, -0.08)], 0.04, shade(ink.gear, 0.6)) for x in (-0.38, 0.38)]
    return [*legs, line([(-0.55, -0.07), (0.55, -0.07)], 0.085, ink.gear)]


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
