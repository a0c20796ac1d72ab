"""`harness verify` on a small trained run: what it writes, repeats, resumes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image

from harness.cli.main import main
from harness.evidence import faithfulness, output, verify
from harness.evidence.print_figures import verified_figures
from harness.evidence.progress import PARTIAL_FILE
from harness.model.preprocessing import Preprocessing
from harness.runs.evidence_file import VERDICTS, read_claims
from harness.runs.reading import UnreadableError
from harness.sweep import session
from harness.train import Outcome, fit
from tests.conftest import write_folder
from tests.reports.stats.test_leaderboard import write
from tests.test_train import settings

pytestmark = pytest.mark.figures

CLAIMS = ["half_the_layers", "heads_differ", "uses_positions", "maps_are_faithful", "maps_depend_on_weights"]


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that tells colours apart, and that has verified itself at its end."""
    home = tmp_path_factory.mktemp("verified")
    patch = pytest.MonkeyPatch()
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("HARNESS_CACHE_DIR", str(home / "cache"))
    data = write_folder(home / "data", train=8, valid=4, test=4)
    outcome = fit(settings(data, home / "runs", explain="none", lr=3e-3, epochs=6, verify=True))
    patch.undo()
    return outcome


def test_every_claim_of_a_run_is_written_with_its_numbers(verified: Outcome) -> None:
    document = json.loads((verified.folder / "evidence.json").read_text())
    claims = read_claims(verified.folder)
    assert verified.summary["state"] == "finished" and document["images"] == 12
    assert [claim.key for claim in claims] == CLAIMS
    for claim in claims:
        assert claim.verdict in VERDICTS
        assert claim.measured.low <= claim.measured.value <= claim.measured.high
        assert verified.summary[f"evidence/{claim.key}_verdict"] == claim.verdict
        if claim.n:
            assert verified.summary[f"evidence/{claim.key}"] == claim.measured.value
    layers = len(document["results"]["depth"]["lens"])
    assert len(document["results"]["heads"]["loss_change"]) == layers
    assert len(document["results"]["randomisation"]["maps"]) == 5
    drawn = {path.stem for path in (verified.folder / "figures").glob("evidence_*.png")}
    assert drawn >= {"evidence_depth", "evidence_heads", "evidence_positions", "evidence_maps", "evidence_before_after"}


def test_an_interrupted_command_resumes_and_ends_with_the_same_bits(
    verified: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (verified.folder / "evidence.json").read_bytes()
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(verified.folder.parent.parent / "cache"))
    with monkeypatch.context() as interrupted:

        def fails(*_: Any) -> None:
            raise KeyboardInterrupt

        interrupted.setattr(faithfulness, "measure_faithfulness", fails)
        assert CliRunner().invoke(main, ["verify", str(verified.folder), "--threads", "1"]).exit_code != 0
    assert list(json.loads((verified.folder / PARTIAL_FILE).read_text())["done"]) == ["depth", "heads", "positions"]
    (verified.folder / "evidence.json").unlink()
    result = CliRunner().invoke(main, ["verify", str(verified.folder), "--threads", "1"])
    assert result.exit_code == 0, result.output
    assert "heads: measured before" in result.output
    # The cost of a measure is printed before it; here of a whole pass, and of five maps and three other orders.
    assert f"faithfulness: {12 * (2 + 4 * 8):,} images through the model" in result.output
    for claim in read_claims(verified.folder):
        assert claim.statement in result.output
    assert (verified.folder / "evidence.json").read_bytes() == expected
    assert not (verified.folder / PARTIAL_FILE).exists()


