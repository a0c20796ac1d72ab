"""`harness report` without W&B: builds the page, and serves it if asked to."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click


@dataclass(frozen=True)
class PageOptions:
    runs: str
    output: Path | None
    gallery: str  # all, or a number
    tables: tuple[str, ...]
    serve: bool
    watch: bool
    port: int
    open_page: bool


def page_problems(options: PageOptions, *, on_wandb: bool) -> Iterator[str]:
    """Options that do not go together, or have values that they cannot have."""
    from reports.page.tables import FORMATS

    if options.gallery != "all" and not options.gallery.isdecimal():
        yield f"--gallery is {options.gallery!r}; it must be all, or a number of runs."
    if unknown := [name for name in options.tables if name not in FORMATS]:
        yield f"--tables has {', '.join(map(repr, unknown))}; formats are {', '.join(FORMATS)}."
    if options.watch and not options.serve:
        yield "--watch needs --serve: without a server the page cannot refresh itself."
    if options.port and not options.serve:
        yield "--port needs --serve."
    if on_wandb:
        names = {"-o": options.output, "--tables": options.tables, "--serve": options.serve}
        for name in (name for name, value in names.items() if value):
            yield f"{name} cannot be combined with --wandb: the W&B report is not written to a folder."


def make_page(options: PageOptions) -> None:
    """Build the page and print its path or address, and the paths of its tables. Raises HarnessError."""
    from reports.page import server
    from reports.page.build import build
    from reports.page.tables import table_files

    gallery = None if options.gallery == "all" else int(options.gallery)

    def make() -> Path:
        return build(
            options.runs,
            options.output,
            gallery=gallery,
            tables=options.tables,
            watched=options.serve and options.watch,
        )

    def announce(address: str, folder: Path) -> None:
        click.echo(address)
        for name in table_files(options.tables):
            click.echo(str(folder / name))
        if options.open_page:
            click.launch(address)

    # Before the page is built: what changes meanwhile is seen.
    look = None
    if options.watch:
        look = server.rebuilding(Path(options.runs), make, functools.partial(click.echo, err=True))
    index = make()
    if not options.serve:
        announce(str(index), index.parent)
        return
    server.serve(index.parent, lambda address: announce(address, index.parent), port=options.port, look=look)
