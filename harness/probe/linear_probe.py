"""A linear probe: multinomial logistic regression on the features of a frozen backbone.

Shapes: N images, D features, C classes. Everything is float64: the solution is unique, and the same on every machine
to about 1e-6 in probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.training.metrics import Scores, score

# Inverse strengths of L2 regularisation, as scikit-learn's C; from strong to weak, so that each fit starts near its
# solution. On standardised features, the best of a few images per class lies near 0.1, of many near 1.
INVERSE_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# One pass over the features holds this many rows in float64 at a time: 50 MB at D = 768.
CHUNK_ROWS = 8192

MAX_ITERATIONS = 1000

# Largest gradient entry at which a fit has converged; the loss is a mean over images, so it does not depend on N.
GRADIENT_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A fitted classifier on features as the backbone gives them: logits = features @ weight.T + bias."""

    weight: Tensor  # (C, D) float64, on the CPU
    bias: Tensor  # (C,) float64, on the CPU
    inverse_strength: float  # scikit-learn's C, chosen on validation

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, C) float64 for features (N, D)."""
        chunks = (torch.from_numpy(features[rows]).double() for rows in _chunks(len(features)))
        return torch.cat([chunk @ self.weight.T + self.bias for chunk in chunks]).numpy()


def fit_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    val: np.ndarray,
    val_labels: np.ndarray,
    num_classes: int,
    *,
    inverse_strengths: Sequence[float] = INVERSE_STRENGTHS,
    device: torch.device | str = "cpu",
    gradient_tolerance: float = GRADIENT_TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[LinearProbe, Scores]:
    """The probe with the best macro F1 on validation (ties: lower loss, then stronger L2), and its scores there.

    `train` and `val` are float32 features (N, D), the labels int64 (N,).
    """
    mean, std = _moments(train)
    best: tuple[LinearProbe, Scores] | None = None
    parameters = torch.zeros(num_classes, train.shape[1] + 1, dtype=torch.float64, device=device)
    for inverse_strength in sorted(inverse_strengths):
        limits = gradient_tolerance, max_iterations
        parameters = _fit(train, train_labels, mean, std, parameters, inverse_strength, *limits)
        probe = _unstandardised(parameters, mean, std, inverse_strength)
        scores = score(val_labels, probe.logits(val))
        if best is None or (scores.f1, -scores.loss) > (best[1].f1, -best[1].loss):
            best = probe, scores
    assert best is not None
    return best


def _fit(
    features: np.ndarray,
    labels: np.ndarray,
    mean: Tensor,
    std: Tensor,
    start: Tensor,
    inverse_strength: float,
    gradient_tolerance: float,
    max_iterations: int,
) -> Tensor:
    """Parameters (C, D + 1), the intercept last, that minimise scikit-learn's objective divided by C N.

    mean cross entropy + ||W||² / (2 C N), W on standardised features; the intercept is not regularised.
    """
    device, count = start.device, len(features)
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [parameters],
        max_iter=max_iterations,
        tolerance_grad=gradient_tolerance,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    targets = torch.from_numpy(labels).to(device)

    def closure() -> Tensor:
        optimizer.zero_grad()
        weight, bias = parameters[:, :-1], parameters[:, -1]
        loss = weight.square().sum() / (2 * inverse_strength * count)
        loss.backward()
        total = loss.detach()
        for rows in _chunks(count):
            standardised = (torch.from_numpy(features[rows]).double() - mean) / std
            logits = standardised.to(device) @ weight.T + bias
            part = cross_entropy(logits, targets[rows], reduction="sum") / count
            part.backward()
            total += part.detach()
        return total

    optimizer.step(closure)
    return parameters.detach()


def _unstandardised(parameters: Tensor, mean: Tensor, std: Tensor, inverse_strength: float) -> LinearProbe:
    """The same classifier for features that are not standardised."""
    parameters = parameters.cpu()
    weight = parameters[:, :-1] / std
    return LinearProbe(weight, parameters[:, -1] - weight @ mean, inverse_strength)


def _moments(features: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) in float64; a constant feature has deviation 1."""
    total, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    for rows in _chunks(len(features)):
        total += features[rows].sum(axis=0, dtype=np.float64)
    mean = total / len(features)
    for rows in _chunks(len(features)):
        squares += ((features[rows].astype(np.float64) - mean) ** 2).sum(axis=0)
    std = np.sqrt(squares / len(features))
    std[std == 0] = 1
    return torch.from_numpy(mean), torch.from_numpy(std)


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + CHUNK_ROWS) for start in range(0, count, CHUNK_ROWS)]
