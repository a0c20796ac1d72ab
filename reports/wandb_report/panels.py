"""The panels of the W&B dashboard, by section, made from the keys that every run logs.

wandb-workspaces is an optional dependency: `panels` imports it, and the other functions get it as `wr`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.runs import metric_table
from reports.columns import readable
from reports.page.sections.evidence import FIGURES, OBJECT_FIGURE
from reports.stats.leaderboard import Leaderboard, Row
from reports.values import is_number

# Keys that a run logs as images, with the titles of their panels, and as tables; by the id of the section.
IMAGES = {
    "curves": {"figures/loss_curve": "Loss by epoch"},
    "mistakes": {
        "figures/confusion_matrix": "Confusion matrix",
        "figures/reliability": "Reliability",
        "attention/error": "Most confident errors",
    },
    "gallery": {
        "attention/confidence": "Test images, least confident first",
        "attention/right_wrong": "Right and wrong predictions",
        "attention/class_means_legrad": "Mean LeGrad by class",
        "attention/class_means_rollout": "Mean rollout by class",
        "attention/class_means_relevance": "Mean relevance by class",
        "figures/attention_heads": "Attention heads",
        "figures/attention_distance": "Mean attention distance by layer",
    },
    "positions": {
        "figures/positions": "Position embeddings before and after",
        "figures/position_maps": "Class token and change by patch",
    },
}
# Images of runs that were verified, and of runs on data with masks; not every run logs them.
EVIDENCE = {f"figures/{name}": title for name, title in FIGURES.items()}
ON_OBJECT = f"figures/{OBJECT_FIGURE}"
TABLES = {
    "mistakes": ("test/per_class", "test/predictions"),
    "gallery": ("attention/pictures",),
}

# Logged history to plot over the optimiser step: titles of the panels, and whether the axis is logarithmic.
CURVES = {
    **{curve.key: (curve.caption, curve.log_axis) for curve in metric_table.shown_in(metric_table.CURVE)},
    "train/lr": ("Learning rate", True),
    "train/images_per_second": ("Training images per second", False),
}

# Summary keys that are columns of the table of runs, after the metric of the leaderboard.
SCORES = {score.key: score.caption for score in metric_table.shown_in(metric_table.WANDB)}
PINNED = tuple(dict.fromkeys(["test/f1", "test/f1_low", "test/f1_high", *SCORES, "best/epoch", "seconds/train"]))
COSTS = {"seconds/train": "Seconds of training", "memory/peak_bytes": "Peak memory in bytes"}

MOST_RUNS = 100  # in one panel
GRID = 24  # columns of a report's grid
HEIGHT = 10  # of a panel, rows of the grid

# An axis is logarithmic if the largest value is at least so many times the smallest.
LOGARITHMIC_FROM = 100


def panels(board: Leaderboard) -> dict[str, list[Any]]:
    """Panels by the id of their section; a panel is left out if no finished run has logged its keys."""
    import wandb_workspaces.reports.v2 as wr

    return {section: make(wr, board) for section, make in SECTIONS.items()}


def placed(of_section: list[Any]) -> list[Any]:
    """The panels, arranged in two columns of a report's grid."""
    import wandb_workspaces.reports.v2 as wr

    width = GRID // 2
    for number, panel in enumerate(of_section):
        panel.layout = wr.Layout(x=number % 2 * width, y=number // 2 * HEIGHT, w=width, h=HEIGHT)
    return of_section


def columns_of(board: Leaderboard) -> list[str]:
    """Columns of the table of runs: name, scores, and the settings that vary."""
    scores = dict.fromkeys([board.metric, *PINNED])
    return [
        "run:displayName",
        *(f"summary:{key}" for key in scores),
        *(f"config:{name}.value" for name in board.settings),
    ]


def drawn(board: Leaderboard) -> int:
    """Most runs that a panel draws; W&B's default is 10."""
    return min(max(10, len(_rows(board))), MOST_RUNS)


def repeated(board: Leaderboard) -> list[str]:
    """Settings to group runs by if they were repeated with other seeds; else empty: runs are not grouped."""
    return list(board.settings) if board.repeated else []


def _leaderboard(wr: Any, board: Leaderboard) -> list[Any]:
    most = drawn(board)
    return [
        wr.BarPlot(title=name, metrics=[key], max_runs_to_show=most, max_bars_to_show=most)
        for key, name in {board.metric: f"{board.metric} (ranks the runs)", **SCORES}.items()
    ]


def _effects(wr: Any, board: Leaderboard) -> list[Any]:
    if not board.settings:
        return []
    metric = wr.SummaryMetric(board.metric)
    axes = [
        wr.ParallelCoordinatesPlotColumn(wr.Config(name), display_name=readable(name), log=_is_logarithmic(board, name))
        for name in board.settings
    ]
    scatters = [
        wr.ScatterPlot(
            title=f"{board.metric} by {readable(name)}",
            x=wr.Config(name),
            y=metric,
            log_x=_is_logarithmic(board, name),
        )
        for name in board.settings
        if _numbers(board, name)
    ]
    result = wr.ParallelCoordinatesPlotColumn(metric, display_name=board.metric)
    return [
        wr.ParallelCoordinatesPlot(title="All settings and the score", columns=[*axes, result]),
        wr.ParameterImportancePlot(with_respect_to=board.metric),
        *scatters,
    ]


def _curves(wr: Any, board: Leaderboard) -> list[Any]:
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
    return [*lines, *_media(wr, "curves")]


def _mistakes(wr: Any, board: Leaderboard) -> list[Any]:
    images = _media(wr, "mistakes")
    return [*(images if _may_have_maps(board) else images[:1]), *_tables(wr, "mistakes")]


def _gallery(wr: Any, board: Leaderboard) -> list[Any]:
    return [*_media(wr, "gallery"), *_tables(wr, "gallery")] if _may_have_maps(board) else []


def _positions(wr: Any, board: Leaderboard) -> list[Any]:
    if board.finished and not any("positions/verdict" in row.run.summary for row in board.finished):
        return []
    change = wr.ScatterPlot(
        title="Change of the position embeddings by learning rate",
        x=wr.Config("lr"),
        y=wr.SummaryMetric("positions/change"),
        log_x=True,
    )
    return [*_media(wr, "positions"), change]


def _evidence(wr: Any, board: Leaderboard) -> list[Any]:
    summaries = [row.run.summary for row in board.finished]
    verified = any(key.startswith("evidence/") for summary in summaries for key in summary)
    with_masks = any("object/n" in summary for summary in summaries)
    keys = [key for key in EVIDENCE if (with_masks if key == ON_OBJECT else verified)]
    return [wr.MediaBrowser(title=EVIDENCE[key], media_keys=[key], num_columns=2) for key in keys]


def _provenance(wr: Any, board: Leaderboard) -> list[Any]:
    bars = [wr.BarPlot(title=title, metrics=[key], max_runs_to_show=drawn(board)) for key, title in COSTS.items()]
    return [wr.RunComparer(diff_only="split"), *bars]


# By the id of the section, whose title is in reports.page.section.
SECTIONS: dict[str, Callable[[Any, Leaderboard], list[Any]]] = {
    "leaderboard": _leaderboard,
    "effects": _effects,
    "curves": _curves,
    "mistakes": _mistakes,
    "gallery": _gallery,
    "positions": _positions,
    "evidence": _evidence,
    "provenance": _provenance,
}


def _media(wr: Any, section: str) -> list[Any]:
    return [wr.MediaBrowser(title=name, media_keys=[key], num_columns=2) for key, name in IMAGES[section].items()]


def _tables(wr: Any, section: str) -> list[Any]:
    return [wr.WeavePanelSummaryTable(table_name=key) for key in TABLES[section]]


def _rows(board: Leaderboard) -> tuple[Row, ...]:
    return (*board.finished, *board.others)


def _may_have_maps(board: Leaderboard) -> bool:
    """Whether runs have attention maps, or may still log them."""
    return not board.finished or any(row.run.metric("attention/n") for row in board.finished)


def _numbers(board: Leaderboard, name: str) -> list[float]:
    """The values of a setting; empty unless they are all numbers."""
    values = [row.settings.get(name) for row in _rows(board)]
    numbers = [float(value) for value in values if is_number(value)]
    return numbers if len(numbers) == len(values) else []


def _is_logarithmic(board: Leaderboard, name: str) -> bool | None:
    """True or None, as wandb-workspaces expects it."""
    values = _numbers(board, name)
    return (bool(values) and min(values) > 0 and max(values) / min(values) >= LOGARITHMIC_FROM) or None