def test_the_figures_of_a_verified_run_can_be_printed(verified: Outcome, tmp_path: Path) -> None:
    found = {figure.name: figure for figure in verified_figures(verified.folder.parent)}
    assert list(found)[:3] == ["8_depth", "9_heads", "10_positions"] and list(found)[-1].endswith("_maps")
    title = found["8_depth"].draw().get_suptitle()
    assert title == "What each layer knows: 12 test images, 95 % intervals"
    assert "lr 0.003, batch 5" in found["8_depth"].caption
    run = tmp_path / "runs" / "earlier"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "summary.json").write_text('{"state": "finished", "best/val_f1": 0.5}')
    assert list(verified_figures(tmp_path)) == []
    (run / "evidence.json").write_text('{"results": {"depth": {}}}')
    with pytest.raises(UnreadableError, match="is damaged or of an earlier version"):
        list(verified_figures(tmp_path))


def test_masks_lie_beside_the_images_also_of_a_list(tmp_path: Path) -> None:
    for name in ("a.png", "masks/a.png", "b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (32, 32), 255).save(tmp_path / name)
    rule = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
    opened: Any = SimpleNamespace(
        config=SimpleNamespace(data=str(tmp_path / "images.csv")),
        dataset=SimpleNamespace(root=tmp_path),
        tested=SimpleNamespace(files=("b.png", "a.png")),
        best=SimpleNamespace(preprocessing=rule),
    )
    found = verify._coverage(opened, 4)
    assert found is not None
    assert found[0].tolist() == [1] and (found[1] == 1).all()


def test_figures_of_an_earlier_verification_do_not_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(output, "evidence_figures", lambda _: {"evidence_depth": Figure()})
    (tmp_path / "figures").mkdir()
    for name in ("evidence_mistakes", "evidence_mine", "loss_curve"):
        (tmp_path / "figures" / f"{name}.png").touch()
    output.write_and_log(tmp_path, 2, [], {}, {}, None)
    left = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert left == {"evidence_depth", "evidence_mine", "loss_curve"}


def test_images_and_threads_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []
    monkeypatch.setattr(verify, "verify", lambda *words: calls.append(words[:-1]) or [])
    result = CliRunner().invoke(main, ["verify", str(tmp_path), "--images", "6", "--threads", "2", "--data", "d"])
    assert result.exit_code == 0, result.output
    assert calls == [(tmp_path, 6, "d", None, 2)]


def test_of_a_folder_of_runs_the_best_is_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(verify, "verify", lambda *words: calls.append(words[0]) or [])
    for name, f1 in (("a", 0.5), ("b", 0.9), ("c", 0.7)):
        write(tmp_path / "sweep" / name, f1, lr=f1)
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "sweep")]).exit_code == 0
    assert calls == [tmp_path / "sweep" / "b"]
    write(tmp_path / "failed" / "a", None, lr=1.0, state="failed")
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "failed")])
    assert (result.exit_code, len(calls)) == (1, 1)
    assert result.output.endswith("to verify. No run has finished.\n")


def test_a_sweep_verifies_its_best_run_once_if_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(verify, "verify", lambda *words: calls.append(words[0]) or [])
    monkeypatch.setattr(session, "run_sweep", lambda *_, **__: 0)
    write(tmp_path / "grid" / "a", 0.5, lr=0.1)
    file = tmp_path / "grid.yaml"
    file.write_text(
        "program: harness/run.py\nmethod: grid\nmetric: {name: best/val_f1, goal: maximize}\n"
        "parameters: {lr: {values: [0.1]}, data: {value: x}}\n"
    )
    words = ["sweep", "run", str(file), "--runs-dir", str(tmp_path)]
    assert CliRunner().invoke(main, words).exit_code == 0 and not calls
    result = CliRunner().invoke(main, [*words, "--verify-best"])
    assert result.exit_code == 0, result.output
    assert calls == [tmp_path / "grid" / "a"]
    (tmp_path / "grid" / "a" / "evidence.json").write_text("{}")
    assert "The best run has been verified" in CliRunner().invoke(main, [*words, "--verify-best"]).output
    assert len(calls) == 1


def test_a_folder_without_a_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path} holds no best checkpoint")
