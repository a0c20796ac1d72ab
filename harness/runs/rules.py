"""Names and rules of a run folder that its writers and its readers share. Standard library only."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

# Also for reports, which import the light half of runs only.
from harness.errors import HarnessError as HarnessError
from harness.errors import printable as printable

Goal = Literal["maximize", "minimize"]

# Beside run folders: where `--fresh` moves earlier runs of the same settings.
SET_ASIDE = ".replaced"

# In `<run>/checkpoints/`: the adapters alone of the best checkpoint, if a run has LoRA.
ADAPTER = "adapter.safetensors"

# In `<run>/attention/`.
ATTENTION_FILE, POSITIONS_FILE, OBJECT_FILE = "attention.npz", "positions.npz", "object.json"
SPRITES_FOLDER, SPRITES_FILE = "sprites", "sprites.json"

# In a run folder: what `harness verify` measured.
EVIDENCE_FILE = "evidence.json"

# Layout of attention.npz and sprites.json, and the definitions behind their numbers.
VERSION = 1

# Maps that combine all layers, in the order in which they are shown; where one stands for all, it is the first. It is
# the one that wins the tests of `harness verify` (docs/concepts/attention.md). Files of earlier versions lack LeGrad.
RELEVANCE, LEGRAD, MEAN_MAP, ROLLOUT = AGGREGATES = ("relevance", "LeGrad", "mean over layers", "rollout")

# Outlier patches make a map misleading if they draw at least this share of the attention ...
OUTLIER_ATTENTION = 0.5
# ... and at least this many times their share of the patches.
OUTLIER_EXCESS = 2.0

# A temperature outside these is named: between them, the highest probability hardly changes.
UNDERCONFIDENT, OVERCONFIDENT = 0.8, 1.25
HARDLY_TRAINED = 0.6  # of ln C, the loss of guessing among C classes: a validation loss above it

# Colours that people with any colour vision can tell apart (Okabe & Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, ORANGE, GREEN = COLOURS[:3]

Row = TypeVar("Row", bound=Mapping[str, Any])


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other writer uses. A process id is not enough: two machines or containers that share
    a folder may have the same ones."""
    return path.with_name(f".{path.name}.{secrets.randbelow(10**12)}")


def epoch_order(f1: float, loss: float) -> tuple[float, float]:
    """Sort key of an epoch: the higher validation macro F1 wins, then the lower loss. Ties go to the earlier epoch."""
    return f1, -loss


def best_epoch(rows: Iterable[Row]) -> Row | None:
    """The best validation among rows of metrics.jsonl by `epoch_order`; None without a finite F1."""
    best: Row | None = None
    best_order = (-math.inf, -math.inf)
    for row in rows:
        f1, loss = finite_number(row.get("val/f1")), finite_number(row.get("val/loss"))
        if f1 is None or "epoch" not in row or "step" not in row:
            continue
        order = epoch_order(f1, math.inf if loss is None else loss)
        if best is None or order > best_order:
            best, best_order = row, order
    return best


def has_outlier_attention(share: Any, attention: Any) -> Any:
    """Whether a few outlier patches, `share` of all, draw so much `attention` that the map is misleading.

    Arrays or numbers from 0 to 1, element by element.
    """
    return (attention >= OUTLIER_ATTENTION) & (attention >= OUTLIER_EXCESS * share)


def confidence_word(temperature: float) -> str:
    """Whether the model's probabilities are too low or too high, by the temperature that would fit best."""
    if temperature < UNDERCONFIDENT:
        return "under-confident"
    return "over-confident" if temperature > OVERCONFIDENT else "calibrated"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is an int or a float; True and False are neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite_number(value: Any) -> float | None:
    """The value as a float; None if it is not a finite number."""
    with contextlib.suppress(OverflowError):
        return float(value) if is_number(value) and math.isfinite(value) else None
    return None


def below_one(end: float, digits: int = 4) -> float:
    """A score or an end of its interval, for printing with so many digits: below 1, it does not round to 1."""
    return min(end, 1 - 10**-digits) if end < 1 else end


def p_text(p: float, permutations: int) -> str:
    """ "p = 0.031", or "p ≤ 0.0001" where no permutation is as far from 0 and p is its smallest possible value."""
    smallest = 1 / (permutations + 1)
    if p <= smallest * (1 + 1e-9):
        return f"p ≤ {smallest:.2g}"
    return f"p = {p:.3f}" if p >= 0.001 else f"p = {p:.1g}"


def finite(value: Any) -> Any:
    """The value with NaN and infinity replaced by None, because JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def without_mathtext(text: str) -> str:
    """Text for matplotlib, which would otherwise read what is between two `$` as a formula."""
    return text.replace("$", r"\$")


def duration(seconds: float) -> str:
    """75.3 -> "1 min 15 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
