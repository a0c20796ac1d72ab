"""The leaderboard and the runs as CSV, LaTeX and Markdown."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from reports import columns
from reports.collection import collect
from reports.page.tables import Table, as_csv, as_latex, as_markdown, runs_table, settings_table
from tests.helpers.seeds import ERRORS, SCORES, write_seeds

HOSTILE = Table("x", ("a_b", "n"), (("=1+1", 1.0), ("50 % & <b>|\\", None)))


def test_settings_and_runs_with_their_numbers(tmp_path: Path) -> None:
    write_seeds(tmp_path)
    board = settings_table(collect(tmp_path))
    assert board.headings[:5] == ("place", "lr", "seeds", "validation F1", "validation F1 sd")
    assert [row[:3] for row in board.rows] == [(1, 1e-4, 3), (2, 3e-4, 3), (3, 1e-3, 3)]
    assert board.rows[0][3:5] == pytest.approx((0.91, 0.01))
    assert (board.rows[0][-2], board.rows[0][-1]) == (None, "finished")
    p = board.rows[2][-2]
    assert isinstance(p, float) and p < 0.05
    runs = runs_table(collect(tmp_path))
    seeds = [row[runs.headings.index("seed")] for row in runs.rows]
    assert len(runs.rows) == 9 and seeds[:3] == [2, 1, 0]
    accuracy = [row[runs.headings.index("accuracy")] for row in runs.rows]
    assert accuracy[:3] == [1 - errors / 100 for errors in reversed(ERRORS[1e-4])]


def test_text_of_others_is_neither_a_formula_nor_markup() -> None:
    assert list(csv.reader(as_csv(HOSTILE).splitlines())) == [["a_b", "n"], ["'=1+1", "1.0"], ["50 % & <b>|\\", ""]]
    assert as_markdown(HOSTILE).splitlines()[1:] == ["| --- | ---: |", "| =1+1 | 1 |", "| 50 % & &lt;b>\\|\\ | – |"]
    assert as_latex(HOSTILE).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & n \\",
        r"\midrule",
        r"=1+1 & 1 \\",
        r"50 \% \& \textless{}b\textgreater{}|\textbackslash{} & – \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_score_with_an_error_is_not_rounded_to_1() -> None:
    assert [columns.number(score) for score in (0.99996, 1.0, 1.00004, 0.99994, -0.5)] == [
        *("0.9999", "1.0000", "1.0000", "0.9999", "-0.5000")
    ]
    assert (columns.number(0.9996, 3), columns.number(0.7, 0)) == ("0.999", "1")
    assert columns.span(0.99996, 0.99999) == "0.9999 to 0.9999"
    table = Table("x", ("F1",), ((0.99996,), (1.0,)))
    assert as_markdown(table).splitlines()[2:] == ["| 0.99996 |", "| 1 |"]


def test_the_command_writes_them_beside_the_page(tmp_path: Path) -> None:
    write_seeds(tmp_path / "runs")

    def report(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["report", str(tmp_path / "runs"), *words])
        return done.exit_code, done.output

    code, printed = report("--tables", "csv,latex,markdown")
    folder = tmp_path / "runs" / "report" / "tables"
    tables = [f"{name}.{suffix}" for name in ("leaderboard", "runs") for suffix in ("csv", "md", "tex")]
    assert code == 0
    assert printed.splitlines() == [str(folder.parent / "index.html"), *(str(folder / name) for name in tables)]
    assert {path.name for path in folder.iterdir()} == set(tables)
    # Only the tables that were asked for, whatever else is in the folder.
    (folder / "my notes.txt").touch()
    assert report("--tables", "csv")[1].splitlines()[1:] == [
        str(folder / f"{name}.csv") for name in ("leaderboard", "runs")
    ]
    (folder / "my notes.txt").unlink()
    assert report("--tables", "csv,latex,markdown")[1] == printed
    with (folder / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation F1"]) for row in rows] == pytest.approx([sum(s) / 3 for s in SCORES.values()])
    # Without the option they are stale files of the page.
    assert report()[0] == 0 and not folder.exists()
    code, said = report("--tables", "csv,excel", "--watch", "--gallery", "few")
    assert code == 2 and not folder.exists()
    for problem in ("--gallery is 'few'", "--tables has 'excel'; formats are csv, latex", "--watch needs --serve"):
        assert problem in said
