from __future__ import annotations

import hashlib

import numpy as np
import pytest

from harness.data.missing_splits import cut

BOTH = ("val", "test")


def cut_by_image(
    train: dict[str, list[str]], missing: tuple[str, ...], seed: int, fraction: float
) -> dict[str, dict[str, list[str]]]:
    """How classes without groups have been cut since the first version: a prefix of a shuffled list per split."""
    images: dict[str, dict[str, list[str]]] = {split: {} for split in ("train", *missing)}
    for name, files in train.items():
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        order = np.random.default_rng([seed, key]).permutation(len(files))
        rest = [sorted(files)[position] for position in order]
        share = min(max(1, int(len(rest) * fraction + 0.5)), max(0, len(rest) - 1) // len(missing))
        for split in missing:
            images[split][name], rest = rest[:share], rest[share:]
        images["train"][name] = rest
    return images


@pytest.mark.parametrize("missing", [BOTH, ("val",), ("test",)])
@pytest.mark.parametrize(("seed", "fraction"), [(0, 0.2), (7, 0.01), (123, 0.499)])
def test_without_groups_the_cut_is_what_it_was_to_the_last_file(
    missing: tuple[str, ...], seed: int, fraction: float
) -> None:
    train = {
        name: [f"train/{name}/{number}.jpg" for number in range(count)]
        for name, count in (("b", 3), ("a", 40), ("c", 7), ("d", 1000), ("e", 4))
    }
    assert cut(train, missing, {}, seed=seed, fraction=fraction) == (cut_by_image(train, missing, seed, fraction), [])


def test_a_class_without_groups_is_cut_as_before_beside_one_with_groups() -> None:
    train = {name: [f"{name}{number}" for number in range(30)] for name in "ab"}
    groups = {f"b{number}": f"b{number % 10}" for number in range(30)}
    images, scarce = cut(train, BOTH, groups, seed=0, fraction=0.2)
    for split, classes in cut_by_image(train, BOTH, 0, 0.2).items():
        assert images[split]["a"] == classes["a"]
        assert len(images[split]["b"]) == len(classes["b"])
        assert len({groups[file] for file in images[split]["b"]}) == len(classes["b"]) / 3
    assert scarce == []


@pytest.mark.parametrize("seed", range(20))
def test_no_group_is_in_two_splits_and_every_image_is_in_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    train = {name: [f"{name}{number}" for number in range(int(generator.integers(12, 60)))] for name in "abcd"}
    groups = {
        file: f"g{generator.integers(0, 25)}" for files in train.values() for file in files if generator.random() < 0.8
    }
    images, scarce = cut(train, BOTH, groups, seed=seed, fraction=0.2)
    dealt = [file for classes in images.values() for files in classes.values() for file in files]
    assert sorted(dealt) == sorted(file for files in train.values() for file in files)
    groups_by_split = [
        {groups.get(file, file) for files in classes.values() for file in files} for classes in images.values()
    ]
    assert sum(map(len, groups_by_split)) == len(set.union(*groups_by_split))
    assert scarce == []
    assert all(files for classes in images.values() for files in classes.values())


def test_a_share_is_met_as_nearly_as_the_groups_allow() -> None:
    train = {"a": [f"{video}{number}" for video in "uvwxyz" for number in range(10)]}
    images, _ = cut(train, BOTH, {file: file[0] for file in train["a"]}, seed=0, fraction=0.2)
    assert {split: len(classes["a"]) for split, classes in images.items()} == {"train": 40, "val": 10, "test": 10}
    images, _ = cut(train, BOTH, {file: file[0] for file in train["a"]}, seed=0, fraction=0.3)
    assert {split: len(classes["a"]) for split, classes in images.items()} == {"train": 20, "val": 20, "test": 20}


def test_large_groups_leave_one_to_every_split() -> None:
    train = {"a": [f"u{number}" for number in range(100)] + ["v", "w"]}
    groups = {file: file[0] for file in train["a"]}
    images, scarce = cut(train, BOTH, groups, seed=0, fraction=0.1)
    assert sorted(len(classes["a"]) for classes in images.values()) == [1, 1, 100]
    assert len(images["train"]["a"]) == 100
    assert scarce == []
    assert cut({"a": train["a"][:-1]}, BOTH, groups, seed=0, fraction=0.1)[1] == ["a"]


def test_classes_of_few_groups_choose_first() -> None:
    """The rare class has three patients, who also have images of the common one."""
    train = {"a common": [f"p{number}" for number in range(60)], "rare": ["q0", "q1", "q2"]}
    groups = {f"p{number}": f"patient {number % 20}" for number in range(60)}
    groups |= {f"q{number}": f"patient {number}" for number in range(3)}
    for seed in range(10):
        images, scarce = cut(train, BOTH, groups, seed=seed, fraction=0.2)
        assert scarce == []
        assert [len(images[split]["rare"]) for split in ("train", *BOTH)] == [1, 1, 1]
        assert [len(images[split]["a common"]) for split in ("train", *BOTH)] == [36, 12, 12]
