"""TileList: the images that a folder or a CSV file names, in a fixed order."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skshazam.exceptions import ImageCollectionError

__all__ = ["TileList", "list_tiles"]

ENDINGS = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class TileList:
    """Images, and where they are from if a CSV file says so.

    Parameters
    ----------
    paths : list of str
        The image files.
    slides : list of str, default=None
        The slide of each.
    coords : list of (int, int), default=None
        Where on its slide each lies: x, y.
    """

    paths: list[str]
    slides: list[str] | None = None
    coords: list[tuple[int, int]] | None = None


def list_tiles(source: Path) -> TileList:
    """Return the images of a folder or a CSV file.

    Parameters
    ----------
    source : Path
        A folder: all images in and below it, by their endings, in the order of their
        paths; hidden ones are left out, links are followed. Or a CSV file with a column
        "path", relative to the file, and possibly "slide", "x" and "y".

    Returns
    -------
    tiles : TileList

    Raises
    ------
    ImageCollectionError
        There is no image, or the CSV file cannot be read.
    """
    if not source.is_dir():
        return _read_csv(source)
    paths = sorted(_images_below(source))
    if not paths:
        raise ImageCollectionError(
            f"{str(source)!r} holds no file that ends in {', '.join(ENDINGS)}. Pass "
            "the folder of the tiles, or a CSV file with a column 'path'."
        )
    return TileList(paths)


def _images_below(folder: Path) -> Iterator[str]:
    """Yield the paths of images; a folder that links lead to twice counts once."""

    def refuse(error: OSError) -> None:
        raise error

    seen = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        stat = os.stat(root)  # noqa: PTH116 - os.walk gives text
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        # In order, so that of two ways to a folder every run takes the same.
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in names:
            if name[0] != "." and name.lower().endswith(ENDINGS):
                yield os.path.join(root, name)  # noqa: PTH118 - the same


def _read_csv(source: Path) -> TileList:
    """Return the images that a CSV file names."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ImageCollectionError(
            f"{str(source)!r} cannot be read as a CSV file in UTF-8: {error}. Save it "
            "as 'CSV UTF-8' with commas between columns, one of them named 'path', and "
            "close every quote."
        ) from error
    if "path" not in columns:
        raise ImageCollectionError(
            f"{str(source)!r} has the columns {columns}; expected one named 'path', "
            "and commas between columns. Name the column of the image files 'path'."
        )
    if len(set(columns)) < len(columns):
        raise ImageCollectionError(
            f"{str(source)!r} has the columns {columns}; expected each once. Rename or "
            "drop the repeated one."
        )
    if not rows:
        raise ImageCollectionError(
            f"{str(source)!r} names no image; expected one a line below the header."
        )
    paths = [
        os.fspath(source.parent / _cell(row, "path", line, source))
        for line, row in rows
    ]
    slides = coords = None
    if "slide" in columns:
        slides = [_cell(row, "slide", line, source) for line, row in rows]
    if "x" in columns and "y" in columns:
        coords = [
            (_pixels(row, "x", line, source), _pixels(row, "y", line, source))
            for line, row in rows
        ]
    return TileList(paths, slides, coords)


def _cell(row: dict, column: str, line: int, source: Path) -> str:
    """Return what a row says in a column, which must be something."""
    value = row[column]
    if not value or "\0" in value or None in row:
        raise ImageCollectionError(
            f"Line {line} of {str(source)!r} has {column}={value!r}"
            f"{' and more cells than the header' * (None in row)}; expected one value "
            "a column. Correct the line; put names with commas in quotes."
        )
    return value


def _pixels(row: dict, column: str, line: int, source: Path) -> int:
    """Return a coordinate."""
    text = _cell(row, column, line, source)
    try:
        # A table that once had a gap in this column writes 12.0 for 12.
        return int(text.removesuffix(".0"))
    except ValueError as error:
        raise ImageCollectionError(
            f"Line {line} of {str(source)!r} has {column}={text!r}; expected a whole "
            "number of pixels."
        ) from error
