"""What a reader must know before trusting the numbers: images left out, failed runs, a best setting to doubt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.runs.rules import HARDLY_TRAINED, UNDERCONFIDENT, printable
from reports import columns
from reports.collection import Collection
from reports.runs import Run
from reports.stats.leaderboard import Row
from reports.stats.selection import selection
from reports.values import strings

# Of a score; three digits are shown.
LEAST_EXCESS = 0.0005

# Most runs and files that a caveat lists by name.
NAMED = 6


@dataclass(frozen=True)
class Caveat:
    text: str
    details: tuple[str, ...] = ()
    is_grave: bool = True  # the numbers may mislead; False: good to know


def caveats(collection: Collection) -> list[Caveat]:
    """All caveats of the runs, the grave ones first."""
    runs = [row.run for row in collection.rows]
    all_caveats = [
        *_near_guessing(collection),
        *_unfinished(collection),
        *_damaged(collection),
        *_skipped(runs),
        *_by_text(collection, "Something went wrong after training: {}", _problems),
        *_by_text(collection, "A split is not the data set's own. {}.", _cut_splits),
        *_lost_seeds(collection),
        *_below_probe(collection),
        *_hardly_trained(collection),
        *_chosen_by_validation(collection),
        *_out_of_memory(collection),
        *_different(collection, "data sets", lambda run: run.part("data").get("fingerprint")),
        *_different(collection, "initial weights", lambda run: run.part("weights").get("digest"), is_grave=False),
        *_different(collection, "versions of the code", lambda run: run.part("git").get("commit"), is_grave=False),
        *_changed_code(collection),
        *_one_seed(collection),
    ]
    return sorted(all_caveats, key=lambda caveat: not caveat.is_grave)


def _unfinished(collection: Collection) -> Iterator[Caveat]:
    by_state: dict[str, list[Row]] = {}
    for row in collection.board.others:
        by_state.setdefault(printable(row.run.state), []).append(row)
    for state, rows in by_state.items():
        if state == "finished":
            sentence = f"{_count(len(rows))} finished, but cannot be ranked."
        elif state == "running":
            sentence = f"{_count(len(rows))} still running or killed; not ranked."
        elif state == "unknown":
            sentence = f"{_count(len(rows))} without a state in summary.json; not ranked."
        else:
            sentence = f"{_count(len(rows))} ended as {state}; not ranked."
        details = [f"{collection.label(row.run)}: {row.no_place}" for row in rows]
        yield Caveat(sentence, _first(details), is_grave=state not in ("running", "stopped"))


def _damaged(collection: Collection) -> Iterator[Caveat]:
    """Finished runs with damaged or missing files; an unfinished run's are part of the reason why it has no place."""
    details = [
        f"{collection.label(row.run)}: {printable('; '.join(row.run.problems))}"
        for row in collection.board.finished
        if row.run.problems
    ]
    if details:
        yield Caveat(f"Files of {_count(len(details))} are damaged or missing.", _first(details))


def _skipped(runs: list[Run]) -> Iterator[Caveat]:
    """Images that could not be read; listed once, because most runs of a sweep share them."""
    skipped: dict[str, str] = {}
    for run in runs:
        files = run.part("data").get("skipped")
        skipped |= (
            {printable(file): printable(why) for file, why in files.items()} if isinstance(files, Mapping) else {}
        )
    if skipped:
        one = len(skipped) == 1
        counted = f"{len(skipped)} image{'' if one else 's'} could not be read and {'was' if one else 'were'}"
        yield Caveat(f"{counted} left out.", _first([f"{file}: {why}" for file, why in sorted(skipped.items())]))


def _problems(run: Run) -> Iterable[str]:
    return [f"{printable(name)}: {printable(problem)}" for name, problem in run.part("problems").items()]


def _cut_splits(run: Run) -> Iterable[str]:
    return [note for note in strings(run.manifest.get("notes")) if "set aside" in note]


def _below_probe(collection: Collection) -> Iterator[Caveat]:
    """Runs with a lower test F1 than the linear probe that their head started from."""
    details = []
    for row in collection.board.finished:
        gain, high = (row.run.metric(f"probe/{name}") for name in ("gain", "gain_high"))
        if gain is not None and gain < 0:
            certain = " beyond its interval" if high is not None and high < 0 else ", within its interval"
            details.append(f"{collection.label(row.run)}: test F1 {gain:+.4f}{certain}")
    if details:
        yield Caveat(
            f"{_count(len(details))} scored below the linear probe that the head started from.", _first(details)
        )


def _by_text(collection: Collection, sentence: str, texts_of: Callable[[Run], Iterable[str]]) -> Iterator[Caveat]:
    """One caveat per text, with the runs that have it unless all do."""
    by_text: dict[str, list[str]] = {}
    for row in collection.rows:
        for text in texts_of(row.run):
            by_text.setdefault(text, []).append(collection.label(row.run))
    for text, labels in by_text.items():
        yield Caveat(sentence.format(text), () if len(labels) == len(collection.rows) else _first(labels))


