"""The top of the page: the best setting, its score, and whether others may be as good."""

from __future__ import annotations

from typing import Any

from reports import columns
from reports.collection import Collection
from reports.page.score_bars import drawn_interval
from reports.page.sections.leaderboard import recorded_scores
from reports.stats.leaderboard import Leaderboard
from reports.stats.notes import seeds_of
from reports.stats.setting import SEED, Setting


def verdict(collection: Collection) -> dict[str, Any] | None:
    """None if no setting is ranked."""
    board = collection.board
    if not board.ranked:
        return None
    row, setting = board.ranked[0], board.ranked[0].setting
    score, f1 = setting.score, setting.test_f1
    several = len(row.rows) > 1
    deviation = f" ± {columns.number(score.sd)}" if score.n > 1 else ""
    return {
        "label": collection.setting_label(row),
        "metric": f"{'mean ' * several}{collection.metric}",
        "value": f"{columns.number(score.mean)}{deviation}{f', {seeds_of(row)} seeds' * several}",
        "f1_name": f"{'mean ' * several}test macro F1",
        "f1": columns.number(f1.mean, 3),
        "about": _about(setting),
        "interval": drawn_interval(f1, 0, 1),
        "facts": _facts(collection),
        "doubt": _doubt(collection),
    }


def _about(setting: Setting) -> list[str]:
    """What the test score is of, with its interval."""
    f1, images = setting.test_f1, setting.best.metric("test/n")
    about = [] if f1.low is None else [f"95 % interval {columns.number(f1.low, 3)} to {columns.number(f1.high, 3)}"]
    if images:
        about.append(f"n = {images:.0f}{' images' * (f1.n > 1)}")
    return [*about, f"{f1.n} seeds", f"sd {columns.number(f1.sd)}"] if f1.n > 1 else about


def _facts(collection: Collection) -> dict[str, str]:
    """Of one seed its scores and times; of several their means, and which one is the best."""
    board = collection.board
    row, setting = board.ranked[0], board.ranked[0].setting
    scores = {score.heading: columns.number(setting.pooled(score.key).mean, 3) for score in recorded_scores(collection)}
    probe = {"linear probe F1": columns.number(_probe_f1(board), 3)} if board.probes else {}
    trained = columns.duration(setting.pooled("seconds/train").mean)
    if len(row.rows) == 1:
        return {**scores, **probe, "best epoch": setting.best.best_epoch or "–", "trained in": trained}
    return {**scores, **probe, "best seed": columns.value(setting.best.config.get(SEED)), "trained in": trained}


def _probe_f1(board: Leaderboard) -> float | None:
    """Test macro F1 of the best linear probe."""
    return max((probe.test_f1 for probe in board.probes if probe.test_f1 is not None), default=None)


def _doubt(collection: Collection) -> dict[str, Any]:
    """Whether the best is better than the others beyond chance, and which of them may be as good."""
    board = collection.board
    unit, rest = board.unit, board.ranked[1:]
    compared = [(row, row.comparison) for row in rest if row.comparison and row.comparison.comparable]
    if not compared:
        reason = (
            f"The other {unit}s cannot be compared with it: see the leaderboard."
            if rest
            else f"No other {unit} has finished."
        )
        return {"answer": "Nothing to compare with", "sentence": reason, "others": []}
    m, images = len(compared), compared[0][1].images
    equal = [row for row, comparison in compared if comparison.indistinguishable]
    higher = [
        row for row, comparison in compared if not comparison.indistinguishable and (comparison.difference or 0) < 0
    ]
    others = f"{m} of {len(rest)} others" if m < len(rest) else f"all {m} others" if m > 1 else "the only other"
    if m == len(rest) == 1:
        others += f" {unit}"
    over_seeds = " and seeds" if any(comparison.over_seeds for _, comparison in compared) else ""
    if higher:
        answer = "No"
        sentence = (
            f"{len(higher)} of {m} other {unit}s score{'s' * (len(higher) == 1)} higher on the same {images} test "
            "images, by more than chance explains, though lower on validation."
        )
    elif equal:
        answer = "Not certain"
        sentence = (
            f"On the same {images} test images, {len(equal)} of {m} other {unit}s may be as good: the difference may "
            "be chance."
        )
    else:
        answer = f"Yes, on these images{over_seeds}"
        sentence = f"On the same {images} test images it beats {others} by more than chance explains."
    if left := len(rest) - m:
        sentence += f" {left} more cannot be compared: see the leaderboard."
    labels = [collection.setting_label(row) for row in higher or equal]
    return {"answer": answer, "sentence": sentence, "others": labels}
