"""A run's best checkpoint as files of other libraries; a format is written only if scoring its files confirms it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import nn

from harness.errors import HarnessError, PathError
from harness.export.agreement import Agreement, agreement_of, problem_with, scored
from harness.export.formats import INT8_FILE, NATIVE_FOLDER, ONNX_CODE, ONNX_FILE, SHARED, Format
from harness.export.library_files import check_formats, unstated_norm_eps, write_hugging_face, write_timm
from harness.export.model_card import model_card
from harness.export.onnx_file import write_int8, write_onnx
from harness.export.reference import reference_of
from harness.files import disk_is_full, no_space, umask
from harness.model import adapter
from harness.model.adapter import TokenLayout
from harness.predict import best_of
from harness.runs.rules import printable
from harness.training.checkpoint import BestCheckpoint

Say = Callable[[str], None]

CARD, DEMO = "README.md", "demo.py"
PREPROCESS = "onnx_preprocess.py"


def export_run(
    run_folder: Path,
    formats: Sequence[Format],
    output: Path,
    element: str,
    data: str | None,
    cache_dir: str | None,
    say: Say,
) -> list[str]:
    """Write the formats that agree with the run to a new folder; returns a sentence for each that does not.

    `element` is the type of the ONNX input. Raises HarnessError if nothing can be exported.
    """
    refuse_existing(output)
    check_formats(best_of(run_folder).config.model, [form.name for form in formats])
    best, dataset, reference = reference_of(run_folder, data, cache_dir, say)
    problems, passed = [], {}
    with _beside(output) as folder:
        without_onnx = write(folder, formats, best, element, say)
        for form in formats:
            try:
                if without_onnx and ONNX_CODE in form.files:
                    raise without_onnx
                agreement = agreement_of(reference, scored(form, folder, reference))
                problem = problem_with(form, agreement, reference)
            except HarnessError as error:
                problem = f"{form.name} is not written: {error}."
            if problem:
                problems.append(problem)
            else:
                passed[form] = agreement
                say(f"{form.name}: {agreement}.")
        _remove_failed(folder, formats, passed)
        if passed:
            if any(SHARED[0] in form.files for form in passed) and demo_fits(best.model):
                shutil.copyfile(Path(__file__).with_name(DEMO), folder / DEMO)
            card = model_card(run_folder, best, passed, element, dataset.fingerprint)
            (folder / CARD).write_text(card, encoding="utf-8")
            folder.rename(output)
    return problems


def demo_fits(model: nn.Module) -> bool:
    """Whether demo.py can show the attention: a class token alone before the patches, read by the head; plain blocks.

    It computes attention from the output of one projection to queries, keys and values.
    """
    parts = adapter.parts(model)
    plain = parts.layout == TokenLayout(prefix=1, has_class_token=True, pools_patches=False)
    one_projection = hasattr(parts.attentions[-1], "qkv") or isinstance(parts.attentions[-1], nn.MultiheadAttention)
    normed = any(type(getattr(each, "q_norm", None)) not in (type(None), nn.Identity) for each in parts.attentions)
    return plain and not parts.relative_positions and not normed and one_projection


def write(folder: Path, formats: Sequence[Format], best: BestCheckpoint, element: str, say: Say) -> HarnessError | None:
    """Write the files of the formats; returns the error if the model could not be written as ONNX."""
    model, name, classes, rule = best.model.cpu(), best.config.model, best.classes, best.preprocessing
    files = {file for form in formats for file in form.files}
    if SHARED[0] in files:
        write_timm(folder, name, model, classes, rule)
        if sentence := unstated_norm_eps(name, model):
            say(sentence)
    if NATIVE_FOLDER in files:
        write_hugging_face(folder / NATIVE_FOLDER, name, model, classes, rule)
    if ONNX_CODE in files:
        say("Exporting to ONNX, which takes a minute or two.")
        try:
            write_onnx(folder / ONNX_FILE, model, classes, rule, element)
        except HarnessError as error:
            return error
        shutil.copyfile(Path(__file__).with_name(PREPROCESS), folder / ONNX_CODE)
    if INT8_FILE in files:
        write_int8(folder / ONNX_FILE, folder / INT8_FILE)
    return None


def refuse_existing(output: Path) -> None:
    """PathError unless the folder is new or empty: nothing of the user's is overwritten."""
    if output.is_symlink() or (output.exists() and not (output.is_dir() and not any(output.iterdir()))):
        raise PathError(f"-o {printable(output)} exists already and is not an empty folder. Give a new one.")
    if output.resolve() == Path.cwd().resolve():
        raise PathError(f"-o {printable(output)} is the current folder, which cannot be replaced. Give a new one.")


def _remove_failed(folder: Path, formats: Sequence[Format], passed: dict[Format, Agreement]) -> None:
    kept = {file for form in passed for file in form.files}
    for file in {file for form in formats for file in form.files} | {ONNX_FILE, f"{ONNX_FILE}.data"}:
        if file in kept:
            continue
        if (folder / file).is_dir():
            shutil.rmtree(folder / file)
        else:
            (folder / file).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or not there
        (folder / "onnx").rmdir()


@contextlib.contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A new folder next to `output`, which is removed unless the block renames it."""
    try:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.absolute().parent))
        folder.chmod(0o777 & ~umask())  # mkdtemp's folder is its owner's alone
    except OSError as error:
        raise PathError(f"-o {printable(output)} cannot be made: {error.strerror}.") from error
    try:
        yield folder
    except Exception as error:
        if disk_is_full(error):
            raise no_space(output, error) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
