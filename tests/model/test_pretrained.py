"""Where the weights behind a --weights word come from."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest
import torch
import torchvision
from huggingface_hub.errors import EntryNotFoundError

from harness.errors import WeightsError
from harness.model import pretrained, timm_model
from harness.settings.model import MODELS, NAMED_WEIGHTS


def no_network(*_: object, **__: object) -> None:
    raise URLError("Name or service not known")


def test_the_words_are_what_torchvision_publishes() -> None:
    for word, name in pretrained.PUBLISHED.items():
        there = [model for model in MODELS if model in torchvision.models.list_models()]
        having = [model for model in there if name in torchvision.models.get_model_weights(model).__members__]
        assert list(NAMED_WEIGHTS[word]) == having


def test_without_network_and_cache_the_message_says_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    with pytest.raises(WeightsError) as caught:
        pretrained.weights_path("vit_b_16", "imagenet")
    (problem,) = caught.value.problems
    assert "could not be downloaded" in problem
    assert "Name or service not known" in problem
    assert "Put vit_b_16-c867db91.pth from https://download.pytorch.org/models/vit_b_16-c867db91.pth" in problem
    assert f"into the folder {tmp_path}/hub/checkpoints" in problem
    assert "--weights FILE" in problem
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cached_file_is_taken_where_its_digest_is_that_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    digits = hashlib.sha256(b"weights").hexdigest()[:8]
    path = tmp_path / "checkpoints" / f"vit-{digits}.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    url = f"https://example.org/models/{path.name}"
    assert pretrained._published_file("vit_b_16", "imagenet", url) == path
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match=f"is damaged: its SHA-256 does not begin with {digits}"):
        pretrained._published_file("vit_b_16", "imagenet", url)


def test_files_demo_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pretrained.weights_path("vit_b_16", "none") is None
    (tmp_path / "some.pth").touch()
    assert pretrained.weights_path("vit_b_16", str(tmp_path / "some.pth")) == tmp_path / "some.pth"
    assert pretrained.weights_path("vit_b_16", str(tmp_path)) == tmp_path / "some.pth"
    monkeypatch.setattr(pretrained, "DEMO_FILE", tmp_path / "vit_demo.safetensors")
    with pytest.raises(WeightsError, match=r"vit_demo\.safetensors is missing; install the package again"):
        pretrained.weights_path("vit_demo", "demo")
    (tmp_path / "vit_demo.safetensors").touch()
    assert pretrained.weights_path("vit_demo", "demo") == tmp_path / "vit_demo.safetensors"


def test_before_a_run_it_is_only_asked_whether_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("downloaded"))
    asked = []

    def answer(request: Request, timeout: float) -> io.BytesIO:
        asked.append((request.full_url, request.get_method()))
        return io.BytesIO()

    monkeypatch.setattr(pretrained, "urlopen", answer)
    pretrained.check_reachable("vit_b_16", "imagenet")
    assert asked == [("https://download.pytorch.org/models/vit_b_16-c867db91.pth", "HEAD")]
    monkeypatch.setattr(pretrained, "urlopen", no_network)
    with pytest.raises(
        WeightsError, match=rf"not found on its server .*Name or service not known.* into the folder {tmp_path}/check"
    ):
        pretrained.check_reachable("vit_b_16", "imagenet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vit_b_16-c867db91.pth").write_bytes(b"weights")
    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "digest", lambda _: pytest.fail("read"))
        pretrained.check_reachable("vit_b_16", "imagenet")  # building the model reads it
    pretrained.check_reachable("vit_demo", "demo")
    pretrained.check_reachable("vit_b_16", "none")


TAGGED = "timm:vit_tiny_patch16_224.augreg_in21k"


def on_the_hub(monkeypatch: pytest.MonkeyPatch, cache: Path, answer: Callable[[str], None]) -> list[str]:
    """The names of the files that the hub is asked for; `answer` raises for those that it does not offer."""
    asked = []

    def metadata(url: str, **_: object) -> None:
        asked.append(url.rpartition("/")[2])
        answer(asked[-1])

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", metadata)
    return asked


def test_the_hub_is_asked_for_the_second_name_only_if_it_lacks_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks_the_first(name: str) -> None:
        if name == "model.safetensors":
            raise EntryNotFoundError("404 Client Error")

    asked = on_the_hub(monkeypatch, tmp_path, lacks_the_first)
    pretrained.check_reachable(TAGGED, "pretrained")
    assert asked == ["model.safetensors", "pytorch_model.bin"]
    asked = on_the_hub(monkeypatch, tmp_path, no_network)
    with pytest.raises(WeightsError, match=r"were not found on the hub \(.*Name or service not known.*Download model"):
        pretrained.check_reachable(TAGGED, "pretrained")
    assert asked == ["model.safetensors"]
    snapshot = tmp_path / "models--timm--vit_tiny_patch16_224.augreg_in21k" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").touch()  # downloaded before the repository had the first
    pretrained.check_reachable(TAGGED, "pretrained")
    assert asked == ["model.safetensors"]


def test_a_hub_that_never_answers_is_an_error_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    on_the_hub(monkeypatch, tmp_path, lambda _: answered.wait())
    monkeypatch.setattr(timm_model, "REACH_TIMEOUT", 0.05)
    try:
        with pytest.raises(WeightsError, match=r"were not found on the hub \(no answer within 0\.1 s\)"):
            pretrained.check_reachable(TAGGED, "pretrained")
    finally:
        answered.set()  # the thread that waits ends with the test
