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

from harness.evidence.subject import Subject, logits_from, patch_tokens
from harness.evidence.verdict import means
from harness.model import adapter
from harness.runs.evidence_file import FAILS, HOLDS, OPEN, Claim, Measured

SHUFFLES = 5
SMALL_LOSS = 0.02  # of accuracy; a model that loses less does not need positions
RULE = (
    f"Accuracy lost when the position embedding is shuffled among patches ({SHUFFLES} shuffles). holds: the lower end "
    f"of the interval is above {SMALL_LOSS:g}. does not hold: its upper end is below {SMALL_LOSS:g}. cannot be told: "
    "anything else, or a model that does not beat guessing."
)


@dataclass(frozen=True)
class Change:
    """What one change of the position embedding does to the predictions."""

    accuracy_loss: Measured
    loss_increase: Measured  # nats
    divergence: Measured  # of the predicted distribution from that of the whole model (Kullback-Leibler), nats


@dataclass(frozen=True)
class PositionUse:
    """The three changes, by name: shuffled, mean, zero."""

    n: int
    accuracy: float
    changes: Mapping[str, Change]
    beats_guessing: bool

    def claim(self) -> Claim:
        loss = self.changes["shuffled"].accuracy_loss
        if not self.beats_guessing:
            verdict = OPEN
        else:
            verdict = HOLDS if loss.low > SMALL_LOSS else FAILS if loss.high < SMALL_LOSS else OPEN
        return Claim(
            "uses_positions",
            "The model uses its position embedding.",
            "accuracy lost when positions are shuffled",
            loss,
            self.n,
            verdict,
            RULE,
        )


def passes(subject: Subject) -> int:
    """Images that go through the model."""
    return len(subject) * (1 + SHUFFLES + 2)


def measure_position_use(subject: Subject) -> PositionUse:
    """Predictions with the embedding as it is, and with each change of it."""
    whole = log_probabilities(subject, adapter.position_embedding(subject.model))
    changes = {}
    for name, embeddings in _changed(adapter.position_embedding(subject.model)).items():
        numbers = np.mean([_of_images(subject, whole, log_probabilities(subject, one)) for one in embeddings], axis=0)
        changes[name] = Change(*means(numbers))
    accuracy = float((whole.argmax(1) == subject.labels).mean())
    return PositionUse(len(subject), accuracy, changes, subject.beats_guessing)


@torch.no_grad()
def log_probabilities(subject: Subject, positions: Tensor) -> np.ndarray:
    """Log-probabilities (n, C) with another position embedding (1, N, D)."""
    of_batches = []
    for images in subject.batches():
        logits = logits_from(subject.model, patch_tokens(subject.model, images) + positions)
        of_batches.append(logits.double().log_softmax(1).cpu().numpy())
    return np.concatenate(of_batches)


@torch.no_grad()
def _changed(positions: Tensor) -> dict[str, list[Tensor]]:
    own, patches = positions[:, :1], positions[:, 1:]
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
