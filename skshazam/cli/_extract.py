"""skshazam extract: fill a store with the features of a folder or list of images."""

import csv
import sys
from pathlib import Path

import click

from skshazam.cli._parameters import (
    DTYPE,
    IMPORT,
    JSON,
    PRECISIONS,
    PREPROCESSINGS,
    SHARD,
    TEACHER_NAMES,
    THREADS,
    TILES,
    WEIGHTS,
    joined_weights,
)
from skshazam.cli._reporting import EXIT_FINDINGS, echo_json, in_the_shell
from skshazam.cli._tiles import list_tiles

__all__ = ["extract"]

N_SHOWN = 5


@click.command()
@TILES
@click.option(
    "--teachers",
    type=TEACHER_NAMES,
    required=True,
    help="Names of `skshazam teachers`, or name@revision, with commas between.",
)
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the features; made if there is none.",
)
@click.option(
    "--shard",
    type=SHARD,
    default="1/1",
    help="Only every n-th image, from the i-th on; for Slurm arrays.",
)
@WEIGHTS
@IMPORT
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1.")
@click.option("--precision", type=PRECISIONS, default="auto", show_default=True)
@click.option("--preprocessing", type=PREPROCESSINGS, default="fast", show_default=True)
@click.option("--channels-last", is_flag=True, help="Keep channels innermost.")
@click.option("--compile", is_flag=True, help="Let torch.compile translate teachers.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@THREADS
@DTYPE
@click.option(
    "--on-error",
    type=click.Choice(["nan", "raise"]),
    default="nan",
    show_default=True,
    help="Go on without unreadable images, or stop at the first.",
)
@click.option(
    "--errors-out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file that lists the unreadable images.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be computed.")
@click.option(
    "--progress/--no-progress", default=None, help="Default: unless with --json."
)
@JSON
def extract(
    tiles: Path,
    teachers: tuple[str, ...],
    store: Path,
    shard: tuple[int, int],
    weights: tuple[tuple[str, str], ...],
    dtype: str,
    errors_out: Path | None,
    dry_run: bool,
    progress: bool | None,
    as_json: bool,
    threads: int,
    **options,
):
    """Compute the features of images, once, into a store.

    DIR_OR_CSV is a folder, of which all images in and below it are taken, or a CSV file
    with a column "path". What is stored already is not computed again, so an
    interrupted command can simply be repeated, and any number may run at once.
    """
    from skshazam.features import FeatureStore

    part, n_parts = shard
    paths = list_tiles(tiles).paths[part - 1 :: n_parts]
    target = FeatureStore(store, dtype=dtype)
    options |= {
        "weights": joined_weights(weights),
        "n_threads": threads,
        "progress": not as_json if progress is None else progress,
    }
    if dry_run:
        plan = _plan(paths, teachers, target, options)
        echo_json(plan) if as_json else click.echo(_format_plan(plan))
        if plan["unreadable"]:
            sys.exit(EXIT_FINDINGS)
        return
    if errors_out is not None:  # before hours of work, not after
        _write_errors(errors_out, [])
    summary = _extracted(paths, teachers, target, options)
    if errors_out is not None:
        _write_errors(errors_out, summary["unreadable"])
    echo_json(summary) if as_json else click.echo(_format_summary(summary, errors_out))
    if summary["unreadable"]:
        sys.exit(EXIT_FINDINGS)


def _plan(paths, teachers, store, options) -> dict:
    """Return how many images there are, and how many of them are stored."""
    import numpy as np

    from skshazam.features._image_digests import image_digests
    from skshazam.features._recipe import FeatureRecipe
    from skshazam.teachers import resolve_teachers

    specs = resolve_teachers(teachers, options["weights"])
    digests, errors = image_digests(
        paths, store, n_threads=options["n_threads"], progress=options["progress"]
    )
    readable = np.ones(len(paths), dtype=bool)
    readable[list(errors)] = False
    complete = readable.copy()
    stored = {}
    for spec in specs:
        recipe = FeatureRecipe(spec, options["precision"], options["preprocessing"])
        rows = store.rows(recipe.fingerprint, spec.dim)
        found = rows.has(digests) & readable
        stored[spec.name] = int(found.sum())
        complete &= found
    return {
        "store": str(store.path),
        "images": len(paths),
        "stored": stored,
        "to_compute": int((readable & ~complete).sum()),
        "unreadable": _named(errors, paths),
    }


def _extracted(paths, teachers, store, options) -> dict:
    """Extract, and return what happened; a shard may have no image."""
    from skshazam.features import extract_to_store

    summary = {"store": str(store.path), "images": len(paths)}
    if not paths:
        return {**summary, "computed": 0, "found": 0, "unreadable": []}
    try:
        extraction = extract_to_store(paths, teachers, store, **options)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            "What was computed is stored: the same command goes on from there."
        ) from interrupt
    return {
        **summary,
        "computed": extraction.n_computed,
        "found": extraction.n_found,
        "unreadable": _named(extraction.errors, paths),
    }


def _format_plan(plan: dict) -> str:
    """Return the plan as text."""
    lines = [f"{plan['images']:,} images; the store {plan['store']!r} holds of them:"]
    lines += [f"  {name}: {count:,}" for name, count in plan["stored"].items()]
    lines.append(
        f"{plan['to_compute']:,} would be read and, if they can be decoded, computed."
    )
    if plan["unreadable"]:
        lines.append(f"{len(plan['unreadable']):,} cannot be read:")
        lines += _first_of(plan["unreadable"])
    return "\n".join(lines)


def _named(errors, paths) -> list[dict]:
    """Return unreadable images with the reason, in order."""
    return [
        {"path": paths[position], "error": in_the_shell(str(errors[position]))}
        for position in sorted(errors)
    ]


def _first_of(unreadable: list[dict]) -> list[str]:
    """Return a line for each of the first unreadable images."""
    lines = [f"  {entry['error']}" for entry in unreadable[:N_SHOWN]]
    if len(unreadable) > N_SHOWN:
        lines.append(f"  ... and {len(unreadable) - N_SHOWN:,} more")
    return lines


def _format_summary(summary: dict, errors_out: Path | None) -> str:
    """Return what happened, as text."""
    unreadable = summary["unreadable"]
    lines = [
        f"{summary['images']:,} images: {summary['computed']:,} computed, "
        f"{summary['found']:,} found in the store, {len(unreadable):,} unreadable.",
        f"Store: {summary['store']}",
    ]
    if unreadable:
        lines += ["Unreadable:", *_first_of(unreadable)]
        lines.append(
            f"All are listed in {errors_out}."
            if errors_out
            else "--errors-out FILE.csv lists them all."
        )
    return "\n".join(lines)


def _write_errors(target: Path, unreadable: list[dict]) -> None:
    """Write the unreadable images with the reason."""
    # A file name may be no text at all; its bytes are written as they are.
    with target.open(
        "w", newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        writer = csv.DictWriter(file, ["path", "error"])
        writer.writeheader()
        writer.writerows(unreadable)
