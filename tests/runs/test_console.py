from __future__ import annotations

import logging

import pytest

from harness.runs.console import Console, Stopwatch
from harness.runs.rules import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599.7, "1 h 0 min"), (7384, "2 h 3 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_off_a_terminal_there_is_one_line_per_epoch_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.begin(10, 0)
    console.advance(10, 0, {"train/loss": 1.0, "train/images_per_second": 5.0})
    console.epoch(5, {"epoch": 1, "val/loss": 0.5, "val/accuracy": 0.25, "val/f1": 0.125}, best=True)
    console.table("done", {"a": "1", "longer": "2"})
    console.close()
    captured = capsys.readouterr()
    assert captured.out == (
        "epoch 1/5  val loss 0.5000  accuracy 0.2500  F1 0.1250  best so far\n\ndone\n  a       1\n  longer  2\n"
    )
    assert captured.err == ""


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    Console()  # of an earlier run in this process, or in the process that a rank was forked from
    Console(enabled=False).say("anything")
    logging.getLogger("harness.training.step").info("anything logged")
    assert capsys.readouterr().out == ""


def test_log_messages_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        Console()
    logging.getLogger("harness.training.step").info("micro-batch %d", 3)
    assert capsys.readouterr().out == "micro-batch 3\n"


def test_on_a_terminal_a_bar_shows_loss_and_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    console = Console()
    console.begin(10, 4)
    console.advance(2, 1, {"train/loss": 1.25, "train/images_per_second": 5.0})
    console.say("a line above the bar")
    console.close()
    captured = capsys.readouterr()
    assert "epoch 2:" in captured.err
    assert "6/10" in captured.err
    assert "loss 1.250, 5 images/s" in captured.err
    assert "a line above the bar" in captured.out


def test_a_lap_counts_from_the_last_one() -> None:
    watch = Stopwatch()
    watch.images += 7
    seconds, images = watch.lap()
    assert images == 7
    assert seconds > 0
    assert watch.lap()[1] == 0
