from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, HarnessError
from harness.export.hub import check_hub, push

pytest.importorskip("huggingface_hub")


def test_a_repository_is_made_private_and_gets_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    calls: list[tuple[str, dict[str, Any]]] = []

    class Hub:
        endpoint = "https://hub"

        def create_repo(self, name: str, **settings: Any) -> None:
            calls.append((name, settings))

        def upload_folder(self, **settings: Any) -> None:
            calls.append(("upload", settings))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push(tmp_path, "me/model") == "https://hub/me/model"
    assert calls[0] == ("me/model", {"private": True, "exist_ok": True})
    assert calls[1][0] == "upload"
    assert (calls[1][1]["folder_path"], calls[1][1]["repo_id"]) == (tmp_path, "me/model")


def test_no_network_is_one_sentence_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    api = huggingface_hub.HfApi
    refused = pytest.raises(HarnessError, match=r"me/model was not uploaded \(.+\)\. The export is complete in ")
    with socket.socket() as bound, refused as raised:  # while it is bound, no server listens on its port
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api(endpoint=address, token="none"))
        push(tmp_path, "me/model")
    assert f"hf upload me/model {tmp_path}" in str(raised.value)


def test_a_name_that_no_repository_can_have_is_refused_before_any_work() -> None:
    check_hub("me/model")
    with pytest.raises(ConfigError, match="--push me/my/model: "):
        check_hub("me/my/model")
