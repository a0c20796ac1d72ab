"""Figures of what `harness verify` measured, from `results` of evidence.json: depth, heads, positions, maps.

Made without pyplot, as all figures of a run. L layers, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.evidence.faithfulness import BASELINES
from harness.evidence.heads import SIGNIFICANT, why_none
from harness.evidence.randomisation import STAGES
from harness.runs.figures import new_figure, tidy
from harness.runs.rules import BLUE, COLOURS, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = {"centre": "--", "mean of other images": ":", "random": "-."}

Results = Mapping[str, Any]


def evidence_figures(results: Results) -> dict[str, Figure]:
    """Figures by the name of their file; those whose measure is missing are left out."""
    makers = {
        "depth": depth_figure,
        "heads": heads_figure,
        "positions": positions_figure,
        "faithfulness": curves_figure,
    }
    figures = {f"evidence_{name}": make(results[name]) for name, make in makers.items() if name in results}
    return figures | {"evidence_maps": maps_figure(results)}


def depth_figure(depth: Results) -> Figure:
    """Accuracy by layer of a probe, of the model's own head and without the block; similarity with the last layer."""
    figure = new_figure(11, 4.6, f"What each layer knows: {depth['n']} test images, 95 % intervals")
    accuracy, similarity = figure.subplots(1, 2, width_ratios=(3, 2))
    layers = np.arange(1, len(depth["lens"]) + 1)
    probe = depth["probe"]
    accuracy.fill_between(layers, [one["low"] for one in probe], [one["high"] for one in probe], color=BLUE, alpha=0.2)
    accuracy.plot(layers, [one["value"] for one in probe], color=BLUE, marker="o", label="linear probe on the layer")
    accuracy.plot(layers, depth["lens"], color=ORANGE, marker="s", label="the model's own head on the layer")
    omitted = f"the model without this block (n = {depth['omitted_on']})"
    accuracy.plot(layers, depth["without_block"], color=GREEN, marker="^", label=omitted)
    chance = depth["probe_on_shuffled_labels"]
    accuracy.axhline(chance, color="0.4", linestyle="--", label=f"probe on shuffled labels: {chance:.2f}")
    if depth["beats_guessing"]:
        enough = depth["layers_enough"]
        accuracy.axvline(enough, color="0.6", linewidth=0.8)
        accuracy.annotate(f" {enough} enough", (enough, 0.02), fontsize=9)
    accuracy.set(title="Accuracy", xlabel="layer", ylabel="accuracy (share of images)", ylim=(0, 1.02))
    similarity.plot(layers, depth["cka"], color=BLUE, marker="o")
    similarity.set(title="Similarity with the last layer", xlabel="layer", ylabel="linear CKA", ylim=(0, 1.02))
    accuracy.legend(fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))  # below: over no line
    for axes in (accuracy, similarity):
        tidy(axes)
        axes.set_xticks(layers)
    return figure


def heads_figure(heads: Results) -> Figure:
    """Change of the loss without each head; a dot marks heads that matter."""
    changes, p_values = np.array(heads["loss_change"]), np.array(heads["p_values"])
    layers, count = changes.shape
    figure = new_figure(max(6.5, 0.5 * count + 3), max(3.8, 0.36 * layers + 1.8))
    axes = figure.subplots()
    end = float(np.abs(changes).max()) or 1.0
    image = axes.imshow(changes, cmap="PuOr_r", vmin=-end, vmax=end, aspect="auto")
    rows, columns = np.nonzero((p_values < SIGNIFICANT) & (changes > 0))
    axes.plot(columns, rows, "o", color="black", markersize=4, linestyle="none")
    axes.set_xticks(range(count), [str(head) for head in range(1, count + 1)])
    axes.set_yticks(range(layers), [str(layer) for layer in range(1, layers + 1)])
    axes.set(xlabel="head", ylabel="layer")
    figure.colorbar(image, ax=axes, label="change of the loss without the head (nats)")
    between, images = (heads[name]["value"] for name in ("between_heads", "between_images"))
    divergence = why_none(count)
    if heads["n"]:
        divergence = f"divergence between heads {between:.3f} bits, between images {images:.3f} bits, n = {heads['n']}"
    # Over the whole figure, whose width the map shares with its colour bar.
    figure.suptitle(
        f"{len(rows)} of {changes.size} heads matter (dots): p < {SIGNIFICANT:g} after Holm, n = {heads['ablated']}\n"
        + divergence,
        fontsize=10,
    )
    return figure


