from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from harness.cli import main
from harness.config import RunConfig
from harness.errors import ConfigError
from harness.explain import images, test_set
from harness.explain.archive import write_archive
from harness.explain.attention import collect
from harness.explain.test_set import ExplainedModel
from harness.model.pretrained import DEMO_FILE
from harness.predict import open_run
from harness.runs.attention_files import Archive, PositionArchive, read_archive
from harness.train import Outcome, fit
from harness.training.distributed import Processes
from tests.helpers.built_models import loaded_model
from tests.test_train import on_ranks, settings

pytestmark = pytest.mark.figures

PER_IMAGE = ("labels", "predicted", "probability", "label_probability", "layers", "heads", "class_share", "rollout")
PER_IMAGE += ("relevance", "entropy", "distance", "outlier_share", "outlier_attention")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Outcome:
    """A run that has looked at all of its nine test images."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("once")
    patch.setenv("WANDB_MODE", "disabled")
    patch.setenv("HARNESS_CACHE_DIR", str(home / "pictures"))
    config = settings(data_folder, home / "runs", explain="all", explain_layer=2, lr=1e-3, ema=True, drop_path=0.1)
    outcome = fit(config)
    patch.undo()
    return outcome


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no setting says so."""
    monkeypatch.setattr("harness.training.distributed.default_threads", lambda local_world: 1)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[Archive]:
    """Nothing is drawn, which takes a second; what would have been is kept."""
    seen: list[Archive] = []
    monkeypatch.setattr("harness.explain.output.draw", lambda found, *_: seen.append(found) or {})
    return seen


def attention_of(outcome: Outcome | Path) -> Archive:
    folder = outcome.folder if isinstance(outcome, Outcome) else outcome
    return read_archive(folder / "attention" / "attention.npz", Archive)


