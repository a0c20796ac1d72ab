from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score, multiclass_recall

from harness.errors import TrainingError
from harness.runs.intervals import score_intervals
from harness.training import metrics


def random_predictions(n: int, classes: int, seed: int = 0, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and logits (n, classes) of a model that is often right."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, size=n)
    logits = generator.normal(size=(n, classes)) + skill * np.eye(classes)[labels]
    return labels, logits


def fixed_test_set(classes: int, each: int, errors: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of a balanced test set with a set number of errors."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    predicted = labels.copy()
    wrong = generator.choice(len(labels), errors, replace=False)
    predicted[wrong] = (labels[wrong] + generator.integers(1, classes, size=errors)) % classes
    return labels, predicted


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize(("n", "classes"), [(500, 100), (37, 3), (7, 100), (1, 2), (400, 1)])
def test_scores_equal_scikit_learn(n: int, classes: int) -> None:
    labels, logits = random_predictions(n, classes)
    scores = metrics.score(labels, logits)
    predicted = logits.argmax(axis=1)
    every = list(range(classes))
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=every, zero_division=0
    )
    assert scores.n == n
    assert scores.f1 == pytest.approx(f1.mean(), abs=1e-12)
    assert scores.accuracy == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted), abs=1e-12)
    assert scores.balanced_accuracy == pytest.approx(recall.mean(), abs=1e-12)
    if len(set(labels.tolist())) == classes > 1:  # scikit-learn leaves absent classes out
        expected_recall = sklearn_metrics.balanced_accuracy_score(labels, predicted)
        assert scores.balanced_accuracy == pytest.approx(expected_recall, abs=1e-12)
    np.testing.assert_allclose(scores.class_precision, precision, atol=1e-12)
    np.testing.assert_allclose(scores.class_recall, recall, atol=1e-12)
    np.testing.assert_allclose(scores.class_f1, f1, atol=1e-12)
    np.testing.assert_array_equal(scores.support, support)
    expected = sklearn_metrics.confusion_matrix(labels, predicted, labels=every)
    np.testing.assert_array_equal(scores.confusion.matrix(), expected)
    assert scores.confusion.count.dtype == np.int64
    if classes > 1:
        loss = sklearn_metrics.log_loss(labels, metrics.Predictions(labels, logits).probabilities, labels=every)
        assert scores.loss == pytest.approx(loss, abs=1e-10)
    if classes > 5 and n > 1:
        top5 = sklearn_metrics.top_k_accuracy_score(labels, logits, k=5, labels=every)
        assert scores.top5 == pytest.approx(top5, abs=1e-12)


def test_absent_classes_count_zero() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = metrics.score(labels, np.eye(4)[labels])
    assert scores.accuracy == 1
    assert scores.f1 == scores.balanced_accuracy == 0.5


def test_model_that_names_one_class_of_hundred() -> None:
    labels = np.repeat(np.arange(100), 5)
    logits = np.tile(np.eye(100)[3], (500, 1))
    scores = metrics.score(labels, logits)
    assert scores.f1 == pytest.approx(2 * 5 / (500 + 5) / 100, abs=1e-15)
    assert round(scores.f1, 5) == 0.00020
    assert scores.class_precision[3] == pytest.approx(0.01)


def test_equal_logits_go_to_the_lowest_class() -> None:
    labels = np.array([0, 4, 5, 9])
    scores = metrics.score(labels, np.zeros((4, 10)))
    assert scores.accuracy == 0.25
    assert scores.top5 == 0.5
    assert scores.loss == pytest.approx(np.log(10), abs=1e-14)


def test_top5_with_fewer_than_five_classes_is_one() -> None:
    labels, logits = random_predictions(50, 4, skill=-3)
    assert metrics.score(labels, logits).top5 == 1


@pytest.mark.parametrize("skill", [0.0, 2.0, 8.0])
def test_calibration_error_agrees_with_torchmetrics(skill: float) -> None:
    labels, logits = random_predictions(2000, 20, skill=skill)
    ours = metrics.score(labels, logits).ece
    probabilities = torch.from_numpy(metrics.Predictions(labels, logits).probabilities)
    theirs = multiclass_calibration_error(probabilities, torch.from_numpy(labels), num_classes=20, n_bins=15)
    assert ours == pytest.approx(float(theirs), abs=1e-6)
    assert ours > 0.001


