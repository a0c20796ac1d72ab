"""The whole run on photographs and published weights, where they are at hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.train import fit

DATA, WEIGHTS = os.environ.get("HARNESS_REAL_DATA"), os.environ.get("HARNESS_REAL_WEIGHTS")


@pytest.mark.slow
@pytest.mark.skipif(not (DATA and WEIGHTS), reason="HARNESS_REAL_DATA and HARNESS_REAL_WEIGHTS are not set")
def test_a_frozen_backbone_tells_sports_apart(tmp_path: Path) -> None:
    classes = ("archery", "bobsled", "curling", "polo", "sky surfing")
    assert DATA
    for split, count in {"train": 25, "valid": 5, "test": 5}.items():
        for name in classes:
            folder = tmp_path / "sports" / split / name
            folder.mkdir(parents=True)
            for image in sorted((Path(DATA) / split / name).iterdir())[:count]:
                shutil.copy(image, folder)
    outcome = fit(
        RunConfig(
            recipe="study",
            data=str(tmp_path / "sports"),
            runs_dir=str(tmp_path / "runs"),
            model="vit_ti_16",
            weights=str(WEIGHTS),
            freeze="backbone",
            lr=1e-2,
            epochs=2,
            batch_size=16,
            explain="4",
        )
    )
    assert outcome.summary["test/n"] == 25
    assert outcome.summary["test/f1"] >= 0.8
