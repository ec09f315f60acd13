"""skshazam store: look into a store, check it, and exchange features."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from skshazam.cli._parameters import (
    DTYPE,
    EXISTING,
    IMPORT,
    JSON,
    PRECISIONS,
    PREPROCESSINGS,
    THREADS,
    TILES,
    WEIGHTS,
    joined_weights,
)
from skshazam.cli._reporting import (
    EXIT_FINDINGS,
    echo_json,
    format_bytes,
    format_table,
)
from skshazam.cli._tiles import list_tiles

__all__ = ["store"]

STORE = click.argument(
    "path",
    metavar="STORE",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
NEW_STORE = click.argument(
    "path", metavar="STORE", type=click.Path(file_okay=False, path_type=Path)
)
ADVICE = """\
Files that end in .damaged were set aside; what was intact in them is stored.
Run `skshazam extract` again to compute the rest, then delete them. The others could
not be set aside, or were moved here from elsewhere: make room, get the right to
write, or move them back, and run `skshazam store verify`."""
TEACHER = click.option("--teacher", required=True, help="Whose features.")


@click.group()
def store():
    """Look into feature stores, check them, exchange features."""


@store.command()
@STORE
@JSON
def info(path: Path, as_json: bool):
    """Say what a store holds of which teacher."""
    _show(_opened(path).info(), as_json)


@store.command()
@STORE
@JSON
def verify(path: Path, as_json: bool):
    """Read every stored row; set damaged files aside, and keep their intact rows.

    Exits with 3 if files are damaged, now or since earlier.
    """
    found = _opened(path).verify()
    _show(found, as_json)
    if found.damaged:
        sys.exit(EXIT_FINDINGS)


@store.command()
@STORE
@JSON
def compact(path: Path, as_json: bool):
    """Merge small files and drop duplicate rows, while others may read and write."""
    _show(_opened(path).compact(), as_json)


@store.command()
@STORE
@TILES
@click.argument("out", type=click.Path(path_type=Path))
@TEACHER
@WEIGHTS
@IMPORT
@click.option("--precision", type=PRECISIONS, default="auto", show_default=True)
@click.option("--preprocessing", type=PREPROCESSINGS, default="fast", show_default=True)
@DTYPE
@THREADS
@click.option("--overwrite", is_flag=True, help="Replace files of these names.")
def export(
    path: Path,
    tiles: Path,
    out: Path,
    teacher: str,
    weights: tuple[tuple[str, str], ...],
    precision: str,
    preprocessing: str,
    dtype: str,
    threads: int,
    overwrite: bool,
):
    """Write one teacher's features of images into files.

    OUT is a file, .h5, .npz or .pt; or a folder, which gets one .h5 file a slide, as
    TRIDENT and CLAM keep them: DIR_OR_CSV is then a CSV file with the columns path,
    slide, x, y.
    """
    from skshazam.exchange import export_features
    from skshazam.exchange._file_formats import FORMATS

    listed = list_tiles(tiles)
    by_slide = out.suffix.lower() not in FORMATS or out.is_dir()
    if by_slide and listed.slides is None:
        raise click.UsageError(
            f"OUT={str(out)!r} is a folder for one file a slide, and {str(tiles)!r} "
            "does not say which slide each image is of. Pass a CSV file with the "
            "columns path,slide,x,y, or an OUT that ends in .h5, .npz or .pt."
        )
    written = export_features(
        _opened(path, dtype),
        listed.paths,
        teacher,
        out,
        slides=listed.slides if by_slide else None,
        coords=listed.coords,
        weights=joined_weights(weights),
        precision=precision,
        preprocessing=preprocessing,
        overwrite=overwrite,
        n_threads=threads,
    )
    click.echo(
        f"{len(listed.paths):,} rows of {teacher} in {len(written):,} "
        f"file{'s' * (len(written) > 1)}: {out}"
    )


@store.command("import")
@NEW_STORE
@click.argument("file", metavar="FILE_OR_FOLDER", type=EXISTING)
@TEACHER
@WEIGHTS
@IMPORT
@click.option(
    "--precision",
    type=PRECISIONS,
    required=True,
    help="In which dtype the teacher ran; auto is its own.",
)
@click.option(
    "--preprocessing",
    type=PREPROCESSINGS,
    required=True,
    help="Who resized; pil is how model cards and most programs do it.",
)
@click.option(
    "--images",
    type=EXISTING,
    help="Folder or CSV file of the images, in the order of the rows.",
)
@click.option(
    "--check",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Rows to compute again from the images, and to compare.",
)
@click.option("--device", default="auto", show_default=True, help="Where to check.")
@DTYPE
@THREADS
def import_(
    path: Path,
    file: Path,
    teacher: str,
    weights: tuple[tuple[str, str], ...],
    precision: str,
    preprocessing: str,
    images: Path | None,
    check: int,
    device: str,
    dtype: str,
    threads: int,
):
    """Put features that were computed elsewhere into a store.

    FILE_OR_FOLDER is a .h5, .npz or .pt file, or a folder of files that `skshazam store
    export` wrote. From then on these count as computed with this teacher, precision and
    preprocessing: the numbers cannot tell, only --check can.
    """
    from skshazam.exchange import import_features
    from skshazam.features import FeatureStore

    counts = import_features(
        FeatureStore(path, dtype=dtype),
        file,
        teacher,
        precision=precision,
        preprocessing=preprocessing,
        images=None if images is None else list_tiles(images).paths,
        weights=joined_weights(weights),
        check=check,
        device=device,
        n_threads=threads,
    )
    click.echo(
        f"{counts.n_imported:,} rows of {teacher} imported, {counts.n_found:,} were "
        "stored already."
    )
    if check:
        click.echo(f"{counts.n_checked:,} rows were computed again, and agree.")


def _opened(path: Path, dtype: str = "float16"):
    """Return a store that exists."""
    from skshazam.exceptions import FeatureStoreError
    from skshazam.features import FeatureStore
    from skshazam.storage._store import MARKER

    if not (path / MARKER).is_file():
        raise FeatureStoreError(
            f"{str(path)!r} holds no {MARKER}: it is not a feature store. Pass the "
            "folder that was given to `skshazam extract --store`."
        )
    return FeatureStore(path, dtype=dtype)


def _show(found, as_json: bool) -> None:
    """Print what a store holds."""
    if as_json:
        echo_json({**asdict(found), "damaged": list(found.damaged)})
        return
    rows = [
        (
            teacher.name or "(unnamed)",
            str(teacher.dim or "-"),
            teacher.dtype,
            f"{teacher.rows:,}",
            f"{teacher.shards:,}",
            format_bytes(teacher.bytes),
            str(len(teacher.damaged)),
            (teacher.commit or "-")[:12],
            teacher.fingerprint[:12],
        )
        for teacher in found.teachers
    ]
    header = (
        *("teacher", "dim", "dtype", "rows", "files", "size", "damaged"),
        *("commit", "identity"),
    )
    click.echo(f"Store: {found.path}\n")
    click.echo(format_table(header, rows))
    click.echo(
        f"\nIndex of files: {found.files.rows:,} known without reading, "
        f"{format_bytes(found.files.bytes)}."
    )
    if found.damaged:
        click.echo("\nDamaged, or not of this teacher:")
        click.echo("\n".join(f"  {path}" for path in found.damaged))
        click.echo(ADVICE)
