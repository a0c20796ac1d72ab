"""How exported files agree with what they were made from.

    python -m tests.bench.bench_export [RUN] [--data DIR] [--models NAME,NAME]

Without RUN: every kind of timm's models, two blocks deep with random weights, as ONNX; about half a minute each. With
RUN: every format of `harness export`, opened by its own library in a fresh process and scored on the test split.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from harness.export.agreement import agreement_of, problem_with, scored
from harness.export.export import write
from harness.export.formats import FORMATS, ONNX_CODE
from harness.export.onnx_file import FLOAT
from harness.export.reference import reference_of
from tests.bench.table import at_most, show
from tests.helpers.onnx_parity import BATCHES, onnx_difference
from tests.helpers.timm_vits import FAMILIES

COLUMNS = ("format", "opened by", "same class", "largest |difference of probability|", "macro F1", "verdict")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="folder of a finished run")
    parser.add_argument("--data", help="its data folder, where it has moved")
    parser.add_argument("--models", help="names of timm's models, with commas between [default: one of every kind]")
    arguments = parser.parse_args()
    names = arguments.models.split(",") if arguments.models else list(FAMILIES)
    if unknown := [name for name in names if name not in FAMILIES]:
        parser.error(f"--models names {', '.join(unknown)}; choose from {', '.join(FAMILIES)}.")
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as folder:
        if arguments.run is None:
            families(names, Path(folder))
        else:
            formats(arguments.run, arguments.data, Path(folder))


def families(names: list[str], folder: Path) -> None:
    differences = {name: onnx_difference(name, folder / f"{name}.onnx") for name in names}
    rows = [[name, f"{difference:.1g}"] for name, difference in differences.items()]
    title = f"Logits by onnxruntime against torch's, batches of {', '.join(map(str, BATCHES))}"
    show(title, ("model", "largest difference / largest logit"), rows, [at_most(max(differences.values()), 1e-5)])


def formats(run: Path, data: str | None, folder: Path) -> None:
    best, _, reference = reference_of(run, data, None, print)
    without_onnx = write(folder, list(FORMATS.values()), best, FLOAT, print)
    rows = []
    for form in FORMATS.values():
        if without_onnx and ONNX_CODE in form.files:
            rows.append([form.name, form.opened_by, "", "", "", f"not written: {without_onnx}"])
            continue
        agreement = agreement_of(reference, scored(form, folder, reference))
        rows.append(
            [
                form.name,
                form.opened_by,
                f"{agreement.same_class} of {agreement.n}",
                f"{agreement.largest_difference:.1g}",
                f"{agreement.f1:.4f} (the run: {agreement.run_f1:.4f})",
                problem_with(form, agreement, reference) or "written",
            ]
        )
    show(f"{run.name}: scored from the exported files", COLUMNS, rows)


if __name__ == "__main__":
    main()