def test_f1_and_recall_agree_with_torchmetrics_which_leaves_out_classes_that_ours_count_0() -> None:
    labels, logits = random_predictions(2000, 20, skill=2.0)
    ours = metrics.score(labels, logits)
    both = torch.from_numpy(ours.predicted), torch.from_numpy(labels)
    assert ours.f1 == pytest.approx(float(multiclass_f1_score(*both, num_classes=20, average="macro")), abs=1e-6)
    of_classes = multiclass_recall(*both, num_classes=20, average="none").numpy()
    np.testing.assert_allclose(ours.class_recall, of_classes, atol=1e-6)

    logits = np.concatenate([logits, np.full((2000, 5), -100.0)], axis=1)  # classes without images and predictions
    theirs = float(multiclass_f1_score(*both, num_classes=25, average="macro"))
    assert metrics.score(labels, logits).f1 == pytest.approx(ours.f1 * 20 / 25, abs=1e-12)
    assert theirs == pytest.approx(ours.f1, abs=1e-6)


def test_calibration_error_by_hand() -> None:
    # Bins (0.2, 0.267] and (0.933, 1]: |1 - 0.25| * 1/4 and |(1 + 0 + 1) - (1 + 1 + 0.95)| / 4.
    confidence = np.array([0.25, 1.0, 1.0, 0.95])
    correct = np.array([True, True, False, True])
    assert metrics.calibration_error(confidence, correct) == pytest.approx((0.75 + 0.95) / 4, abs=1e-15)
    # A confidence on an edge belongs to the bin below it, so these two do not cancel: |0 - 0.2| and |1 - 0.21|.
    edge = metrics.calibration_error(np.array([0.2, 0.21]), np.array([False, True]))
    assert edge == pytest.approx((0.2 + 0.79) / 2, abs=1e-15)


def test_certain_predictions_have_no_rounding_trouble() -> None:
    labels = np.array([0, 1, 2])
    scores = metrics.score(labels, (np.eye(3)[labels] * 1e30).astype(np.float32))
    assert (scores.loss, scores.ece, scores.f1) == (0, 0, 1)


def test_float32_logits_are_scored_in_float64() -> None:
    labels, logits = random_predictions(300, 10)
    single = logits.astype(np.float32)
    assert metrics.score(labels, single).loss == metrics.score(labels, single.astype(np.float64)).loss


def test_order_of_pictures_does_not_matter() -> None:
    labels, logits = random_predictions(200, 10)
    order = np.random.default_rng(1).permutation(200)
    one, other = metrics.score(labels, logits), metrics.score(labels[order], logits[order])
    assert (one.f1, one.accuracy, one.top5) == (other.f1, other.accuracy, other.top5)


def test_non_finite_logits_are_a_diverged_run() -> None:
    labels, logits = random_predictions(10, 3)
    logits[4, 1] = np.nan
    logits[7, 0] = np.inf
    with pytest.raises(TrainingError, match=r"2 of 10 images.*number 4 .*--lr"):
        metrics.score(labels, logits)


