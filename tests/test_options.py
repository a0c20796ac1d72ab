"""What HARNESS_SWEEP_ARGS adds to the command line of a run, and what it takes from a sweep's choice."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.config import RunConfig
from harness.errors import ConfigError
from harness.options import overridden, sweep_words


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An agent chose three settings."""
    chosen = "wandb_version: 1\nlr:\n  value: 0.01\nbatch-size:\n  value: 16\naugment:\n  value: none\n"
    (tmp_path / "config-run.yaml").write_text(chosen)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "config-run.yaml"))


@pytest.mark.usefixtures("sweep")
def test_its_words_come_last_and_win(monkeypatch: pytest.MonkeyPatch, fitted_configs: list[RunConfig]) -> None:
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--data 'my images' --epochs=3")
    assert CliRunner().invoke(main.run, ["--data=images", "--lr=0.01", "--epochs=5"]).exit_code == 0
    assert fitted_configs == [RunConfig(data="my images", lr=0.01, epochs=3)]


@pytest.mark.usefixtures("sweep")
def test_what_it_gives_need_not_be_in_the_sweep_file(
    monkeypatch: pytest.MonkeyPatch, fitted_configs: list[RunConfig]
) -> None:
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--data images")
    assert CliRunner().invoke(main.run, ["--lr=0.01"]).exit_code == 0
    assert fitted_configs == [RunConfig(data="images", lr=0.01)]


def test_outside_of_a_sweep_it_means_nothing(monkeypatch: pytest.MonkeyPatch, fitted_configs: list[RunConfig]) -> None:
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--data 'unfinished")
    assert CliRunner().invoke(main.run, ["--data=images"]).exit_code == 0
    assert fitted_configs == [RunConfig(data="images")]
    assert overridden() == {}


@pytest.mark.usefixtures("sweep")
def test_words_that_are_none_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--data 'unfinished")
    with pytest.raises(ConfigError, match=r"HARNESS_SWEEP_ARGS is .*unfinished"):
        sweep_words()
    result = CliRunner().invoke(main.run, ["--data=images"])
    assert result.exit_code == 2
    assert "No closing quotation" in result.output
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--data images --epochs 3", {}),  # not the sweep's to choose
        ("--lr 0.5", {"lr": 0.01}),
        ("--lr=1e-2 --batch_size 16", {}),  # the same values
        ("--batch_size=32 --augment standard", {"batch_size": 16, "augment": "none"}),
        ("", {}),
    ],
)
def test_what_was_the_sweeps_to_choose_is_known(
    monkeypatch: pytest.MonkeyPatch, words: str, expected: dict[str, object]
) -> None:
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", words)
    assert overridden() == expected


@pytest.mark.usefixtures("sweep")
def test_a_choice_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--lr 0.5")
    for number, content in enumerate((b"lr: [", b"", b"- lr", b"lr: 0.01", b"lr: \xff")):
        (tmp_path / f"{number}.yaml").write_bytes(content)
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / f"{number}.yaml"))
        assert overridden() == {}
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "gone.yaml"))
    assert overridden() == {}
