"""Read untrusted weights files without running code, and find the Vision Transformer's weights in them."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from harness.errors import ConfigError, WeightsError, summarise
from harness.files import not_a_file
from harness.model.shards import INDEX, refuse_single_shard, shards_of
from harness.model.state_dict_keys import HEAD_NAMES, MARKERS

# Where training programs put the weights inside a checkpoint: averages, then the weights that were averaged. As in
# timm, the average is preferred: it is what these programs evaluate.
AVERAGES = ("state_dict_ema", "model_ema", "params_ema", "ema_state_dict", "ema", "teacher")
RAW = ("model", "state_dict", "model_state_dict", "student", "module", "net", "params", "weights")
# In the names of models beside others. `ema` only as a whole word: "semantic" contains it.
IS_AVERAGE = re.compile(r"(?<![a-z])ema(?![a-z])|teacher|momentum|average")
# File names that the weights of a folder have, as Hugging Face and timm write it.
FOLDER_NAMES = ("model.safetensors", "pytorch_model.bin")


def read_weights(path: str | Path, key: str | None = None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights in a file by the names they have there, without what wrappers put before every name; and sentences
    about which were taken and what was left out.

    Raises WeightsError; ConfigError if `key` names no weights of the file.
    """
    path = check_file(path)
    try:
        contents = READERS[_suffix(path)](path)
    except WeightsError:
        raise
    except Exception as error:  # damaged or hostile files raise nearly any exception
        raise WeightsError(_unreadable(path, error)) from error
    return select(contents, path, key)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of a weights file, from its header alone; formats other than .safetensors have none."""
    path = check_file(path)
    if _suffix(path) != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:
        raise WeightsError(_unreadable(path, error)) from error


def check_file(path: str | Path) -> Path:
    """The path of an existing file of a supported type, looked up in a folder; WeightsError otherwise."""
    path = _in_folder(Path(path)) if Path(path).is_dir() else Path(path)
    if problem := not_a_file(path):  # reading a named pipe or a device could block forever
        raise WeightsError(f"{path} cannot be read: {problem}. Give a weights file.")
    refuse_single_shard(path)
    if _suffix(path) not in READERS:
        raise WeightsError(f"{path}: unsupported file type; its name must end in {', '.join(READERS)}.")
    return path


def read_torch(path: Path, *, mmap: bool = False) -> object:
    """The contents of a PyTorch file. Of other classes than tensors, only argparse.Namespace is allowed.

    DeiT and torchvision's references store their options in one; it holds plain data and runs no code.
    """
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore")  # the error of read_weights replaces the warning
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap or None)


def select(contents: object, path: Path, key: str | None = None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights of one model inside a checkpoint, and sentences about what was taken and left out.

    `key` names the entry to take, or the prefix of the names to take. Raises WeightsError, ConfigError for the key.
    """
    if key and isinstance(contents, Mapping) and _tensors(contents.get(key)):
        contents, key = contents[key], None
    state, entry_notes = _entry(contents, say=key is None)
    if not state:
        raise WeightsError(f"{path} holds no weights: a mapping from names to tensors is needed.")
    state, prefix_notes = _without_prefix(state, path, key)
    return state, (*entry_notes, *prefix_notes)


