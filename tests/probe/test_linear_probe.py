"""The linear probe against scikit-learn, on features of known structure."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from harness.probe import linear_probe
from harness.probe.linear_probe import fit_probe


def clusters(count: int, *, classes: int = 4, width: int = 12, noise: float = 1.5, seed: int = 0) -> tuple:
    """Features (N, D) float32 around one centre per class, of unequal scale, and labels (N,)."""
    centres = np.random.default_rng(7).normal(size=(classes, width))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    features = centres[labels] + noise * random.normal(size=(count, width))
    return (features * np.geomspace(0.01, 100, width) + 3).astype(np.float32), labels


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("inverse_strength", [0.01, 1.0, 100.0])
def test_equals_scikit_learn(inverse_strength: float) -> None:
    (train, labels), (val, val_labels) = clusters(300), clusters(200, seed=1)
    probe, _ = fit_probe(train, labels, val, val_labels, 4, inverse_strengths=(inverse_strength,))
    scaler = StandardScaler().fit(train.astype(np.float64))
    reference = LogisticRegression(C=inverse_strength, tol=1e-10, max_iter=10_000)
    reference.fit(scaler.transform(train.astype(np.float64)), labels)
    expected = reference.predict_proba(scaler.transform(val.astype(np.float64)))
    np.testing.assert_allclose(softmax(probe.logits(val)), expected, atol=1e-4)


def test_strength_is_chosen_on_validation_by_f1() -> None:
    (train, labels), (val, val_labels) = clusters(40, noise=3), clusters(400, noise=3, seed=1)
    probe, scores = fit_probe(train, labels, val, val_labels, 4)
    singles = {
        strength: fit_probe(train, labels, val, val_labels, 4, inverse_strengths=(strength,))[1]
        for strength in linear_probe.INVERSE_STRENGTHS
    }
    best = max(one.f1 for one in singles.values())
    assert scores.f1 == pytest.approx(best, abs=1e-12)
    assert singles[probe.inverse_strength].f1 == pytest.approx(best, abs=1e-12)
    assert min(one.f1 for one in singles.values()) < best - 0.01


def test_chunks_give_the_same_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    (train, labels), (val, val_labels) = clusters(300), clusters(50, seed=1)
    whole = fit_probe(train, labels, val, val_labels, 4, inverse_strengths=(1.0,))[0].logits(val)
    monkeypatch.setattr(linear_probe, "CHUNK_ROWS", 64)
    parts = fit_probe(train, labels, val, val_labels, 4, inverse_strengths=(1.0,))[0].logits(val)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_constant_feature_and_a_class_without_training_images() -> None:
    (train, labels), (val, val_labels) = clusters(300), clusters(50, seed=1)
    train[:, 3] = val[:, 3] = 5
    probe, scores = fit_probe(train, labels, val, val_labels, 5, inverse_strengths=(1.0,))
    assert probe.weight.shape == (5, 12) and np.isfinite(probe.weight.numpy()).all()
    assert np.all(probe.weight[:, 3].numpy() == 0)
    assert scores.f1 <= 0.8  # the class that was never seen counts 0