def predictions_of(outcome: Outcome) -> list[dict[str, str]]:
    with (outcome.folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def explain(*words: object) -> str:
    result = CliRunner().invoke(main.main, ["explain", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_writes_the_attention_of_every_test_image(finished: Outcome) -> None:
    seen, rows = attention_of(finished), predictions_of(finished)
    assert seen.files.tolist() == [row["file"] for row in rows]
    assert [seen.classes[index] for index in seen.labels] == [row["label"] for row in rows]
    assert [seen.classes[index] for index in seen.predicted] == [row["prediction"] for row in rows]
    assert seen.probability == pytest.approx([float(row["probability"]) for row in rows], abs=1e-5)
    assert seen.label_probability == pytest.approx([float(row["label_probability"]) for row in rows], abs=1e-5)

    assert seen.layers.shape == (9, 6, 16)
    assert seen.heads.shape == (9, 4, 16)
    sums = seen.layers.astype(np.float64).sum(2) + seen.class_share
    np.testing.assert_allclose(sums, 1, atol=5e-3)
    np.testing.assert_allclose(seen.heads.mean(1, dtype=np.float64), seen.layers[:, 1], atol=1e-3)  # the second layer
    assert (seen.relevance > 0).any(axis=1).all()
    assert seen.statistics[..., seen.statistic_names.tolist().index("distance")].mean() == pytest.approx(
        seen.distance.mean(), rel=1e-5
    )
    about = seen.settings
    assert about["self_test"]["passed"] is True
    assert (about["model"], about["image_size"], about["patch_size"], about["grid"]) == ("vit_demo", 32, 8, [4, 4])
    assert (about["head_layer"], about["rollout"]) == (2, {"fusion": "mean", "residual": 0.5, "discard": 0.0})

    found = read_archive(finished.folder / "attention" / "positions.npz", PositionArchive)
    assert found.before.shape == found.after.shape == (17, 128)
    assert 0 < np.abs(found.after - found.before).max() < 0.1
    # A new model's positions are random numbers.
    assert found.numbers["verdict"] == finished.summary["positions/verdict"] == "none to keep"
    assert found.numbers["strength"] == pytest.approx(1, abs=0.1)
    assert "none to keep: before, neither" in found.numbers["rule"]
    assert finished.summary["attention/n"] == 9
    assert finished.summary["attention/distance"] == pytest.approx(float(seen.distance[:, -1].mean()))

    pages = sorted((finished.folder / "attention" / "pictures").iterdir())
    assert len(pages) == 9
    with Image.open(pages[0]) as page:
        assert page.format == "JPEG"
    sprites = finished.folder / "attention" / "sprites"
    assert json.loads((sprites / "sprites.json").read_text())["pictures"] == list(range(9))
    with Image.open(sprites / "000.jpg") as sheet:
        assert sheet.size == (1600, 160)
    figures = {path.stem for path in (finished.folder / "figures").iterdir()}
    assert figures == {
        *("loss_curve", "confusion_matrix", "attention_heads", "attention_distance", "positions", "position_maps"),
        "reliability",
    }


@pytest.mark.usefixtures("undrawn")
def test_the_position_embedding_before_is_that_of_the_model_as_built(data_folder: Path, tmp_path: Path) -> None:
    start = shutil.copyfile(DEMO_FILE, tmp_path / "start.safetensors")
    config = settings(data_folder, tmp_path / "runs", explain="1", weights=str(start), image_size=48, epochs=1)
    outcome = fit(config)

    built = loaded_model("vit_demo", num_classes=3, weights="demo", image_size=48).model
    found = read_archive(outcome.folder / "attention" / "positions.npz", PositionArchive)
    np.testing.assert_array_equal(found.before, built.encoder.pos_embedding[0].detach().numpy())
    np.testing.assert_array_equal(found.class_token_before, built.class_token[0, 0].detach().numpy())
    assert found.numbers["verdict"] == "retained"

    # A file that was replaced since is not taken for the start.
    save_file({name: tensor + 1 for name, tensor in load_file(start).items()}, start)
    said = explain(outcome.folder, "--output", tmp_path / "again")
    assert f"not compared with those before training: {start} is another file by now than the run started from." in said
    assert not (tmp_path / "again" / "positions.npz").exists()


@pytest.mark.parametrize(("asked", "files"), [("5", 5), ("none", None)])
def test_explain_takes_a_number_of_images(
    data_folder: Path, tmp_path: Path, asked: str, files: int | None, undrawn: list[Archive]
) -> None:
    outcome = fit(settings(data_folder, tmp_path, explain=asked, epochs=1))
    if files is None:
        assert not (outcome.folder / "attention").exists()
        assert not [name for name in outcome.summary if name.startswith(("attention", "positions"))]
        return
    seen = attention_of(outcome)
    assert len(seen) == outcome.summary["attention/n"] == files
    assert set(seen.labels.tolist()) == {0, 1, 2}  # spread over the classes
    assert [seen.classes[label] for label in seen.labels] == [Path(str(file)).parent.name for file in seen.files]


def test_by_default_the_number_of_images_is_bounded_and_the_run_says_so(
    data_folder: Path,
    tmp_path: Path,
    undrawn: list[Archive],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = "These are evenly spaced among all 9; --explain all explains every one."
    assert RunConfig(data="x").explain == "auto" and test_set.AUTO_IMAGES == 2000
    monkeypatch.setattr(test_set, "AUTO_IMAGES", 6)
    outcome = fit(settings(data_folder, tmp_path, explain="auto", epochs=1))
    assert len(attention_of(outcome)) == 6
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"freeze": "backbone", "lr": 0.1},
        {"precision": "bf16"},
        {"grad_checkpointing": True, "drop_path": 0.2, "augment": "standard", "micro_batch": 2},
    ],
    ids=["frozen", "bf16", "recomputed"],
)
def test_a_run_is_explained_however_it_was_trained(
    data_folder: Path, tmp_path: Path, changes: dict[str, Any], undrawn: list[Archive]
) -> None:
    outcome = fit(settings(data_folder, tmp_path, explain="all", epochs=1, **changes))
    seen = attention_of(outcome)
    assert seen.settings["self_test"]["passed"]
    rows = predictions_of(outcome)
    tolerance = 0.02 if "precision" in changes else 1e-5
    assert seen.label_probability == pytest.approx([float(row["label_probability"]) for row in rows], abs=tolerance)
    assert np.isfinite(seen.relevance).all()
    if "precision" in changes:  # in float32 all the same
        explain(outcome.folder, "--output", tmp_path / "again")
        again = read_archive(tmp_path / "again" / "attention.npz", Archive)
        for name in PER_IMAGE:
            np.testing.assert_allclose(getattr(again, name), getattr(seen, name), rtol=1e-3, atol=1e-4, err_msg=name)


def explain_with(run: Path, output: Path) -> None:
    best, config, dataset = open_run(run, None, None, print)
    processes = Processes(config)
    explained = ExplainedModel(best.model, config.model, "none", best.classes, best.preprocessing)
    result = test_set.explain_dataset(explained, dataset.test, config.data, 6, config, processes)
    assert (result is not None) == processes.is_main
    if result:
        write_archive(output, result.archive)
    processes.leave()
    processes.close()


@pytest.mark.parametrize("world", [2, 4])
def test_the_number_of_processes_makes_no_difference(finished: Outcome, tmp_path: Path, world: int) -> None:
    explain_with(finished.folder, tmp_path / "1.npz")
    on_ranks(world, lambda: explain_with(finished.folder, tmp_path / "many.npz"))
    one, many = (read_archive(tmp_path / name, Archive) for name in ("1.npz", "many.npz"))
    assert one.files.tolist() == many.files.tolist()
    for name in (*PER_IMAGE, "statistics"):
        np.testing.assert_allclose(getattr(many, name), getattr(one, name), rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_run_of_two_processes_explains_every_image_once(
    data_folder: Path, tmp_path: Path, undrawn: list[Archive]
) -> None:
    on_ranks(2, lambda: fit(settings(data_folder, tmp_path, explain="all", epochs=1)))
    [folder] = tmp_path.iterdir()
    seen = attention_of(folder)
    assert len(set(seen.files.tolist())) == 9
    assert json.loads((folder / "summary.json").read_text())["state"] == "finished"


def test_an_error_of_one_process_is_reported_once(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fit_and_fail() -> None:
        look_at = collect.collect_batch

        def fails_elsewhere(*arguments: Any) -> Any:
            if torch.distributed.get_rank() == 1:
                raise ValueError("no luck")
            return look_at(*arguments)

        collect.collect_batch = fails_elsewhere  # in this forked process only
        assert fit(settings(data_folder, tmp_path, explain="all", epochs=1)).state == "finished"

    on_ranks(2, fit_and_fail)
    said = capfd.readouterr().out
    assert said.count("Attention could not be captured: ValueError: no luck. The run continues without attention.") == 1
    [folder] = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["test/n"] == 9
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["problems"] == {"attention": "Attention could not be captured: ValueError: no luck."}


@pytest.mark.parametrize(
    ("broken", "part", "sentence"),
    [
        (
            "harness.explain.attention.call.AttentionCall.row",
            "attention",
            "self-test of attention capture failed",
        ),
        ("harness.explain.output.draw", "attention maps", "They could not be drawn: division by zero."),
    ],
)
def test_a_tested_run_is_finished_although_explaining_fails(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, part: str, sentence: str
) -> None:
    monkeypatch.setattr(broken, lambda *_: 1 / 0)
    outcome = fit(settings(data_folder, tmp_path, explain="all", epochs=1))
    assert outcome.state == outcome.summary["state"] == "finished"
    assert outcome.summary["test/n"] == 9
    assert sentence in json.loads((outcome.folder / "manifest.json").read_text())["problems"][part]


def test_a_stop_signal_while_explaining_is_resumed_later(
    data_folder: Path, tmp_path: Path, undrawn: list[Archive]
) -> None:
    world = 2
    config = settings(data_folder, tmp_path, explain="all", epochs=1, micro_batch=2)

    def fit_until_told() -> None:
        look_at = collect.collect_batch

        def look_and_signal(*arguments: Any) -> Any:
            if os.environ.get("RANK", "0") == str(world - 1):  # one rank alone hears it
                os.kill(os.getpid(), signal.SIGTERM)
            return look_at(*arguments)

        collect.collect_batch = look_and_signal  # in this forked process only
        outcome = fit(config)
        assert (outcome.state, outcome.exit_code) == ("preempted", 143)

    on_ranks(world, fit_until_told)
    [folder] = tmp_path.iterdir()
    assert not (folder / "attention").exists()
    on_ranks(world, lambda: fit(config))
    assert len(attention_of(folder)) == 9
    assert json.loads((folder / "summary.json").read_text())["state"] == "finished"


def test_impossible_options_are_refused_before_any_work(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--explain is 'some'; give auto, all, none, or a number of test images"):
        settings(data_folder, tmp_path, explain="some")
    with pytest.raises(ConfigError, match="--explain-layer is 7; vit_demo has layers 1 to 6"):
        fit(settings(data_folder, tmp_path, explain_layer=7))
    assert not list(tmp_path.iterdir())


def test_the_chosen_images_are_evenly_spaced() -> None:
    assert images.evenly_spaced(10, 5) == [0, 2, 4, 6, 8]
    assert images.evenly_spaced(3, 5) == [0, 1, 2]


def test_a_run_can_be_explained_again(finished: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = explain(finished.folder, "--output", tmp_path / "again", "--layer", 2)
    assert "Drew 9 images in" in said
    again, first = read_archive(tmp_path / "again" / "attention.npz", Archive), attention_of(finished)
    for name in (*PER_IMAGE, "statistics"):
        np.testing.assert_allclose(getattr(again, name), getattr(first, name), rtol=1e-3, atol=1e-4, err_msg=name)
    one, other = (
        read_archive(folder / "positions.npz", PositionArchive)
        for folder in (tmp_path / "again", finished.folder / "attention")
    )
    np.testing.assert_array_equal(one.before, other.before)
    np.testing.assert_array_equal(one.after, other.after)
    assert one.numbers["after"] == other.numbers["after"]
    assert one.numbers["strength"] == pytest.approx(other.numbers["strength"], rel=1e-5)

    monkeypatch.setattr("harness.explain.output.draw", lambda *_: {})
    last = explain(finished.folder, "--output", tmp_path / "last")
    assert "Drew 9" in last
    seen = read_archive(tmp_path / "last" / "attention.npz", Archive)
    np.testing.assert_allclose(seen.heads.mean(1, dtype=np.float64), seen.layers[:, 5], atol=1e-3)


def test_redrawing_gives_the_same_bytes_without_the_model(finished: Outcome, tmp_path: Path) -> None:
    copy = shutil.copytree(finished.folder, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    drawn = {"pictures", "sheets"}
    expected = contents(copy)
    for name in drawn:
        shutil.rmtree(copy / "attention" / name)
    shutil.rmtree(copy / "figures")
    assert explain(copy, "--redraw") == f"Drawn again: {copy / 'attention'}\n"
    again = contents(copy)
    of_training = ("loss_curve", "confusion_matrix", "reliability")
    missing = {f"figures/{name}.png" for name in of_training} | {
        name for name in expected if name.startswith("checkpoints")
    }
    assert expected.keys() - again.keys() == missing
    assert [name for name in again if again[name] != expected[name]] == []


def test_redrawing_needs_the_images(finished: Outcome, tmp_path: Path) -> None:
    result = CliRunner().invoke(main.main, ["explain", str(finished.folder), "--redraw", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert f"9 of 9 images are missing in {tmp_path}" in result.output
    result = CliRunner().invoke(main.main, ["explain", str(tmp_path), "--redraw"])
    assert result.exit_code == 1
    assert "attention.npz is missing. Run `harness explain` without --redraw to make it." in result.output


def test_an_image_has_the_same_maps_alone_and_in_a_batch(
    finished: Outcome, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = attention_of(finished)
    chosen = [data_folder / str(file) for file in tested.files[[4, 0]]]
    said = explain(finished.folder, chosen[0], chosen[1], "--output", tmp_path / "two", "--layer", 2)
    two = read_archive(tmp_path / "two" / "attention.npz", Archive)
    assert [Path(two.settings["root"]) / str(file) for file in two.files] == chosen
    assert two.labels.tolist() == [-1, -1]
    for name in set(PER_IMAGE) - {"labels", "label_probability"}:
        found, expected = getattr(two, name), getattr(tested, name)[[4, 0]]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=name)
    assert len(list((tmp_path / "two" / "pictures").iterdir())) == 2
    assert not (tmp_path / "two" / "positions.npz").exists()
    # As `predict` names them, all three classes of each.
    guesses = CliRunner().invoke(main.main, ["predict", str(finished.folder), *map(str, chosen)]).output
    assert said.endswith(guesses)
    assert guesses.count("class ") >= 6

    monkeypatch.setattr("harness.explain.output.draw", lambda *_: {})
    explain(finished.folder, data_folder / "test", "--output", tmp_path / "folder")
    everything = read_archive(tmp_path / "folder" / "attention.npz", Archive)
    assert [f"test/{file}" for file in everything.files] == tested.files.tolist()
    np.testing.assert_allclose(everything.rollout, tested.rollout, rtol=1e-3, atol=1e-4)


def test_other_images_of_a_run_go_to_a_separate_folder(
    finished: Outcome, data_folder: Path, undrawn: list[Archive]
) -> None:
    before = (finished.folder / "attention" / "attention.npz").read_bytes()
    explain(finished.folder, data_folder / "test" / "class 0")
    assert len(read_archive(finished.folder / "attention" / "given" / "attention.npz", Archive)) == 3
    assert (finished.folder / "attention" / "attention.npz").read_bytes() == before
    shutil.rmtree(finished.folder / "attention" / "given")


def test_images_beside_each_other_can_be_drawn_again_however_their_paths_were_written(
    finished: Outcome, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: list[Archive]
) -> None:
    monkeypatch.chdir(data_folder / "test" / "class 0")
    words = ("000.png", "../class 1/000.png", "../class 0/000.png")
    explain(finished.folder, *words, "--output", tmp_path / "out")
    explain(finished.folder, "--redraw", "--output", tmp_path / "out")
    for seen in undrawn:
        assert seen.settings["root"] == str(data_folder / "test")
        assert seen.files.tolist() == ["class 0/000.png", "class 1/000.png"]


def test_weights_without_a_run_can_be_explained(
    finished: Outcome, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: list[Archive]
) -> None:
    monkeypatch.chdir(tmp_path)
    image = data_folder / "test" / "class 0" / "000.png"
    # A run's own checkpoint tells its classes; another file has them numbered.
    best = finished.folder / "checkpoints" / "best.safetensors"
    explain("--weights", best, "--model", "vit_demo", image)
    named = read_archive(tmp_path / "attention" / "attention.npz", Archive)
    assert named.classes.tolist() == ["class 0", "class 1", "class 2"]
    np.testing.assert_allclose(named.rollout[0], attention_of(finished).rollout[0], rtol=1e-3, atol=1e-4)
    weights = {"heads.head.weight": torch.zeros(7, 128), "heads.head.bias": torch.zeros(7)}

    save_file(loaded_model("vit_demo", num_classes=7, weights="none").model.state_dict() | weights, "plain.safetensors")
    said = explain("--weights", "plain.safetensors", "--model", "vit_demo", image)
    [line] = [line for line in said.splitlines() if line.startswith(f"{image}: class ")]
    assert len(re.findall(r"class \d 14\.3%", line)) == 5
    numbered = read_archive(tmp_path / "attention" / "attention.npz", Archive)
    assert numbered.settings["run"] is None
    assert numbered.layers.shape == (1, 6, 64)  # of 64 pixels, the architecture's own
    assert numbered.classes.tolist() == [f"class {index}" for index in range(7)]
    assert numbered.probability == pytest.approx([1 / 7])
    save_file(loaded_model("vit_demo", num_classes=1000, weights="none").model.state_dict(), "imagenet.safetensors")
    assert "The weights name no classes; the names of ImageNet's 1000 classes are used." in explain(
        "--weights", "imagenet.safetensors", "--model", "vit_demo", image
    )
    assert read_archive(tmp_path / "attention" / "attention.npz", Archive).classes[747] == "punching bag"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "Name a run (and images), or --weights, --model and images."),
        (["--weights", "demo", "x.png"], 2, "--weights and --model go together"),
        (["--weights", "demo", "--model", "vit", "x.png"], 2, "--model is 'vit'; it must be one of vit_b_16"),
        (["--weights", "demo", "--model", "vit_demo"], 2, "Name the images to explain."),
        (["RUN", "--redraw", "--layer", "2"], 2, "--layer cannot be chosen with --redraw"),
        (["RUN", "--layer", "7"], 2, "--layer is 7; vit_demo has layers 1 to 6."),
        (["RUN", "nowhere.png", "EMPTY"], 1, "nowhere.png cannot be used: the file does not exist."),
        (["RUN", "nowhere.png", "EMPTY"], 1, "the folder holds no images (.jpg"),
        (["RUN", "BROKEN"], 1, "not an image (text)"),
        (["EMPTY"], 1, "holds no best checkpoint"),
        (["--weights", "none", "--model", "vit_demo", "PICTURE"], 1, "--weights none cannot be explained"),
    ],
)
def test_wrong_arguments_are_refused(
    finished: Outcome, data_folder: Path, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_text("no image")
    paths = {
        "RUN": finished.folder,
        "EMPTY": tmp_path / "empty",
        "BROKEN": tmp_path / "broken.jpg",
        "PICTURE": data_folder / "test" / "class 0" / "000.png",
    }
    result = CliRunner().invoke(main.main, ["explain", *(str(paths.get(word, word)) for word in words)])
    assert (result.exit_code, sentence in result.output) == (code, True), result.output
    assert "Traceback" not in result.output


def test_settings_of_explaining_do_not_change_the_identity_of_a_run() -> None:
    config = RunConfig(data="images")
    assert dataclasses.replace(config, explain="5", explain_layer=3).identity == config.identity