def _lost_seeds(collection: Collection) -> Iterator[Caveat]:
    """Settings of which some seeds ended without a result: which ones do depends on how good they are."""
    details = []
    for row in collection.board.ranked:
        lost = [run.state for run in row.setting.others if run.state in ("stopped", "infeasible")]
        if lost:
            details.append(f"{collection.setting_label(row)}: {len(lost)} of {len(row.rows)} seeds")
    if details:
        yield Caveat(
            f"Seeds of {len(details)} setting{'s' * (len(details) != 1)} were pruned or could not be trained. Means "
            "are of the other seeds, and therefore too good.",
            _first(details),
        )


def _out_of_memory(collection: Collection) -> Iterator[Caveat]:
    details = []
    for row in collection.rows:
        used, batch, processes = (
            row.run.metric("micro_batch"),
            row.run.config.get("batch_size"),
            row.run.manifest.get("processes"),
        )
        if used is None or not isinstance(batch, int) or not isinstance(processes, int) or processes < 1:
            continue
        configured = row.run.config.get("micro_batch")
        expected = configured if isinstance(configured, int) else math.ceil(batch / processes)
        if used < expected:
            details.append(f"{collection.label(row.run)}: micro-batches of {used:.0f} instead of {expected}")
    if details:
        yield Caveat(
            f"Memory ran out in {_count(len(details))}, which continued with smaller micro-batches. They are "
            "slower; the global batch and the result are the same.",
            _first(details),
            is_grave=False,
        )


def _different(
    collection: Collection, what: str, fact: Callable[[Run], Any], *, is_grave: bool = True
) -> Iterator[Caveat]:
    by_value = collection.labels_by(lambda run: None if (value := fact(run)) is None else json.dumps(value))
    if len(by_value) > 1:
        details = [f"{value.strip(chr(34))[:12]}: {_count(len(labels))}" for value, labels in by_value.items()]
        yield Caveat(f"The runs have {len(by_value)} different {what}.", _first(details), is_grave)


def _changed_code(collection: Collection) -> Iterator[Caveat]:
    changed = sum(row.run.part("git").get("changed") is True for row in collection.rows)
    if changed:
        yield Caveat(f"{_count(changed)} started from code with changes that were not committed.", is_grave=False)


def _one_seed(collection: Collection) -> Iterator[Caveat]:
    settings = collection.board.ranked
    single = [row for row in settings if row.setting.score.n == 1]
    seeds = {json.dumps(row.setting.best.config["seed"]) for row in single if "seed" in row.setting.best.config}
    if single and len(single) == len(settings) and seeds:
        which = f" ({seeds.pop()})" if len(seeds) == 1 else ""
        yield Caveat(
            f"Each setting was trained with one seed{which}. The variation between seeds is not measured, and no "
            "interval includes it.",
            is_grave=False,
        )
    elif single and seeds:
        yield Caveat(
            f"{len(single)} of {len(settings)} settings have one seed: their intervals are over images alone.",
            _first([collection.setting_label(row) for row in single]),
            is_grave=False,
        )


def _near_guessing(collection: Collection) -> Iterator[Caveat]:
    """A best setting whose test macro F1 may be that of guesses: 1 / classes, if classes have equally many images."""
    best = collection.best
    if best is None or best.predictions.problem:
        return
    f1, classes = collection.board.ranked[0].setting.test_f1, len(best.predictions.classes)
    if classes > 1 and f1.mean is not None and f1.low is not None and f1.low <= 1 / classes:
        yield Caveat(
            f"The best setting may be no better than guessing: its test macro F1 is {columns.number(f1.mean)}, 95 % "
            f"interval {columns.span(f1.low, f1.high)}; guessing gives about {1 / classes:.3g}."
        )


def _hardly_trained(collection: Collection) -> Iterator[Caveat]:
    """A winner whose validation loss is not far below that of guessing; under-confident ones need more training."""
    best = collection.best
    loss, classes = (best.metric("best/val_loss"), best.part("data").get("classes")) if best else (None, None)
    guessing = math.log(max(classes, 2)) if isinstance(classes, int) else math.inf
    if best and loss is not None and loss > HARDLY_TRAINED * guessing:
        numbers = f"its validation loss is {loss:.2f}; guessing among {classes} classes has {guessing:.2f}."
        if (best.metric("test/temperature") or 1) < UNDERCONFIDENT:
            text = f"The best run is hardly trained: {numbers} Train longer, or with a higher learning rate."
            yield Caveat(text, ("Its probabilities are under-confident.",))
        else:  # the loss may come from confident errors, which longer training does not lower
            yield Caveat(f"The best run has a high loss: {numbers}")


def _chosen_by_validation(collection: Collection) -> Iterator[Caveat]:
    """By how much the winner's validation score is too high, unless that is less than the digits show."""
    ranked = collection.board.ranked
    if collection.board.metric == "best/val_f1" and (found := selection(ranked)) and found.excess >= LEAST_EXCESS:
        yield Caveat(
            f"The best of {len(ranked)} settings was chosen by its validation F1, which is therefore about "
            f"{found.excess:.3f} too high (simulated for {found.images} validation images). Its test scores did not "
            "choose it.",
            is_grave=False,
        )


def _first(details: list[str]) -> tuple[str, ...]:
    """At most NAMED of the details, and how many more there are."""
    more = len(details) - NAMED
    return (*details[:NAMED], f"and {more} more") if more > 0 else tuple(details)


def _count(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"
