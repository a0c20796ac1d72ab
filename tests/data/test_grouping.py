from __future__ import annotations

import pytest

from harness.data.grouping import groups_of, members, named_groups, sibling_pairs


def grouped(*names: str) -> list[list[str]]:
    return members(groups_of(sibling_pairs(f"train/cat/{name}" for name in names)))


@pytest.mark.parametrize(
    "name",
    [
        "img_1.png",
        "img_1_crop.jpg",
        "IMG_1_CROP2.JPG",
        "img_1-cropped (3).jpg",
        "img_1 copy.jpg",
        "img_1 - Copy.jpg",
        "img_1 - Copy (2).jpg",
        "Copy of img_1.jpg",
        "thumb_img_1.jpg",
        "img_1.thumb.jpg",
        "img_1-150x150.jpg",
        "img_1_rot90.jpg",
        "img_1_hflip_aug_3.jpg",
        "2020/img_1_small.jpg",
        "crops/img_1_crop.jpg",
    ],
)
def test_an_image_made_from_another_is_its_sibling(name: str) -> None:
    assert grouped("img_1.jpg", name, "img_2.jpg") == [sorted(["train/cat/img_1.jpg", f"train/cat/{name}"])]


@pytest.mark.parametrize(
    "names",
    [
        ("img_1.jpg", "img_2.jpg", "img_11.jpg"),
        ("images (1).jpg", "images (2).jpg", "images.jpg"),  # how browsers store what they download
        ("wheat_crop_1.jpg", "wheat_crop_2.jpg"),  # there is no wheat.jpg
        ("2020/a.jpg", "2021/a.jpg", "2021/b.jpg"),
        ("crop.jpg", "flip.jpg", "copy.jpg"),
        ("scrap.jpg", "scrapcrop.jpg"),
        ("2020/img_1.jpg", "2021/img_1_crop.jpg"),
        ("01-12.jpg", "01.jpg"),
    ],
)
def test_other_images_are_not_siblings(names: tuple[str, ...]) -> None:
    assert grouped(*names) == []


@pytest.mark.timeout(60)  # trying all divisions of the digits into groups takes years
def test_a_long_number_behind_a_word_takes_no_time() -> None:
    assert grouped("a.jpg", "a_crop_10153_10151234567890123_1234567890123456789_n.jpg") == []
    assert len(grouped("a.jpg", "a_crop_10153_10151234567890123_1234567890123456789.jpg")) == 1


def test_groups_of_files_without_folders() -> None:
    assert groups_of(sibling_pairs(["a.jpg", "a_crop.jpg", "b.jpg"])) == {"a.jpg": "a.jpg", "a_crop.jpg": "a.jpg"}


def test_images_made_from_one_image_are_one_group_even_without_that_image() -> None:
    versions = [f"a_jpg.rf.{number:032x}.jpg" for number in range(3)]
    assert grouped(*versions, f"b_jpg.rf.{0:032x}.jpg") == [[f"train/cat/{name}" for name in versions]]
    assert len(grouped("a.jpg", "a_crop.jpg", "a_crop_flip.jpg", "a_flip.jpg", "a_flip.png")[0]) == 5
    assert len(grouped("a_crop.jpg", "a_crop_flip.jpg")[0]) == 2


def test_groups_join_through_images_that_they_share() -> None:
    assert groups_of([("c", "d"), ("b", "c"), ("x", "y"), ("a", "d")]) == {
        **dict.fromkeys("abcd", "a"),
        **dict.fromkeys("xy", "x"),
    }


def test_named_groups_are_those_of_the_first_group_of_the_pattern() -> None:
    groups, unmatched = named_groups(["train/a/v1_2.jpg", "train/b/v1_3.jpg", "train/b/w.jpg"], r"/(v\d)?(?:_|w)(\d)?")
    assert groups == {"v1": ["train/a/v1_2.jpg", "train/b/v1_3.jpg"]}
    assert unmatched == ["train/b/w.jpg"]
