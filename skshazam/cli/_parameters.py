"""What commands take in the same way: teachers, weights, shards, shared options."""

import importlib.util
import sys
from pathlib import Path

import click

__all__ = [
    "DTYPE",
    "EXISTING",
    "IMPORT",
    "JSON",
    "PRECISIONS",
    "PREPROCESSINGS",
    "SHARD",
    "TEACHER_NAMES",
    "THREADS",
    "TILES",
    "WEIGHTS",
    "joined_weights",
]

PRECISIONS = click.Choice(["auto", "float32", "float16", "bfloat16"])
PREPROCESSINGS = click.Choice(["fast", "pil"])
EXISTING = click.Path(exists=True, path_type=Path)


class ShardType(click.ParamType):
    """Part i of n, written i/n, counted from 1."""

    name = "i/n"

    def convert(self, value, param, ctx) -> tuple[int, int]:
        """Return (i, n).

        Parameters
        ----------
        value : str or tuple of (int, int)
            What was typed, or what was converted already.
        param : click.Parameter or None
            The option.
        ctx : click.Context or None
            The command.

        Returns
        -------
        shard : tuple of (int, int)
        """
        if isinstance(value, tuple):
            return value
        part, separator, total = value.partition("/")
        if not (separator and part.isdecimal() and total.isdecimal()):
            self.fail(f"{value!r}: expected i/n, for example 3/100.", param, ctx)
        if not 1 <= int(part) <= int(total):
            self.fail(
                f"{value!r}: i counts from 1 to n. A Slurm array goes with "
                f"--array=1-{total}.",
                param,
                ctx,
            )
        return int(part), int(total)


class NamesType(click.ParamType):
    """Names of teachers with commas between them."""

    name = "names"

    def convert(self, value, param, ctx) -> tuple[str, ...]:
        """Return the names.

        Parameters
        ----------
        value : str or tuple of str
            What was typed, or what was converted already.
        param : click.Parameter or None
            The option.
        ctx : click.Context or None
            The command.

        Returns
        -------
        names : tuple of str
        """
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(","))
        if not all(names):
            self.fail(f"{value!r}: expected names like uni,virchow.", param, ctx)
        return names


class WeightsType(click.ParamType):
    """The local checkpoint of a teacher, written name=path."""

    name = "name=path"

    def convert(self, value, param, ctx) -> tuple[str, str]:
        """Return (name, path).

        Parameters
        ----------
        value : str or tuple of (str, str)
            What was typed, or what was converted already.
        param : click.Parameter or None
            The option.
        ctx : click.Context or None
            The command.

        Returns
        -------
        weights : tuple of (str, str)
        """
        if isinstance(value, tuple):
            return value
        name, separator, path = value.partition("=")
        if not (separator and name and path):
            self.fail(f"{value!r}: expected uni=/models/uni.bin.", param, ctx)
        if not Path(path).expanduser().exists():
            self.fail(f"{value!r}: there is nothing at {path!r}.", param, ctx)
        return name, path


def _import_all(ctx, param, names: tuple[str, ...]) -> None:
    """Run files in which users register teachers of their own."""
    for name in names:
        if not name.endswith(".py"):
            raise click.BadParameter(f"{name!r}: expected a .py file.", ctx, param)
        try:
            _import_file(Path(name))
        except Exception as error:
            raise click.BadParameter(
                f"{name!r} cannot be imported: {type(error).__name__}: {error}",
                ctx,
                param,
            ) from error


def _import_file(path: Path) -> None:
    """Import a file under its own name, as a program beside it would."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)


IMPORT = click.option(
    "--import",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_import_all,
    metavar="FILE.py",
    help="Run a Python file that calls register_teacher(spec); then --teachers may "
    "name what it registered. May be repeated.",
)
SHARD = ShardType()
TEACHER_NAMES = NamesType()

TILES = click.argument("tiles", metavar="DIR_OR_CSV", type=EXISTING)
WEIGHTS = click.option(
    "--weights",
    type=WeightsType(),
    multiple=True,
    help="Local checkpoint file or folder of a teacher; may be repeated.",
)
THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Threads that read and decode.",
)
DTYPE = click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="How features are stored; each dtype has its own folders.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def joined_weights(weights: tuple[tuple[str, str], ...]) -> dict[str, str] | None:
    """Return local checkpoints by teacher, None for none.

    Parameters
    ----------
    weights : tuple of (str, str)
        What ``--weights`` gave.

    Returns
    -------
    weights : dict of str to str, or None

    Raises
    ------
    click.UsageError
        A teacher was given two.
    """
    if len(dict(weights)) < len(weights):
        names = [name for name, _ in weights]
        raise click.UsageError(f"--weights names a teacher twice: {', '.join(names)}.")
    return dict(weights) or None
