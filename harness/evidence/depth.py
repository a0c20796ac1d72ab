"""How many layers are enough: what can be read from the tokens after each block.

Four measures per layer, of its features: what the head would read if that layer were the last. The *lens* gives them
to the model's own head (nostalgebraist 2020, "interpreting GPT: the logit lens"); this is also the accuracy when all
later blocks are left out. The *probe* is a logistic regression on them, fitted on training images (Alain and Bengio
2016, arXiv 1610.01644). *CKA* compares them with those of the last layer (Kornblith et al. 2019, arXiv 1905.00414).
*Without the block* is the accuracy when that block alone is left out.

Shapes: n images, L layers, D hidden size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.evidence.subject import Subject, logits_from
from harness.evidence.verdict import FEWEST
from harness.model.adapter import parts
from harness.probe.linear_probe import fit_probe
from harness.runs.evidence_file import FAILS, HOLDS, OPEN, Claim
from harness.runs.resampling import Interval, mean_intervals

# A probe that loses less accuracy than this is as good as the last layer's for any use.
SMALL_LOSS = 0.05
_fit = functools.partial(
    fit_probe,
    inverse_strengths=(0.01, 0.1, 1.0),
    gradient_tolerance=1e-4,  # accuracies are compared, not weights, and there are L + 1 probes to fit
    max_iterations=200,  # usual fits take 50; those on features that hardly differ between images would take thousands
)
SHUFFLE_SEED = 7
RULE = (
    "The probe's accuracy at the last layer less that at half the depth, on the same test images. holds: the upper end "
    f"of the interval is at most {SMALL_LOSS:g}. does not hold: its lower end is above {SMALL_LOSS:g}. cannot be told: "
    f"anything else, fewer than {FEWEST} images, a last probe that is not better than one on shuffled labels, or a "
    "model that does not beat guessing."
)


@dataclass(frozen=True)
class Depth:
    """Accuracies and similarities of each layer, from the first to the last."""

    n: int
    lens: tuple[float, ...]
    probe: tuple[Interval, ...]
    probe_loss: tuple[Interval, ...]  # accuracy of the last layer's probe less that of this layer's
    cka: tuple[float, ...]
    without_block: tuple[float, ...]  # on `omitted_on` images
    omitted_on: int
    probe_on_shuffled_labels: float  # at the last layer
    layers_enough: int  # from here on, no layer's probe can be told from the last's
    beats_guessing: bool

    def claim(self) -> Claim:
        half = len(self.probe) // 2
        loss = self.probe_loss[half - 1]
        if self.n < FEWEST or not self.beats_guessing or self.probe[-1].low <= self.probe_on_shuffled_labels:
            verdict = OPEN
        else:
            verdict = HOLDS if loss.high <= SMALL_LOSS else FAILS if loss.low > SMALL_LOSS else OPEN
        return Claim(
            "half_the_layers",
            f"The first {half} of {len(self.probe)} layers suffice.",
            f"accuracy that a probe loses at layer {half}",
            loss,
            self.n,
            verdict,
            RULE,
        )


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images for fitting probes."""

    batches: Callable[[], Iterator[Tensor]]
    labels: np.ndarray  # (N,) int64


def passes(subject: Subject, few: Subject, train: Labelled, val: Labelled) -> int:
    """Images that go through the model, or through half of its blocks in the mean, which is counted as half."""
    blocks = len(parts(subject.model).blocks)
    return len(train.labels) + len(val.labels) + len(subject) + len(few) * (1 + math.ceil(blocks / 2))


def measure_depth(subject: Subject, few: Subject, train: Labelled, val: Labelled) -> Depth:
    """Probes are fitted on `train`, their strength chosen on `val`, and scored on the test images.

    Blocks are left out on few of these.
    """
    model, labels = subject.model, subject.labels
    fitting, choosing, testing = (features_by_layer(model, each.batches) for each in (train, val, subject))
    layers = testing.shape[1]
    right, lens = np.empty((len(labels), layers)), []
    for layer in range(layers):
        probe, _ = _fit(fitting[:, layer], train.labels, choosing[:, layer], val.labels, subject.num_classes)
        right[:, layer] = probe.logits(testing[:, layer]).argmax(1) == labels
        lens.append(float((_lens(model, testing[:, layer]) == labels).mean()))
    # What the last layer's probe reaches when the labels it is fitted on say nothing.
    generator = np.random.Generator(np.random.Philox(SHUFFLE_SEED))
    shuffled = [generator.permutation(each.labels) for each in (train, val)]
    probe, _ = _fit(fitting[:, -1], shuffled[0], choosing[:, -1], shuffled[1], subject.num_classes)
    by_chance = probe.logits(testing[:, -1]).argmax(1)
    measured = mean_intervals(np.concatenate([right, right[:, -1:] - right], axis=1))
    losses = tuple(measured[layers:])
    return Depth(
        len(labels),
        tuple(lens),
        tuple(measured[:layers]),
        losses,
        tuple(linear_cka(testing[:, layer], testing[:, -1]) for layer in range(layers)),
        _accuracy_without_blocks(few),
        len(few),
        float((by_chance == labels).mean()),
        1 + max((layer + 1 for layer in range(layers - 1) if losses[layer].low > 0), default=0),
        subject.beats_guessing,
    )


@torch.no_grad()
def features_by_layer(model: nn.Module, batches: Callable[[], Iterator[Tensor]]) -> np.ndarray:
    """What the head would read after each block, (n, L, D) float32."""
    vit = parts(model)
    of_batches = []
    for images in batches():
        tokens, of_layers = vit.embed(images), []
        for block in vit.blocks:
            tokens = block(tokens)
            of_layers.append(vit.features(tokens))
        of_batches.append(torch.stack(of_layers, dim=1).float().cpu().numpy())
    return np.concatenate(of_batches)


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two sets of features (n, D) of the same images: 0 to 1, whatever their rotation and scale."""
    x, y = (features.astype(np.float64) - features.mean(0) for features in (one, other))
    norms = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / norms) if norms else 0.0


@torch.no_grad()
def _lens(model: nn.Module, layer_features: np.ndarray) -> np.ndarray:
    """The class (n,) that the model's own head gives to features (n, D)."""
    head = parts(model).head
    return head(torch.from_numpy(layer_features).to(head.weight.device)).argmax(1).cpu().numpy()


@torch.no_grad()
def _accuracy_without_blocks(subject: Subject) -> tuple[float, ...]:
    vit = parts(subject.model)
    right = np.zeros(len(vit.blocks))
    for rows, images in subject.with_rows():
        labels = subject.labels[rows]
        before = vit.embed(images)  # what enters the block that is left out
        for omitted, block in enumerate(vit.blocks):
            predicted = logits_from(subject.model, before, omitted + 1).argmax(1).cpu().numpy()
            right[omitted] += (predicted == labels).sum()
            before = block(before)
    return tuple((right / len(subject)).tolist())
