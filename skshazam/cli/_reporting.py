"""What every command says in the same way: errors, tables, sizes, JSON."""

import json
import re
import sys
from collections.abc import Sequence

import click

from skshazam.exceptions import SkshazamError

__all__ = [
    "EXIT_FINDINGS",
    "EXIT_INTERRUPTED",
    "ReportingGroup",
    "echo_json",
    "format_bytes",
    "format_table",
    "in_the_shell",
]

EXIT_FINDINGS = 3
EXIT_INTERRUPTED = 130

# How a message says something to a Python user, and what a shell user types for it.
_IN_THE_SHELL = (
    (r"weights=\{'([^']+)': '([^']*)'\}", r"--weights \1=\2"),
    (r"FeatureStore\(path, dtype='(\w+)'\)", r"--dtype \1"),
    (
        r"\b(device|precision|preprocessing|dtype)='([\w:]+)'",
        lambda found: f"--{found[1]} {found[2]}",
    ),
    (r"\bon_error='(\w+)'", r"--on-error \1"),
    (r"\bimages=", "--images"),
    (r"\bcheck=(\d+)", r"--check \1"),
    (
        r"pass a TeacherSpec or call register_teacher\(spec\)",
        "pass --import FILE.py, a file that calls register_teacher(spec)",
    ),
)


class ReportingGroup(click.Group):
    """A group whose commands end in messages instead of tracebacks."""

    def invoke(self, ctx: click.Context):
        """Run a command; turn what a user can act on into a message.

        Parameters
        ----------
        ctx : click.Context
            Of the whole command line.

        Returns
        -------
        result : object
            What the command returned.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader has seen enough; click knows how to end
        except (SkshazamError, OSError) as error:
            raise click.ClickException(in_the_shell(str(error))) from error
        except KeyboardInterrupt as interrupt:
            click.echo(f"\nInterrupted. {interrupt}".rstrip(), err=True)
            sys.exit(EXIT_INTERRUPTED)


def in_the_shell(message: str) -> str:
    """Return a message with options of the command line instead of parameters.

    Parameters
    ----------
    message : str
        Written for Python users.

    Returns
    -------
    message : str
    """
    for pattern, replacement in _IN_THE_SHELL:
        message = re.sub(pattern, replacement, message)
    return message


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns side by side; those of numbers are flushed right.

    Parameters
    ----------
    header : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        As many cells in each.

    Returns
    -------
    text : str
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    is_number = [
        all(cell[:1].isdigit() or cell == "-" for cell in column[1:]) and bool(rows)
        for column in columns
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join(lines)


def format_bytes(n: int) -> str:
    """Return a size with a unit.

    Parameters
    ----------
    n : int
        Bytes.

    Returns
    -------
    text : str
    """
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def echo_json(content) -> None:
    """Print something as JSON, for other programs.

    Parameters
    ----------
    content : object
        Dicts, lists, texts and numbers.
    """
    click.echo(json.dumps(content, indent=2))
