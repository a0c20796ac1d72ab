"""Whether a model uses its position embedding: what happens to its predictions when the embedding is destroyed.

Three changes at test time, for all patches at once: their positions are shuffled, replaced by their mean, or set to
zero. The class token keeps its own. Shapes: n images, N tokens, D hidden size, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.evidence.subject import Subject
from harness.evidence.verdict import FEWEST, above
from harness.model.adapter import parts
from harness.runs.evidence_file import OPEN, Claim
from harness.runs.resampling import Interval, mean_intervals

SHUFFLES = 5
SMALL_LOSS = 0.02  # of accuracy; a model that loses less does not need positions
RULE = (
    f"Accuracy lost when the position embedding is shuffled among patches ({SHUFFLES} shuffles). holds: the lower end "
    f"of the interval is above {SMALL_LOSS:g}. does not hold: its upper end is below {SMALL_LOSS:g}. cannot be told: "
    f"anything else, fewer than {FEWEST} images, or a model that does not beat guessing."
)


@dataclass(frozen=True)
class Change:
    """What one change of the position embedding does to the predictions."""

    accuracy_loss: Interval
    loss_increase: Interval  # nats
    divergence: Interval  # of the predicted distribution from that of the whole model (Kullback-Leibler), nats


@dataclass(frozen=True)
class PositionUse:
    """The three changes, by name: shuffled, mean, zero."""

    n: int
    accuracy: float
    changes: Mapping[str, Change]
    beats_guessing: bool

    def claim(self) -> Claim:
        loss = self.changes["shuffled"].accuracy_loss
        return Claim(
            "uses_positions",
            "The model uses its position embedding.",
            "accuracy lost when positions are shuffled",
            loss,
            self.n,
            above(loss, self.n, SMALL_LOSS) if self.beats_guessing else OPEN,
            RULE,
        )


def passes(subject: Subject) -> int:
    """Images that go through the model."""
    return len(subject) * (1 + SHUFFLES + 2)


def measure_position_use(subject: Subject) -> PositionUse | None:
    """Predictions with the embedding as it is, and with each change of it; None if the model has no embedding."""
    vit = parts(subject.model)
    if vit.positions is None:
        return None
    own = vit.positions.detach().clone()
    whole = log_probabilities(subject)
    changes = {}
    for name, embeddings in _changed(own, vit.positioned_prefix).items():
        changed = [_with_positions(subject, vit.positions, embedding) for embedding in embeddings]
        changes[name] = Change(*mean_intervals(np.mean([_of_images(subject, whole, one) for one in changed], axis=0)))
    accuracy = float((whole.argmax(1) == subject.labels).mean())
    return PositionUse(len(subject), accuracy, changes, subject.beats_guessing)


@torch.no_grad()
def _with_positions(subject: Subject, positions: Tensor, embedding: Tensor) -> np.ndarray:
    """Log-probabilities (n, C) with another embedding in the place of the model's own, which is put back."""
    own = positions.clone()
    try:
        positions.copy_(embedding)
        return log_probabilities(subject)
    finally:
        positions.copy_(own)


@torch.no_grad()
def log_probabilities(subject: Subject) -> np.ndarray:
    """(n, C) float64."""
    of_batches = [subject.model(images).double().log_softmax(1).cpu().numpy() for images in subject.batches()]
    return np.concatenate(of_batches)


def _changed(positions: Tensor, prefix: int) -> dict[str, list[Tensor]]:
    """Other embeddings (1, Q + P, D), by the name of the change; the first `prefix` positions stay as they are."""
    own, patches = positions[:, :prefix], positions[:, prefix:]
    orders = [torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(k)) for k in range(SHUFFLES)]
    return {
        "shuffled": [torch.cat([own, patches[:, order.to(patches.device)]], dim=1) for order in orders],
        "mean": [torch.cat([own, patches.mean(1, keepdim=True).expand_as(patches)], dim=1)],
        "zero": [torch.cat([own, torch.zeros_like(patches)], dim=1)],
    }


def _of_images(subject: Subject, whole: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Accuracy lost, increase of the loss, and divergence of each image, (n, 3)."""
    images, labels = np.arange(len(subject)), subject.labels
    right, still_right = (each.argmax(1) == labels for each in (whole, changed))
    divergence = (np.exp(whole) * (whole - changed)).sum(1)
    loss = whole[images, labels] - changed[images, labels]
    return np.column_stack([right.astype(float) - still_right, loss, divergence])