@pytest.mark.parametrize(
    ("labels", "logits"),
    [(np.array([3]), np.zeros((1, 3))), (np.array([-1]), np.zeros((1, 3))), (np.zeros(0, int), np.zeros((0, 3)))],
)
def test_wrong_labels_or_nothing_at_all(labels: np.ndarray, logits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels"):
        metrics.score(labels, logits)


def naive_f1(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    return sklearn_metrics.f1_score(labels, predicted, labels=range(classes), average="macro", zero_division=0)


@pytest.mark.parametrize(
    ("classes", "each", "errors"), [(100, 5, 5), (100, 5, 15), (100, 5, 200), (100, 5, 400), (10, 20, 20), (3, 1, 1)]
)
def test_interval_holds_the_score(classes: int, each: int, errors: int) -> None:
    labels, predicted = fixed_test_set(classes, each, errors)
    f1 = naive_f1(labels, predicted, classes)
    accuracy = 1 - errors / len(labels)
    found = score_intervals(labels, predicted, classes)
    assert 0 <= found.f1_low < f1 < found.f1_high <= 1
    assert 0 <= found.accuracy_low < accuracy < found.accuracy_high <= 1


def test_interval_of_many_pictures_is_the_binomial_one() -> None:
    labels, predicted = fixed_test_set(10, 1000, 1000)
    found = score_intervals(labels, predicted, 10)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 10_000)
    assert found.accuracy_low == pytest.approx(0.9 - half, abs=0.0006)
    assert found.accuracy_high == pytest.approx(0.9 + half, abs=0.0006)
    assert found.f1_high - found.f1_low == pytest.approx(2 * half, rel=0.1)


def test_perfect_score_is_not_certainty() -> None:
    labels = np.repeat(np.arange(100), 5)
    found = score_intervals(labels, labels, 100)
    exact = 0.025 ** (1 / 500)  # 0.99265: a model this good makes no error on 500 images 2.5 % of the time
    assert found.f1_high == found.accuracy_high == 1
    assert 0.98 < found.f1_low < exact and 0.99 < found.accuracy_low < exact
    absent = score_intervals(labels, labels, 200)
    assert 0.49 < absent.f1_low < exact / 2 and absent.f1_high == pytest.approx(0.5)
    hopeless = score_intervals(labels, (labels + 1) % 100, 100)
    assert hopeless.f1_low == hopeless.accuracy_low == 0
    assert 1 - exact < hopeless.f1_high < 0.02 and 1 - exact < hopeless.accuracy_high < 0.01


def test_after_an_error_no_interval_reaches_one() -> None:
    for classes, each in ((10, 1), (10, 10), (100, 5)):
        labels, predicted = fixed_test_set(classes, each, 1)
        found = score_intervals(labels, predicted, classes)
        assert found.f1_high < 1 and found.accuracy_high < 1


def test_model_that_names_one_class_has_an_interval() -> None:
    labels = np.repeat(np.arange(100), 5)
    found = score_intervals(labels, np.full(500, 7), 100)
    assert found.f1_low < 10 / 505 / 100 < found.f1_high < 0.025
    assert found.accuracy_low < 0.01 < found.accuracy_high < 0.03


def test_predictions_file(tmp_path: Path) -> None:
    labels = np.array([0, 1, 1])
    logits = np.log(np.array([[0.75, 0.25], [0.9, 0.1], [0.25, 0.75]]))
    files = ['test/a, "b"/1.jpg', "test/=1+1/2.jpg", "test/bad\udcff.jpg"]
    path = tmp_path / "predictions.csv"
    path.write_text("old")
    metrics.write_predictions(path, files, ["a, b", "ü"], metrics.Predictions(labels, logits))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["file", "label", "prediction", "probability", "label_probability"]
    assert list(rows[0])[5:9] == ["class_1", "probability_1", "class_2", "probability_2"]
    assert list(rows[0])[13:] == ["class_5", "probability_5"]
    assert list(rows[0].values())[:5] == ['test/a, "b"/1.jpg', "a, b", "a, b", "0.75", "0.75"]
    assert list(rows[0].values())[5:] == ["a, b", "0.75", "ü", "0.25", *[""] * 6]
    assert list(rows[1].values())[:5] == ["test/=1+1/2.jpg", "ü", "a, b", "0.9", "0.1"]
    assert rows[2]["file"] == "test/bad\\udcff.jpg"
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.csv"]


def test_the_predictions_file_gives_the_top_5_accuracy(tmp_path: Path) -> None:
    """Ties included: of equal logits the first class comes first."""
    generator = np.random.default_rng(0)
    labels, logits = generator.integers(0, 9, 200), generator.integers(0, 4, (200, 9)).astype(float)
    path = tmp_path / "predictions.csv"
    metrics.write_predictions(path, [str(n) for n in range(200)], "abcdefghi", metrics.Predictions(labels, logits))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    hits = [row["label"] in [row[f"class_{rank}"] for rank in range(1, 6)] for row in rows]
    assert sum(hits) / len(hits) == metrics.score(labels, logits).top5
    for row in rows:
        assert (row["class_1"], row["probability_1"]) == (row["prediction"], row["probability"])
        assert (values := [float(row[f"probability_{rank}"]) for rank in range(1, 6)]) == sorted(values, reverse=True)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("old")
    predictions = metrics.Predictions(np.array([0, 1]), np.eye(2))
    with pytest.raises(ValueError, match="zip"):
        metrics.write_predictions(path, ["only-one.jpg"], ["a", "b"], predictions)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.csv"]


def test_import_is_light() -> None:
    code = (
        "import sys; import harness.training.metrics; sys.exit('torch' in sys.modules or 'torchmetrics' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
