"""Points that are queued beside those of the sweep file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from harness.sweep.search.samplers import queued_parameters
from harness.sweep.spec.sweep_file import Sweep


def add_points(study: optuna.Study, sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> None:
    """Queue points, also ones that the sweep file does not have; a point that has a trial keeps it."""
    attributes = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    known = [each.get("settings") for each in attributes]
    place = 1 + max((each["point"] for each in attributes if "point" in each), default=-1)
    for new, point in enumerate(point for point in points if dict(point) not in known):
        user_attrs = {"point": place + new, "attempts": 0, "settings": dict(point), "added": True}
        study.enqueue_trial(queued_parameters(sweep, point), user_attrs=user_attrs)
