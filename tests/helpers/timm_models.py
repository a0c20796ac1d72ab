"""Writes harness/model/timm_models.csv from the timm that is installed: python -m tests.helpers.timm_models"""

from __future__ import annotations

import csv
import dataclasses

import timm

from harness.model.timm_catalog import TABLE, CatalogEntry
from harness.model.timm_model import describe

PATTERNS = ["vit_*", "deit*", "eva*", "beit*", "flexivit*", "naflexvit*", "samvit*", "test_vit*"]


def write() -> None:
    rows = [dataclasses.asdict(describe(name)) for name in timm.list_models(PATTERNS)]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(CatalogEntry)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    write()
