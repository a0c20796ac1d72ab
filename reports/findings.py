"""What the numbers of many runs say, in words and tables of Markdown, in the order in which a person asks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from reports import columns
from reports.columns import Column
from reports.leaderboard import Leaderboard, Row, settings_columns, wide_columns
from reports.markdown import bullets, escaped, table
from reports.runs import Predictions, Run, shown

# Confusions, classes and errors that are named.
NAMED = 10

# Values of a setting up to which their runs are told apart.
MOST_VALUES = 12

# Below, what a forest fitted to the runs says about settings is mostly chance.
FEW_RUNS = 20

# Entries of a manifest, as they are called where people read.
PROVENANCE = {
    "started": "started",
    "versions": "versions",
    "git": "code",
    "hardware": "hardware",
    "device": "device",
    "processes": "processes",
    "precision": "precision",
    "data": "data",
    "weights": "weights",
}


def findings(board: Leaderboard) -> dict[str, str]:
    """Markdown by the title of its section; a section without anything to say is empty."""
    return {title: "\n\n".join(part for part in say(board) if part) for title, say in SECTIONS.items()}


def warnings(board: Leaderboard) -> list[str]:
    """What a reader has to know before the numbers: runs that are not finished, damaged files, pictures left out."""
    said = []
    for state, count in sorted(Counter(row.run.state for row in board.others).items()):
        said.append(f"{count} of {len(_rows(board))} runs {'is' if count == 1 else 'are'} {escaped(state)}.")
    notes: dict[str, list[str]] = {}
    for row in _rows(board):
        for note in _notes(row.run):
            notes.setdefault(note, []).append(row.run.name)
    for note, names in notes.items():
        whose = "all runs" if len(names) == len(_rows(board)) else ", ".join(names[:3]) + ", ..." * (len(names) > 3)
        said.append(f"{escaped(whose)}: {escaped(note)}")
    return said


def _leaderboard(board: Leaderboard) -> Iterator[str]:
    yield from map(table, wide_columns(board))
    yield bullets([escaped(note.strip()) for note in board.notes])


def _what_mattered(board: Leaderboard) -> Iterator[str]:
    if len(board.finished) < 2:
        yield "There are not two finished runs to compare."
        return
    lines = []
    for name in board.settings:
        groups: dict[str, list[Row]] = {}
        for row in board.finished:
            groups.setdefault(json.dumps(row.settings.get(name), sort_keys=True, default=str), []).append(row)
        if not 1 < len(groups) <= MOST_VALUES:
            continue
        spelled = columns.spelled([rows[0].settings.get(name) for rows in groups.values()])
        found = sorted(zip(spelled, groups.values(), strict=True), key=lambda one: one[1][0].place or 0)
        for value, rows in found:
            scores = [row.metric for row in rows if row.metric is not None]
            lines.append((name.replace("_", " "), value, str(len(rows)), scores[0], median(scores)))
    if lines:
        names, values, counts, best, middle = zip(*lines, strict=True)
        yield table(
            [
                Column("setting", names, is_text=True),
                Column("value", values),
                Column("runs", counts),
                Column(f"best {board.metric}", tuple(map(columns.number, best))),
                Column("median", tuple(map(columns.number, middle))),
            ]
        )
        yield "Runs with the same value differ in their other settings, too."
    if len(board.finished) < FEW_RUNS:
        yield (
            f"W&B estimates importance with a random forest; from {len(board.finished)} runs it is a hint and no "
            "measurement."
        )


def _curves(board: Leaderboard) -> Iterator[str]:
    if not board.finished:
        return
    ends = [(row.run.metric("best/epoch"), row.run.config.get("epochs")) for row in board.finished]
    last = sum(best is not None and best == epochs for best, epochs in ends)
    yield (
        f"{last} of {len(ends)} finished runs were best in their last epoch: more epochs may help them. Scores are "
        "those of each run's best epoch."
    )
    if infeasible := [row for row in board.others if row.run.state == "infeasible"]:
        yield "Settings that could not be trained:"
        yield bullets([f"{escaped(row.run.name)}: {escaped(row.reason)}" for row in infeasible[:NAMED]])


def _mistakes(board: Leaderboard) -> Iterator[str]:
    if not board.finished:
        return
    said = board.finished[0].run.predictions
    if said.problem:
        yield f"The predictions of the best run cannot be shown: {escaped(said.problem)}."
        return
    wrong = [number for number in range(len(said)) if said.labels[number] != said.predicted[number]]
    yield f"The best run names {len(wrong)} of {len(said)} test pictures wrongly."
    if not wrong:
        return
    pairs = Counter((int(said.labels[number]), int(said.predicted[number])) for number in wrong).most_common(NAMED)
    pictures = Counter(said.labels.tolist())
    yield "What it confuses most often:"
    yield table(
        [
            Column("truth", tuple(said.classes[truth] for (truth, _), _ in pairs), is_text=True),
            Column("prediction", tuple(said.classes[guess] for (_, guess), _ in pairs), is_text=True),
            Column("pictures", tuple(f"{count} of {pictures[truth]}" for (truth, _), count in pairs)),
        ]
    )
    yield "The classes with the lowest F1:"
    scores = sorted(_class_scores(said).items(), key=lambda one: one[1])[:NAMED]
    yield table(
        [
            Column("class", tuple(said.classes[label] for label, _ in scores), is_text=True),
            Column("F1", tuple(f"{score:.2f}" for _, score in scores)),
            Column("pictures", tuple(str(pictures[label]) for label, _ in scores)),
        ]
    )
    yield "The errors that it is surest of:"
    surest = sorted(wrong, key=lambda number: -said.probabilities[number])[:NAMED]
    yield table(
        [
            Column("picture", tuple(said.files[number] for number in surest), is_text=True),
            Column("truth", tuple(said.classes[said.labels[number]] for number in surest), is_text=True),
            Column("prediction", tuple(said.classes[said.predicted[number]] for number in surest), is_text=True),
            Column("probability", tuple(f"{said.probabilities[number]:.3f}" for number in surest)),
        ]
    )


def _where_it_looks(board: Leaderboard) -> Iterator[str]:
    looked = [row for row in board.finished if row.run.metric("attention/n")]
    if not looked:
        return
    yield table(
        [
            *_identity(board, looked),
            _numbers("pictures", looked, "attention/n", "{:.0f}"),
            _numbers("entropy, nats", looked, "attention/entropy", "{:.2f}"),
            _numbers("distance, pixels", looked, "attention/distance", "{:.1f}"),
            _numbers("maps may mislead", looked, "attention/misleading", "{:.1%}"),
        ]
    )
    yield (
        "Means over test pictures and heads of the last layer. Entropy is 0 where all attention is on one token; "
        "distance is that from a patch to where it looks. Maps may mislead where a few outlier patches dominate them."
    )


def _what_changed(board: Leaderboard) -> Iterator[str]:
    compared = [row for row in board.finished if isinstance(row.run.summary.get("positions/verdict"), str)]
    if not compared:
        return
    compared.sort(key=lambda row: _learning_rate(row.run))
    yield table(
        [
            Column("lr", columns.spelled([row.run.config.get("lr", "?") for row in compared])),
            *_identity(board, compared, but="lr"),
            Column("verdict", tuple(str(row.run.summary["positions/verdict"]) for row in compared), is_text=True),
            _numbers("|ΔP| / |P|", compared, "positions/change", "{:.3g}"),
            _numbers("locality", compared, "positions/locality", "{:.2f}"),
            _numbers("place decoded, R²", compared, "positions/decoding", "{:.2f}"),
            _numbers("strength", compared, "positions/strength", "{:.2f}"),
        ]
    )
    yield (
        "The position embedding after fine-tuning, by learning rate. The verdict's rule and the range of each number "
        "by chance stand on the figure of positions."
    )


def _provenance(board: Leaderboard) -> Iterator[str]:
    if not board.finished:
        return
    manifest = board.finished[0].run.manifest
    known = {title: _spoken(manifest[name]) for name, title in PROVENANCE.items() if manifest.get(name)}
    if known:
        yield "Of the best run:"
        yield table([Column("", tuple(known), is_text=True), Column("", tuple(known.values()), is_text=True)])
    prints = {row.run.manifest["data"].get("fingerprint") for row in board.finished if _has_data(row.run)}
    if len(prints) > 1:
        yield f"The runs were made with {len(prints)} different data sets."
    if isinstance(command := manifest.get("command"), str):
        yield f"It was made by\n\n    {shown(command)}"


SECTIONS: dict[str, Callable[[Leaderboard], Iterator[str]]] = {
    "Leaderboard": _leaderboard,
    "What mattered": _what_mattered,
    "Curves": _curves,
    "Mistakes": _mistakes,
    "Where it looks": _where_it_looks,
    "What changed": _what_changed,
    "Provenance": _provenance,
}


def _rows(board: Leaderboard) -> tuple[Row, ...]:
    return (*board.finished, *board.others)


def _identity(board: Leaderboard, rows: Sequence[Row], but: str = "") -> list[Column]:
    """What tells runs apart: their settings, or their names where nothing varies."""
    names = [name for name in board.settings if name != but]
    return settings_columns(names, rows) or [Column("run", tuple(row.run.name for row in rows), is_text=True)]


def _numbers(header: str, rows: Iterable[Row], key: str, form: str) -> Column:
    values = [row.run.metric(key) for row in rows]
    return Column(header, tuple("-" if value is None else form.format(value) for value in values))


def _learning_rate(run: Run) -> float:
    rate = run.config.get("lr")
    return float(rate) if isinstance(rate, int | float) else 0.0


def _class_scores(said: Predictions) -> dict[int, float]:
    """F1 of each class that test pictures show."""
    shown_, named = Counter(said.labels.tolist()), Counter(said.predicted.tolist())
    hits = Counter(said.labels[said.labels == said.predicted].tolist())
    return {label: 2 * hits[label] / (shown_[label] + named[label]) for label in shown_}


def _has_data(run: Run) -> bool:
    return isinstance(run.manifest.get("data"), dict)


def _notes(run: Run) -> Iterator[str]:
    yield from run.problems
    notes, problems = run.manifest.get("notes"), run.manifest.get("problems")
    if isinstance(notes, list):
        yield from map(str, notes)
    if isinstance(problems, dict):
        yield from map(str, problems.values())
    if _has_data(run) and (skipped := run.manifest["data"].get("skipped")):
        count = len(skipped) if isinstance(skipped, list | dict) else skipped
        yield f"{count} pictures could not be read and were left out"


def _spoken(value: Any) -> str:
    """A part of a manifest as text: nested entries by their names, long lists by their length."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_spoken(item)}" for name, item in value.items() if item not in (None, "", [], {}))
    if isinstance(value, list):
        return f"{len(value)}" if len(value) > 3 else ", ".join(map(_spoken, value))
    return columns.value(value)
