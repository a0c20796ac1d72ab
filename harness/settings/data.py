"""Settings of the images: where they are, how they are resized and split."""

import dataclasses
import re

from harness.settings.option import REQUIRED, option

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Settings under the heading Data."""

    data: str = option(
        REQUIRED,
        "Folder with train/, valid/ and test/, each holding one folder per class, or a CSV file: path, label, split.",
    )
    image_size: int | None = option(
        None, "Side of the square model input, in pixels. [default: from the weights]", low=8, high=2048
    )
    crop_pct: float | None = option(
        None,
        "Fraction of the resized short side that the centre crop keeps. [default: from the weights]",
        low=0.1,
        high=1,
    )
    mean: str | None = option(
        None,
        "Mean of the pixels, 0 to 1, that the weights expect: one number, or three with commas. [default: from the "
        "weights]",
        earlier=None,
    )
    std: str | None = option(
        None, "Deviation of the pixels that the weights expect, as --mean. [default: from the weights]", earlier=None
    )
    interpolation: str | None = option(
        None, "Interpolation of resized images. [default: from the weights]", choices=INTERPOLATIONS, earlier=None
    )
    bad_images: str = option(
        "fail",
        "Images that cannot be decoded: fail stops the run; skip leaves them out and lists them.",
        choices=("fail", "skip"),
    )
    split_fraction: float = option(
        0.2, "Fraction of each train class to set aside for each missing valid or test split.", above=0, below=0.5
    )
    split_seed: int = option(
        0,
        "Seed for splitting train; independent of --seed, so repeats with other seeds share their splits.",
        low=0,
        high=2**31 - 1,
    )
    split_group: str | None = option(
        None,
        "Regular expression, searched in each image's path; its group (...) names, for example, the patient or video. "
        "The images of one group stay in one split.",
        earlier=None,
    )
    cache_dir: str | None = option(
        None, "Folder for decoded images. [default: $HARNESS_CACHE_DIR, else ~/.cache/vit-harness]", identity=False
    )
    shuffle: str = option(
        "full",
        "Order of training images: full shuffles all; blocks shuffles blocks of 256 images, then within 8 blocks at a "
        "time, and reads them in sequence: for images that do not fit into memory.",
        choices=("full", "blocks"),
        earlier="full",
    )
    workers: int | None = option(
        None,
        "Augmentation threads per process. [default: from the number of CPU cores]",
        low=1,
        high=256,
        identity=False,
    )


def data_problems(settings: DataSettings) -> list[str]:
    problems = []
    for name, value in (("mean", settings.mean), ("std", settings.std)):
        if value is not None and (problem := _channels_problem(name, value)):
            problems.append(f"--{name} {value!r} {problem}; give one number, such as 0.5, or three: 0.485,0.456,0.406.")
    if settings.split_group is not None and (problem := _pattern_problem(settings.split_group)):
        problems.append(f"--split-group {settings.split_group!r} {problem}")
    return problems


def channels(text: str) -> tuple[float, float, float]:
    """The values of --mean or --std for red, green and blue; raises ValueError."""
    numbers = [float(part) for part in text.split(",")]
    red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    return red, green, blue


def _channels_problem(name: str, text: str) -> str:
    try:
        values = channels(text)
    except ValueError:
        return "is neither one number nor three"
    if not all(abs(value) < 256 for value in values):  # also if one is not a number
        return "has a number that is not between -256 and 256"
    return "has a number that is not above 0" if name == "std" and min(values) <= 0 else ""


def _pattern_problem(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        return f"is not a regular expression: {error}."
    return "" if groups else r"has no group (...) that names the group of an image, as in 'patient(\d+)'."
