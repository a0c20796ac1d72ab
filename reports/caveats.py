"""What a reader must know before trusting the numbers: images left out, failed runs, differences between runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.runs.rules import printable
from reports.caveat import Caveat, count_runs, first
from reports.caveats_of_best import chosen_by_validation, hardly_trained, near_guessing
from reports.collection import Collection
from reports.runs import Run
from reports.stats.leaderboard import Row
from reports.values import strings


def caveats(collection: Collection) -> list[Caveat]:
    """All caveats of the runs, the grave ones first."""
    runs = [row.run for row in collection.rows]
    all_caveats = [
        *near_guessing(collection),
        *_unfinished(collection),
        *_damaged(collection),
        *_skipped(runs),
        *_by_text(collection, "Something went wrong after training: {}", _problems),
        *_by_text(collection, "A split is not the data set's own. {}.", _cut_splits),
        *_lost_seeds(collection),
        *_below_probe(collection),
        *hardly_trained(collection),
        *chosen_by_validation(collection),
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
            sentence = f"{count_runs(len(rows))} finished, but cannot be ranked."
        elif state == "running":
            sentence = f"{count_runs(len(rows))} still running or killed; not ranked."
        elif state == "unknown":
            sentence = f"{count_runs(len(rows))} without a state in summary.json; not ranked."
        else:
            sentence = f"{count_runs(len(rows))} ended as {state}; not ranked."
        details = [f"{collection.label(row.run)}: {row.no_place}" for row in rows]
        yield Caveat(sentence, first(details), is_grave=state not in ("running", "stopped"))


def _damaged(collection: Collection) -> Iterator[Caveat]:
    """Finished runs with damaged or missing files; an unfinished run's are part of the reason why it has no place."""
    details = [
        f"{collection.label(row.run)}: {printable('; '.join(row.run.problems))}"
        for row in collection.board.finished
        if row.run.problems
    ]
    if details:
        yield Caveat(f"Files of {count_runs(len(details))} are damaged or missing.", first(details))


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
        yield Caveat(f"{counted} left out.", first([f"{file}: {why}" for file, why in sorted(skipped.items())]))


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
            f"{count_runs(len(details))} scored below the linear probe that the head started from.", first(details)
        )


def _by_text(collection: Collection, sentence: str, texts_of: Callable[[Run], Iterable[str]]) -> Iterator[Caveat]:
    """One caveat per text, with the runs that have it unless all do."""
    by_text: dict[str, list[str]] = {}
    for row in collection.rows:
        for text in texts_of(row.run):
            by_text.setdefault(text, []).append(collection.label(row.run))
    for text, labels in by_text.items():
        yield Caveat(sentence.format(text), () if len(labels) == len(collection.rows) else first(labels))


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
            first(details),
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
            f"Memory ran out in {count_runs(len(details))}, which continued with smaller micro-batches. They are "
            "slower; the global batch and the result are the same.",
            first(details),
            is_grave=False,
        )


def _different(
    collection: Collection, what: str, fact: Callable[[Run], Any], *, is_grave: bool = True
) -> Iterator[Caveat]:
    by_value: dict[str, list[str]] = {}
    for row in collection.rows:
        if (value := fact(row.run)) is not None:
            by_value.setdefault(json.dumps(value), []).append(collection.label(row.run))
    if len(by_value) > 1:
        details = [f"{value.strip(chr(34))[:12]}: {count_runs(len(labels))}" for value, labels in by_value.items()]
        yield Caveat(f"The runs have {len(by_value)} different {what}.", first(details), is_grave)


def _changed_code(collection: Collection) -> Iterator[Caveat]:
    changed = sum(row.run.part("git").get("changed") is True for row in collection.rows)
    if changed:
        yield Caveat(f"{count_runs(changed)} started from code with changes that were not committed.", is_grave=False)


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
            first([collection.setting_label(row) for row in single]),
            is_grave=False,
        )
