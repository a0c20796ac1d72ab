"""The benchmark of whole jobs: what each method trains on and scores, its command, and what is skipped."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from harness.options import parse
from tests.bench import bench_peers
from tests.bench.bench_peers import Settings
from tests.bench.jobs import Cost, run_job


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for split, images in (("train", 3), ("valid", 2), ("test", 4)):
        for name in ("ant", "bee"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(images):
                (tmp_path / "data" / split / name / f"{number}.jpg").write_text(f"{split} {name} {number}")
    unset = dict.fromkeys(("timm", "hf", "hf_model"))
    sizes = {"image_size": 64, "epochs": 2, "images": 2, "threads": 1}
    weights = tmp_path / "w.pth"
    return Settings(tmp_path / "data", weights, "vit_ti_16", **sizes, **unset, peer_python=sys.executable)


def images(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in folder.rglob("*.jpg"))


def test_all_methods_train_on_the_same_images_and_score_equally_many(settings: Settings, tmp_path: Path) -> None:
    folders = bench_peers.write_subsets(settings, tmp_path / "subsets")
    trained = [f"train {name} {number}" for name in ("ant", "bee") for number in range(2)]
    assert all(images(folder / "train") == trained for folder in folders.values())
    assert folders["none"] == folders["explained"]
    ours, timm, hf = folders["none"], folders["timm"], folders["hf"]
    assert images(ours / "valid") == ["valid ant 0", "valid bee 0"]
    assert images(timm / "valid") == ["test ant 0", "test ant 1", "test bee 0"]
    scored = [
        settings.epochs * len(images(ours / "valid")) + len(images(ours / "test")),
        settings.epochs * len(images(timm / "valid")),
        len(images(hf / "test")),
    ]
    assert scored == [6, 6, 6]
    with pytest.raises(ValueError, match="train has 6 images, not 200"):
        bench_peers.write_subsets(dataclasses.replace(settings, images=100), tmp_path / "more")


def test_commands(settings: Settings, tmp_path: Path) -> None:
    folders = bench_peers.write_subsets(settings, tmp_path / "subsets")
    [none] = bench_peers.commands_of("none", folders["none"], tmp_path / "none", settings)
    config = parse(none[4:])
    assert (config.explain, config.image_size, config.epochs, config.threads) == ("none", 64, 2, 1)
    [explained] = bench_peers.commands_of("explained", folders["none"], tmp_path / "none", settings)
    assert explained == none[:-1] and none[-1] == "--explain=none"

    with_timm = dataclasses.replace(settings, timm=tmp_path)
    [timm] = bench_peers.commands_of("timm", folders["timm"], tmp_path / "timm", with_timm)
    assert timm[timm.index("--img-size") + 1] == "64" and timm[timm.index("--model-kwargs") + 1] == "img_size=64"
    assert timm[timm.index("--data-dir") + 1] == str(folders["timm"])

    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"image_size": 224, "hidden_size": 192}')
    (model / "preprocessor_config.json").write_text('{"do_resize": true, "size": {"height": 224, "width": 224}}')
    with_hf = dataclasses.replace(settings, hf=tmp_path / "run.py", hf_model=model)
    [hf] = bench_peers.commands_of("hf", folders["hf"], tmp_path / "hf", with_hf)
    copy = Path(hf[hf.index("--model_name_or_path") + 1])
    assert json.loads((copy / "config.json").read_text()) == {"image_size": 64, "hidden_size": 192}
    assert json.loads((copy / "preprocessor_config.json").read_text())["size"] == {"height": 64, "width": 64}
    assert "224" in (model / "config.json").read_text()


def test_goals_are_ratios_to_the_fastest_other_project() -> None:
    def costs(*cpu_seconds: float) -> list[Cost]:
        return [Cost(1.0, seconds, 100.0) for seconds in cpu_seconds]

    measured = {
        "none": costs(9, 9, 8),
        "explained": costs(11, 12, 9),
        "timm": costs(10, 10, 10),
        "hf": costs(20, 9, 30),
    }
    rows, notes = bench_peers.rows_of(measured)
    assert rows[0] == ["none", "1.0 (1.0..1.0)", "9.0 (8.0..9.0)", "100", "0.90 (0.80..0.90)"]
    assert notes == [
        "none: CPU seconds to those of timm <= 0.9: met",
        "explained: CPU seconds to those of timm <= 1.05: NOT met",
    ]
    assert bench_peers.rows_of({"none": costs(1.0)}) == ([["none", "1.0 (1.0..1.0)", "1.0 (1.0..1.0)", "100", ""]], [])


def test_the_cost_of_a_job_is_that_of_its_commands(tmp_path: Path) -> None:
    spend = "import os, time\nwhile time.process_time() < 0.2: pass\nprint(os.environ['NUMBER'])"
    cost = run_job("two", [[sys.executable, "-c", spend]] * 2, tmp_path, {"NUMBER": "7"})
    assert cost and 0.4 <= cost.cpu_seconds < 5 and cost.seconds > 0.3 and cost.mebibytes > 1
    assert (tmp_path / "output.txt").read_text() == "7\n"
    assert run_job("fails", [[sys.executable, "-c", "raise SystemExit(3)"]], tmp_path, {}) is None
