"""Tables of a sweep's best run: top confusions, classes with the lowest F1, most confident errors."""

from __future__ import annotations

from collections.abc import Iterator

from reports import columns
from reports.collection import Collection
from reports.columns import Column
from reports.stats.mistakes import mistakes
from reports.wandb_report.markdown import escaped, table

# Most confusions, classes and errors that are listed.
LISTED = 10


def mistake_tables(collection: Collection) -> Iterator[str]:
    if collection.best is None:
        return
    predictions = collection.best.predictions
    if predictions.problem:
        yield f"The predictions of the best run cannot be shown: {escaped(predictions.problem)}."
        return
    found, names = mistakes(predictions), predictions.classes
    yield f"The best run predicts {found['wrong']} of {found['n']} test images wrong."
    if not found["wrong"]:
        return
    yield "Top confusions:"
    pairs = [(names[truth], names[guess], count, truth) for truth, guess, count, _ in found["pairs"][:LISTED]]
    support = [numbers[5] for numbers in found["perClass"]]
    yield table(
        [
            Column("truth", tuple(truth for truth, *_ in pairs), is_text=True),
            Column("prediction", tuple(guess for _, guess, *_ in pairs), is_text=True),
            Column("images", tuple(f"{count} of {support[truth]}" for *_, count, truth in pairs)),
        ]
    )
    scores = [
        (numbers[0], name, numbers[2], numbers[5])
        for numbers, name in zip(found["perClass"], names, strict=True)
        if numbers[5]
    ]
    lowest = sorted(score for score in scores if score[0] < 1)[:LISTED]
    yield "Classes with the lowest F1:"
    yield table(
        [
            Column("class", tuple(name for _, name, *_ in lowest), is_text=True),
            Column("F1", tuple(columns.number(score, 2) for score, *_ in lowest)),
            Column("recall", tuple(columns.number(recall, 2) for *_, recall, _ in lowest)),
            Column("images", tuple(str(count) for *_, count in lowest)),
        ]
    )
    errors = [found["pictures"][number] for number in found["errors"][:LISTED]]
    yield "Most confident errors:"
    yield table(
        [
            Column("image", tuple(file for file, *_ in errors), is_text=True),
            Column("truth", tuple(names[truth] for _, truth, *_ in errors), is_text=True),
            Column("prediction", tuple(names[guess] for _, _, guess, *_ in errors), is_text=True),
            Column("probability", tuple(columns.number(probability, 3) for *_, probability, _ in errors)),
        ]
    )
