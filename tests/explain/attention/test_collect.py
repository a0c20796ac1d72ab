from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.data.eval_loader import EvalBatch
from harness.errors import HarnessError
from harness.explain.attention import collect as collect_module
from harness.explain.attention.batch import collect_batch
from harness.explain.attention.call import AttentionCall
from harness.explain.attention.collect import Collected, collect
from harness.explain.attention.head_statistics import STATISTICS, head_statistics, patch_distances
from harness.explain.attention.relevance import relevance
from harness.explain.attention.rollout import rollout, transition
from harness.explain.positions.change import content_length
from harness.training.signals import StopRequested
from tests.helpers.tiny_vits import CLASS_TOKEN, attention_by_torch, hooks_left, random_images, tiny_vit


class Alone:
    """The only process of a run, as far as collecting asks."""

    rank, world, is_main = 0, 1, True

    def largest(self, number: int) -> int:
        return number

    def any(self, flag: bool) -> bool:
        return flag

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def on_main(self, work: Any) -> Any:
        return work()


class SomeBatches:
    """Images in batches of any size and order, as EvalBatches gives them."""

    def __init__(self, images: Tensor, size: int, order: list[int] | None = None) -> None:
        self.images, self.size, self.order = images, size, order or list(range(len(images)))

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __iter__(self) -> Iterator[EvalBatch]:
        for number in range(len(self)):
            places = torch.tensor(self.order[number * self.size :][: self.size])
            yield EvalBatch(self.images[places], places % 5, places)

    def use_less_memory(self) -> bool:
        if self.size == 1:
            return False
        self.size = (self.size + 1) // 2
        return True


def look(images: Tensor, size: int = 3, **changes: Any) -> Collected:
    model = changes.pop("model", None) or tiny_vit()
    batches: Any = SomeBatches(images, size, changes.pop("order", None))
    alone: Any = Alone()
    layer, projections = changes.pop("head_layer", 2), changes.pop("projections", ())
    found = collect(model, batches, len(images), layer, projections, alone, changes.pop("stop", None))
    assert found is not None
    return found


def test_arrays_of_each_image_follow_the_definitions() -> None:
    model, images = tiny_vit(), random_images(7)
    found = look(images, projections=(model.conv_proj.weight, 2 * model.conv_proj.weight))
    attention = attention_by_torch(model, images)  # (n, L, H, N, N)
    with torch.no_grad():
        probabilities = model(images).double().softmax(1).numpy()
    seen = found.per_image
    np.testing.assert_allclose(seen["layers"], attention[:, :, :, 0, 1:].mean(2), atol=1e-3)
    np.testing.assert_allclose(seen["heads"], attention[:, 1, :, 0, 1:], atol=1e-3)
    np.testing.assert_allclose(seen["class_share"], attention[:, :, :, 0, 0].mean(2), atol=1e-5)
    maps = rollout([transition(attention[:, layer]) for layer in range(3)], CLASS_TOKEN)
    np.testing.assert_allclose(seen["rollout"], maps, atol=1e-4)
    assert seen["layers"].dtype == seen["heads"].dtype == seen["rollout"].dtype == np.float16

    np.testing.assert_array_equal(seen["predicted"], probabilities.argmax(1))
    np.testing.assert_allclose(seen["probability"], probabilities.max(1), atol=1e-6)
    np.testing.assert_array_equal(seen["labels"], np.arange(7) % 5)
    np.testing.assert_allclose(seen["label_probability"], probabilities[np.arange(7), np.arange(7) % 5], atol=1e-6)
    np.testing.assert_array_equal(found.top_classes[:, 0], seen["predicted"])
    np.testing.assert_allclose(found.top_probabilities.sum(1), 1, atol=1e-9)  # five of five classes
    of_predicted = relevance(model, images, torch.from_numpy(seen["predicted"]).long())
    np.testing.assert_allclose(seen["relevance"], of_predicted, rtol=1e-3, atol=1e-5)

    distances = patch_distances((4, 4), 8)
    # (n, L, H, K)
    by_image = torch.stack([head_statistics(attention[:, i], distances, CLASS_TOKEN) for i in range(3)], 1)
    np.testing.assert_allclose(found.statistics, by_image.double().mean(0), atol=1e-4)
    for name, statistic in (("entropy", "class_entropy"), ("distance", "distance")):
        mean = by_image[..., STATISTICS.index(statistic)].mean(2)
        np.testing.assert_allclose(seen[name], mean, rtol=1e-4)
    length = float(content_length(images, model.conv_proj.weight))
    assert found.content_lengths == pytest.approx((length, 2 * length), rel=1e-5)
    assert found.self_test["passed"] is True
    assert hooks_left(model) == 0


