"""Code, data, weights, seeds and machines of the runs: first what differs, then what is common to all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.runs.rules import printable
from reports.collection import Collection
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import Run
from reports.values import is_number, strings


def section(collection: Collection, site: Site) -> Section | None:
    runs = [row.run for row in collection.rows]
    facts = {run: facts_of(run) for run in runs}

    def labels_by(name: str) -> dict[str, list[str]]:
        return collection.labels_by(lambda run: facts[run].get(name, "not recorded"))

    names = dict.fromkeys(name for of_run in facts.values() for name in of_run)
    found = {name: labels_by(name) for name in names}
    context = {
        "shared": {name: next(iter(labels)) for name, labels in found.items() if len(labels) == 1},
        "differing": {name: labels for name, labels in found.items() if len(labels) > 1},
        "count": len(runs),
        "loaded": list(dict.fromkeys(line for run in runs for line in strings(run.part("weights").get("report")))),
        "notes": list(dict.fromkeys(line for run in runs for line in strings(run.manifest.get("notes")))),
        "commands": list(dict.fromkeys(command for run in runs if (command := _text(run.manifest.get("command"))))),
        "resumed": [
            (collection.label(run), len(starts))
            for run in runs
            if (starts := strings(run.manifest.get("earlier_starts")))
        ],
    }
    return Section("provenance", "provenance.html.j2", context)


def facts_of(run: Run) -> dict[str, str]:
    """Facts about a run to compare with those of others, by name; facts that are not recorded are left out."""
    data, weights, git, hardware = (run.part(name) for name in ("data", "weights", "git", "hardware"))
    gpus = hardware.get("gpus")
    memory = hardware.get("memory_bytes")
    facts: dict[str, Any] = {
        "data": data.get("root") or run.config.get("data"),
        "data fingerprint": data.get("fingerprint"),
        "classes": data.get("classes"),
        "images": ", ".join(f"{count} {split}" for split, count in run.images.items()) or None,
        "model": run.config.get("model"),
        "weights": weights.get("source") or run.config.get("weights"),
        "weights digest": weights.get("digest"),
        "seed": run.config.get("seed"),
        "code": _code(git),
        **run.part("versions"),
        "host": hardware.get("host"),
        "CPU": hardware.get("cpu"),
        "cores": hardware.get("cores"),
        "memory": f"{memory / 2**30:.0f} GiB" if is_number(memory) else None,
        "GPUs": (", ".join(map(str, gpus)) or "none") if isinstance(gpus, list) else None,
        "device": run.manifest.get("device"),
        "processes": run.manifest.get("processes"),
        "precision": run.manifest.get("precision"),
        "day started": (_text(run.manifest.get("started")) or "")[:10] or None,
    }
    return {name: printable(value) for name, value in facts.items() if value is not None}


def _code(git: Mapping[str, Any]) -> str | None:
    commit = git.get("commit")
    if not isinstance(commit, str):
        return None
    return f"commit {commit[:12]}{', with changes not committed' * (git.get('changed') is True)}"


def _text(value: Any) -> str | None:
    return printable(value) if isinstance(value, str) else None
