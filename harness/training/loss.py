"""The training loss: cross entropy with soft targets, weighted by class or with adjusted logits.

The loss of a global batch is that of PyTorch's CrossEntropyLoss(weight=w, label_smoothing=e):

    sum_i sum_c w[c] t[i, c] (-log p[i, c])  /  sum_i w[y[i]]

with targets t that are smoothed and, with mixup or cutmix, mixed. A mixed image counts in the denominator with the
weights of both its labels. Both sums are over the images of all processes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


@dataclass(frozen=True, eq=False)
class Loss:
    """Cross entropy; both corrections are None where a run has none."""

    class_weights: Tensor | None = None  # (C,) float32
    logit_offsets: Tensor | None = None  # (C,) float32, added to the logits

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Numerators (B,) of logits and targets (B, C)."""
        logits = logits.float()
        if self.logit_offsets is not None:
            logits = logits + self.logit_offsets
        return cross_entropy(logits, targets, weight=self.class_weights, reduction="none")

    def origin(self) -> dict[str, str]:
        """What a resumed run compares: a digest of the class weights, whose file may have changed."""
        if self.class_weights is None:
            return {}
        return {"class weights": hashlib.sha256(self.class_weights.cpu().numpy().tobytes()).hexdigest()[:16]}


def training_loss(
    class_weights: np.ndarray | None, labels: np.ndarray, num_classes: int, logit_adjust: float, device: torch.device
) -> Loss:
    """The loss of a run. `labels` (N,) are those of the training images; each class has at least one.

    Logit adjustment (Menon et al. 2021, "Long-tail learning via logit adjustment"): training with `logit_adjust` times
    the log of a class's share of the images added to its logit, and testing without.
    """
    weights = None if class_weights is None else torch.from_numpy(class_weights).to(device)
    if logit_adjust == 0:
        return Loss(weights)
    prior = np.bincount(labels, minlength=num_classes) / len(labels)
    return Loss(weights, torch.from_numpy(logit_adjust * np.log(prior)).float().to(device))
