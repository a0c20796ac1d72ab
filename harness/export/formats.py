"""The formats of an export: what each consists of, what checking it needs, and how far its scores may be off."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from harness.errors import ConfigError


@dataclass(frozen=True)
class Tolerance:
    """How far the scores of exported files may be from the run's own, on all images of the test split."""

    probability: float  # largest difference of a probability
    other_class: float = 1.0  # largest share of images that get another class
    f1: float = 1.0  # most that macro F1 may be lower


# The same float32 weights, with sums in another order: 1e-6 to 1e-5 was measured. A crop that is off by one pixel
# moves probabilities by 1e-2, another resize or mean by more.
SAME_WEIGHTS = Tolerance(probability=1e-4)
# Weights of 8 bits are other weights, so single probabilities may move. Two points of macro F1 are about its standard
# error on 500 images: a larger loss would be visible to whoever uses the model.
EIGHT_BITS = Tolerance(probability=1.0, other_class=0.05, f1=0.02)


@dataclass(frozen=True)
class Format:
    name: str
    opened_by: str  # for people
    packages: tuple[str, ...]  # that writing or checking it needs ...
    extra: str  # ... and what installs them
    files: tuple[str, ...]  # files and folders in the export; formats may share them
    opened: str  # what the check opens, below the export
    tolerance: Tolerance


SHARED = ("config.json", "model.safetensors")
ONNX_CODE = "onnx/preprocess.py"
ONNX_FILE, INT8_FILE = "onnx/model.onnx", "onnx/model_int8.onnx"
NATIVE_FOLDER = "hf-vit"
_ONNX = ("onnx", "onnxruntime", "onnxscript")
_ONNX_FILES = (ONNX_FILE, f"{ONNX_FILE}.data", ONNX_CODE)  # .data: weights that are too large for the file

FORMATS = {
    form.name: form
    for form in (
        Format("timm", "timm", ("timm",), "timm", SHARED, "", SAME_WEIGHTS),
        Format("hf", "transformers with timm", ("timm", "transformers"), "hf", SHARED, "", SAME_WEIGHTS),
        Format("hf-vit", "transformers", ("transformers",), "hf", (NATIVE_FOLDER,), NATIVE_FOLDER, SAME_WEIGHTS),
        Format("onnx", "onnxruntime", _ONNX, "onnx", _ONNX_FILES, ONNX_FILE, SAME_WEIGHTS),
        Format("onnx-int8", "onnxruntime", _ONNX, "onnx", (INT8_FILE, ONNX_CODE), INT8_FILE, EIGHT_BITS),
    )
}


def parse_formats(text: str) -> list[Format]:
    """The formats in "timm,hf,onnx", each once. ConfigError for an unknown name, and for a package that is missing."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    problems = []
    if not names or (unknown := [name for name in names if name not in FORMATS]):
        wrong = ", ".join(unknown) if names else "nothing"
        problems.append(f"--to names {wrong}; it must be one or more of {', '.join(FORMATS)}, with commas between.")
    known = [FORMATS[name] for name in names if name in FORMATS]
    for form in known:
        missing = [package for package in form.packages if importlib.util.find_spec(package) is None]
        if missing:
            problems.append(
                f"--to {form.name} needs {' and '.join(missing)}, to score the files as their users would: "
                f"pip install 'vit-harness[{form.extra}]'."
            )
    if problems:
        raise ConfigError(problems)
    return known
