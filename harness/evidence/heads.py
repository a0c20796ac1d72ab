"""Whether heads differ, and which of them matter.

*Ablation*: a head's output is replaced by its mean over images and tokens, and the loss of each image is compared with
that of the whole model (mean ablation, as in Wang et al. 2022, arXiv 2211.00593). *Diversity*: the Jensen-Shannon
divergence between the attention of two heads on one image, beside that of one head on two images. Without the second
number the first means nothing: attention that differs between heads less than between images says more of the images.

Shapes: n images, B in a batch, L blocks, H heads, N tokens, P patches, D hidden size, d = D / H.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.evidence.block_heads import block_without, outputs_of_block
from harness.evidence.subject import Subject, logits_from
from harness.evidence.verdict import FEWEST, above
from harness.explain.attention.capture import capture_rows
from harness.model.adapter import parts
from harness.runs.evidence_file import OPEN, Claim
from harness.runs.paired import holm
from harness.runs.resampling import Interval, mean_intervals

SIGNIFICANT = 0.05
SIGN_FLIPS = 9999  # of the test, so p is at least 1 / 10,000
RULE = (
    "Jensen-Shannon divergence between two heads on one image less that of one head on two images, in bits, mean over "
    "layers. holds: the whole interval is above 0. does not hold: it is below 0. cannot be told: anything else, fewer "
    f"than {FEWEST} images whose patches draw attention, layers of one head, or a model that does not beat guessing."
)


@dataclass(frozen=True)
class Heads:
    """Heads by layer, from the first to the last; losses in nats, divergences in bits."""

    n: int  # images of the divergences; none where no head attends to patches, or there is only one
    ablated: int  # images of the ablations
    loss_change: tuple[tuple[float, ...], ...]  # (L, H): mean over images, positive if the head helps
    p_values: tuple[tuple[float, ...], ...]  # (L, H): of no change, adjusted by Holm over all heads
    between_heads: Interval
    between_images: Interval
    difference: Interval
    beats_guessing: bool

    def claim(self) -> Claim:
        heads = len(self.loss_change[0])
        return Claim(
            "heads_differ",
            "Different heads look at different things.",
            "divergence between heads less that between images (bits)" if self.n else why_none(heads),
            self.difference if self.n else Interval(0.0, 0.0, 0.0),
            self.n,
            above(self.difference, self.n) if self.beats_guessing else OPEN,
            RULE,
        )


def why_none(heads: int) -> str:
    """Why there are no divergences in a model with so many heads in a layer."""
    return "no layer has two heads" if heads == 1 else "no image whose patches draw attention"


def passes(subject: Subject, few: Subject) -> int:
    """Images that go through the model, or through half of its blocks in the mean, which is counted as half."""
    heads = sum(attention.num_heads for attention in parts(subject.model).attentions)
    return len(subject) + len(few) * (2 + math.ceil(heads / 2))


def measure_heads(subject: Subject, few: Subject) -> Heads:
    """Compare the attention of all heads; ablate every head, one at a time, on few of the images."""
    changes = _loss_changes(few)  # (images, L, H)
    ablated, layers, heads = changes.shape
    adjusted = np.array(holm(_sign_flip_test(changes.reshape(ablated, -1)))).reshape(layers, heads)
    divergences = _divergences(subject)
    differences = divergences[:, 0] - divergences[:, 1]
    between, across, difference = mean_intervals(np.column_stack([divergences, differences]))
    return Heads(
        int(np.isfinite(differences).sum()),
        ablated,
        tuple(map(tuple, changes.mean(0).tolist())),
        tuple(map(tuple, adjusted.tolist())),
        between,
        across,
        difference,
        subject.beats_guessing,
    )


@torch.no_grad()
def _loss_changes(subject: Subject) -> np.ndarray:
    """Loss of each image without a head less its loss with all heads, (n, L, H)."""
    head_means = _mean_outputs(subject)
    changes = []
    for rows, images in subject.with_rows():
        labels = torch.from_numpy(subject.labels[rows]).to(images.device)
        whole = cross_entropy(subject.model(images), labels, reduction="none")
        without = [cross_entropy(logits, labels, reduction="none") for logits in _ablated(subject, images, head_means)]
        shape = (len(images), *head_means.shape[:2])
        changes.append((torch.stack(without, dim=1) - whole[:, None]).double().reshape(shape).cpu().numpy())
    return np.concatenate(changes)


def _ablated(subject: Subject, images: Tensor, head_means: Tensor) -> Iterator[Tensor]:
    """Logits (B, C) without each head of each block. Blocks before the ablated one run once for all of its heads."""
    vit = parts(subject.model)
    tokens = vit.embed(images)
    for index, block in enumerate(vit.blocks):
        for head, mean in enumerate(head_means[index]):
            yield logits_from(subject.model, block_without(block, tokens, head, mean), index + 1)
        tokens = block(tokens)


def _mean_outputs(subject: Subject) -> Tensor:
    """Mean output of each head over images and tokens, (L, H, d)."""
    vit = parts(subject.model)
    totals: list[Tensor | float] = [0.0] * len(vit.blocks)
    for images in subject.batches():
        tokens = vit.embed(images)
        for index, block in enumerate(vit.blocks):
            totals[index] += outputs_of_block(block, tokens).mean(2).double().sum(0)
            tokens = block(tokens)
    return (torch.stack([torch.as_tensor(total) for total in totals]) / len(subject)).float()


def _sign_flip_test(changes: np.ndarray) -> list[float]:
    """Two-sided p of a mean of 0, for each column of (n, K): signs of whole rows are flipped at random."""
    generator = np.random.Generator(np.random.Philox(0))
    means_seen = np.abs(changes.sum(0))
    as_far = np.ones(changes.shape[1])
    for _ in range(SIGN_FLIPS):
        signs = generator.integers(0, 2, len(changes)) * 2.0 - 1
        as_far += np.abs(signs @ changes) >= means_seen * (1 - 1e-12)
    return (as_far / (SIGN_FLIPS + 1)).tolist()


@torch.no_grad()
def _divergences(subject: Subject) -> np.ndarray:
    """Of each image: between its heads, and between it and the next image in the same head; (n, 2) bits.

    Means over layers, and over pairs of heads or heads; a head that attends to no patch at all is left out of them.
    """
    prefix = parts(subject.model).layout.prefix
    with capture_rows(subject.model) as latest:
        rows = []
        for images in subject.batches():
            subject.model(images)
            patches = latest()[..., prefix:].double()
            rows.append((patches / patches.sum(-1, keepdim=True)).cpu().numpy())  # NaN where the sum is 0
    attention = np.concatenate(rows)  # (n, L, H, P)
    heads = attention.shape[2]
    pairs = [(one, other) for one in range(heads) for other in range(one)]
    between = [jensen_shannon(attention[:, :, one], attention[:, :, other]) for one, other in pairs]
    across = jensen_shannon(attention, np.roll(attention, -1, axis=0))  # (n, L, H)
    of_heads = _mean_of_known(np.stack(between, axis=2)) if pairs else np.full(len(attention), np.nan)
    return np.column_stack([of_heads, _mean_of_known(across)])


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean (n,) of the entries of (n, L, any number) that are not NaN; NaN if all are."""
    known = np.isfinite(values)
    counts = known.sum((1, 2))
    return np.divide(np.where(known, values, 0).sum((1, 2)), counts, out=np.full(len(values), np.nan), where=counts > 0)


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Divergence in bits of distributions along the last axis: 0 if equal, 1 if they share nothing."""
    middle = (one + other) / 2
    return (_kullback_leibler(one, middle) + _kullback_leibler(other, middle)) / 2


def _kullback_leibler(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    terms = one * np.log2(np.divide(one, other, out=np.ones_like(one), where=one > 0))
    return terms.sum(-1)
