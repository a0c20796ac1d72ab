"""What fine-tuning added to the probe that it started from, on the same test images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.runs.paired import difference_interval, resampled, swap_test
from harness.runs.resampling import RESAMPLES, macro_f1
from harness.runs.rules import p_text

SWAPS = 10_000


def gain_over_probe(
    labels: np.ndarray, predicted: np.ndarray, probe_predicted: np.ndarray, num_classes: int
) -> dict[str, float]:
    """Test macro F1 of the probe, the gain over it and the 95 % interval of the gain, by their keys in summary.json.

    Labels and predictions are int64 (N,). The interval and the test are those of the leaderboard's comparisons.
    """
    probe_f1 = macro_f1(labels, probe_predicted, num_classes)
    gain = macro_f1(labels, predicted, num_classes) - probe_f1
    p = swap_test(labels, predicted, probe_predicted, num_classes, swaps=SWAPS)
    scores = resampled(labels, [predicted, probe_predicted], num_classes, resamples=RESAMPLES)
    differing = int((predicted != probe_predicted).sum())
    low, high = difference_interval(scores[0] - scores[1], gain, p, differing, len(labels))
    return {
        "probe/test_f1": probe_f1,
        "probe/gain": gain,
        "probe/gain_low": low,
        "probe/gain_high": high,
        "probe/gain_p": p,
    }


def probe_lines(results: Mapping[str, Any]) -> dict[str, str]:
    """The probe as lines of the closing table; empty for a run whose head did not start from one."""
    if "probe/test_f1" not in results:
        return {}
    low, high = results["probe/gain_low"], results["probe/gain_high"]
    interval = f"95 % interval {low:+.4f} to {high:+.4f}, {p_text(results['probe/gain_p'], SWAPS)}"
    return {
        "linear probe": f"test macro F1 {results['probe/test_f1']:.4f}",
        "fine-tuning added": f"{results['probe/gain']:+.4f}  ({interval})",
    }
