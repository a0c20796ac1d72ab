"""Whether a map shows the patches that the prediction rests on: patches are dropped, and the model is asked again.

A ViT takes any number of patches, so patches are left out of its input; nothing grey or blurred takes their place.
*Insertion* begins with no patch and adds the patches that a map ranks highest; *deletion* begins with all and drops
them. The score is p, the probability of the predicted class, on a scale from 0, without patches, to 1, with all of
them. A good map inserts to a high score early and deletes to a low one early, so its gain is the area under the
insertion curve less that under the deletion curve. An order at random gains 0 in the mean. (Insertion and deletion:
Petsiuk et al. 2018, arXiv 1806.07421; their difference: Blücher et al. 2024, arXiv 2401.06654.)

Shapes: n images, B in a batch, P patches, k of them kept, N tokens, D hidden size, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.evidence.subject import Subject, logits_from
from harness.evidence.verdict import above
from harness.model.adapter import parts
from harness.runs.evidence_file import CENTRE_PRIOR, OPEN, Claim
from harness.runs.resampling import Interval, mean_intervals

STEPS = 8  # points of each curve besides the first
SMALLEST_EFFECT = 0.1  # of all patches on p; images in which they change it less are not measured
CENTRE, OTHERS, RANDOM = CENTRE_PRIOR, "mean of other images", "random"
BASELINES = (CENTRE, OTHERS, RANDOM)  # orders that know nothing of the image
KEY, STATEMENT = "maps_are_faithful", "Attention maps show the patches that predictions rest on."
RULE = (
    "Insertion area less deletion area of the map that pages show first, less that of the better of two orders that do "
    "not look at the image: from the centre outwards, and by the mean map of the other images. The map is not chosen "
    "by this result, which would favour it. holds: the whole interval is above 0. does not hold: it is below 0. "
    "cannot be told: anything else, a model that does not beat guessing, or one "
    f"whose p the patches change by less than {SMALLEST_EFFECT:g} in every image."
)


@dataclass(frozen=True)
class MapFaithfulness:
    """A map's curves, as means over images, and its score."""

    insertion: tuple[float, ...]  # (STEPS + 1,) from no patch to all
    deletion: tuple[float, ...]  # (STEPS + 1,) from all patches to none
    gain: Interval  # insertion area less deletion area


@dataclass(frozen=True)
class Faithfulness:
    """Every map and baseline by name."""

    n: int  # images in which the patches change p by at least SMALLEST_EFFECT
    left_out: int  # the other images
    maps: Mapping[str, MapFaithfulness]
    best: str  # the map with the largest gain
    shown: str  # the map that the claim is about: the first
    baseline: str  # the baseline with the largest gain
    difference: Interval  # gain of the shown map less that of the baseline, on the same images
    beats_guessing: bool

    def claim(self) -> Claim:
        return Claim(
            KEY,
            STATEMENT,
            f"gain of {self.shown} less that of {self.baseline}",
            self.difference,
            self.n,
            above(self.difference) if self.beats_guessing else OPEN,
            RULE,
        )


def not_measured() -> Claim:
    """For a model whose predictions hardly change when patches are removed."""
    number = f"no image whose patches change p by {SMALLEST_EFFECT:g}"
    return Claim(KEY, STATEMENT, number, Interval(0.0, 0.0, 0.0), 0, OPEN, RULE)


def passes(subject: Subject, maps: Mapping[str, np.ndarray]) -> int:
    """Images that go through the model; on average half of their patches do."""
    return len(subject) * (2 + 2 * (STEPS - 1) * (len(maps) + len(BASELINES)))


