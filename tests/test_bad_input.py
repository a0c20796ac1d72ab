"""What a run says to input that cannot be used: the message a user reads, and the exit code."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from harness.cli import main
from harness.training import checkpoint
from tests.conftest import write_folder


def run(data: Path, runs: Path, *more: str) -> Result:
    """One tiny run through the command line; an error may not show a traceback."""
    arguments = [f"--data={data}", f"--runs-dir={runs}", "--model=vit_demo", "--weights=none", "--image-size=32"]
    arguments += ["--recipe=study", "--crop-pct=1", "--epochs=1", "--batch-size=8", "--threads=1", "--explain=none"]
    result = CliRunner().invoke(main.run, [*arguments, *more])
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "images")


def bomb(path: Path) -> None:
    """A PNG of a few bytes that claims to be 100,000 pixels on each side."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    missing = run(tmp_path / "nowhere", tmp_path / "runs")
    assert missing.exit_code == 1
    assert str(tmp_path / "nowhere") in missing.output
    (tmp_path / "empty").mkdir()
    empty = run(tmp_path / "empty", tmp_path / "runs")
    assert empty.exit_code == 1
    assert "train/" in empty.output
    one = run(write_folder(tmp_path / "one", classes=1), tmp_path / "runs")
    assert one.exit_code == 1
    assert "class" in one.output
    assert not (tmp_path / "runs").exists()  # nothing was begun


def test_all_problems_of_a_folder_are_said_together(data: Path, tmp_path: Path) -> None:
    (data / "valid" / "class 1").rename(data / "valid" / "clas 1")
    (data / "train" / "empty").mkdir()
    shutil.copy(data / "train" / "class 0" / "000.png", data / "test" / "class 0" / "copy.png")
    result = run(data, tmp_path / "runs")
    assert result.exit_code == 1
    assert result.output.count("Error: ") >= 3
    for part in ("clas 1", "class 1", "empty", "train/class 0/000.png", "test/class 0/copy.png"):
        assert part in result.output, part


def test_pictures_that_cannot_be_read_are_all_named_or_left_out(data: Path, tmp_path: Path) -> None:
    broken = data / "train" / "class 0"
    picture = Image.open(broken / "000.png")
    picture.resize((200, 200)).save(broken / "cut.jpg")
    (broken / "cut.jpg").write_bytes((broken / "cut.jpg").read_bytes()[:1500])
    (broken / "text.jpg").write_text("this is a letter, not an image")
    (broken / "zero.jpg").touch()
    bomb(broken / "bomb.png")

    failed = run(data, tmp_path / "runs")
    assert failed.exit_code == 1
    for name, reason in {
        "cut.jpg": "truncated",
        "text.jpg": "not a",
        "zero.jpg": "empty",
        "bomb.png": "100000",
    }.items():
        [line] = [line for line in failed.output.splitlines() if name in line]
        assert reason in line, line
    assert "--bad-images skip" in failed.output

    skipped = run(data, tmp_path / "skip", "--bad-images=skip")
    assert skipped.exit_code == 0, skipped.output
    assert "4 images cannot be read and are left out" in skipped.output
    [folder] = (tmp_path / "skip").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(map(os.path.basename, manifest["data"]["skipped"])) == ["bomb.png", "cut.jpg", "text.jpg", "zero.jpg"]
    assert manifest["data"]["images"]["train"] == 21


def test_pictures_that_may_not_be_read(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = data / "train" / "class 0" / "000.png"
    locked.chmod(0)
    if os.access(locked, os.R_OK):  # to root nothing is unreadable: let opening it fail as it does for others
        opened = io.open

        def refuse(path: Any, *rest: Any, **named: Any) -> Any:
            if str(path) == str(locked):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return opened(path, *rest, **named)

        monkeypatch.setattr(builtins, "open", refuse)
        monkeypatch.setattr(io, "open", refuse)
    result = run(data, tmp_path / "runs")
    print(result.output)
    assert result.exit_code == 1
    [line] = [line for line in result.output.splitlines() if "class 0/000.png" in line]
    assert "permission" in line.lower()


class Payload:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_weights_files_that_are_none_or_carry_code(data: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.pth").write_text("dear reader")
    result = run(data, tmp_path / "runs", f"--weights={tmp_path / 'letter.pth'}")
    assert result.exit_code == 1
    assert "letter.pth" in result.output

    (tmp_path / "code.pth").write_bytes(pickle.dumps({"weight": Payload(tmp_path / "owned")}))
    result = run(data, tmp_path / "runs", f"--weights={tmp_path / 'code.pth'}")
    assert result.exit_code == 1
    assert "code" in result.output.split("code.pth")[1]
    assert "safetensors" in result.output
    assert not (tmp_path / "owned").exists()


def test_settings_that_cannot_be_used(data: Path, tmp_path: Path) -> None:
    result = run(data, tmp_path / "runs", "--batch-size=0", "--lr=nan")
    assert result.exit_code == 2
    assert "Error: --batch-size is 0" in result.output
    assert "Error: --lr is nan" in result.output


def test_more_classes_than_pictures(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", classes=4, train=1)
    for index in range(2):
        (root / "train" / f"class {index}" / "000.png").unlink()
    result = run(root, tmp_path / "runs")
    assert result.exit_code == 1
    assert "train/ has more classes (4) than images (2)" in result.output


def test_a_disk_that_fills_up_while_saving(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save_file
    saved = []

    def save_until_full(tensors: Any, path: Path, metadata: Any) -> None:
        saved.append(path)
        if len(saved) > 1:
            Path(path).write_bytes(b"a part")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", save_until_full)
    result = run(data, tmp_path / "runs")
    assert result.exit_code == 1
    assert f"Error: No space left to save {tmp_path / 'runs'}" in result.output
    [folder] = (tmp_path / "runs").iterdir()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.safetensors"]
    assert json.loads((folder / "summary.json").read_text())["state"] == "failed"

    monkeypatch.setattr(checkpoint, "save_file", save)
    assert run(data, tmp_path / "runs").exit_code == 0
