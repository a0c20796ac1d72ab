"""Reading weights files nobody vouches for, and loading them into a model that must fit."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn.functional import interpolate
from torchvision.models import VisionTransformer

from harness.errors import WeightsError
from harness.model.weights import interpolate_positions, load_into
from harness.model.weights_file import read_metadata, read_weights


def tiny(image_size: int = 32, num_classes: int = 5) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=num_classes
    )
    torch.nn.init.normal_(model.heads.head.weight)
    return model


class RunsCode:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def problem_of(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    return str(caught.value)


def test_safetensors_and_npz_files(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.arange(4.0)}, tmp_path / "w.safetensors", {"preprocessing": "{}"})
    assert read_weights(tmp_path / "w.safetensors")[0]["a"].tolist() == [0, 1, 2, 3]
    assert read_metadata(tmp_path / "w.safetensors") == {"preprocessing": "{}"}
    np.savez(tmp_path / "w.npz", **{"a/b": np.asfortranarray(np.arange(6.0).reshape(2, 3))})
    assert read_weights(tmp_path / "w.npz")[0]["a/b"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read_metadata(tmp_path / "w.npz") == {}


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_file_with_code_in_it_is_refused_and_the_code_not_run(tmp_path: Path, form: str) -> None:
    path, made = tmp_path / "weights.pth", tmp_path / "made"
    contents = {"a": torch.ones(1), "b": RunsCode(made)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path, _use_new_zipfile_serialization=form == "zip")
    problem = problem_of(path)
    assert not made.exists()
    assert "was refused: it holds Python objects besides tensors" in problem
    assert "would run code" in problem
    assert "convert it to .safetensors" in problem
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert made.exists()  # the file was a danger indeed


def test_the_object_that_was_refused_is_named(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "args": Path("weights")}, tmp_path / "w.pth")
    assert re.search(r"besides tensors \(pathlib\.\w+\)", problem_of(tmp_path / "w.pth"))


def test_objects_in_npz_are_refused_and_their_code_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.array([RunsCode(tmp_path / "made")], dtype=object))
    assert "would run code" in problem_of(tmp_path / "w.npz")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ".npz"])
@pytest.mark.parametrize(
    "contents", [b"", b"<html>404 Not Found</html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_text_in_place_of_weights(tmp_path: Path, suffix: str, contents: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(contents)
    assert problem_of(path) == f"{path} is not a {suffix} weights file, or was cut short on its way here; get it again."


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "npz"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / {"zip": "w.pth", "legacy": "w.pth"}.get(kind, f"w.{kind}")
    state = {"a": torch.randn(100, 20)}
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    elif kind == "npz":
        np.savez(path, a=state["a"].numpy())
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "was cut short" in problem_of(path)


def test_what_is_no_file_of_weights(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "gone.pth").endswith(
        "gone.pth cannot be read: the file does not exist. Give a weights file."
    )
    assert problem_of(tmp_path) == f"{tmp_path} holds no weights file. Give the weights file itself."
    os.mkfifo(tmp_path / "pipe.pth")
    assert problem_of(tmp_path / "pipe.pth").endswith(
        "pipe.pth cannot be read: it is a named pipe, not a file. Give a weights file."
    )
    assert "/dev/zero cannot be read: it is a device, not a file." in problem_of(Path("/dev/zero"))
    (tmp_path / "w.h5").write_bytes(b"x")
    assert "must end in .safetensors, .pth, .pt, .bin, .ckpt, .pth.tar, .pt.tar, .npz" in problem_of(tmp_path / "w.h5")
    for contents in ([torch.ones(1)], torch.ones(1), {"epoch": 3}, {1: torch.ones(1)}):
        torch.save(contents, tmp_path / "w.pth")
        assert "holds no weights" in problem_of(tmp_path / "w.pth")


@pytest.mark.parametrize("grid", [2, 4, 7])
def test_positions_are_interpolated_with_aligned_corners_and_the_class_token_kept(grid: int) -> None:
    before = torch.randn(1, 1 + 16, 6, generator=torch.Generator().manual_seed(0))
    after = interpolate_positions(before, grid)
    field = before[:, 1:].transpose(1, 2).reshape(1, 6, 4, 4)
    expected = interpolate(field, size=(grid, grid), mode="bicubic", align_corners=True)
    assert after.shape == (1, 1 + grid * grid, 6)
    assert torch.equal(after[:, 0], before[:, 0])
    torch.testing.assert_close(after[:, 1:], expected.flatten(2).transpose(1, 2))
    corners = [1, grid, 1 + grid * (grid - 1), grid * grid]
    torch.testing.assert_close(after[:, corners], before[:, [1, 4, 13, 16]])


def test_positions_without_a_square_grid_are_refused() -> None:
    with pytest.raises(WeightsError, match="have 16 positional embeddings"):
        interpolate_positions(torch.zeros(1, 16, 6), 2)


def test_loading_says_what_became_of_head_positions_and_dtype() -> None:
    source = {name: tensor.bfloat16() for name, tensor in tiny(image_size=48, num_classes=7).state_dict().items()}
    model = tiny()
    own_head = model.heads.head.weight.clone()
    assert load_into(model, source) == (
        "New head for 5 classes; the file has one for 7.",
        "Positional embeddings were resized from a grid of 6x6 to 4x4 (bicubic).",
        "Weights in bfloat16 were turned into float32.",
    )
    assert torch.equal(model.heads.head.weight, own_head)
    assert torch.equal(model.conv_proj.weight, source["conv_proj.weight"].float())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_head_that_fits_is_the_files() -> None:
    source, model = tiny().state_dict(), tiny()
    torch.nn.init.zeros_(model.heads.head.weight)
    assert load_into(model, source) == ("The head for 5 classes is the file's.",)
    assert torch.equal(model.heads.head.weight, source["heads.head.weight"])
    assert source["heads.head.weight"].any()


def test_every_misfit_is_listed_with_shapes_and_nothing_is_loaded() -> None:
    source, model = tiny().state_dict(), tiny()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    source["class_token"] = torch.full((1, 1, 16), float("nan"))
    source["conv_proj.bias"] = torch.zeros(16, dtype=torch.int8)
    source["encoder.ln.weight"] = torch.zeros(3)
    del source["encoder.ln.bias"]
    source |= {f"extra{i}": torch.zeros(i) for i in range(10)}
    source["conv_proj.weight"] = source["conv_proj.weight"] + 1
    with pytest.raises(WeightsError) as caught:
        load_into(model, source)
    shown = ", ".join(f"'extra{i}' ({i},)" for i in range(8))
    assert caught.value.problems == (
        "Missing in the file: 'encoder.ln.bias' (16,).",
        f"Not part of the model: {shown}, and 2 more.",
        "Of another shape: 'encoder.ln.weight' (3,) instead of (16,).",
        "Not plain floating-point numbers: 'conv_proj.bias' torch.int8.",
        "Infinite or not a number: 'class_token' (1, 1, 16).",
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_control_characters_in_names_do_not_reach_the_terminal() -> None:
    source = tiny().state_dict() | {"\x1b[2Jname": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"'\\x1b\[2Jname' \(1,\)"):
        load_into(tiny(), source)
