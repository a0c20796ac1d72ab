"""By how much the validation score of the best of several settings is too high, because it was chosen by that score.

K settings, R simulated choices, N test images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.runs.paired import resampled
from harness.runs.resampling import macro_f1
from reports.runs import Run
from reports.stats.leaderboard import SettingRow
from reports.stats.same_images import aligned, obstacle

MOST = 20  # settings, the best first: later ones would hardly ever be chosen
CHOICES = 500


@dataclass(frozen=True)
class Selection:
    """The expected excess of the winner's validation macro F1, and the validation images that it comes from."""

    excess: float
    images: int


def selection(ranked: Sequence[SettingRow]) -> Selection | None:
    """Simulated with the settings' predictions of test images; None unless two settings can be compared on them.

    The test images are redrawn, the same ones for all settings, and the errors of the scores are scaled by
    sqrt(N / validation images) to the number of validation images. The setting with the best score is chosen; the
    excess is the mean error of that score. The choice of an epoch within a run adds to it and is not simulated.
    """
    first = ranked[0].setting.best if ranked else None
    count = first.images.get("val") if first else None
    if first is None or type(count) is not int or count < 1 or first.predictions.problem:
        return None
    settings = [[run for run in row.setting.runs if not obstacle(first, run)] for row in ranked[:MOST]]
    settings = [runs for runs in settings if runs]
    if len(settings) < 2:
        return None
    scores, errors = _redrawn(first, settings)
    errors *= math.sqrt(len(first.predictions.labels) / count)
    winner = (scores[:, None] + errors).argmax(0)
    return Selection(float(errors[winner, np.arange(errors.shape[1])].mean()), count)


def _redrawn(first: Run, settings: Sequence[Sequence[Run]]) -> tuple[np.ndarray, np.ndarray]:
    """Macro F1 of each setting on all test images (K,), and its errors on redrawn ones (K, R); means over seeds."""
    labels, classes = first.predictions.labels, len(first.predictions.classes)
    predicted = [[aligned(first, run) for run in runs] for runs in settings]
    scores = [np.mean([macro_f1(labels, of_run, classes) for of_run in of_setting]) for of_setting in predicted]
    redrawn = resampled(labels, list(itertools.chain(*predicted)), classes, resamples=CHOICES)
    ends = np.cumsum([len(of_setting) for of_setting in predicted])[:-1]
    means = np.stack([of_setting.mean(0) for of_setting in np.split(redrawn, ends)])
    return np.array(scores), means - means.mean(1, keepdims=True)