def test_batches_and_their_order_make_no_difference() -> None:
    images = random_images(7)
    whole = look(images, 7)
    for size, order in ((1, None), (3, [6, 2, 0, 5, 1, 4, 3])):
        parts = look(images, size, order=order)
        assert whole.per_image.keys() == parts.per_image.keys()
        for name, values in whole.per_image.items():
            np.testing.assert_allclose(parts.per_image[name], values, rtol=2e-3, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(parts.statistics, whole.statistics, rtol=1e-5)


def test_outliers_are_found_with_the_attention_they_take() -> None:
    model, images = tiny_vit(), random_images(3)
    with torch.no_grad():
        model.encoder.pos_embedding[0, 6] *= 30  # patch 5, large from the first block on
    found = look(images, model=model).per_image
    assert found["outlier_share"] == pytest.approx([1 / 16] * 3)
    weights = attention_by_torch(model, images)[:, :, :, 0, 1:].mean(2)
    taken = (weights[:, :, 5] / weights.sum(-1)).amax(1)
    np.testing.assert_allclose(found["outlier_attention"], taken, atol=1e-5)
    assert not look(images).per_image["outlier_share"].any()


def test_unknown_labels_have_no_probability() -> None:
    seen, _ = collect_batch(tiny_vit(), random_images(2), torch.tensor([-1, 3]), 1)
    assert seen["labels"].tolist() == [-1, 3]
    assert seen["label_probability"].isnan().tolist() == [True, False]


def test_frozen_and_rounded_weights_can_be_explained() -> None:
    model, images = tiny_vit(), random_images(3)
    expected = look(images, model=model).per_image["relevance"]
    for parameter in model.parameters():
        parameter.requires_grad = False
    np.testing.assert_allclose(look(images, model=model).per_image["relevance"], expected, atol=1e-6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    rounded = look(images, model=model)
    assert rounded.self_test["passed"]
    assert np.isfinite(rounded.per_image["relevance"]).all()


def test_too_little_memory_for_a_batch_itself_halves_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    images, batches = random_images(5), SomeBatches.__iter__
    expected = look(images, size=1).per_image["layers"]

    def hungry(some: SomeBatches) -> Iterator[EvalBatch]:
        for number, batch in enumerate(batches(some)):
            if number and some.size > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
            yield batch

    monkeypatch.setattr(SomeBatches, "__iter__", hungry)
    np.testing.assert_array_equal(look(images, size=3).per_image["layers"], expected)


def test_too_little_memory_halves_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    images, expected, sizes = random_images(7), look(random_images(7), 7), []

    def hungry(model: Any, images: Tensor, *others: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
        return collect_batch(model, images, *others)

    monkeypatch.setattr(collect_module, "collect_batch", hungry)
    found = look(images, 7)
    assert sizes == [7, 4, 2, 2, 2, 1]
    np.testing.assert_allclose(found.per_image["relevance"], expected.per_image["relevance"], rtol=1e-3, atol=1e-5)

    monkeypatch.setattr(collect_module, "collect_batch", lambda *_: hungry(None, images))
    with pytest.raises(HarnessError, match="Out of memory with attention of one image at a time"):
        look(images, 4)


def test_a_failed_self_test_ends_collecting_before_the_first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_module, "collect_batch", lambda *_: pytest.fail("an image was looked at"))

    monkeypatch.setattr(AttentionCall, "row", lambda call, layout: call.matrix()[:, :, 0] + 0.01)
    with pytest.raises(HarnessError, match=r"differs from the model's by 0\.01 \(1e-05 is allowed\)"):
        look(random_images(2))
    monkeypatch.undo()
    monkeypatch.setattr(AttentionCall, "row", lambda *_: 1 / 0)
    with pytest.raises(HarnessError, match="self-test of attention capture failed: ZeroDivisionError"):
        look(random_images(2))


def test_an_error_while_collecting_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttentionCall, "gradient", lambda *_: 1 / 0)
    model = tiny_vit()
    with pytest.raises(HarnessError, match="Attention could not be captured: ZeroDivisionError: division by zero"):
        look(random_images(4), model=model)
    assert hooks_left(model) == 0


def test_a_stop_request_ends_collecting() -> None:
    with pytest.raises(StopRequested) as stopped:
        look(random_images(4), stop=SimpleNamespace(requested=True, signum=15))
    assert stopped.value.signum == 15
