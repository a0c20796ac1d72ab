"""Numbers of a finished run, by the keys of summary.json, and as lines of a table."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import NotEnoughMemoryError, printable
from harness.launch.gpus import gpu_share
from harness.launch.proc import memory_in
from harness.runs import metric_table
from harness.runs.folder import BEST, RunFolder
from harness.runs.reading import parse_json
from harness.runs.rules import below_one

if TYPE_CHECKING:
    import torch

    from harness.runs.resampling import Intervals
    from harness.training.metrics import Scores


LOWEST = 3  # classes in a line of the closing table


def test_results(scores: Scores, intervals: Intervals) -> dict[str, float]:
    """Metrics of the test split by their keys, with 95 % intervals and n."""
    return {
        **scores.by_key("test/"),
        "test/n": scores.n,
        **{f"test/{name}": value for name, value in dataclasses.asdict(intervals).items()},
    }


def per_class(classes: tuple[str, ...], scores: Scores) -> list[tuple[str, float, float, float, int]]:
    columns = (scores.class_precision, scores.class_recall, scores.class_f1, scores.support)
    return list(zip(classes, *(column.tolist() for column in columns), strict=True))


def lowest_recalls(class_rows: Sequence[tuple[str, float, float, float, int]]) -> str:
    """The classes that the model recognises worst, of the rows of `per_class`: "0.2000 (archery), 0.4000 (bowling)"."""
    tested = [(recall, name) for name, _, recall, _, support in class_rows if support]
    return ", ".join(f"{recall:.4f} ({printable(name)})" for recall, name in sorted(tested)[:LOWEST])


def score_lines(results: dict[str, Any]) -> dict[str, str]:
    """Scores as lines of a closing table."""
    return {
        metric.title: _with_interval(results, metric.key)
        for metric in metric_table.shown_in(metric_table.CLOSING)
        if metric.key in results
    }


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on the GPU where the run is on one, else resident of this process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    # Rather than getrusage's maximum, which a process inherits from the one that started it.
    largest = memory_in("/proc/self/status", "VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if largest is None else largest


def total_memory(device: torch.device) -> int:
    """Bytes that a run can use at most: of the GPU, or its share of one that trials share; else of the machine."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory * gpu_share(os.environ))
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def error_facts(error: BaseException, device: torch.device) -> dict[str, Any]:
    """The kind of error that ended a run; for one of too little memory, how much there was."""
    memory = {"memory/total_bytes": total_memory(device)} if isinstance(error, NotEnoughMemoryError) else {}
    return {"error": type(error).__name__, **memory}


def _with_interval(results: dict[str, Any], key: str) -> str:
    """The score, and its 95 % interval if it has one."""
    value, low, high = f"{below_one(results[key]):.4f}", results.get(f"{key}_low"), results.get(f"{key}_high")
    if low is None or high is None:
        return value
    return f"{value}  (95 % interval {low:.4f} to {below_one(high):.4f}, n = {results['test/n']})"


def kept_best(folder: RunFolder) -> dict[str, float | None]:
    """best/* of the checkpoint on disk. Scores are written before it, so a run whose disk is full names a later one."""
    from harness.model.weights_file import read_metadata

    best = folder.checkpoints / BEST
    # From its header: the failure may have been a lack of memory. Whatever goes wrong here, the run's own error counts.
    with contextlib.suppress(Exception):
        kept = parse_json(read_metadata(best)["scores"]) if best.exists() else {}
        return {key: kept.get(key) for key in folder.read("summary.json") if key.startswith("best/")}
    return {}
