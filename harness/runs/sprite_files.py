"""`attention/sprites/` of a run folder: small test images in sheets, and `sprites.json`, which says where each is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.runs.reading import UnreadableError, content_of, read_object, refuse_links
from harness.runs.rules import SPRITES_FILE, SPRITES_FOLDER, VERSION

REDRAW = "Run `harness explain RUN --redraw` to draw it again."


@dataclass(frozen=True)
class Sprites:
    """Small images in sheets of columns x rows cells of `side` pixels, filled row by row."""

    folder: Path
    side: int
    columns: int
    rows: int
    sheets: tuple[str, ...]
    images: tuple[int, ...]  # indices of the images in attention.npz
    pixels: str  # equal for runs with the same pixels

    @property
    def layout(self) -> str:
        """Differs between sheets that arrange the same pixels differently."""
        return f"{self.side} {self.columns} {self.rows} {self.sheets}"


def read_sprites(run_folder: Path, n: int) -> Sprites:
    """The sprites of a run whose `attention.npz` has `n` images. Raises UnreadableError."""
    folder = run_folder / "attention" / SPRITES_FOLDER
    path = folder / SPRITES_FILE
    refuse_links(path, run_folder)
    try:
        about = read_object(path, REDRAW)
        if about["version"] != VERSION:
            raise UnreadableError(path, "is of another version", REDRAW)
        side, columns, rows = (int(about[name]) for name in ("side", "columns", "rows"))
        sheets, images = tuple(about["sheets"]), tuple(about["pictures"])
        fits = (
            min(side, columns, rows) > 0
            and all(isinstance(name, str) and PurePosixPath(name).name == name and "\\" not in name for name in sheets)
            and all(type(number) is int and 0 <= number < n for number in images)
            and len(set(images)) == len(images) <= len(sheets) * columns * rows
        )
        sprites = Sprites(folder, side, columns, rows, sheets, images, str(about["pixels"]))
    except FileNotFoundError:
        error = UnreadableError(path, "is missing", REDRAW)
        error.reason = "no small images"
        raise error from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableError(path, f"is damaged ({error})", REDRAW) from error
    if not fits:
        raise UnreadableError(path, "is damaged (it does not fit attention.npz)", REDRAW)
    if missing := [name for name in sheets if not (folder / name).is_file()]:
        raise UnreadableError(folder / missing[0], "is missing", REDRAW)
    return sprites


def read_image(path: Path) -> bytes:
    """An image file of a run as it is. Raises UnreadableError."""
    try:
        return content_of(path)
    except OSError as error:
        raise UnreadableError(path, f"cannot be read ({error.strerror})", REDRAW) from error
