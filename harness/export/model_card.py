"""README.md of an export: the hub's metadata, scores with intervals, where the model comes from, what to beware of."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import harness
from harness.export.agreement import Agreement
from harness.export.caveats import caveats_of
from harness.export.formats import SHARED, Format
from harness.export.library_files import unstated_norm_eps
from harness.export.licences import licence_of, name_of
from harness.runs.evidence_file import read_claims
from harness.runs.folder import RunFolder
from harness.runs.metric_table import CLOSING, shown_in
from harness.runs.predictions import CLASS_COLUMNS, CLASSES_FILE
from harness.runs.reading import ANOTHER_RUN, UnreadableError, content_of
from harness.runs.rules import finite_number, printable
from harness.training.checkpoint import BestCheckpoint

# Settings that a reader of the card asks for first; the rest is in the run's config.json.
SETTINGS = (
    *("recipe", "model", "epochs", "optimizer", "lr", "batch_size", "schedule", "weight_decay", "layer_decay"),
    *("augment", "label_smoothing", "mixup", "cutmix", "freeze", "head_init", "ema", "class_weights", "seed"),
)
# How each format is opened, from the folder of the card.
OPENING = {
    "timm": (
        'model = timm.create_model("local-dir:.", pretrained=True).eval()',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
    ),
    "hf": ('classify = transformers.pipeline("image-classification", ".")',),
    "hf-vit": ('classify = transformers.pipeline("image-classification", "./hf-vit")',),
    "onnx": ('session = onnxruntime.InferenceSession("onnx/model.onnx")  # its images: onnx/preprocess.py',),
    "onnx-int8": ('session = onnxruntime.InferenceSession("onnx/model_int8.onnx")  # its images: onnx/preprocess.py',),
}


def model_card(
    run_folder: Path, best: BestCheckpoint, passed: Mapping[Format, Agreement], element: str, fingerprint: str
) -> str:
    """The card, in Markdown. `fingerprint` is that of the data that the exported files were scored on."""
    folder = RunFolder(run_folder)
    summary = folder.read("summary.json", ANOTHER_RUN)
    manifest, damage = folder.read_manifest()
    caveats = [f"{damage}: the run's data, start weights and notes are not known."] if damage else []
    caveats += caveats_of(summary, manifest, fingerprint)
    name = run_folder.resolve().name
    parts = [
        _metadata(name, best, passed, summary),
        f"# {_text(name)}",
        f"{best.config.model} for {len(best.classes)} classes of images, fine-tuned with vit-harness "
        f"{harness.__version__}.",
        _section("Use", _use(passed)),
        _section("Scores", _scores(summary), _per_class(run_folder)),
        _section("Exported files", _agreements(passed), _norm_eps(best, passed), _preprocessing(best, element, passed)),
        _section("Data and start weights", _origin(best, manifest, fingerprint)),
        _section("Settings", _settings(best)),
        _section("What attention maps show", _evidence(run_folder)),
        _section("Beware", "\n".join(f"* {_text(each)}" for each in caveats)),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(name: str, best: BestCheckpoint, passed: Mapping[Format, Agreement], summary: Mapping[str, Any]) -> str:
    """The block that the hub reads (huggingface.co/docs/hub/model-cards).

    A data set on this disk has no name on the hub, so it stands in the results, and not under `datasets`, which would
    link to somebody else's. There is no `base_model` for the same reason: start weights here are no repository.
    """
    formats = [form.name for form in passed]
    library = "timm" if "timm" in formats else "transformers" if formats[0].startswith("hf") else "onnx"
    values: dict[str, Any] = {"library_name": library, "pipeline_tag": "image-classification"}
    licence = licence_of(best.config.weights, best.config.model)
    if licence.hub_id:
        values = {"license": licence.hub_id} | values
    if licence.name:
        values["license_name"] = licence.name
    values["tags"] = ["image-classification", "vision-transformer", "vit-harness", *formats]
    values["metrics"] = ["f1", "accuracy"]
    scores = [
        {"type": kind, "name": title, "value": score}
        for key, kind, title in (("test/f1", "f1", "macro F1"), ("test/accuracy", "accuracy", "accuracy"))
        if (score := finite_number(summary.get(key))) is not None
    ]
    if scores:
        data = {"name": Path(best.config.data).name, "type": "imagefolder", "split": "test"}
        task = {"type": "image-classification"}
        values["model-index"] = [{"name": name, "results": [{"task": task, "dataset": data, "metrics": scores}]}]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def _use(passed: Mapping[Format, Agreement]) -> str:
    """Code that opens the files."""
    imports = sorted({form.opened_by.split()[0] for form in passed})
    lines = [f"import {', '.join(imports)}", "", *(line for form in passed for line in OPENING[form.name])]
    code = "\n".join(lines)
    text = f"In the folder of this file:\n\n```python\n{code}\n```"
    if any(SHARED[0] in form.files for form in passed):
        text += (
            "\n\nFrom a repository on the hub, timm takes `hf-hub:USER/NAME` instead of `local-dir:.`, and "
            "transformers takes `USER/NAME` instead of `.`."
        )
    return text


def _scores(summary: Mapping[str, Any]) -> str:
    rows = []
    for metric in shown_in(CLOSING):
        value = finite_number(summary.get(metric.key))
        if value is None or not metric.key.startswith("test/"):
            continue
        low, high = (finite_number(summary.get(f"{metric.key}_{end}")) for end in ("low", "high"))
        interval = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        rows.append((metric.title, f"{value:.4f}", interval))
    if not rows:
        return "The run has no test scores."
    table = _table(("metric", "value", "95 % interval"), rows)
    n = summary.get("test/n")
    return f"{table}\n\nOn {n} test images, read once. Intervals are over test images; the training is one seed."


def _per_class(run_folder: Path) -> str:
    try:
        text = content_of(run_folder / CLASSES_FILE).decode()
    except (OSError, ValueError):
        return ""
    rows = [
        (row[0], *(f"{number:.3f}" if (number := _number(cell)) is not None else "" for cell in row[1:4]), *row[4:5])
        for row in list(csv.reader(io.StringIO(text)))[1:]
        if len(row) >= len(CLASS_COLUMNS)
    ]
    table = _table((*CLASS_COLUMNS[:4], "test images"), rows)
    return f"<details><summary>Each of the {len(rows)} classes</summary>\n\n{table}\n\n</details>"


def _number(text: str) -> float | None:
    try:
        return finite_number(float(text))
    except ValueError:
        return None


def _agreements(passed: Mapping[Format, Agreement]) -> str:
    """What scoring the exported files gave."""
    rows = [
        (
            form.name,
            ", ".join(f"`{file}`" for file in form.files if not file.endswith(".data")),
            form.opened_by,
            f"{agreement.same_class} of {agreement.n}",
            f"{agreement.largest_difference:.1g}",
            f"{agreement.f1:.4f} ({agreement.run_f1:.4f})",
        )
        for form, agreement in passed.items()
    ]
    columns = ("format", "files", "opened by", "same class", "largest difference", "macro F1 (the run)")
    text = (
        "After the export, the whole test split was scored from these files, in a fresh process, with the "
        f"preprocessing that they state, and compared with the run:\n\n{_table(columns, rows)}"
    )
    agreement = next(iter(passed.values()))
    if agreement.opened_differently:
        text += (
            f"\n\nPillow's `Image.open` gives {agreement.opened_differently} of these images other pixels than the run "
            "had: large JPEGs were decoded at a fraction of their size there, and transparent images laid on white. "
            f"That by itself moves a probability by up to {agreement.opening_difference:.1g}. The differences in the "
            "table are those of equal pixels."
        )
    return text


def _norm_eps(best: BestCheckpoint, passed: Mapping[Format, Agreement]) -> str:
    of_timm = any(SHARED[0] in form.files for form in passed)
    return unstated_norm_eps(best.config.model, best.model) if of_timm else ""


def _preprocessing(best: BestCheckpoint, element: str, passed: Mapping[Format, Agreement]) -> str:
    rule = best.preprocessing
    text = (
        f"Images: short side to {rule.resize_size} pixels ({rule.interpolation}, antialiased), centre {rule.crop_size}x"
        f"{rule.crop_size}, values 0 to 1, less {list(rule.mean)}, divided by {list(rule.std)}."
    )
    if any(form.name.startswith("onnx") for form in passed):
        kind = "uint8 pixels from 0 to 255" if element == "uint8" else "normalised float32"
        text += (
            f" The ONNX input `images` is {kind}, (batch, 3, {rule.crop_size}, {rule.crop_size}); `onnx/preprocess.py` "
            "makes it."
        )
    return text


def _origin(best: BestCheckpoint, manifest: Mapping[str, Any], fingerprint: str) -> str:
    data, weights = (manifest.get(key) or {} for key in ("data", "weights"))
    images = data.get("images")
    counts = ", ".join(f"{count} {split}" for split, count in images.items()) if isinstance(images, Mapping) else "?"
    digest = weights.get("digest")
    lines = [
        f"* Data: {_text(Path(best.config.data).name)}; images: {_text(counts)}; fingerprint `{fingerprint}`",
        f"* Start weights: {_text(name_of(best.config.weights))}"
        + (f" (SHA-256 `{_text(digest)}`)" if isinstance(digest, str) else ""),
        f"* Licence of the start weights: {licence_of(best.config.weights, best.config.model).text}",
    ]
    return "\n".join(lines)


def _settings(best: BestCheckpoint) -> str:
    settings = best.config.to_dict()
    return _table(("setting", "value"), [(name, settings[name]) for name in SETTINGS])


def _evidence(run_folder: Path) -> str:
    try:
        claims = read_claims(run_folder)
    except UnreadableError as error:
        return f"Not known: {_text(error.reason)}."
    if not claims:
        return "Not measured for this run (`harness verify` does): do not take a map for an explanation."
    rows = [(claim.statement, claim.verdict, claim.number, claim.numbers) for claim in claims]
    return _table(("claim", "verdict", "measured", "value (95 % interval)"), rows)


def _section(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"## {title}", *filter(None, paragraphs)])


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: object) -> str:
    """Text from a run folder, shown as it is: neither HTML nor Markdown nor a new line; code spans stay."""
    escaped = printable(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\*_\[\]|#])", r"\\\1", escaped) if "`" not in escaped else escaped.replace("|", "\\|")
