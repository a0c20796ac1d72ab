"""What a reader of a model card must know before using the model, from the summary and the manifest of its run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.runs.rules import finite_number

# Below this many test images, the interval of a score is wider than most differences that people care about.
FEW_TEST_IMAGES = 200


def caveats_of(summary: Mapping[str, Any], manifest: Mapping[str, Any], fingerprint: str) -> list[str]:
    """Sentences; the last one always stands."""
    return [
        *_of_scores(summary),
        *_of_data(manifest, fingerprint),
        *(f"{what}: {text}" for what, text in (manifest.get("problems") or {}).items()),
        "Scores are those of images like the test images; other cameras, places and subjects were not tested.",
    ]


def _of_scores(summary: Mapping[str, Any]) -> Iterator[str]:
    if (state := summary.get("state")) != "finished":
        yield f"The run ended as {state or 'unknown'}; this is its best epoch so far, and it may not have been tested."
    n = finite_number(summary.get("test/n"))
    if n is not None and n < FEW_TEST_IMAGES:
        yield f"The test split has {n:.0f} images, so differences of a few hundredths may be chance."
    gain, low = (finite_number(summary.get(key)) for key in ("probe/gain", "probe/gain_low"))
    if gain is not None and low is not None and low <= 0:
        yield (
            "Fine-tuning is not shown to be better than a linear probe of the start weights "
            f"({gain:+.4f} macro F1, lower end of the interval {low:+.4f})."
        )
    if verdict := summary.get("positions/verdict"):
        yield f"Position embeddings: {verdict}"


def _of_data(manifest: Mapping[str, Any], fingerprint: str) -> Iterator[str]:
    data = manifest.get("data") or {}
    if isinstance(skipped := data.get("skipped"), Mapping) and skipped:
        yield f"Images that could not be read and were left out: {len(skipped)}."
    if (recorded := data.get("fingerprint")) and recorded != fingerprint:
        yield "The exported files were scored on other images than the run (another fingerprint)."
    yield from (str(note) for note in manifest.get("notes") or [])
