"""Runs and settings as the page's scripts know them (`data/runs.js`): keys, labels, and what the filter compares."""

from __future__ import annotations

from typing import Any

from harness.runs.metric_table import LEADERBOARD, shown_in
from harness.runs.rules import printable
from reports import columns
from reports.collection import Collection
from reports.stats.leaderboard import SettingRow
from reports.stats.setting import SEED
from reports.values import is_number

# Names of the filter's fields for scores, beside the names of hyperparameters.
F1, RANKING, P, EPOCH, STATE, STANDING, TAG = "f1", "val_f1", "p", "epoch", "state", "is", "tag"


def run_table(collection: Collection) -> dict[str, Any]:
    """`settings` come best first; `worst` is the run of the worst setting that finished, for comparisons."""
    board, rows = collection.board, collection.setting_rows
    ranked = board.ranked
    texts = columns.spelled_settings(board.settings, [row.settings for row in rows])
    return {
        "unit": f"{board.unit}s",
        "metric": collection.metric,
        "worst": collection.key(ranked[-1].setting.best) if len(ranked) > 1 else "",
        "settings": [_setting(collection, row, of_row) for row, of_row in zip(rows, texts, strict=True)],
    }


def standing(row: SettingRow) -> str:
    """best, equal (not told from the best by the test images), apart, uncompared, or unranked."""
    if row.place is None:
        return "unranked"
    if row.comparison is None:
        return "best"
    if not row.comparison.comparable:
        return "uncompared"
    return "equal" if row.comparison.indistinguishable else "apart"


def tags_of(row: SettingRow) -> list[str]:
    """Tags of the setting's runs, each once."""
    return list(dict.fromkeys(printable(tag) for one in row.rows for tag in one.run.tags))


def _setting(collection: Collection, row: SettingRow, texts: dict[str, str]) -> dict[str, Any]:
    runs = [
        {
            "key": collection.key(one.run),
            "label": collection.label(one.run),
            "seed": columns.value(one.run.config.get(SEED)),
        }
        for one in row.rows
    ]
    states = list(dict.fromkeys(printable(one.run.state) for one in row.rows))
    words = [collection.setting_label(row), *texts.values(), *states, *tags_of(row)]
    for one in row.rows:
        words += [printable(one.run.name), f"seed {columns.value(one.run.config.get(SEED))}", printable(one.reason)]
    return {
        "key": collection.setting_key(row),
        "label": collection.setting_label(row),
        "place": row.place,
        "runs": runs,
        "text": " ".join(words).lower(),
        "fields": _fields(row, texts, states),
        "shown": _shown(row, texts),
    }


def _fields(row: SettingRow, texts: dict[str, str], states: list[str]) -> dict[str, Any]:
    """Values by the names that the filter knows; a hyperparameter has precedence over a score of the same name."""
    fields: dict[str, Any] = {STATE: " ".join(states), TAG: tags_of(row)}
    fields[STANDING] = "top" if standing(row) in ("best", "equal") else ""
    if row.place is not None:
        setting = row.setting
        fields |= {F1: setting.test_f1.mean, RANKING: setting.score.mean, EPOCH: setting.pooled("best/epoch").mean}
        fields |= {score.key.partition("/")[2]: setting.pooled(score.key).mean for score in shown_in(LEADERBOARD)}
        fields |= {P: row.comparison.p_holm if row.comparison else None}
    known = {name: value for name, value in fields.items() if value is not None}
    values = {
        _field(name): value if is_number(value := row.settings.get(name)) else text for name, text in texts.items()
    }
    return known | values


def _shown(row: SettingRow, texts: dict[str, str]) -> dict[str, str]:
    """Hyperparameters that the page shows with fewer digits than they have: the menus filter by the text."""
    values = {name: row.settings.get(name) for name in texts}
    return {
        _field(name): text for name, text in texts.items() if is_number(values[name]) and float(text) != values[name]
    }


def _field(name: str) -> str:
    """As `fieldName` of words.js."""
    return "_".join(printable(name).lower().replace("-", " ").replace("_", " ").split())
