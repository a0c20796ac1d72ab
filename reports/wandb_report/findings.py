"""What the numbers of many runs say, in words and tables of Markdown, in the order in which a person asks."""

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
from reports.runs import Run
from reports.stats.leaderboard import Leaderboard, Row, settings_columns, wide_columns
from reports.stats.mistakes import mistakes
from reports.values import is_number
from reports.wandb_report.markdown import bullets, code, escaped, table

# Confusions, classes and errors that are named.
NAMED = 10

# Values of a setting up to which their runs are told apart.
MOST_VALUES = 12

# Below, what a forest fitted to the runs says about settings is mostly chance.
FEW_RUNS = 20


def findings(collection: Collection) -> dict[str, str]:
    """Markdown by the title of its section; a section without anything to say is empty."""
    return {title: "\n\n".join(part for part in say(collection) if part) for title, say in SECTIONS.items()}


def warnings(collection: Collection) -> str:
    """What a reader has to know before the numbers, as a list; empty where there is nothing."""
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
        yield f"To make the best run again:\n\n{code(reproducing(collection.best))}"


def _what_mattered(collection: Collection) -> Iterator[str]:
    board = collection.board
    if len(board.finished) < 2:
        yield "There are not two finished runs to compare."
        return
    lines = []
    for name in board.settings:
        values = in_order([row for row in board.finished if name in row.settings], name)
        if 1 < len({one.text for one in values}) <= MOST_VALUES:
            for text, same in groupby(values, key=attrgetter("text")):
                scores = [one.row.metric for one in same if one.row.metric is not None]
                lines.append((name.replace("_", " "), text, str(len(scores)), scores[0], median(scores)))
    if lines:
        names, texts, counts, best, middle = zip(*lines, strict=True)
        yield table(
            [
                Column("setting", names, is_text=True),
                Column("value", texts),
                Column("runs", counts),
                Column("best", tuple(map(columns.number, best))),
                Column("median", tuple(map(columns.number, middle))),
            ]
        )
        yield escaped(
            f"Best and median of {board.metric}; runs with the same value differ in their other settings, too."
        )
    found = importance(collection)
    if isinstance(found, Importance):
        shares = ", ".join(f"{name.replace('_', ' ')} {share:.2f}" for name, share in found.shares.items())
        yield escaped(f"Importance by PED-ANOVA, the best {found.best} of {found.trials} trials: {shares}.")
    if len(board.finished) < FEW_RUNS:
        yield escaped(
            f"W&B's own importance comes from a random forest; from {len(board.finished)} runs either is a hint and no "
            "measurement."
        )


def _curves(collection: Collection) -> Iterator[str]:
    board = collection.board
    ends = [(row.run.metric("best/epoch"), row.run.config.get("epochs")) for row in board.finished]
    if ends and any(epochs != 1 for _, epochs in ends):
        last = sum(best is not None and best == epochs for best, epochs in ends)
        yield (
            f"Of {len(ends)} finished run{'s' * (len(ends) != 1)}, {last} had the best epoch at the very end: more "
            "epochs may help. Scores are those of each run's best epoch."
        )
    if infeasible := [row for row in board.others if row.run.state == "infeasible"]:
        yield "Settings that could not be trained:"
        yield bullets([f"{escaped(row.run.name)}: {escaped(row.reason)}" for row in infeasible[:NAMED]])


def _mistakes(collection: Collection) -> Iterator[str]:
    if collection.best is None:
        return
    said = collection.best.predictions
    if said.problem:
        yield f"The predictions of the best run cannot be shown: {escaped(said.problem)}."
        return
    found, names = mistakes(said), said.classes
    yield f"The best run names {found['wrong']} of {found['n']} test images wrongly."
    if not found["wrong"]:
        return
    yield "What it confuses most often:"
    pairs = [(names[truth], names[guess], count, truth) for truth, guess, count, _ in found["pairs"][:NAMED]]
    support = [numbers[5] for numbers in found["perClass"]]
    yield table(
        [
            Column("truth", tuple(truth for truth, *_ in pairs), is_text=True),
            Column("prediction", tuple(guess for _, guess, *_ in pairs), is_text=True),
            Column("pictures", tuple(f"{count} of {support[truth]}" for *_, count, truth in pairs)),
        ]
    )
    scores = [(one[0], name, one[5]) for one, name in zip(found["perClass"], names, strict=True) if one[5]]
    lowest = sorted(one for one in scores if one[0] < 1)[:NAMED]
    yield "The classes with the lowest F1:"
    yield table(
        [
            Column("class", tuple(name for _, name, _ in lowest), is_text=True),
            Column("F1", tuple(f"{score:.2f}" for score, *_ in lowest)),
            Column("pictures", tuple(str(count) for *_, count in lowest)),
        ]
    )
    surest = [found["pictures"][number] for number in found["errors"][:NAMED]]
    yield "The errors that it is surest of:"
    yield table(
        [
            Column("picture", tuple(file for file, *_ in surest), is_text=True),
            Column("truth", tuple(names[truth] for _, truth, *_ in surest), is_text=True),
            Column("prediction", tuple(names[guess] for _, _, guess, *_ in surest), is_text=True),
            Column("probability", tuple(columns.number(one[3], 3) for one in surest)),
        ]
    )


def _where_it_looks(collection: Collection) -> Iterator[str]:
    board = collection.board
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
        "Means over test images and heads of the last layer. Entropy is 0 where all attention is on one token; "
        "distance is that from a patch to where it looks. Maps may mislead where a few outlier patches dominate them."
    )


def _what_changed(collection: Collection) -> Iterator[str]:
    board = collection.board
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


def _provenance(collection: Collection) -> Iterator[str]:
    facts = [facts_of(row.run) for row in collection.rows]
    names = dict.fromkeys(name for found in facts for name in found)
    values = {name: dict.fromkeys(found.get(name, "not recorded") for found in facts) for name in names}
    shared = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    if shared:
        yield "Of all runs:"
        yield table([Column("", tuple(shared), is_text=True), Column("", tuple(shared.values()), is_text=True)])
    if differing := [name for name, found in values.items() if len(found) > 1]:
        yield "They differ in:"
        yield bullets([f"{escaped(name)}: {escaped('; '.join(list(values[name])[:NAMED]))}" for name in differing])


SECTIONS: dict[str, Callable[[Collection], Iterator[str]]] = {
    "Leaderboard": _leaderboard,
    "What mattered": _what_mattered,
    "Curves": _curves,
    "Mistakes": _mistakes,
    "Where it looks": _where_it_looks,
    "What changed": _what_changed,
    "Provenance": _provenance,
}


def _identity(board: Leaderboard, rows: Sequence[Row], but: str = "") -> list[Column]:
    """What tells runs apart: their settings, or their names where nothing varies."""
    names = [name for name in board.settings if name != but]
    return settings_columns(names, rows) or [Column("run", tuple(row.run.name for row in rows), is_text=True)]


def _numbers(header: str, rows: Iterable[Row], key: str, form: str) -> Column:
    values = [row.run.metric(key) for row in rows]
    return Column(header, tuple("-" if value is None else form.format(value) for value in values))


def _learning_rate(run: Run) -> float:
    rate = run.config.get("lr")
    return float(rate) if is_number(rate) else 0.0
