"""The result of a leaderboard in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.runs.resampling import LEVEL
from harness.runs.rules import printable
from reports import columns
from reports.stats.comparison import Comparison
from reports.stats.setting import SEED, in_words

if TYPE_CHECKING:
    from reports.stats.leaderboard import Leaderboard, SettingRow

# Most settings that the notes list by name.
NAMED = 10

NOT_TESTED = "It has no score on test images."


def notes(board: Leaderboard) -> Iterator[str]:
    """Of a board with a ranked setting: one sentence or more per line."""
    best, *rest = board.ranked
    yield from _best(board, best)
    yield from _above_probe(board)
    if board.metric.startswith("test/"):
        yield "The test images chose it: its lead on them is overstated, and the numbers below do not correct that."
    if not rest:
        yield f"No other {board.unit} has finished: there is nothing to compare it with."
    compared = [(row, row.comparison) for row in rest if row.comparison]
    if comparable := [(row, comparison) for row, comparison in compared if comparison.comparable]:
        yield from _significance(board, comparable)
    for row, comparison in [(row, comparison) for row, comparison in compared if not comparison.comparable][:NAMED]:
        yield f"{row.place} is not compared with the best: {comparison.reason}."


def name_of(row: SettingRow) -> str:
    """The values that distinguish a setting; if there are none, the folder of its best run."""
    folder = printable(row.setting.best.name)
    return in_words(row.settings) or (folder if len(row.rows) == 1 else f"the setting of {folder}")


def seeds_of(row: SettingRow) -> str:
    """How many seeds have finished: "3", or "2 of 3"."""
    n, begun = row.setting.score.n, len(row.rows)
    return str(n) if n == begun else f"{n} of {begun}"


def _best(board: Leaderboard, row: SettingRow) -> Iterator[str]:
    metric, setting = printable(board.metric), row.setting
    images = f"{setting.best.metric('test/n') or 0:.0f}"
    f1, interval = columns.number(setting.test_f1.mean), columns.span(setting.test_f1.low, setting.test_f1.high)
    if len(row.rows) == 1:
        tested = f"Test macro F1 {f1}, 95 % interval {interval}, n = {images}."
        yield f"Best by {metric}: {name_of(row)}. {tested if setting.test_f1.n else NOT_TESTED}"
        return
    n, seeds = setting.score.n, seeds_of(row)
    tested = (
        f"Mean test macro F1 {f1}, sd {columns.number(setting.test_f1.sd)}, 95 % interval {interval} over "
        f"{f'{n} seeds and {images} images' if n > 1 else f'{images} images alone'}."
    )
    yield (
        f"Best by mean {metric}: {name_of(row)}. Mean {columns.number(setting.score.mean)}, "
        f"sd {columns.number(setting.score.sd)}, n = {seeds} seeds. {tested if setting.test_f1.n else NOT_TESTED}"
    )
    seed = columns.value(setting.best.config.get(SEED))
    yield f"Its best seed by {metric} is {seed} ({printable(setting.best.name)}): the best model of the sweep."


def _above_probe(board: Leaderboard) -> Iterator[str]:
    """What the best setting adds to the linear probe; of one seed that started from it with an interval."""
    setting = board.ranked[0].setting
    gain = setting.pooled("probe/gain")
    if gain.n > 1:
        average = f"{gain.mean:+.4f} on average (sd {columns.number(gain.sd)})"
        yield f"Its {gain.n} seeds add {average} to the test macro F1 of their linear probe."
    elif gain.mean is not None:
        low, high = (setting.pooled(f"probe/gain_{side}").mean for side in ("low", "high"))
        interval = "-" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
        yield f"It adds {gain.mean:+.4f} to the test macro F1 of its linear probe, 95 % interval {interval}."
    elif scores := [probe.test_f1 for probe in board.probes if probe.test_f1 is not None]:
        f1 = setting.test_f1.mean
        difference = "-" if f1 is None else f"{f1 - max(scores):+.4f}"
        yield f"Compared with the linear probe: {difference}, without an interval: it did not start from the probe."


def _significance(board: Leaderboard, compared: Sequence[tuple[SettingRow, Comparison]]) -> Iterator[str]:
    """Which settings may be as good as the best, and how that was decided."""
    m, images = len(compared), compared[0][1].images
    equal = [(row, comparison) for row, comparison in compared if comparison.indistinguishable]
    lower = sum(not comparison.indistinguishable and (comparison.difference or 0) > 0 for _, comparison in compared)
    higher = m - len(equal) - lower
    sentence = f"On the same {images} test images, {len(equal)} of {m} other {board.unit}s may be as good by "
    sentence += "mean macro F1" if board.repeated else "macro F1"
    if lower:
        sentence += f"; {lower} score lower"
    if higher:
        sentence += f"; {higher} score higher, unlike on validation"
    yield f"{sentence}. The best minus each of these:" if equal else f"{sentence}."
    for row, comparison in equal[:NAMED]:
        if comparison.differing:
            interval, p = columns.span(comparison.low, comparison.high), columns.p_value(comparison.p_holm)
            found = f"{columns.number(comparison.difference)}, 95 % interval {interval}, p {p}"
        else:
            found = "identical predictions"
        yield f"  {row.place} ({name_of(row)}): {found}"
    if len(equal) > NAMED:
        yield f"  and {len(equal) - NAMED} more"
    yield " ".join(_method(board, [comparison for _, comparison in compared]))


def _method(board: Leaderboard, comparisons: Sequence[Comparison]) -> Iterator[str]:
    m = len(comparisons)
    over_seeds = [comparison.over_seeds for comparison in comparisons]
    swaps = "a two-sided permutation test swaps the predictions of the two runs at random, image by image."
    if any(over_seeds):
        yield (
            "How: a two-sided t-test of the mean macro F1 over seeds and images, which are crossed (Obuchowski & "
            "Rockette 1995), paired by image, and by seed if both settings have the same seeds."
        )
        if not all(over_seeds):
            yield f"Between two settings with one seed each, {swaps}"
    else:
        yield f"How: {swaps}"
    yield (
        f"{board.unit.capitalize()}s differ if p is at most {1 - LEVEL:.2f} after Holm's correction for {m} "
        f"comparison{'s' * (m > 1)}."
    )
    if any(over_seeds):
        yield "Intervals are not corrected for the number of comparisons."
    else:
        yield "Intervals are by paired bootstrap, not corrected for the number of comparisons."
    if not all(over_seeds):
        yield "Other training seeds would differ more."
