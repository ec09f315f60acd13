"""skshazam teachers: who they are, and whether they can be loaded here."""

import sys
from dataclasses import asdict

import click

from skshazam.cli._parameters import JSON
from skshazam.cli._reporting import EXIT_FINDINGS, echo_json, format_table

__all__ = ["teachers"]

HEADER = ("name", "dim", "pooling", "px", "licence", "gated", "where")
# The column that shows a field of TeacherSpec.
NOT_VERIFIED = (
    "\n* sources disagree or are silent on this; no teacher at all has been compared "
    "with\n  its published weights:"
)
# What --check finds of teachers that cannot be loaded.
OUT_OF_REACH = {"refused", "missing", "offline", "failed", "incomplete"}
COLUMN_OF = {"size": "px", "resize": "px", "architecture": "name", "weights": "name"}


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--check", is_flag=True, help="Ask the Hub about weights that are not here."
)
@JSON
def teachers(names: tuple[str, ...], check: bool, as_json: bool):
    """List teachers: dimension, input, licence, and whether they can be loaded.

    NAMES restricts the list. Nothing is downloaded, and without --check no connection
    is opened. With --check and NAMES, the exit code is 3 if one of them cannot be
    loaded.
    """
    from skshazam.teachers import check_availabilities, get_teacher, list_teachers

    specs = [get_teacher(name) for name in names or list_teachers()]
    found = check_availabilities(specs, network=check)
    if as_json:
        echo_json(
            [_facts(spec, where) for spec, where in zip(specs, found, strict=True)]
        )
    else:
        _echo_table(specs, found, with_advice=check or bool(names))
    if check and names and any(where.status in OUT_OF_REACH for where in found):
        sys.exit(EXIT_FINDINGS)


def _echo_table(specs, found, *, with_advice: bool) -> None:
    """Print the teachers, what is in doubt about them, and how to get them."""
    rows = [_row(spec, where) for spec, where in zip(specs, found, strict=True)]
    click.echo(format_table(HEADER, rows))
    notes = [
        f"  {spec.name}: {', '.join(spec.unverified)}"
        for spec in specs
        if spec.unverified
    ]
    if notes:
        click.echo(NOT_VERIFIED)
        click.echo("\n".join(notes))
    if with_advice:
        click.echo()
        for where in found:
            click.echo(_advice(where))


def _row(spec, where) -> tuple[str, ...]:
    """Return the cells of one teacher."""
    height, width = spec.input_size
    cells = {
        "name": spec.name,
        "dim": str(spec.dim or "-"),
        "pooling": spec.pooling,
        "px": str(height) if height == width else f"{height}x{width}",
        "licence": spec.licence or "-",
        "gated": "yes" if spec.gated else "no",
        "where": where.status,
    }
    for doubt in spec.unverified:
        column = COLUMN_OF.get(doubt, doubt)
        column = column if column in cells else "name"
        cells[column] = cells[column].rstrip("*") + "*"
    return tuple(cells.values())


def _advice(where) -> str:
    """Return where a teacher's weights are, and what to do if they are not."""
    steps = " ".join(f"{i}. {step}" for i, step in enumerate(where.steps, start=1))
    detail = f"{where.detail.rstrip('.')}."
    return f"{where.name}: {where.status}. {detail} {steps}".rstrip()


def _facts(spec, where) -> dict:
    """Return what JSON says of one teacher."""
    return {
        "name": spec.name,
        "dim": spec.dim,
        "pooling": spec.pooling,
        "size": list(spec.input_size),
        "licence": spec.licence,
        "gated": spec.gated,
        "source": spec.source,
        "unverified": list(spec.unverified),
        "availability": asdict(where),
    }
