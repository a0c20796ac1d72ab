"""Where attention is written: in a run's own folder or in one that the user names; and which of its files are ours."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.owned_files import REMEDY, OwnedFiles, foreign_files, linked
from harness.runs.rules import ATTENTION_FILE, OBJECT_FILE, POSITIONS_FILE, SPRITES_FILE, SPRITES_FOLDER, printable

LIST = ".harness-explain.json"
IMAGE_FOLDERS = ("pictures", "sheets", SPRITES_FOLDER)
FIGURES = ("attention_heads", "attention_distance", "attention_object", "positions", "position_maps")

# All names that drawing gives to files. In `attention/` of a run they count as the program's without a list, because
# earlier versions wrote none.
NAMES = re.compile(
    rf"{re.escape(ATTENTION_FILE)}|{re.escape(POSITIONS_FILE)}|{re.escape(OBJECT_FILE)}"
    r"|pictures/\d{5,}-[\w-]+\.jpg"
    r"|sheets/(?:(?:confidence|error|class_means_legrad|class_means_rollout|class_means_relevance)_\d+|right_wrong)\.jpg"
    rf"|{SPRITES_FOLDER}/(?:\d{{3,}}\.jpg|{re.escape(SPRITES_FILE)})"
    rf"|figures/(?:{'|'.join(FIGURES)})\.png"
)


@dataclass(frozen=True)
class OutputFolder:
    """A folder for arrays and pages, and one for plots."""

    path: Path
    figures: Path
    run: Path | None = None  # if both folders are this run's own

    @classmethod
    def of_run(cls, run: Path) -> OutputFolder:
        """For the test images of a run."""
        return cls(run / "attention", run / "figures", run)

    @classmethod
    def of_run_images(cls, run: Path) -> OutputFolder:
        """For other images that a run's model classified."""
        folder = run / "attention" / "given"
        return cls(folder, folder / "figures", run)

    @classmethod
    def named(cls, path: Path) -> OutputFolder:
        """For a folder that the user named."""
        return cls(path, path / "figures")

    def open(self) -> OwnedFiles:
        """The files that may be replaced; nothing is written. Raises HarnessError if others have their names."""
        self._refuse_links()
        self._check_writable()
        owned = OwnedFiles(self.path, LIST)
        present = self._present()
        expected = {name for name in present if NAMES.fullmatch(name)}
        if not owned.has_list:
            if self.run and (self.run / "config.json").is_file():
                owned.adopt(expected)
            elif present:
                raise HarnessError(foreign_files(self.path, present))
        owned.refuse_foreign(expected)
        return owned

    def figure(self, name: str) -> Path:
        """The file of a figure. Raises HarnessError if it is a symbolic link or no regular file."""
        path = self.figures / f"{name}.png"
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise HarnessError(f"{printable(path)} is not a regular file. {REMEDY}")
        return path

    def figure_names(self, names: list[str]) -> list[str]:
        """Names of figures for the list; none for the figures of a run, which are beside the folder."""
        return [f"figures/{name}.png" for name in names] if self.figures.parent == self.path else []

    def _refuse_links(self) -> None:
        """Raises HarnessError if a folder that is written to is a symbolic link, or a file."""
        folders = [self.path / name for name in IMAGE_FOLDERS] + [self.figures]
        if self.run:
            folders += [self.run / "attention", self.path]
        for folder in folders:
            if folder.is_symlink():
                raise HarnessError(linked(folder))
        for folder in [self.path, *folders]:
            if _exists(folder) and not folder.is_dir():
                raise HarnessError(f"{printable(folder)} is not a folder. {REMEDY}")
        for name in FIGURES:
            self.figure(name)

    def _check_writable(self) -> None:
        """Raises HarnessError if the folder can neither be written to nor made; by trying, as /proc needs."""
        existing = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        try:
            with tempfile.TemporaryDirectory(dir=existing, prefix=".harness-"):
                pass
        except OSError as error:
            raise HarnessError(
                f"{printable(self.path)} cannot be written ({error.strerror}). Choose another folder."
            ) from error

    def _present(self) -> list[str]:
        """Names of what is in the folder and could be in the way: known files, and everything in known subfolders."""
        names = [name for name in (ATTENTION_FILE, POSITIONS_FILE, OBJECT_FILE) if _exists(self.path / name)]
        subfolders = [*IMAGE_FOLDERS, *(["figures"] if self.figures.parent == self.path else [])]
        for subfolder in subfolders:
            if (self.path / subfolder).is_dir():
                names += sorted(f"{subfolder}/{path.name}" for path in (self.path / subfolder).iterdir())
        return names


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()
