"""Explanation of another family of models, with three prefix tokens and either pooling, against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from harness.cli.main import main
from harness.explain.attention.batch import collect_batch
from harness.explain.attention.capture import capture_calls, capture_rows, capture_tokens
from harness.explain.attention.head_statistics import STATISTICS, head_statistics, patch_distances
from harness.explain.attention.relevance import relevance
from harness.explain.attention.rollout import rollout, transition
from harness.explain.attention.self_test import self_test
from harness.explain.drawing.position_plots import position_plots
from harness.explain.outliers import attention_on, outliers, patch_norms
from harness.explain.positions.change import Change, Embedding, compare
from harness.model import adapter, vit
from harness.model.adapter import NO_POSITIONS, TokenLayout
from harness.runs.attention_files import Archive, read_archive
from harness.runs.folder import RunFolder
from harness.train import fit
from harness.training import checkpoint
from reports.page.build import build
from tests.helpers.register_vits import PREFIX, RegisterVit, by_hand, make_known, register_vit
from tests.helpers.tiny_vits import hooks_left, matrices_of, random_images
from tests.test_train import settings

pytestmark = pytest.mark.figures

CLASS_OF_IMAGES = torch.tensor([0, 3, 4, 1])
SIDE, PATCH, TOKENS = 32, 8, PREFIX + 16


@pytest.fixture(autouse=True)
def known_family(monkeypatch: pytest.MonkeyPatch) -> None:
    make_known(monkeypatch)


@pytest.fixture(params=[True, False], ids=["mean of patches", "class token"])
def model(request: pytest.FixtureRequest) -> RegisterVit:
    return register_vit(pools_patches=request.param)


def reads(model: RegisterVit) -> Tensor:
    """The weight (N,) with which the head reads each token."""
    weights = torch.zeros(TOKENS)
    weights[PREFIX if model.pools_patches else 0 : TOKENS if model.pools_patches else 1] = 1
    return weights / weights.sum()


def layout_of(model: RegisterVit) -> TokenLayout:
    return adapter.parts(model).layout


def close(actual: Tensor, expected: Tensor, atol: float = 2e-6) -> None:
    torch.testing.assert_close(actual, expected.detach(), atol=atol, rtol=1e-5)


def test_the_brute_force_is_the_models_own_pass(model: RegisterVit) -> None:
    close(by_hand(model, random_images()).logits, model(random_images()), atol=1e-4)


def test_rows_matrices_and_tokens_are_captured_and_the_self_test_passes(model: RegisterVit) -> None:
    images, expected = random_images(), by_hand(model, random_images())
    with (
        torch.no_grad(),
        capture_rows(model) as rows,
        capture_calls(model, lambda call: call.matrix()) as matrices,
        capture_tokens(model) as tokens,
    ):
        logits = model(images)
    for index, attention in enumerate(expected.maps):
        close(matrices()[index], attention)
        close(rows()[:, index], torch.einsum("n,bhnm->bhm", reads(model), attention))
    for actual, stream in zip(tokens(), expected.streams, strict=True):
        close(actual, stream, atol=1e-4)
    assert torch.equal(logits, model(images))
    report = self_test(model, images)
    assert report["passed"] and report["logits_equal"]
    assert report["row_error"] < 1e-5 and report["matrix_error"] < 1e-5
    assert hooks_left(model) == 0


def test_rollout_is_the_whole_product(model: RegisterVit) -> None:
    product = torch.eye(TOKENS)
    for attention in by_hand(model, random_images()).maps:
        mean = attention.mean(1)
        product = 0.5 * (torch.eye(TOKENS) + mean / mean.sum(-1, keepdim=True)) @ product
    expected = torch.einsum("n,bnm->bm", reads(model), product)
    layout = layout_of(model)
    maps = rollout([transition(matrix) for matrix in matrices_of(model, random_images())], layout)
    assert maps.shape == (4, 16)
    close(maps, expected[:, PREFIX:])
    close(1 - maps.sum(1), expected[:, :PREFIX].sum(1))


def test_relevance_is_that_of_the_formula(model: RegisterVit) -> None:
    passed = by_hand(model, random_images())
    passed.logits.gather(1, CLASS_OF_IMAGES[:, None]).sum().backward()
    total = torch.eye(TOKENS).expand(4, -1, -1)
    for attention in passed.maps:
        assert attention.grad is not None
        total = total + (attention.grad * attention).clamp_min(0).mean(1) @ total
    expected = torch.einsum("n,bnm->bm", reads(model), total)[:, PREFIX:]
    close(relevance(model, random_images(), CLASS_OF_IMAGES), expected, atol=1e-5)


def test_outliers_are_patches_and_registers_are_not(model: RegisterVit) -> None:
    with torch.no_grad():
        model.registers.mul_(100)  # large features, but not a patch's
        assert model.places is not None
        model.places[0, 1 + 5] *= 30
    layout = layout_of(model)
    with (
        torch.no_grad(),
        capture_rows(model) as rows,
        capture_tokens(model) as tokens,
    ):
        model(random_images())
    marked = outliers(torch.stack([patch_norms(each, layout) for each in tokens()[:-1]], dim=1))
    assert marked.shape == (4, 3, 16)
    assert marked[:, 0].nonzero().tolist() == [[image, 5] for image in range(4)]
    for index, attention in enumerate(by_hand(model, random_images()).maps):
        row = torch.einsum("n,bhnm->bm", reads(model), attention)
        expected = (row[:, PREFIX:] * marked[:, index]).sum(1) / row[:, PREFIX:].sum(1)
        close(attention_on(marked, rows(), layout)[:, index], expected)


def test_head_statistics_by_brute_force(model: RegisterVit) -> None:
    attention = by_hand(model, random_images(2)).maps[1].detach()
    centres = [(PATCH * row, PATCH * column) for row in range(4) for column in range(4)]
    expected = torch.zeros(2, 3, len(STATISTICS))
    for image in range(2):
        for head in range(3):
            one = attention[image, head]
            entropies = -(one * one.log()).sum(1)
            distances = []
            for i, start in enumerate(centres):
                among = one[PREFIX + i, PREFIX:]
                lengths = torch.tensor([((start[0] - y) ** 2 + (start[1] - x) ** 2) ** 0.5 for y, x in centres])
                distances.append((among * lengths).sum() / among.sum())
            values = {
                "distance": torch.stack(distances).mean(),
                "entropy": entropies.mean(),
                "class_entropy": reads(model) @ entropies,
                "patches_on_class": one[PREFIX:, 0].mean(),
                "class_on_class": one[0, 0],
            }
            expected[image, head] = torch.stack([values[name] for name in STATISTICS])
    close(head_statistics(attention, patch_distances((4, 4), PATCH), layout_of(model)), expected, atol=1e-4)


def test_without_a_class_token_its_statistics_are_unknown() -> None:
    attention = torch.rand(2, 3, 18, 18).softmax(-1)
    registers_only = TokenLayout(prefix=2, has_class_token=False, pools_patches=True)
    statistics = head_statistics(attention, patch_distances((4, 4), PATCH), registers_only)
    values = dict(zip(STATISTICS, statistics.unbind(-1), strict=True))
    assert values["patches_on_class"].isnan().all() and values["class_on_class"].isnan().all()
    assert all(values[name].isfinite().all() for name in ("distance", "entropy", "class_entropy"))


def test_a_batch_is_collected_as_its_definitions_say(model: RegisterVit) -> None:
    fields, sums = collect_batch(model, random_images(), CLASS_OF_IMAGES, 2)
    passed = by_hand(model, random_images())
    rows = torch.stack([torch.einsum("n,bhnm->bhm", reads(model), each) for each in passed.maps], dim=1).detach()
    close(fields["layers"].float(), rows[..., PREFIX:].mean(2), atol=1e-3)
    close(fields["heads"].float(), rows[:, 1, :, PREFIX:], atol=1e-3)
    close(fields["class_share"], rows[..., :PREFIX].sum(-1).mean(2))
    close(fields["layers"].float().sum(-1) + fields["class_share"], torch.ones(4, 3), atol=2e-3)
    predicted = passed.logits.argmax(1)
    assert fields["predicted"].tolist() == predicted.tolist()
    close(fields["relevance"], relevance(model, random_images(), predicted))
    assert sums.mean().shape == (3, 3, len(STATISTICS))


def test_positions_are_those_of_the_class_token_and_the_patches(model: RegisterVit) -> None:
    assert model.places is not None
    before = Embedding.of(model)
    assert before is not None
    assert torch.equal(before.position, model.places)
    assert torch.equal(before.class_token, model.summary)
    assert torch.equal(before.projection, model.patchify.weight)
    with torch.no_grad():
        model.places += 0.1 * torch.randn(model.places.shape, generator=torch.Generator().manual_seed(0))
    after = Embedding.of(model)
    assert after is not None
    compared = compare(Change(before, after, (1.0, 1.0)))
    np.testing.assert_array_equal(compared.before, before.position[0].numpy())
    figures = position_plots(compared)
    assert figures.keys() == {"positions", "position_maps"}
    start, end = (each.position[0, 1:].double() for each in (before, after))
    start, end = start - start.mean(0), end - end.mean(0)
    assert compared.numbers["change"]["value"] == pytest.approx(float((end - start).norm() / start.norm()))


def test_of_several_positions_of_prefix_tokens_the_registers_are_left_out(model: RegisterVit) -> None:
    parts = adapter.parts(model)
    assert parts.positions is not None
    whole = torch.cat([parts.positions[:, :1], torch.full((1, 2, 36), 9.0), parts.positions[:, 1:]], dim=1)
    for positioned, positions in ((3, whole), (1, parts.positions), (0, parts.positions[:, 1:])):
        changed = adapter.VitParts(**(vars(parts) | {"positions": positions, "positioned_prefix": positioned}))
        patches, first = changed.patch_positions(), changed.class_position()
        assert patches is not None and first is not None
        assert torch.equal(patches, parts.positions[:, 1:])
        assert torch.equal(first, parts.positions[:, :1] if positioned else torch.zeros(1, 1, 36))


def test_a_model_without_positions_has_none_to_compare() -> None:
    model = register_vit(has_places=False)
    assert Embedding.of(model) is None
    fields, _ = collect_batch(model, random_images(), CLASS_OF_IMAGES, 1)
    assert fields["rollout"].shape == (4, 16)


@pytest.mark.parametrize("has_places", [True, False], ids=["positions", "no positions"])
def test_a_run_trains_and_explains_a_model_of_the_family(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_places: bool,
) -> None:
    """Under the name of a known architecture with as many blocks, because a family has no name of its own here."""

    def new_model(_: str, image_size: int, num_classes: int, head_init: str = "zero", seed: int = 0) -> RegisterVit:
        sizes = {"side": image_size, "layers": 6, "classes": num_classes}
        return register_vit(seed, **sizes, has_places=has_places)

    monkeypatch.setattr(vit, "new_model", new_model)
    monkeypatch.setattr(checkpoint, "new_model", new_model)
    changes = {"head_init": "probe", "drop_path": 0.1, "layer_decay": 0.7, "epochs": 1}
    config = settings(data_folder, tmp_path / "runs", explain="all", **changes)
    run = fit(config)
    assert run.summary["state"] == "finished"
    # A run does not fail for its maps, so a reason such as a lack of memory is here.
    assert RunFolder(run.folder).read("manifest.json").get("problems", {}) == {}
    assert {"probe/val_f1", "test/f1", "attention/n"} <= run.summary.keys()
    arrays = read_archive(run.folder / "attention" / "attention.npz", Archive)
    assert (arrays.settings["patch_size"], arrays.settings["grid"]) == (8, [4, 4])
    assert (arrays.settings["prefix_tokens"], arrays.settings["pools_patches"]) == (3, True)
    assert (arrays.layers.shape, arrays.heads.shape) == ((9, 6, 16), (9, 3, 16))
    np.testing.assert_allclose(arrays.layers.astype(float).sum(2) + arrays.class_share, 1, atol=5e-3)
    assert has_places == (run.folder / "attention" / "positions.npz").is_file() == ("positions/verdict" in run.summary)
    assert has_places == (run.folder / "figures" / "position_maps.png").is_file()
    said = capsys.readouterr().out
    assert has_places != (NO_POSITIONS in said) and "evenly spaced" not in said

    monkeypatch.setattr("harness.explain.output.draw", lambda *_: {})
    again = CliRunner().invoke(main, ["explain", str(run.folder), "--output", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    assert has_places != (NO_POSITIONS in again.output)
    repeated = read_archive(tmp_path / "again" / "attention.npz", Archive)
    np.testing.assert_allclose(repeated.rollout, arrays.rollout, rtol=1e-3, atol=1e-4)
    assert build(tmp_path / "runs").is_file()
