"""A policy is one entry of the table: it trains, resumes with the same bits, and does not depend on processes."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.config import RunConfig
from harness.data import augment
from harness.data.augment import Augment
from harness.data.policies import POLICIES
from harness.train import fit
from tests import ROOT
from tests.data.test_loader import EVERYTHING
from tests.test_train import kill_after_step, losses_of, on_ranks, same_bits, settings, weights_of

GUIDE = ROOT / "docs" / "development" / "adding-an-augmentation.md"
SLOW = [name for name, policy in POLICIES.items() if policy.transform]


def test_the_option_offers_and_explains_every_policy() -> None:
    [field] = [field for field in dataclasses.fields(RunConfig) if field.name == "augment"]
    assert field.metadata["choices"] == tuple(POLICIES)
    for name, policy in POLICIES.items():
        assert f"{name} = {policy.about}" in field.metadata["help"]


def test_the_names_are_light_to_import() -> None:
    code = "import sys, harness.config; print(*({'torch', 'torchvision', 'numpy', 'cv2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_has_steps_and_they_change_pixels(name: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (10, 10, 3)).astype(np.uint8).repeat(6, 0).repeat(6, 1)
    changed = 0
    for sample in range(12):
        params = augment.draw(Augment(name), sample=sample, epoch=1, height=60, width=60, size=32)
        plain = params._replace(jitter=(), operations=(), transform=None)
        changed += not np.array_equal(augment.apply(image, params, 32), augment.apply(image, plain, 32))
    assert changed == 0 if name == "none" else changed > 5


@pytest.mark.parametrize("name", SLOW)
def test_every_image_and_epoch_has_its_own_seed(name: str) -> None:
    seeds = [
        params.transform.seed
        for epoch in range(3)
        for sample in range(20)
        for params in [augment.draw(Augment(name, seed=4), sample=sample, epoch=epoch, height=60, width=60, size=32)]
        if params.transform
    ]
    assert len(set(seeds)) == 60
    assert max(seeds).bit_length() > 40


def test_the_loader_is_tested_with_every_policy() -> None:
    assert {settings.policy for settings in EVERYTHING.values()} == set(POLICIES)


def test_a_policy_trains_resumes_and_does_not_depend_on_processes(data_folder: Path, tmp_path: Path) -> None:
    """One of those with a transform; test_loader.py has the batches of all."""

    def config(runs: str) -> RunConfig:
        return settings(data_folder, tmp_path / runs, augment=SLOW[0], epochs=1, checkpoint_every=1)

    whole = fit(config("whole"))
    kill_after_step(config("killed"), 3, world=1)
    [folder] = (tmp_path / "killed").iterdir()
    fit(config("killed"))
    assert losses_of(folder) == losses_of(whole)
    assert same_bits(weights_of(folder), weights_of(whole))

    on_ranks(2, lambda: fit(config("2")))
    [folder] = (tmp_path / "2").iterdir()
    assert losses_of(folder) == pytest.approx(losses_of(whole), rel=1e-4, abs=1e-5)


def test_the_guide_names_files_that_exist_and_shows_what_is_in_them() -> None:
    text = GUIDE.read_text()
    files = set(re.findall(r"`((?:harness|tests|docs)/[\w./-]+)`", text))
    assert {"harness/data/policies.py", "tests/data/test_policies.py"} <= files
    assert [file for file in files if not (ROOT / file).exists()] == []
    blocks = list(re.finditer(r"^```(?:python|diff)\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert len(blocks) == 2
    for block in blocks:
        file = re.findall(r"`(harness/[\w./]+)`", text[: block.start()])[-1]
        source = (ROOT / file).read_text()
        missing = [line for line in block[1].splitlines() if line.removeprefix("+").strip() not in source]
        assert missing == [], file
