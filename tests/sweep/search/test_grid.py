"""The points of a sweep: the order of a grid, random points, and checks of their settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.sweep.search.grid import (
    check_points,
    grid_points,
    points_of,
    probe_points,
    random_points,
)
from harness.sweep.search.settings import Search
from harness.sweep.spec.command import read_command
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.metric import Metric
from harness.sweep.spec.sweep_file import Sweep

LR = Parameter("lr", "log_uniform_values", low=1e-5, high=1e-1)
SIZE = Parameter("batch_size", "categorical", values=(16, 64))
AUGMENT = Parameter("augment", "categorical", values=("none", "standard"))


def sweep_of(*parameters: Parameter, method: Any = "grid", words: tuple[str, ...] = ("--data=images",)) -> Sweep:
    command = read_command(["python", "${program}", *words, "${args}"])
    metric = Metric("best/val_f1", "maximize")
    return Sweep(Path("x.yaml"), "", "x", method, metric, parameters, command)


def test_grid_in_the_order_of_wandb() -> None:
    rates = Parameter("lr", "categorical", values=(0.1, 0.001))
    constant = Parameter("epochs", "constant", values=(3,))
    points = grid_points(sweep_of(AUGMENT, SIZE, constant, rates))
    # The order in which the server hands out trials: the last name changes fastest, values in the order of the file.
    assert [tuple(point.values()) for point in points] == [
        ("none", 16, 3, 0.1),
        ("none", 16, 3, 0.001),
        ("none", 64, 3, 0.1),
        ("none", 64, 3, 0.001),
        ("standard", 16, 3, 0.1),
        ("standard", 16, 3, 0.001),
        ("standard", 64, 3, 0.1),
        ("standard", 64, 3, 0.001),
    ]
    assert list(points[0]) == ["augment", "batch_size", "epochs", "lr"]


def test_whole_and_quantised_ranges_make_a_grid() -> None:
    seeds = Parameter("seed", "int_uniform", low=1, high=3)
    mixup = Parameter("mixup", "q_uniform", low=0, high=1, q=0.5)
    points = grid_points(sweep_of(mixup, seeds))
    assert [tuple(point.values()) for point in points] == [(0, 1), (0, 2), (0, 3), (0.5, 1), (0.5, 2), (0.5, 3)]


def test_a_random_point_depends_on_seed_number_and_name_alone() -> None:
    points = random_points(sweep_of(AUGMENT, LR, SIZE, method="random"), 10, seed=3)
    assert random_points(sweep_of(AUGMENT, LR, SIZE, method="random"), 4, seed=3) == points[:4]
    alone = random_points(sweep_of(LR, method="random"), 10, seed=3)
    assert [point["lr"] for point in alone] == [point["lr"] for point in points]
    assert [point["lr"] for point in random_points(sweep_of(LR), 10, seed=4)] != [point["lr"] for point in points]
    assert len({point["lr"] for point in points}) == 10


def test_random_points_of_seed_0_do_not_change() -> None:
    """A sweep that began with an earlier version keeps its trials when it resumes."""
    points = random_points(sweep_of(AUGMENT, LR, SIZE, method="random"), 3, seed=0)
    assert [point["augment"] for point in points] == ["none", "standard", "none"]
    assert [point["batch_size"] for point in points] == [64, 16, 16]
    assert [point["lr"] for point in points] == pytest.approx(
        [0.004166750889091026, 0.006308085402244377, 0.00422851651789905]
    )


def test_random_points_fill_their_distributions() -> None:
    points = random_points(sweep_of(AUGMENT, LR, SIZE, method="random"), 2000, seed=0)
    exponents = np.log10([point["lr"] for point in points])
    # Uniform from -5 to -1: Kolmogorov's distance is below 0.043 in 99.9 % of samples of this size.
    distance = np.abs(np.sort(exponents) - np.linspace(-5, -1, 2000)).max() / 4
    assert distance < 0.043
    large = np.array([point["batch_size"] == 64 for point in points])
    standard = np.array([point["augment"] == "standard" for point in points])
    assert abs(large.mean() - 0.5) < 0.037  # 3.3 standard deviations
    assert abs(np.corrcoef(large, standard)[0, 1]) < 0.074
    assert abs(np.corrcoef(large, exponents)[0, 1]) < 0.074
    assert abs(np.corrcoef(exponents[1:], exponents[:-1])[0, 1]) < 0.074


def test_probe_points_reach_the_ends() -> None:
    probes = probe_points(sweep_of(AUGMENT, LR, SIZE, method="bayes"))
    rates = [point["lr"] for point in probes]
    assert (min(rates), max(rates)) == pytest.approx((1e-5, 1e-1), rel=1e-4)
    assert {point["augment"] for point in probes} == {"none", "standard"}


def test_valid_points_have_no_problems() -> None:
    sweep = sweep_of(AUGMENT, SIZE)
    assert check_points(sweep, grid_points(sweep)).problems == []


def problems(*parameters: Parameter, method: str = "grid", words: tuple[str, ...] = ("--data=images",)) -> list[str]:
    sweep = sweep_of(*parameters, method=method, words=words)
    points = {"grid": grid_points, "bayes": probe_points}.get(method, lambda sweep: random_points(sweep, 12, 0))(sweep)
    return check_points(sweep, points).problems


def infeasible(*parameters: Parameter, method: str = "grid") -> list[str]:
    """Problems of single trials. They are not problems of the sweep."""
    sweep = sweep_of(*parameters, method=method)
    points = grid_points(sweep) if method == "grid" else probe_points(sweep)
    checked = check_points(sweep, points)
    assert checked.problems == []
    return checked.infeasible


def test_a_count_caps_a_grid() -> None:
    sweep = dataclasses.replace(sweep_of(AUGMENT, SIZE), run_cap=3)
    points = grid_points(sweep)
    assert points_of(sweep, Search()) == points[:3]
    assert points_of(sweep, Search(count=2)) == points[:2]
    assert points_of(sweep, Search(count=9)) == points


def test_equal_problems_are_one_sentence() -> None:
    wrong = Parameter("mixup", "categorical", values=(-1.0, 0.5))
    rates = Parameter("lr", "categorical", values=(0.1, 0.2, 0.3))
    [problem] = infeasible(rates, wrong)
    assert problem == "Trials 0, 2 and 4: --mixup is -1.0; it must be a finite number at least 0, at most 100."
    [problem] = problems(rates, words=("--data=x", "--augment=nonee"))
    assert problem.startswith("Every trial: --augment is 'nonee'; it must be one of none, standard")
    many = Parameter("seed", "int_uniform", low=-3, high=10)
    assert [problem.partition(":")[0] for problem in infeasible(many)] == ["Trial 0", "Trial 1", "Trial 2"]
    low = Parameter("mixup", "uniform", low=-5.0, high=-1.0)
    [problem] = problems(low, method="random")
    assert problem.startswith("Every trial: --mixup is -")


def test_many_problems_are_counted() -> None:
    for sentences in (
        problems(Parameter("seed", "int_uniform", low=-30, high=-1)),
        infeasible(Parameter("seed", "int_uniform", low=-30, high=0)),
    ):
        assert len(sentences) == 11
        assert sentences[-1].startswith("There are ") and sentences[-1].endswith(" more problems like these.")


def test_settings_that_cannot_be_combined() -> None:
    models = Parameter("model", "categorical", values=("vit_demo", "vit_b_16"))
    weights = Parameter("weights", "categorical", values=("demo", "imagenet"))
    assert [problem.partition(" does not")[0] for problem in infeasible(models, weights)] == [
        "Trial 1: --weights imagenet",
        "Trial 2: --weights demo",
    ]


def test_a_search_that_may_choose_an_invalid_value() -> None:
    [problem] = infeasible(Parameter("mixup", "normal"), method="bayes")
    assert problem.startswith("A point that the search may choose: --mixup is -")


def test_trials_that_are_the_same_run() -> None:
    [problem] = problems(Parameter("lr", "categorical", values=(0.1, 0.2, 0.1)))
    assert problem == "Trials 0 and 2 are the same run: a value is listed twice."
    logs = Parameter("log_every", "categorical", values=(5, 10))
    problem = "are the same run: they differ only in log_every, which does not change the result."
    assert problems(AUGMENT, logs) == [f"Trials 0 and 1 {problem}", f"Trials 2 and 3 {problem}"]


def test_random_trials_may_be_the_same_run() -> None:
    sweep = sweep_of(AUGMENT, SIZE, method="random")
    points = random_points(sweep, 12, seed=0)
    checked = check_points(sweep, points)
    assert checked.problems == []
    groups = checked.equal
    assert all(len({str(points[number]) for number in group}) == 1 for group in groups)
    assert sum(len(group) - 1 for group in groups) == 12 - len({str(point) for point in points})


def test_the_image_folder_is_required() -> None:
    [problem] = problems(AUGMENT, words=())
    assert problem.startswith("The image folder is missing.")
    sweep = dataclasses.replace(sweep_of(AUGMENT, words=()), overrides=("--data", "my_images"))
    assert check_points(sweep, grid_points(sweep)).problems == []
