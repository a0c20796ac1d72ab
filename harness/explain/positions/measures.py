"""How well a position embedding describes the places of patches, before and after fine-tuning: maps and numbers.

Adding a vector c to every patch's embedding and taking it off the patch projection's bias changes nothing a model
does. So only differences between patches mean anything, and everything here that is compared between models is of the
embedding minus its mean over patches ("centred"). Of the class token only class_token + P_0 exists for the model.
Shapes: P = g² patches, row by row, D hidden size. All in float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from harness.errors import HarnessError
from harness.runs.embeddings import centred, cosine, movement

SHUFFLES = 199  # the band from the smallest to the largest of 199 leaves a chance of 1 % outside
RANK_SHUFFLES = 19  # of effective rank, which is slow, and hardly varies
_STREAM = 41  # of the counter-based generator: shuffled embeddings
_TINY = 1e-300


@dataclass(frozen=True)
class Positions:
    """A model's position embedding."""

    patches: np.ndarray  # (P, D)
    position_zero: np.ndarray  # (D,), P_0: the class token's place
    class_token: np.ndarray  # (D,)

    def __post_init__(self) -> None:
        if self.side**2 != len(self.patches):
            raise HarnessError(
                f"The model has {len(self.patches)} position embeddings besides the class token's, which is not a "
                "square grid. Position maps are made for square images and a single class token."
            )
        if not all(np.isfinite(value).all() for value in (self.patches, self.position_zero, self.class_token)):
            raise HarnessError("The position embedding has values that are not finite: this model has diverged.")

    @classmethod
    def of(cls, pos_embedding: Tensor, class_token: Tensor) -> Positions:
        """From the position embedding (1, 1 + P, D), P_0 first, and the class token (1, 1, D)."""
        embedding, token = (value.detach().double().cpu().numpy()[0] for value in (pos_embedding, class_token))
        return cls(embedding[1:], embedding[0], token[0])

    @property
    def side(self) -> int:
        """Patches per row and per column, g."""
        return math.isqrt(len(self.patches))


@dataclass(frozen=True)
class Measured:
    """A number, and the range it takes by chance: smallest and largest of many shuffled embeddings."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Numbers:
    """How well one embedding describes the places of patches."""

    locality: Measured  # 1: the nearer two patches, the more alike their embeddings
    decoding: Measured  # 1: row and column can be read from the embedding of a patch that was not fitted to
    effective_rank: Measured  # how many directions the embeddings of the patches spread over


def class_maps(positions: Positions) -> dict[str, np.ndarray]:
    """Cosine similarity of the class token's vectors with the patches' embeddings, each (g, g).

    The first two are customary but depend on how the model splits its sum; "class_token + P_0", against centred
    patches, does not.
    """
    shape = (positions.side, positions.side)
    whole = positions.class_token + positions.position_zero
    return {
        "class_token": cosine(positions.class_token[None], positions.patches).reshape(shape),
        "P_0": cosine(positions.position_zero[None], positions.patches).reshape(shape),
        "class_token + P_0": cosine(whole[None], centred(positions.patches)).reshape(shape),
    }


def change_map(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far each patch's centred embedding moved, over the typical length of one before: (g, g), (P, D) each.

    The root mean square of the map is the `measure_change` of the two.
    """
    _check_same_grid(before, after)
    side = math.isqrt(len(before))
    return movement(before, after).reshape(side, side)


def measure(positions: Positions, seed: int = 0) -> Numbers:
    """How well the embedding describes the places of patches; each number with its range over shuffled embeddings.

    Shuffled are the patches' places. Effective rank does not depend on those: each of its D dimensions is shuffled by
    itself.
    """
    patches, side = centred(positions.patches), positions.side
    random = np.random.Generator(np.random.Philox(key=[seed, _STREAM]))
    orders = [random.permutation(len(patches)) for _ in range(SHUFFLES)]
    locality, decoding = _locality(patches, side), _decoding(patches, side)
    identity = np.arange(len(patches))
    return Numbers(
        locality=_measured(locality(identity), [locality(order) for order in orders]),
        decoding=_measured(decoding(identity), [decoding(order) for order in orders]),
        effective_rank=_measured(
            effective_rank(patches),
            [effective_rank(random.permuted(patches, axis=0)) for _ in range(RANK_SHUFFLES)],
        ),
    )


