"""`harness verify` on a small trained run: what it writes, repeats and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.runs.evidence_file import VERDICTS, read_claims
from harness.train import fit
from tests.conftest import write_folder
from tests.test_train import settings

CLAIMS = ["half_the_layers", "heads_differ", "uses_positions", "maps_are_faithful", "maps_depend_on_weights"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells colours apart."""
    home = tmp_path_factory.mktemp("verified")
    patch = pytest.MonkeyPatch()
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("HARNESS_CACHE_DIR", str(home / "cache"))
    data = write_folder(home / "data", train=8, valid=4, test=8)
    outcome = fit(settings(data, home / "runs", explain="none", lr=3e-3, epochs=6))
    patch.undo()
    return outcome.folder


def verify(*words: object) -> str:
    result = CliRunner().invoke(main, ["verify", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_claim_is_written_and_printed_and_a_repeat_is_equal_to_the_last_bit(run: Path) -> None:
    output = verify(run)
    first = (run / "evidence.json").read_bytes()
    document = json.loads(first)
    assert document["images"] == 24
    claims = read_claims(run)
    assert [claim.key for claim in claims] == CLAIMS
    for claim in claims:
        assert claim.verdict in VERDICTS
        assert claim.measured.low <= claim.measured.value <= claim.measured.high
        assert claim.statement in output
    layers = len(document["results"]["depth"]["lens"])
    assert len(document["results"]["heads"]["loss_change"]) == layers
    assert len(document["results"]["randomisation"]["maps"]) == 5
    drawn = {path.stem for path in (run / "figures").glob("evidence_*.png")}
    assert drawn >= {"evidence_depth", "evidence_heads", "evidence_positions", "evidence_maps"}
    # The cost is printed before each measure.
    assert f"positions: {24 * 8:,} images through the model" in output
    verify(run)
    assert (run / "evidence.json").read_bytes() == first


def test_a_run_can_verify_itself_at_its_end(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(run.parent.parent / "cache"))
    data = run.parent.parent / "data"
    summary = fit(settings(data, tmp_path, explain="none", lr=3e-3, epochs=1, verify=True)).summary
    claims = read_claims(next(tmp_path.glob("*/evidence.json")).parent)
    assert summary["state"] == "finished" and [claim.key for claim in claims] == CLAIMS
    for claim in claims:
        assert summary[f"evidence/{claim.key}_verdict"] == claim.verdict
        if claim.n:
            assert summary[f"evidence/{claim.key}"] == claim.measured.value


def test_fewer_images_can_be_asked_for(run: Path) -> None:
    verify(run, "--images", 6)
    assert json.loads((run / "evidence.json").read_text())["images"] == 6


def test_a_folder_without_a_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path} holds no best checkpoint")
