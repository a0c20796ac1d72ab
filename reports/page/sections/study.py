"""The scores of the study that this program began with, beside the same settings here; and other differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.runs.rules import printable
from reports import columns
from reports.collection import Collection
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import Run
from reports.stats.leaderboard import SettingRow
from reports.stats.setting import Pooled, test_f1_of
from reports.values import is_number


@dataclass(frozen=True)
class Model:
    """One of the five models of the study, with its reported macro F1 on test."""

    number: int
    augmented: bool
    lr: float
    batch_size: int
    f1: float


STUDY = (
    Model(1, False, 1e-5, 16, 0.9898),
    Model(2, True, 1e-3, 16, 0.2089),
    Model(3, True, 1e-1, 16, 0.00020),
    Model(4, True, 1e-5, 16, 0.96979),
    Model(5, True, 1e-5, 64, 0.94964),
)

# It reports 4,200 steps in five epochs at batch size 16: about 13,500 images. Validation and test have 5 per class.
STUDY_FACTS = {
    "model": "vit_b_16",
    "weights": "imagenet",
    "epochs": "5",
    "classes": "100",
    "training images": "about 13,500",
    "test images": "500",
    "image size": "224",
}

# The image size of a run without --image-size; for a weights file the run folder does not record the number.
WEIGHTS_OWN = "the weights' own"


def section(collection: Collection, site: Site) -> Section | None:
    """None unless the runs, finished or not, include all five settings."""
    rows_of = {
        model: [row for row in collection.setting_rows if _has_settings(row.setting.best, model)] for model in STUDY
    }
    if not all(rows_of.values()):
        return None
    lines = [_line(collection, model, rows) for model, rows in rows_of.items()]
    compared = [rows[0].setting.best for rows in rows_of.values()]
    context = {"lines": lines, "facts": _facts(compared), "repeated": collection.board.repeated}
    return Section("study", "study.html.j2", context)


def _has_settings(run: Run, model: Model) -> bool:
    lr, batch, augment = (run.config.get(name) for name in ("lr", "batch_size", "augment"))
    if not is_number(lr):
        return False
    same_lr = abs(lr - model.lr) <= 1e-9 * model.lr
    return same_lr and batch == model.batch_size and (augment == "standard" if model.augmented else augment == "none")


def _line(collection: Collection, model: Model, rows: list[SettingRow]) -> dict[str, Any]:
    # The best on validation: other settings may give several rows.
    row, run = rows[0], rows[0].setting.best
    score = row.setting.test_f1 if row.place else test_f1_of(run) if run.finished else Pooled(1, None, None)
    f1 = score.mean
    return {
        "number": model.number,
        "augment": "standard" if model.augmented else "none",
        "lr": f"{model.lr:.0e}",
        "batch_size": model.batch_size,
        "study": columns.number(model.f1),
        "ours": columns.number(f1) if f1 is not None else printable(run.state),
        "sd": columns.number(score.sd) if score.n > 1 else "",
        "seeds": score.n,
        "span": columns.span(score.low, score.high) if f1 is not None else "",
        "difference": f"{round(f1 - model.f1, 4) + 0.0:+.4f}" if f1 is not None else "",
        "label": collection.setting_label(row),
        "of": sum(row.place is not None for row in rows),
    }


def _facts(runs: list[Run]) -> list[tuple[str, str, str, bool]]:
    """Name, value in the study, value here, and whether the two differ."""
    ours = {
        "model": [run.config.get("model") for run in runs],
        "weights": [run.config.get("weights") for run in runs],
        "epochs": [run.config.get("epochs") for run in runs],
        "classes": [run.part("data").get("classes") for run in runs],
        "training images": [run.images.get("train") for run in runs],
        "test images": [run.images.get("test") for run in runs],
        "image size": [run.config.get("image_size") or _default_size(run) for run in runs],
    }
    facts = []
    for name, values in ours.items():
        here = ", ".join(dict.fromkeys("unknown" if value is None else printable(value) for value in values))
        differs = here not in (STUDY_FACTS[name], WEIGHTS_OWN)
        if name == "training images":
            differs = not all(isinstance(value, int) and 13_400 <= value <= 13_600 for value in values)
        facts.append((name, STUDY_FACTS[name], here, differs))
    return facts


def _default_size(run: Run) -> str:
    return STUDY_FACTS["image size"] if run.config.get("weights") == "imagenet" else WEIGHTS_OWN
