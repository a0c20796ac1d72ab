from __future__ import annotations

from pathlib import Path

import pytest

from harness import demo
from harness.config import RunConfig
from harness.data import scenes
from harness.train import Outcome, fit


def test_the_table_ranks_by_validation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    outcomes = []
    for lr, score in ((0.1, 0.25), (1e-4, 0.75)):
        summary = {"best/val_f1": score, "test/f1": 1 - score, "test/f1_low": 0.1, "test/f1_high": 0.9, "test/n": 100}
        config = RunConfig(data="d", lr=lr)
        outcomes.append((config, Outcome("finished", tmp_path / "runs" / str(lr), summary | {"seconds/total": 61.0})))
    title, header, *rows = demo.table(outcomes).strip().splitlines()
    assert title == "Macro F1 on 100 test pictures"
    assert [row.split()[0] for row in rows] == ["0.0001", "0.1"]
    assert rows[0].split()[3:5] == ["0.7500", "0.2500"]
    assert rows[0].endswith("1 min 1 s  runs/0.0001")
    assert header.split()[-2:] == ["run", "folder"]


@pytest.mark.slow
def test_fine_tuning_on_the_scenes_works_and_a_high_learning_rate_destroys_it(tmp_path: Path) -> None:
    data = scenes.write(tmp_path / "scenes", progress=False)
    found = {}
    for lr, epochs in ((3e-4, 5), (1e-1, 1)):
        config = RunConfig(
            data=str(data),
            runs_dir=str(tmp_path / "runs"),
            model="vit_demo",
            weights="demo",
            lr=lr,
            epochs=epochs,
            threads=1,
        )
        found[lr] = fit(config).summary
    assert found[3e-4]["test/f1"] >= 0.9
    # One class of ten, or two, for everything: 0.018 is what one gives.
    assert found[1e-1]["test/f1"] < 0.1
    assert found[1e-1]["test/accuracy"] < 0.2
