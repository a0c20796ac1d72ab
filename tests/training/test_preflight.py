from __future__ import annotations

import dataclasses
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.config import RunConfig
from harness.errors import HarnessError
from harness.runs.folder import RunFolder
from harness.train import fit
from harness.training.preflight import check_inputs, resolved
from tests.helpers.built_models import loaded_model

ENDINGS = ("safetensors", "pth", "npz")


def weights_file(path: Path, model: str) -> Path:
    state = loaded_model(model, num_classes=3, weights="none").model.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    return path


def check(config: RunConfig) -> None:
    config, problems = resolved(config)
    check_inputs(config, Path(config.runs_dir) / "run", problems)


@pytest.mark.parametrize("ending", ENDINGS)
def test_fitting_weights_pass(data_folder: Path, tmp_path: Path, ending: str) -> None:
    file = weights_file(tmp_path / f"x.{ending}", "vit_demo")
    check(RunConfig(data=str(data_folder), runs_dir=str(tmp_path), model="vit_demo", weights=str(file)))


@pytest.mark.parametrize("ending", ENDINGS)
def test_all_problems_are_reported_together_and_nothing_is_made(data_folder: Path, tmp_path: Path, ending: str) -> None:
    file = weights_file(tmp_path / f"x.{ending}", "vit_demo")
    (tmp_path / "file").write_text("")
    config = RunConfig(
        data=str(tmp_path / "nowhere"),
        runs_dir=str(tmp_path / "file" / "runs"),
        model="vit_ti_16",
        weights=str(file),
        explain_layer=13,
    )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(HarnessError) as error:
        fit(config)
    assert error.value.exit_code == 2
    text = "\n".join(error.value.problems)
    assert len(error.value.problems) == 4
    assert "nowhere" in text
    assert "--explain-layer is 13" in text
    assert "it is for --model vit_demo" in text
    assert f"{tmp_path / 'file'} is a file, not a folder. Choose another --runs-dir." in text
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_weights_file_is_reported_with_the_data_problem(tmp_path: Path) -> None:
    config = RunConfig(data=str(tmp_path / "nowhere"), runs_dir=str(tmp_path / "runs"), weights="typo.pth")
    with pytest.raises(HarnessError) as error:
        fit(config)
    assert len(error.value.problems) == 2
    assert "typo.pth" in error.value.problems[0]
    assert not (tmp_path / "runs").exists()


def test_a_damaged_weights_file_leaves_no_run_folder(data_folder: Path, tmp_path: Path) -> None:
    file = weights_file(tmp_path / "x.safetensors", "vit_demo")
    file.write_bytes(file.read_bytes()[:1000])
    config = RunConfig(data=str(data_folder), runs_dir=str(tmp_path / "runs"), model="vit_demo", weights=str(file))
    with pytest.raises(HarnessError, match="cut short"):
        fit(config)
    assert not (tmp_path / "runs").exists()


def test_a_cache_that_cannot_be_written_to_leaves_no_run_folder(data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    folders = {"runs_dir": str(tmp_path / "runs"), "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(HarnessError, match=r"Decoded images cannot be kept in .*Name a folder that can be written to"):
        fit(RunConfig(data=str(data_folder), model="vit_demo", weights="none", **folders))
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_prints_its_results_without_network_weights_or_cache(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("harness.model.pretrained.urlopen", no_network)
    (tmp_path / "cache").write_text("")
    folders = {"runs_dir": str(tmp_path / "runs"), "cache_dir": str(tmp_path / "cache")}
    config = RunConfig(data=str(data_folder), model="vit_b_16", weights="imagenet", **folders)
    with pytest.raises(HarnessError) as error:
        fit(config)
    assert len(error.value.problems) == 2
    results = {"state": "finished", "test/f1": 0.5}
    run = RunFolder.of(config.resolved())
    run.path.mkdir(parents=True)
    run.write("summary.json", results)
    outcome = fit(config)
    assert (outcome.state, outcome.summary) == ("finished", results)
    assert "has finished before" in capsys.readouterr().out
    with pytest.raises(HarnessError) as error:
        fit(dataclasses.replace(config, fresh=True))
    assert len(error.value.problems) == 2
    assert run.read("summary.json") == results
    (run.path / "summary.json").write_text("{")
    with pytest.raises(HarnessError) as error:
        fit(config)
    assert len(error.value.problems) == 3
