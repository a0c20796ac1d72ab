from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from harness import files
from harness.config import RunConfig
from harness.errors import TrainingError
from harness.model.norm_eps import norm_eps, set_norm_eps
from harness.training import checkpoint
from harness.training.checkpoint import (
    best_scores,
    flatten_optimizer,
    load_best,
    load_tensors,
    restore_optimizer,
    save_best,
    save_tensors,
)
from tests.helpers.built_models import loaded_model


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3).t(), "b": torch.tensor(1.5, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "deep" / "x.safetensors", tensors, {"classes": ["ä", "b"], "step": 3})
    loaded, metadata = load_tensors(tmp_path / "deep" / "x.safetensors")
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert metadata == {"classes": ["ä", "b"], "step": 3}
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "deep" / "x.safetensors").stat().st_mode) == 0o666 & ~umask


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TrainingError, match=r"No space left to save .*x\.safetensors.*same command"):
        save_tensors(path, {"a": torch.zeros(2)}, {})
    assert load_tensors(path)[0]["a"].tolist() == [1, 1]
    assert [found.name for found in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_disk_that_is_full_for_safetensors_itself_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")  # its words on a full tmpfs

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(TrainingError, match="No space left to save"):
        save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(100_000)}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EDQUOT, "The disk quota leaves no space to save .*: free some space"),
        (errno.EFBIG, r"The file-size limit \(ulimit -f\) is too small to save .*: raise the limit"),
        (errno.EMFILE, r"Too many open files to save .*: raise the limit \(ulimit -n\)"),
    ],
    ids=["quota", "file size", "open files"],
)
def test_each_lack_has_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", refused)
    with pytest.raises(TrainingError, match=sentence):
        save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {})


def test_a_disk_without_inodes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.statvfs(tmp_path)
    full = os.statvfs_result((*system[:3], system.f_blocks, 10, 100, 0, 0, *system[8:10]))
    monkeypatch.setattr(files.os, "statvfs", lambda _: full)
    message = str(files.no_space(tmp_path / "x", OSError(errno.ENOSPC, "No space left on device")))
    assert message.startswith(f"No inodes left (df -i) to save {tmp_path / 'x'}.")


def test_leftovers_are_removed_below_a_folder_and_not_through_links(tmp_path: Path) -> None:
    folder, outside = tmp_path / "figures", tmp_path / "outside"
    for path in (folder / "pictures" / ".a.png.123", folder / "a.png", folder / ".hidden", outside / ".b.png.123"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (folder / "link").symlink_to(outside)
    files.remove_leftovers(folder, recursive=True)
    assert sorted(path.name for path in folder.rglob("*")) == [".hidden", "a.png", "link", "pictures"]
    assert (outside / ".b.png.123").exists()


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "x") as beside:
        beside.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TrainingError, match=r"state\.safetensors is damaged .*--fresh"):
        load_tensors(path)


@pytest.mark.parametrize("part", ["tensor", "metadata"])
def test_a_flipped_byte_is_detected(tmp_path: Path, part: str) -> None:
    path = tmp_path / "state.safetensors"
    save_tensors(path, {"a": torch.zeros(100)}, {"progress": {"step": 41}})
    content = bytearray(path.read_bytes())
    position = len(content) - 3 if part == "tensor" else content.index(b"41")
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"state\.safetensors is damaged \(.*checksum\).*--fresh"):
        load_tensors(path)


def test_files_of_earlier_versions_have_no_checksum_and_load(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "x.safetensors", {"step": "3"})
    tensors, metadata = load_tensors(tmp_path / "x.safetensors")
    assert tensors["a"].tolist() == [1, 1, 1]
    assert metadata == {"step": 3}


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_an_optimiser_goes_on_with_the_same_bits(name: str) -> None:
    def new() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        options = {"fused": True} if name == "AdamW" else {"momentum": 0.9}
        return model, getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)

    def step(model: torch.nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    model, optimizer = new()
    step(model, optimizer)
    other, restored = new()
    other.load_state_dict(model.state_dict())
    restore_optimizer(restored, {name: value.clone() for name, value in flatten_optimizer(optimizer).items()})
    for _ in range(3):
        step(model, optimizer)
        step(other, restored)
    assert torch.equal(model.weight, other.weight)


def test_the_best_checkpoint_can_be_used_by_itself(tmp_path: Path) -> None:
    loaded = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32, head_init="default", seed=5)
    config = RunConfig(data="images", model="vit_demo", weights="none", image_size=32)
    scores = {"best/epoch": 2, "best/val_f1": 0.5, "best/val_loss": 1.0}
    path = tmp_path / "best.safetensors"
    set_norm_eps(loaded.model, 0.01)
    save_best(
        path,
        loaded.model.state_dict(),
        config=config,
        classes=("a", "b", "<c>"),
        preprocessing=loaded.preprocessing,
        scores=scores,
        eps=norm_eps(loaded.model),
    )
    best = load_best(path)
    assert (best.config, best.classes, best.preprocessing) == (config, ("a", "b", "<c>"), loaded.preprocessing)
    assert best_scores(path) == scores
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(best.model(images), loaded.model.eval()(images))
    # It is also a weights file like any other, and brings its preprocessing along.
    again = loaded_model("vit_demo", num_classes=3, weights=str(path))
    assert torch.equal(again.model.eval()(images), best.model(images))
    assert again.preprocessing == loaded.preprocessing
    tensors, metadata = load_tensors(path)
    save_tensors(path, tensors, metadata | {"norm_eps": "small"})
    with pytest.raises(TrainingError, match="the eps of its layer norms is 'small'"):
        load_best(path)


def test_a_file_that_is_no_checkpoint_of_a_run_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(TrainingError, match="is not a checkpoint of a run"):
        load_best(tmp_path / "x.safetensors")