def positions_figure(positions: Results) -> Figure:
    """Accuracy, loss and predictions when the position embedding is shuffled, averaged or zero."""
    figure = new_figure(
        11, 4, f"When the position embedding is destroyed: {positions['n']} test images, 95 % intervals"
    )
    names = list(positions["changes"])
    titles = {
        "accuracy_loss": f"Accuracy lost, of {positions['accuracy']:.2f}",
        "loss_increase": "Increase of the loss (nats)",
        "divergence": "Divergence of predictions (nats)",
    }
    for axes, (key, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for place, name in enumerate(names):
            _point(axes, place, positions["changes"][name][key], BLUE)
        axes.axhline(0, color="0.4", linestyle="--")
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_title(title, fontsize=10)
        tidy(axes)
    return figure


def curves_figure(faithfulness: Results) -> Figure:
    """Insertion and deletion curves of every map, and of orders that do not look at the image."""
    figure = new_figure(12, 4.8, f"Patches in the order of a map: {faithfulness['n']} test images, means")
    kinds = figure.subplots(1, 2, sharey=True)
    maps = [name for name in faithfulness["maps"] if name not in BASELINES]
    colours = dict(zip(maps, COLOURS, strict=False))
    for axes, kind in zip(kinds, ("insertion", "deletion"), strict=True):
        for name, measured in faithfulness["maps"].items():
            curve, gain = measured[kind], measured["gain"]["value"]
            shares = np.linspace(0, 1, len(curve))
            style = {"color": colours.get(name, "0.45"), "linestyle": _DASHES.get(name, "-")}
            axes.plot(shares, curve, label=f"{name}: {gain:+.3f}", **style)
        axes.set(title=kind.capitalize(), xlabel=f"share of patches {'kept' if kind == 'insertion' else 'dropped'}")
        tidy(axes)
    kinds[0].set_ylabel("probability of the prediction\n(0: no patch, 1: all)")
    title = "gain: insertion area\nless deletion area"
    kinds[1].legend(title=title, title_fontsize=9, fontsize=9, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def maps_figure(results: Results) -> Figure:
    """Rank correlation of maps after randomising weights, and where there are masks, hits of the pointing game."""
    randomised, pointing = results["randomisation"], results.get("pointing")
    title = f"Do maps depend on the weights ({randomised['n']} images)"
    title += f", and point at objects ({pointing['n']} images)?" if pointing else "?"
    figure = new_figure(12 if pointing else 7, 4.8, f"{title} Means, 95 % intervals")
    panels = figure.subplots(1, 2 if pointing else 1, squeeze=False)[0]
    for number, (name, measured) in enumerate(randomised["maps"].items()):
        colour = COLOURS[number % len(COLOURS)]
        for place, one in enumerate([measured["other_image"], *(measured["stages"][stage] for stage in STAGES)]):
            _point(panels[0], place + 0.12 * (number - 2), one, colour)
        panels[0].plot([], [], "o", color=colour, label=name if measured["n"] else f"{name}: the same everywhere")
    panels[0].axhline(0, color="0.4", linestyle="--")
    names = ["another image\n(same weights)", *(f"{stage}\nrandom" for stage in STAGES)]
    panels[0].set_xticks(range(len(names)), names)
    panels[0].set_ylabel("rank correlation with the model's map")
    panels[0].legend(fontsize=9)
    if pointing:
        for place, (name, hits) in enumerate(pointing["hits"].items()):
            _point(panels[1], place, hits, "0.45" if name in BASELINES else COLOURS[place % len(COLOURS)])
        chance = pointing["chance"]
        panels[1].axhline(chance, color="0.4", linestyle="--", label=f"chance: {chance:.3f}")
        panels[1].set_xticks(range(len(pointing["hits"])), list(pointing["hits"]), rotation=30, ha="right")
        panels[1].set(ylabel="share of images whose highest\npatch is at least half object", ylim=(0, 1))
        panels[1].legend(fontsize=9)
    for axes in panels:
        tidy(axes)
    return figure


def _point(axes: Axes, place: float, measured: Results, colour: str) -> None:
    value, low, high = (measured[end] for end in ("value", "low", "high"))
    if value is None:  # not measured
        return
    errors = [[max(value - low, 0)], [max(high - value, 0)]]
    axes.errorbar(place, value, yerr=errors, fmt="o", color=colour, capsize=4)
