"""The panels of a dashboard in W&B, by section: what is drawn of the keys that every run logs.

Each function imports wandb-workspaces itself, for reports are read without it, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reports.stats.leaderboard import Leaderboard, Row
from reports.values import is_number

# What a run logs as images, by the section that shows them; and as tables.
PICTURES = {
    "Curves": {"figures/loss_curve": "Loss by epoch"},
    "Mistakes": {"figures/confusion_matrix": "Confusion of classes", "attention/error": "Errors, the surest first"},
    "Where it looks": {
        "attention/confidence": "Test images, the least sure first",
        "attention/right_wrong": "Right against wrong",
        "attention/class_means_rollout": "Mean rollout by class",
        "attention/class_means_relevance": "Mean relevance by class",
        "figures/attention_heads": "What the heads do",
        "figures/attention_distance": "How far they look, by depth",
    },
    "What changed": {
        "figures/positions": "Position embedding before and after",
        "figures/position_maps": "Class token and change, by patch",
    },
}
TABLES = {
    "Mistakes": ("test/per_class", "test/predictions"),
    "Where it looks": ("attention/pictures",),
}

# History that is drawn over the optimiser step; the names of its panels, and whether the axis is logarithmic.
CURVES = {
    "train/loss": ("Training loss", True),
    "val/loss": ("Validation loss", True),
    "val/f1": ("Validation macro F1", False),
    "val/accuracy": ("Validation accuracy", False),
    "train/lr": ("Learning rate", True),
    "train/images_per_second": ("Training images per second", False),
}

# Summary that is shown as a column of the table of runs, after the metric of the leaderboard.
PINNED = ("test/f1", "test/f1_low", "test/f1_high", "test/accuracy", "test/ece", "best/epoch", "seconds/train")

SCORES = {"test/f1": "Macro F1 on test", "test/accuracy": "Accuracy on test", "test/ece": "Calibration error on test"}
COSTS = {"seconds/train": "Seconds of training", "memory/peak_bytes": "Peak memory in bytes"}

MOST_RUNS = 100  # drawn in one panel
GRID = 24  # columns of a report's grid
HEIGHT = 10  # rows of it that a panel takes

# Largest over smallest value from which an axis is logarithmic.
WIDE = 100


def panels(board: Leaderboard) -> dict[str, list[Any]]:
    """Panels by the title of their section; none where no finished run has logged what they show."""
    return {title: make(board) for title, make in SECTIONS.items()}


def placed(shown: list[Any]) -> list[Any]:
    """The panels in two columns of a report's grid."""
    import wandb_workspaces.reports.v2 as wr

    width = GRID // 2
    for number, panel in enumerate(shown):
        panel.layout = wr.Layout(x=number % 2 * width, y=number // 2 * HEIGHT, w=width, h=HEIGHT)
    return shown


def columns_of(board: Leaderboard) -> list[str]:
    """Columns of the table of runs: name, scores, and the settings that vary."""
    scores = dict.fromkeys([board.metric, *PINNED])
    return [
        "run:displayName",
        *(f"summary:{key}" for key in scores),
        *(f"config:{name}.value" for name in board.settings),
    ]


def drawn(board: Leaderboard) -> int:
    """Runs that a panel draws; W&B's own limit is 10."""
    return min(max(10, len(_rows(board))), MOST_RUNS)


def repeated(board: Leaderboard) -> list[str]:
    """Settings to group runs by where they were repeated with other seeds; else none, and each run is by itself."""
    names = [name for name in board.settings if name != "seed"]
    kinds = {str([row.settings.get(name) for name in names]) for row in _rows(board)}
    return names if "seed" in board.settings and len(kinds) < len(_rows(board)) else []


def _leaderboard(board: Leaderboard) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    most = drawn(board)
    return [
        wr.BarPlot(title=name, metrics=[key], max_runs_to_show=most, max_bars_to_show=most)
        for key, name in {board.metric: f"{board.metric}, which orders the runs", **SCORES}.items()
    ]


def _what_mattered(board: Leaderboard) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    if not board.settings:
        return []
    metric = wr.SummaryMetric(board.metric)
    axes = [
        wr.ParallelCoordinatesPlotColumn(wr.Config(name), display_name=_words(name), log=_is_logarithmic(board, name))
        for name in board.settings
    ]
    scatters = [
        wr.ScatterPlot(
            title=f"{board.metric} by {_words(name)}",
            x=wr.Config(name),
            y=metric,
            log_x=_is_logarithmic(board, name),
        )
        for name in board.settings
        if _numbers(board, name)
    ]
    result = wr.ParallelCoordinatesPlotColumn(metric, display_name=board.metric)
    return [
        wr.ParallelCoordinatesPlot(title="Settings and what came of them", columns=[*axes, result]),
        wr.ParameterImportancePlot(with_respect_to=board.metric),
        *scatters,
    ]


def _curves(board: Leaderboard) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    lines = [
        wr.LinePlot(
            title=title,
            x="step",
            y=[key],
            title_x="optimiser step",
            log_y=logarithmic or None,
            max_runs_to_show=drawn(board),
            smoothing_type="none",
        )
        for key, (title, logarithmic) in CURVES.items()
    ]
    return [*lines, *_media("Curves")]


def _mistakes(board: Leaderboard) -> list[Any]:
    pictures = _media("Mistakes")
    return [*(pictures if _looked(board) else pictures[:1]), *_tables("Mistakes")]


def _where_it_looks(board: Leaderboard) -> list[Any]:
    return [*_media("Where it looks"), *_tables("Where it looks")] if _looked(board) else []


def _what_changed(board: Leaderboard) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    if board.finished and not any("positions/verdict" in row.run.summary for row in board.finished):
        return []
    change = wr.ScatterPlot(
        title="How much the position embedding changed, by learning rate",
        x=wr.Config("lr"),
        y=wr.SummaryMetric("positions/change"),
        log_x=True,
    )
    return [*_media("What changed"), change]


def _provenance(board: Leaderboard) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    bars = [wr.BarPlot(title=title, metrics=[key], max_runs_to_show=drawn(board)) for key, title in COSTS.items()]
    return [wr.RunComparer(diff_only="split"), *bars]


SECTIONS: dict[str, Callable[[Leaderboard], list[Any]]] = {
    "Leaderboard": _leaderboard,
    "What mattered": _what_mattered,
    "Curves": _curves,
    "Mistakes": _mistakes,
    "Where it looks": _where_it_looks,
    "What changed": _what_changed,
    "Provenance": _provenance,
}


def _media(title: str) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return [wr.MediaBrowser(title=name, media_keys=[key], num_columns=2) for key, name in PICTURES[title].items()]


def _tables(title: str) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return [wr.WeavePanelSummaryTable(table_name=key) for key in TABLES[title]]


def _rows(board: Leaderboard) -> tuple[Row, ...]:
    return (*board.finished, *board.others)


def _looked(board: Leaderboard) -> bool:
    """Whether there are images of attention, or may still come to be."""
    return not board.finished or any(row.run.metric("attention/n") for row in board.finished)


def _numbers(board: Leaderboard, name: str) -> list[float]:
    """The values of a setting; empty unless they are all numbers."""
    values = [row.settings.get(name) for row in _rows(board)]
    numbers = [float(one) for one in values if is_number(one)]
    return numbers if len(numbers) == len(values) else []


def _is_logarithmic(board: Leaderboard, name: str) -> bool | None:
    """True or None, which is how wandb-workspaces writes the two."""
    values = _numbers(board, name)
    return (bool(values) and min(values) > 0 and max(values) / min(values) >= WIDE) or None


def _words(name: str) -> str:
    return name.replace("_", " ")
