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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.evidence.subject import Subject, logits_from
from harness.evidence.verdict import FEWEST, above
from harness.model.adapter import parts
from harness.runs.evidence_file import CENTRE_PRIOR, OPEN, Claim
from harness.runs.resampling import Interval, mean_intervals

STEPS = 5  # points of each curve besides the first
SMALLEST_EFFECT = 0.1  # of all patches on p; images in which they change it less are not measured
CENTRE, OTHERS, RANDOM = CENTRE_PRIOR, "mean of other images", "random"
BASELINES = (CENTRE, OTHERS, RANDOM)  # orders that know nothing of the image
KEY, STATEMENT = "maps_are_faithful", "Attention maps show the patches that predictions rest on."
RULE = (
    "Insertion area less deletion area of the map that pages show first, less that of the better of two orders that do "
    "not look at the image: from the centre outwards, and by the mean map of the other images. The map is not chosen "
    "by this result, which would favour it. holds: the whole interval is above 0. does not hold: it is below 0. "
    "cannot be told: anything else, a model that does not beat guessing, or one whose p the patches change by "
    f"{SMALLEST_EFFECT:g} in fewer than {FEWEST} images."
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
            above(self.difference, self.n) if self.beats_guessing else OPEN,
            RULE,
        )


def not_measured() -> Claim:
    """For a model whose predictions hardly change when patches are removed."""
    number = f"no image whose patches change p by {SMALLEST_EFFECT:g}"
    return Claim(KEY, STATEMENT, number, Interval(0.0, 0.0, 0.0), 0, OPEN, RULE)


def passes(subject: Subject, maps: Mapping[str, np.ndarray]) -> int:
    """Images that go through the model; with half of their patches in the mean, which is counted as half."""
    return len(subject) * (2 + (STEPS - 1) * (len(maps) + len(BASELINES)))


def measure_faithfulness(
    subject: Subject, maps: Mapping[str, np.ndarray], orders: Mapping[str, np.ndarray]
) -> Faithfulness | None:
    """Curves of maps (n, P), the shown one first, and of `baselines` as `orders`.

    None if the patches change p by less than SMALLEST_EFFECT in every image.
    """
    names = [*maps, *orders]
    inserted, deleted = curves(subject, [ranking(values) for values in (*maps.values(), *orders.values())])
    empty, full = inserted[:, :1, :1], inserted[:, :1, -1:]
    usable = (full - empty >= SMALLEST_EFFECT)[:, 0, 0]
    if not usable.any():
        return None
    lowest, scale = empty[usable], (full - empty)[usable]
    inserted, deleted = ((each[usable] - lowest) / scale for each in (inserted, deleted))
    gains = {name: area(inserted[:, k]) - area(deleted[:, k]) for k, name in enumerate(names)}
    measured = dict(zip(gains, mean_intervals(np.column_stack(list(gains.values()))), strict=True))
    best, shown = max(maps, key=lambda name: measured[name].value), next(iter(maps))
    baseline = max((CENTRE, OTHERS), key=lambda name: measured[name].value)
    [difference] = mean_intervals((gains[shown] - gains[baseline])[:, None])
    return Faithfulness(
        int(usable.sum()),
        int((~usable).sum()),
        {
            name: MapFaithfulness(
                tuple(inserted[:, k].mean(0).tolist()), tuple(deleted[:, k].mean(0).tolist()), measured[name]
            )
            for k, name in enumerate(names)
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


@torch.no_grad()
def curves(subject: Subject, orders: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """p with the first patches of K orders (n, P) inserted, and with them deleted; (n, K, STEPS + 1) each.

    NaN between the ends, where these differ by less than SMALLEST_EFFECT: such images are not measured.
    """
    vit = parts(subject.model)
    inserted = np.full((len(subject), len(orders), STEPS + 1), np.nan)
    deleted = inserted.copy()
    for rows, images in subject.with_rows():
        tokens, classes = vit.embed(images), torch.from_numpy(subject.predicted[rows]).to(images.device)
        full = _of_class(logits_from(subject.model, tokens), classes)
        empty = _of_class(_logits_without_patches(subject.model, tokens), classes)
        inserted[rows, :, 0] = deleted[rows, :, -1] = empty[:, None]
        inserted[rows, :, -1] = deleted[rows, :, 0] = full[:, None]
        measured = np.flatnonzero(full - empty >= SMALLEST_EFFECT)
        if not len(measured):
            continue
        places, chosen = rows[measured], torch.from_numpy(measured).to(tokens.device)
        tokens, classes = tokens[chosen], classes[chosen]
        for number, order in enumerate(orders):
            patches = torch.from_numpy(order[places]).to(tokens.device)
            for step in range(1, STEPS):
                kept = round(patches.shape[1] * step / STEPS)
                for curve, seen in ((inserted, patches[:, :kept]), (deleted, patches[:, kept:])):
                    left = keep_patches(tokens, seen, vit.layout.prefix)
                    curve[places, number, step] = _of_class(logits_from(subject.model, left), classes)
    return inserted, deleted


def _logits_without_patches(model: nn.Module, tokens: Tensor) -> Tensor:
    """Logits (B, C) of the prefix tokens alone; a head that reads the mean of patches reads zeros."""
    vit = parts(model)
    if vit.layout.pools_patches:
        return vit.head(torch.zeros_like(tokens[:, 0]))
    return logits_from(model, tokens[:, : vit.layout.prefix])


def _of_class(logits: Tensor, classes: Tensor) -> np.ndarray:
    """Probability of each image's class (B,)."""
    return logits.double().softmax(1).gather(1, classes[:, None])[:, 0].cpu().numpy()


def keep_patches(tokens: Tensor, patches: Tensor, prefix: int) -> Tensor:
    """The prefix tokens and those patches (B, k), from 0, of tokens (B, N, D): (B, prefix + k, D)."""
    first = torch.arange(prefix, device=tokens.device).expand(len(tokens), -1)
    places = torch.cat([first, patches + prefix], dim=1)
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