def measure_change(before: np.ndarray, after: np.ndarray, seed: int = 0) -> Measured:
    """‖ΔP‖ / ‖P‖ of centred embeddings (P, D), and what it would be had the patches swapped places at random.

    √2 is what two unrelated embeddings of the same size have between them.
    """
    _check_same_grid(before, after)
    random = np.random.Generator(np.random.Philox(key=[seed, _STREAM]))
    start, end = centred(before), centred(after)

    def change(order: np.ndarray) -> float:
        return float(np.linalg.norm(end[order] - start)) / max(float(np.linalg.norm(start)), _TINY)

    return _measured(change(np.arange(len(end))), [change(random.permutation(len(end))) for _ in range(SHUFFLES)])


def effective_rank(patches: np.ndarray) -> float:
    """exp H(σ²/Σσ²), σ the singular values of the centred embedding, H the entropy in nats: 1 to P - 1."""
    rows = centred(patches)
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    variances = np.linalg.eigvalsh(gram).clip(0)
    if not variances.any():
        return 0.0
    shares = variances[variances > 0] / variances.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _locality(patches: np.ndarray, side: int) -> Callable[[np.ndarray], float]:
    """For an order of the patches: Spearman's correlation of their cosines with minus their distances, all pairs."""
    first, second = np.triu_indices(len(patches), 1)
    places = _places(side)
    nearness = _standardised_ranks(-np.linalg.norm(places[first] - places[second], axis=1))
    alike = np.zeros((len(patches), len(patches)))
    alike[first, second] = _standardised_ranks(cosine(patches, patches)[first, second])
    alike += alike.T
    return lambda order: float(alike[order[first], order[second]] @ nearness)


def _decoding(patches: np.ndarray, side: int) -> Callable[[np.ndarray], float]:
    """For an order of the patches: leave-one-out R² of a ridge regression of (row, column) on the embedding.

    1 - Σ‖y - ŷ‖² / Σ‖y - ȳ‖², ŷ fitted without the patch itself, which for ridge is residual / (1 - leverage). The
    penalty is the mean squared length of an embedding: it makes no difference how large they all are.
    """
    gram = patches @ patches.T
    count = len(patches)
    penalty = np.trace(gram) / count
    if penalty == 0:
        return lambda order: 0.0
    hat = np.linalg.solve(gram + penalty * np.eye(count), gram) + 1 / count  # 1 / P: the unpenalised constant
    residual = (np.eye(count) - hat) / (1 - np.diag(hat))[:, None]
    places = _places(side) - _places(side).mean(0)
    total = (places**2).sum()
    # Patches in another order at the same places are the same patches with the places in the inverse order.
    return lambda order: float(1 - ((residual @ places[np.argsort(order)]) ** 2).sum() / total)


def _places(side: int) -> np.ndarray:
    """Row and column of every patch, (P, 2)."""
    return np.stack(np.divmod(np.arange(side * side), side), axis=1).astype(np.float64)


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each entry (n,), from 1; equal entries share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _standardised_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of (n,) with mean 0 and length 1: a product of two is Spearman's correlation."""
    centred_ranks = ranks(values.round(12))
    centred_ranks = centred_ranks - centred_ranks.mean()
    return centred_ranks / max(np.linalg.norm(centred_ranks), _TINY)


def _check_same_grid(before: np.ndarray, after: np.ndarray) -> None:
    if before.shape != after.shape:
        raise HarnessError(
            f"The embedding before has {len(before)} patches of size {before.shape[1]}, the one after {len(after)} of "
            f"size {after.shape[1]}. Compare a run with the model it started from, built at the run's --image-size."
        )


def _measured(value: float, by_chance: list[float]) -> Measured:
    return Measured(value, min(by_chance), max(by_chance))
