from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from harness.runs import paired
from harness.runs.paired import difference_interval, holm, resampled, swap_test
from harness.runs.resampling import macro_f1
from reports.runs import Run, read_run
from reports.stats.comparison import Comparison
from reports.stats.comparison import compare as compare_settings
from reports.stats.setting import Pooled, Setting
from tests.reports.test_runs import write_run

CLASSES = tuple(f"class {index:03}" for index in range(100))


def with_errors(labels: np.ndarray, wrong: np.ndarray, classes: int) -> np.ndarray:
    """Predictions that are right but for the images `wrong`, which get the next class."""
    predicted = labels.copy()
    predicted[wrong] = (labels[wrong] + 1) % classes
    return predicted


def run_of(folder: Path, labels: np.ndarray, predicted: np.ndarray, classes: int = 100) -> Run:
    return read_run(write_run(folder, labels.tolist(), predicted.tolist(), classes=CLASSES[:classes]))


def compare(best: Run, others: list[Run]) -> list[Comparison]:
    """Settings of one run each."""
    first, *rest = (Setting((run,), (), Pooled(1, 0.5, None)) for run in (best, *others))
    return compare_settings(first, rest)


def two_models(
    generator: np.random.Generator, classes: int, each: int, right: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A test set and what two models of known accuracy say of it; half of the images are equally hard for both."""
    labels = np.repeat(np.arange(classes), each)
    luck = generator.random((2, len(labels)))
    luck[1] = np.where(generator.random(len(labels)) < 0.5, luck[0], luck[1])
    mistaken = (labels + generator.integers(1, classes, (2, len(labels)))) % classes
    one, other = np.where(luck < np.array(right)[:, None], labels, mistaken)
    return labels, one, other


def test_macro_f1_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 8, (2, 200))
    labels[labels == 3] = 4  # shown by nobody
    expected = sklearn_metrics.f1_score(labels, predicted, labels=range(10), average="macro", zero_division=0)
    assert macro_f1(labels, predicted, 10) == pytest.approx(expected, abs=1e-12)


def test_swaps_agree_with_all_possible_ones() -> None:
    generator = np.random.default_rng(1)
    labels, one, other = two_models(generator, 4, 5, (0.9, 0.6))
    differing = np.flatnonzero(one != other)
    assert len(differing) == 7
    observed = abs(macro_f1(labels, one, 4) - macro_f1(labels, other, 4))
    as_far = 0
    for tosses in itertools.product([False, True], repeat=len(differing)):
        swapped = np.zeros(len(labels), bool)
        swapped[differing] = tosses
        first, second = np.where(swapped, other, one), np.where(swapped, one, other)
        as_far += abs(macro_f1(labels, first, 4) - macro_f1(labels, second, 4)) >= observed - 1e-12
    exact = as_far / 2 ** len(differing)
    assert 0.01 < exact < 0.6
    found = swap_test(labels, one, other, 4, swaps=40_000)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_a_p_value_knows_no_side_and_no_order_of_classes() -> None:
    labels, one, other = two_models(np.random.default_rng(2), 10, 10, (0.8, 0.7))
    p = swap_test(labels, one, other, 10, swaps=20_000)
    assert swap_test(labels, other, one, 10, swaps=20_000) == pytest.approx(p, abs=0.02)
    renamed = np.random.default_rng(3).permutation(10)
    assert swap_test(renamed[labels], renamed[one], renamed[other], 10, swaps=20_000) == pytest.approx(p, abs=0.02)
    assert swap_test(labels, one, one, 10, swaps=100) == 1


def test_blocks_are_parts_of_one_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the blocks, all resamples and swaps are done, and no two blocks are the same."""
    labels, one, other = two_models(np.random.default_rng(4), 10, 10, (0.8, 0.7))
    scores, p = resampled(labels, [one, other], 10, resamples=2003), swap_test(labels, one, other, 10, swaps=20_003)
    monkeypatch.setattr(paired, "BLOCK", 700)
    in_blocks = resampled(labels, [one, other], 10, resamples=2003)
    assert scores.shape == in_blocks.shape == (2, 2003)
    assert scores.std(axis=1) == pytest.approx(in_blocks.std(axis=1), rel=0.1)
    assert len(np.unique(in_blocks, axis=1).T) > 1990
    assert swap_test(labels, one, other, 10, swaps=20_003) == pytest.approx(p, abs=0.01)


def test_resampled_scores_are_those_of_redrawn_test_sets() -> None:
    """Counted out one by one from the same weights."""
    labels = np.array([0, 0, 0, 1, 1, 2, 3])
    predicted = np.array([0, 1, 0, 1, 2, 2, 0])
    scores = resampled(labels, [predicted], 5, resamples=40, seed=7)[0]
    weights = paired._weights(labels, 5, 40, np.random.Generator(np.random.Philox(7)))
    assert weights.sum(axis=0) == pytest.approx(np.full(40, 7))
    assert set(np.unique(weights[:3])) <= {0, 1.5, 3}
    assert set(np.unique(weights[3:5])) == {0, 2}
    assert set(np.unique(weights[5:])) == {0, 2}  # two classes of one image share a stratum
    for column in range(40):
        expected = sklearn_metrics.f1_score(
            labels, predicted, labels=range(5), average="macro", zero_division=0, sample_weight=weights[:, column]
        )
        assert scores[column] == pytest.approx(expected, abs=1e-12)


def test_holm() -> None:
    # Holm (1979): sorted p times m, m - 1, ..., never falling, at most 1.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_best_against_better_and_worse_runs(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(100), 5)
    wrong = np.random.default_rng(5).permutation(500)
    counts = {"best": 5, "same": 5, "close": 9, "far": 40}
    best, *others = (
        run_of(tmp_path / name, labels, with_errors(labels, wrong[:count], 100)) for name, count in counts.items()
    )
    one_class = run_of(tmp_path / "one class", labels, np.zeros(500, int))
    same, close, far, hopeless = found = compare(best, [*others, one_class])
    assert all(one.comparable and (one.comparisons, one.images) == (4, 500) for one in found)
    assert [one.indistinguishable for one in found] == [True, True, False, False]
    assert [one.differing for one in found] == [0, 4, 35, 495]

    # Alike in all they said: the share of images in which they would differ is at most 1 - 0.025 ** (1 / 500).
    bound = 1 - 0.025 ** (1 / 500)
    assert (same.difference, same.low, same.high, same.p) == pytest.approx((0, -bound, bound, 1))
    # Four images, all in the best's favour: 2 of 2 ** 4 swaps are as far apart, where resampling leaves 0 out.
    assert close.p == pytest.approx(1 / 8, abs=0.02)
    assert close.low is not None and close.low <= 0 < close.difference < close.high
    for one in (far, hopeless):
        summary = one.setting.best.metric("test/f1")
        assert one.difference == pytest.approx(best.metric("test/f1") - summary)
        assert 0 < one.low < one.difference < one.high <= 1
        assert one.p == pytest.approx(1 / 10_001)
    assert far.difference == pytest.approx(0.07, abs=0.01)
    assert far.high - far.low == pytest.approx(2 * 1.96 * np.sqrt(0.07 * 0.93 / 500), rel=0.15)
    # Resampled alike and tested alike whoever else is compared; only Holm's correction knows of the others.
    alone = compare(best, [others[2]])[0]
    assert (alone.low, alone.high, alone.p, alone.p_holm) == (far.low, far.high, far.p, far.p)
    assert far.p_holm == pytest.approx(4 * far.p)
    # No swap was as far, of 10,000: their p may be smaller.
    assert [one.p_is_least for one in found] == [False, False, True, True]
    assert (far.p_text, close.p_text) == ("<0.001", f"{close.p_holm:.3f}")
    assert dataclasses.replace(far, p_holm=0.0123).p_text == "≤0.012"


def test_order_of_pictures_and_classes_does_not_matter(tmp_path: Path) -> None:
    labels, one, other = two_models(np.random.default_rng(6), 10, 10, (0.8, 0.6))
    names = [f"test/{index}.jpg" for index in range(100)]
    best = read_run(write_run(tmp_path / "best", labels, one, classes=CLASSES[:10], files=names))
    straight = read_run(write_run(tmp_path / "straight", labels, other, classes=CLASSES[:10], files=names))
    shuffle, renamed = np.random.default_rng(7).permutation(100), np.arange(10)[::-1]
    shuffled = read_run(
        write_run(
            tmp_path / "shuffled",
            renamed[labels[shuffle]],
            renamed[other[shuffle]],
            classes=CLASSES[:10][::-1],
            files=[names[index] for index in shuffle],
        )
    )
    first, second = compare(best, [straight, shuffled])
    assert (first.difference, first.low, first.high, first.p) == (
        second.difference,
        second.low,
        second.high,
        second.p,
    )


def test_runs_on_other_pictures_are_not_compared(tmp_path: Path) -> None:
    best = read_run(write_run(tmp_path / "best"))
    others = {
        "other data": {"fingerprint": "beef"},
        "more": {"labels": (0, 0, 1, 1, 1), "predicted": (0, 0, 1, 1, 1)},
        "relabelled": {
            "labels": (0, 1, 1, 1),
            "files": ["test/cat/0.jpg", "test/cat/1.jpg", "test/dog/2.jpg", "x.jpg"],
        },
        "other classes": {"classes": ("cat", "cow")},
        "fine": {},
    }
    runs = [read_run(write_run(tmp_path / name, **given)) for name, given in others.items()]
    (runs[0].path / "per_class.csv").unlink()
    runs.append(read_run(write_run(tmp_path / "other data 2", fingerprint="beef")))
    found = compare(best, runs)
    assert [one.reason for one in found] == [
        "its predictions cannot be used: per_class.csv is missing",
        "it was tested on other images: 4 of its 5 are among the 4 of the best run",
        "it was tested on other images: 2 of its 4 are among the 4 of the best run",
        "it was trained on other classes than the best run",
        "",
        "its data set is not the best run's (manifest.json: fingerprint)",
    ]
    assert [one.comparisons for one in found] == [0, 0, 0, 0, 1, 0]
    assert not any(one.indistinguishable for one in found if not one.comparable)
    assert {one.reason for one in compare(runs[0], [best])} == {
        "the best run's predictions cannot be used: per_class.csv is missing"
    }
    assert compare(best, []) == []


@pytest.mark.parametrize(("classes", "each", "right"), [(100, 5, 0.9), (10, 10, 0.95)])
def test_equally_good_models_are_seldom_told_apart(classes: int, each: int, right: float) -> None:
    """The level holds, and the interval covers 0: 200 test sets, 5 % of which is 10 (standard deviation 3)."""
    generator = np.random.default_rng(8)
    rejected = covered = 0
    for seed in range(200):
        labels, one, other = two_models(generator, classes, each, (right, right))
        p = swap_test(labels, one, other, classes, swaps=299, seed=seed)
        first, second = resampled(labels, [one, other], classes, resamples=299, seed=seed)
        difference = macro_f1(labels, one, classes) - macro_f1(labels, other, classes)
        low, high = difference_interval(first - second, difference, p, int((one != other).sum()), len(labels))
        rejected += p <= 0.05
        covered += low <= 0 <= high
    assert rejected <= 18
    assert 180 <= covered <= 200


def test_unequal_models_are_told_apart_and_the_interval_covers_their_difference() -> None:
    """100 classes of 5 images, accuracy and so macro F1 of 0.95 and 0.85: errors are spread evenly over classes."""
    generator = np.random.default_rng(9)
    rejected = covered = 0
    for seed in range(100):
        labels, one, other = two_models(generator, 100, 5, (0.95, 0.85))
        p = swap_test(labels, one, other, 100, swaps=299, seed=seed)
        first, second = resampled(labels, [one, other], 100, resamples=299, seed=seed)
        difference = macro_f1(labels, one, 100) - macro_f1(labels, other, 100)
        low, high = difference_interval(first - second, difference, p, int((one != other).sum()), len(labels))
        rejected += p <= 0.05
        covered += low <= 0.1 <= high
    assert rejected >= 95
    assert 88 <= covered <= 100
