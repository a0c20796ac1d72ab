"""Starting a run's head from the probe of its backbone: LP-FT, Kumar et al. 2022 (arXiv 2202.10054)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.config import RunConfig
from harness.data.dataset import Dataset
from harness.model import adapter
from harness.model.vit import Loaded
from harness.probe.features import features_of
from harness.probe.linear_probe import LinearProbe, fit_probe
from harness.training.checkpoint import load_tensors, save_tensors
from harness.training.distributed import Processes


@dataclasses.dataclass(frozen=True, eq=False)
class ProbeHead:
    """The probe that a run started from, and its scores on validation, the same on every rank."""

    probe: LinearProbe
    test_predicted: np.ndarray  # int64 (N,): its classes of the test images; scored when the run has ended
    scores: dict[str, float]  # f1, accuracy and loss on validation

    def metrics(self) -> dict[str, float]:
        """By their keys in summary.json and W&B."""
        by_key = {f"probe/val_{name}": value for name, value in self.scores.items()}
        return by_key | {"probe/inverse_strength": self.probe.inverse_strength}


def start_from_probe(path: Path, loaded: Loaded, data: Dataset, config: RunConfig, processes: Processes) -> ProbeHead:
    """Fit the probe of the run's backbone, or read it from `path` if the run has fitted it before; set the head.

    Every rank calls it, with the model as it was built. The main process fits and writes; all get the same head.
    The probe predicts the test images here, where the backbone is still the one it was fitted on; labels of test
    images are not read.
    """
    loaded.model.to(processes.device)
    origin = {"data": data.fingerprint, "weights": loaded.weights_digest}
    if (head := processes.on_main(lambda: _read(path, origin))) is None:
        train, val, test = (
            features_of(split, loaded, config, processes) for split in (data.train, data.val, data.test)
        )

        def fit_and_write() -> None:
            probe, scores = fit_probe(
                train, data.train.labels, val, data.val.labels, len(data.classes), device=processes.device
            )
            metadata = {
                "origin": origin,
                "inverse_strength": probe.inverse_strength,
                "scores": {"f1": scores.f1, "accuracy": scores.accuracy, "loss": scores.loss},
            }
            test_predicted = torch.from_numpy(probe.logits(test).argmax(axis=1))
            save_tensors(path, {"weight": probe.weight, "bias": probe.bias, "test_predicted": test_predicted}, metadata)

        processes.on_main(fit_and_write)
        head = processes.on_main(lambda: _read(path, origin))
        assert head is not None
    linear = adapter.parts(loaded.model).head
    with torch.no_grad():
        linear.weight.copy_(head.probe.weight)
        linear.bias.copy_(head.probe.bias)
    return head


def _read(path: Path, origin: dict[str, Any]) -> ProbeHead | None:
    """The probe in a file; None if the file is missing, or of other data or weights."""
    if not path.is_file():
        return None
    tensors, metadata = load_tensors(path)
    if metadata.get("origin") != origin:
        return None
    probe = LinearProbe(tensors["weight"], tensors["bias"], metadata["inverse_strength"])
    return ProbeHead(probe, tensors["test_predicted"].numpy(), metadata["scores"])
