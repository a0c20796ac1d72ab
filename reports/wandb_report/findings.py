"""Findings about many runs, as text and tables of Markdown, by section."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from statistics import median

from reports import columns
from reports.caveats import caveats
from reports.collection import Collection, in_order
from reports.columns import Column
from reports.command import reproducing
from reports.importance import Importance, importance
from reports.page.sections.provenance import facts_of
from reports.stats.leaderboard import Leaderboard, Row
from reports.stats.leaderboard_table import settings_columns, wide_columns
from reports.wandb_report.markdown import bullets, code, escaped, table
from reports.wandb_report.mistake_tables import LISTED, mistake_tables

# A setting with more values is left out of the table of effects.
MOST_VALUES = 12

# With fewer runs the importance of settings is mostly chance.
FEW_RUNS = 20


def findings(collection: Collection) -> dict[str, str]:
    """Markdown by the id of the section; empty for a section without findings."""
    return {section: "\n\n".join(part for part in parts(collection) if part) for section, parts in SECTIONS.items()}


def warnings(collection: Collection) -> str:
    """The caveats as a bullet list; empty if there are none."""
    lines = []
    for caveat in caveats(collection):
        details = f" ({'; '.join(caveat.details)})" if caveat.details else ""
        lines.append(escaped(f"{caveat.text.rstrip('.')}{details}."))
    return bullets(lines)


def _leaderboard(collection: Collection) -> Iterator[str]:
    board = collection.board
    yield from map(table, wide_columns(board))
    yield bullets([escaped(note.strip()) for note in board.notes])
    if collection.best:
        yield f"To train the best run again:\n\n{code(reproducing(collection.best))}"


def _effects(collection: Collection) -> Iterator[str]:
    board = collection.board
    if len(board.ranked) < 2:
        yield f"Fewer than two {board.unit}s have finished: nothing to compare."
        return
    lines = []
    for name in board.settings:
        values = in_order([row for row in board.ranked if name in row.settings], name)
        if 1 < len({each.text for each in values}) <= MOST_VALUES:
            for text, same in groupby(values, key=attrgetter("text")):
                scores = [score for each in same if (score := each.row.setting.score.mean) is not None]
                lines.append((columns.readable(name), text, str(len(scores)), scores[0], median(scores)))
    if lines:
        names, texts, counts, best, middle = zip(*lines, strict=True)
        yield table(
            [
                Column("setting", names, is_text=True),
                Column("value", texts),
                Column(f"{board.unit}s", counts),
                Column("best", tuple(map(columns.number, best))),
                Column("median", tuple(map(columns.number, middle))),
            ]
        )
        unit = "Means over seeds" if board.repeated else "Runs"
        yield escaped(f"Best and median {board.metric}. {unit} with the same value also differ in other settings.")
    result = importance(collection)
    if isinstance(result, Importance):
        unit = "settings" if result.of_settings else "trials"
        shares = ", ".join(f"{columns.readable(name)} {share:.2f}" for name, share in result.shares.items())
        yield escaped(f"Importance by PED-ANOVA, best {result.best} of {result.trials} {unit}: {shares}.")
    if len(board.finished) < FEW_RUNS:
        yield escaped(
            f"W&B computes its importance with a random forest. From {len(board.finished)} runs, either importance "
            "is a rough hint."
        )


def _curves(collection: Collection) -> Iterator[str]:
    board = collection.board
    epochs_of = [(row.run.metric("best/epoch"), row.run.config.get("epochs")) for row in board.finished]
    if epochs_of and any(epochs != 1 for _, epochs in epochs_of):
        last = sum(best is not None and best == epochs for best, epochs in epochs_of)
        yield (
            f"Of {len(epochs_of)} finished run{'s' * (len(epochs_of) != 1)}, {last} had the best epoch last: more "
            "epochs may help. Scores are those of the best epoch of each run."
        )
    if infeasible := [row for row in board.others if row.run.state == "infeasible"]:
        yield "Runs whose settings could not be trained:"
        yield bullets([f"{escaped(row.run.name)}: {escaped(row.reason)}" for row in infeasible[:LISTED]])


def _gallery(collection: Collection) -> Iterator[str]:
    board = collection.board
    with_maps = [row for row in board.finished if row.run.metric("attention/n")]
    if not with_maps:
        return
    yield table(
        [
            *_identity(board, with_maps),
            _numbers("images", with_maps, "attention/n", "{:.0f}"),
            _numbers("entropy, nats", with_maps, "attention/entropy", "{:.2f}"),
            _numbers("distance, pixels", with_maps, "attention/distance", "{:.1f}"),
            _numbers("maps may mislead", with_maps, "attention/misleading", "{:.1%}"),
        ]
    )
    yield (
        "Means over test images and heads of the last layer. Entropy: 0 if all attention is on one token. Distance: "
        "from a patch to the patches that it attends to. Maps may mislead where a few outlier patches dominate them."
    )


def _positions(collection: Collection) -> Iterator[str]:
    board = collection.board
    measured = [row for row in board.finished if isinstance(row.run.summary.get("positions/verdict"), str)]
    if not measured:
        return
    measured.sort(key=lambda row: row.run.learning_rate or 0.0)
    yield table(
        [
            Column("lr", columns.spelled([row.run.config.get("lr", "?") for row in measured])),
            *_identity(board, measured, without="lr"),
            Column("verdict", tuple(str(row.run.summary["positions/verdict"]) for row in measured), is_text=True),
            _numbers("|ΔP| / |P|", measured, "positions/change", "{:.3g}"),
            _numbers("locality", measured, "positions/locality", "{:.2f}"),
            _numbers("decoded, R²", measured, "positions/decoding", "{:.2f}"),
            _numbers("strength", measured, "positions/strength", "{:.2f}"),
        ]
    )
    yield (
        "The position embeddings after fine-tuning, by learning rate. The figure of the position embeddings has the "
        "rule of the verdict and the range of each number by chance."
    )


def _evidence(collection: Collection) -> Iterator[str]:
    """A column for each claim that `harness verify` tested, from the summaries, which W&B has too."""
    board, ending = collection.board, "_verdict"
    names = dict.fromkeys(
        key.removesuffix(ending)
        for row in board.finished
        for key in row.run.summary
        if key.startswith("evidence/") and key.endswith(ending)
    )
    verified = [row for row in board.finished if any(f"{name}{ending}" in row.run.summary for name in names)]
    if not verified:
        return

    def verdict_cell(row: Row, name: str) -> str:
        verdict, number = row.run.summary.get(f"{name}{ending}", "-"), row.run.metric(name)
        return str(verdict) if number is None else f"{verdict} ({number:.3f})"

    yield table(
        [
            *_identity(board, verified),
            *(
                Column(
                    name.removeprefix("evidence/").replace("_", " "),
                    tuple(verdict_cell(row, name) for row in verified),
                    is_text=True,
                )
                for name in names
            ),
        ]
    )
    yield (
        "Verdicts of claims about each model and its attention maps, with the number that decides. Intervals, numbers "
        "of images and rules: evidence.json in the run folder, and the page of `harness report`."
    )


def _provenance(collection: Collection) -> Iterator[str]:
    facts = [facts_of(row.run) for row in collection.rows]
    names = dict.fromkeys(name for found in facts for name in found)
    values = {name: dict.fromkeys(found.get(name, "not recorded") for found in facts) for name in names}
    shared = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    if shared:
        yield "Common to all runs:"
        yield table([Column("", tuple(shared), is_text=True), Column("", tuple(shared.values()), is_text=True)])
    if differing := [name for name, found in values.items() if len(found) > 1]:
        yield "Differences between the runs:"
        yield bullets([f"{escaped(name)}: {escaped('; '.join(list(values[name])[:LISTED]))}" for name in differing])


# By the id of the section, whose title is in reports.page.section.
SECTIONS: dict[str, Callable[[Collection], Iterator[str]]] = {
    "leaderboard": _leaderboard,
    "effects": _effects,
    "curves": _curves,
    "mistakes": mistake_tables,
    "gallery": _gallery,
    "positions": _positions,
    "evidence": _evidence,
    "provenance": _provenance,
}


def _identity(board: Leaderboard, rows: Sequence[Row], without: str = "") -> list[Column]:
    """Columns that identify a run: its settings, or its name if no setting varies."""
    names = [name for name in board.run_settings if name != without]
    return settings_columns(names, [row.settings for row in rows]) or [
        Column("run", tuple(row.run.name for row in rows), is_text=True)
    ]


def _numbers(header: str, rows: Iterable[Row], key: str, form: str) -> Column:
    values = [row.run.metric(key) for row in rows]
    return Column(header, tuple("-" if value is None else form.format(value) for value in values))