def _entry(contents: object, *, say: bool) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of the entry that holds the weights: an average, else the weights themselves."""
    if not isinstance(contents, Mapping):
        return {}, ()
    entries = [name for name in (*AVERAGES, *RAW) if _tensors(contents.get(name))]
    if not entries:
        return _tensors(contents), ()
    taken, *others = entries
    if not (others and say):
        return _tensors(contents[taken]), ()
    average = " (the average)" if taken in AVERAGES else ""
    return _tensors(contents[taken]), (
        f"It holds weights under {', '.join(sorted(entries))}: those of {taken}{average} were taken. "
        "--weights-key takes others.",
    )


def _tensors(entry: object) -> dict[str, Tensor]:
    """The tensors of a mapping; in an entry that holds the mapping itself, those inside."""
    if not isinstance(entry, Mapping):
        return {}
    tensors = {name: value for name, value in entry.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors and isinstance(entry.get("state_dict"), Mapping):
        return _tensors(entry["state_dict"])
    return tensors


def _without_prefix(state: dict[str, Tensor], path: Path, key: str | None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The names without what stands before the patch embedding's name; other parts of the file are left out.

    Wrappers such as DistributedDataParallel, torch.compile and Lightning write a prefix before the names of a model,
    and what does not have it belongs to something else: a loss, a metric, a projection. A head beside the backbone
    belongs to the model.
    """
    prefixes = list(dict.fromkeys(name[: -len(end)] for name in state for end in MARKERS if _ends(name, end)))
    if key is not None:
        chosen = [prefix for prefix in prefixes if prefix in (key, f"{key}.")]
        if not chosen:
            words = ", ".join(prefix.rstrip(".") for prefix in prefixes if prefix) or "no choice"
            raise ConfigError(f"--weights-key {key}: {path} has no weights of this name; it offers {words}.")
    elif not prefixes:
        return state, ()  # to_torchvision says that these are not the names of a Vision Transformer
    else:
        chosen = sorted(prefixes, key=lambda prefix: not IS_AVERAGE.search(prefix))
    prefix = chosen[0]
    notes = []
    if len(prefixes) > 1 and key is None:
        names = ", ".join(repr(name.rstrip(".")) for name in prefixes)
        notes.append(
            f"It holds several models, {names}: {prefix.rstrip('.')!r} was taken. --weights-key takes another."
        )
    if not prefix:
        return state, tuple(notes)
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    head = {end: state[name] for name in state for end in HEAD_NAMES if _is_head_beside(name, end, prefix)}
    left_out = [name for name in state if not name.startswith(prefix) and not any(_ends(name, end) for end in head)]
    left_out = [name for name in left_out if not any(name.startswith(other) for other in prefixes if other)]
    if left_out:
        notes.append(f"Left out, because they are not under {prefix!r}: {summarise(map(repr, left_out), 8)}.")
    return own | head, tuple(notes)


def _is_head_beside(name: str, end: str, prefix: str) -> bool:
    """Whether a name is that of a head beside the backbone of this prefix, as `model.classifier` of `model.vit.`."""
    return not name.startswith(prefix) and _ends(name, end) and prefix.startswith(name.removesuffix(end))


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _in_folder(folder: Path) -> Path:
    """The weights file of a folder. Raises WeightsError if there is none, or no single one."""
    for name in FOLDER_NAMES:
        for candidate in (folder / name, folder / f"{name}{INDEX}"):
            if candidate.is_file():
                return candidate
    files = sorted(path for path in folder.iterdir() if _suffix(path) in READERS and path.is_file())
    if len(files) == 1:
        return files[0]
    held = f"several weights files: {summarise((path.name for path in files), 8)}" if files else "no weights file"
    raise WeightsError(f"{folder} holds {held}. Give the weights file itself.")


def _suffix(path: Path) -> str:
    """The suffix that tells the format; `.pth.tar` is a PyTorch file, other `.tar` files are archives."""
    name = path.name.lower()
    return next((suffix for suffix in (".pth.tar", ".pt.tar", INDEX) if name.endswith(suffix)), path.suffix.lower())


def _read_npz(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}


def _read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that an index names."""
    contents: Any = {}
    for path in shards_of(index):
        try:
            contents |= READERS[_suffix(path)](path)
        except Exception as error:  # as for a single file
            raise WeightsError(_unreadable(path, error)) from error
    return contents


READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": safetensors.torch.load_file,
    ".pth": read_torch,
    ".pt": read_torch,
    ".bin": read_torch,
    ".ckpt": read_torch,
    ".pth.tar": read_torch,
    ".pt.tar": read_torch,
    ".npz": _read_npz,
    INDEX: _read_shards,
}


def _unreadable(path: Path, error: Exception) -> str:
    """Why a file could not be read: no access, code in it, or damage."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as access:
        return f"{path} cannot be read: {access.strerror}."
    # A PyTorch file is a zip archive, or in its old form and as a bare pickle it begins with the protocol mark 0x80.
    is_pickle = start == b"PK" or start[:1] == b"\x80"
    has_code = isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error) or "Object arrays" in str(error)
    if is_pickle and has_code:
        found = re.search(r"GLOBAL ([\w.]+)|safe_globals\(\[([\w.]+)", str(error))
        what = f" ({found[1] or found[2]})" if found else ""
        return (
            f"{path} was refused: it holds Python objects besides tensors{what}, and reading those would run code from "
            "the file. Where you trust it, convert it to .safetensors on the machine it comes from, and give that file."
        )
    return f"{path} is not a {_suffix(path)} weights file, or was cut short on its way here; get it again."
