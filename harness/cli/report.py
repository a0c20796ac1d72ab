"""`harness report`: the page about runs, served if asked to; with --wandb a workspace and a report in W&B."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from harness.errors import ConfigError


@click.command()
@click.argument("runs", metavar="RUNS_DIR|ENTITY/PROJECT[/SWEEP]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder of the page. [default: report/ in RUNS_DIR]"
)
@click.option(
    "--gallery",
    default="24",
    show_default=True,
    help="Runs whose attention maps are included: all, or a number (best and worst runs first). "
    "A run with 500 test images takes about 4 MB.",
)
@click.option(
    "--tables", default="", metavar="FORMATS", help="Also write tables/ in the page's folder: csv,latex,markdown."
)
@click.option("--serve", is_flag=True, help="Serve the page on 127.0.0.1 until Ctrl+C.")
@click.option("--watch", is_flag=True, help="With --serve: build the page again when runs change; it refreshes itself.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="With --serve: the port. [default: a free one]")
@click.option("--open", "open_page", is_flag=True, help="Open the page or the W&B report in a browser.")
@click.option("--wandb", "on_wandb", is_flag=True, help="Make a W&B workspace and a W&B report instead of a page.")
def report(
    runs: str,
    output: Path | None,
    gallery: str,
    tables: str,
    serve: bool,
    watch: bool,
    port: int,
    open_page: bool,
    on_wandb: bool,
) -> None:
    """Build an HTML page about the runs in RUNS_DIR.

    The page is static: it needs no server and no network. The command also works while the sweep is running;
    repeat it to update the page. With --wandb it makes a workspace and a report in W&B, from runs that were sent
    there; this needs `pip install 'vit-harness[reports]'`.

    \b
    Examples:
      harness report runs/grid
      harness report runs -o public --open
      harness report runs/grid --tables csv,latex
      harness report runs/grid --serve --watch --open
      harness report runs/grid --wandb
      harness report ENTITY/PROJECT/SWEEP --wandb
    """
    from reports.page.tables import FORMATS

    formats = tuple(filter(None, tables.split(",")))
    problems = []
    if gallery != "all" and not gallery.isdecimal():
        problems.append(f"--gallery is {gallery!r}; it must be all, or a number of runs.")
    if unknown := [name for name in formats if name not in FORMATS]:
        problems.append(f"--tables has {', '.join(map(repr, unknown))}; formats are {', '.join(FORMATS)}.")
    if watch and not serve:
        problems.append("--watch needs --serve: without a server the page cannot refresh itself.")
    if port and not serve:
        problems.append("--port needs --serve.")
    problems += [
        f"{name} cannot be combined with --wandb: the W&B report is not written to a folder."
        for name, value in {"-o": output, "--tables": formats, "--serve": serve}.items()
        if value and on_wandb
    ]
    if problems:
        raise ConfigError(problems)
    if not on_wandb:
        most = None if gallery == "all" else int(gallery)
        make_page(runs, output, most, formats, serve=serve, watch=watch, port=port, open_page=open_page)
        return
    from harness.cli.wandb_report import publish

    addresses = publish(runs, click.echo)
    for address in addresses:
        click.echo(address)
    if open_page:
        click.launch(addresses[-1])


def make_page(
    runs: str,
    output: Path | None,
    gallery: int | None,
    tables: tuple[str, ...],
    *,
    serve: bool,
    watch: bool,
    port: int,
    open_page: bool,
) -> None:
    """Build the page and print its path or address, and the paths of its tables. Raises HarnessError."""
    from reports.page import server
    from reports.page.build import build
    from reports.page.tables import table_files

    make = functools.partial(build, runs, output, gallery=gallery, tables=tables, watched=serve and watch)

    def announce(address: str, folder: Path) -> None:
        click.echo(address)
        for name in table_files(tables):
            click.echo(str(folder / name))
        if open_page:
            click.launch(address)

    # Before the page is built: what changes meanwhile is seen.
    look = server.rebuilding(Path(runs), make, functools.partial(click.echo, err=True)) if watch else None
    index = make()
    if not serve:
        announce(str(index), index.parent)
        return
    server.serve(index.parent, lambda address: announce(address, index.parent), port=port, look=look)