def measure_faithfulness(
    subject: Subject, maps: Mapping[str, np.ndarray], orders: Mapping[str, np.ndarray]
) -> Faithfulness | None:
    """Curves of maps (n, P), the shown one first, and of `baselines` as `orders`.

    None if the patches change p by less than SMALLEST_EFFECT in every image.
    """
    empty = kept_probabilities(subject, lambda rows: np.empty((rows.stop - rows.start, 0), np.int64))
    full = kept_probabilities(subject, lambda _: None)
    usable = full - empty >= SMALLEST_EFFECT
    if not usable.any():
        return None
    curves = {}
    for name, values in {**maps, **orders}.items():
        inserted, deleted = _curves(subject, ranking(values), empty, full)
        scale = (full - empty)[usable, None]
        curves[name] = tuple((each[usable] - empty[usable, None]) / scale for each in (inserted, deleted))
    gains = {name: area(inserted) - area(deleted) for name, (inserted, deleted) in curves.items()}
    measured = dict(zip(gains, mean_intervals(np.column_stack(list(gains.values()))), strict=True))
    best, shown = max(maps, key=lambda name: measured[name].value), next(iter(maps))
    baseline = max((CENTRE, OTHERS), key=lambda name: measured[name].value)
    [difference] = mean_intervals((gains[shown] - gains[baseline])[:, None])
    return Faithfulness(
        int(usable.sum()),
        int((~usable).sum()),
        {
            name: MapFaithfulness(tuple(inserted.mean(0).tolist()), tuple(deleted.mean(0).tolist()), measured[name])
            for name, (inserted, deleted) in curves.items()
        },
        best,
        shown,
        baseline,
        difference,
        subject.beats_guessing,
    )


def baselines(maps: Mapping[str, np.ndarray], centre: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Orders that know nothing of the image, as maps (n, P). The mean of others is that of the first map in `maps`."""
    values = next(iter(maps.values())).astype(np.float64)
    shares = values / np.maximum(values.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    others = (shares.sum(0) - shares) / max(count - 1, 1)
    noise = np.random.Generator(np.random.Philox(0)).random((count, len(centre)))
    return {CENTRE: np.broadcast_to(centre, (count, len(centre))), OTHERS: others, RANDOM: noise}


def ranking(values: np.ndarray) -> np.ndarray:
    """Patches of each image from the highest value to the lowest, (n, P); of equal values, the first patch first."""
    return np.argsort(-values.astype(np.float64), axis=1, kind="stable")


def area(curve: np.ndarray) -> np.ndarray:
    """Area under curves (n, STEPS + 1) over the share of patches, by the trapezoidal rule: (n,)."""
    return np.trapezoid(curve, dx=1 / (curve.shape[1] - 1), axis=1)


def _curves(subject: Subject, order: np.ndarray, empty: np.ndarray, full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p with the highest-ranked patches inserted, and with them deleted; (n, STEPS + 1) each."""
    patches = order.shape[1]
    inserted, deleted = [empty], [full]
    for step in range(1, STEPS):
        highest, rest = np.split(order, [round(patches * step / STEPS)], axis=1)
        inserted.append(kept_probabilities(subject, highest.__getitem__))
        deleted.append(kept_probabilities(subject, rest.__getitem__))
    return np.column_stack([*inserted, full]), np.column_stack([*deleted, empty])


@torch.no_grad()
def kept_probabilities(subject: Subject, kept: Callable[[slice], np.ndarray | None]) -> np.ndarray:
    """Probability of the predicted class of each image (n,) when the model sees some of its patches.

    `kept` gives the patches (B, k), from 0, of a slice of the images; None keeps all.
    """
    vit = parts(subject.model)
    probabilities, seen = [], 0
    for images in subject.batches():
        rows = slice(seen, seen + len(images))
        seen = rows.stop
        tokens = vit.embed(images)
        if (patches := kept(rows)) is not None:
            tokens = keep_patches(tokens, torch.from_numpy(patches).to(tokens.device), vit.layout.prefix)
        classes = torch.from_numpy(subject.predicted[rows]).to(tokens.device)
        chosen = logits_from(subject.model, tokens).double().softmax(1).gather(1, classes[:, None])[:, 0]
        probabilities.append(chosen.cpu().numpy())
    return np.concatenate(probabilities)


def keep_patches(tokens: Tensor, patches: Tensor, prefix: int) -> Tensor:
    """The prefix tokens and those patches (B, k), from 0, of tokens (B, N, D): (B, prefix + k, D)."""
    first = torch.arange(prefix, device=tokens.device).expand(len(tokens), -1)
    places = torch.cat([first, patches + prefix], dim=1)
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
