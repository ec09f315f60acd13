"""From folders of TRIDENT and CLAM, one file a slide, to a matrix of all teachers."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import FeatureFileError
from skshazam.exchange._file_access import feature_file_shape, read_feature_file
from skshazam.exchange._file_formats import FORMATS

__all__ = ["load_slide_features"]


def load_slide_features(
    folders: Mapping[str, str | os.PathLike],
    slides: Iterable[str] | None = None,
    *,
    trust_order: bool = False,
) -> Bunch:
    """Load slides that TRIDENT or CLAM ran several teachers over, tile by tile.

    Files of one name, apart from the ending, are one slide; tiles are matched by their
    coordinates, in whatever order each file holds them.

    Parameters
    ----------
    folders : dict of str to path-like
        For each teacher, in column order, the folder that holds one ``.h5`` (or
        ``.npz``, ``.pt``) file a slide: TRIDENT's ``features_uni_v1``, CLAM's
        ``h5_files``. The keys name the blocks of columns.
    slides : iterable of str, default=None
        Which slides, without the ending of their files, in the order of the rows.
        None is all, sorted; every teacher must have them all.
    trust_order : bool, default=False
        Whether files without coordinates, such as CLAM's ``pt_files``, are taken to
        hold the same tiles in the same order as the other teachers'. Only their number
        can then be checked.

    Returns
    -------
    bunch : :obj:`~sklearn.utils.Bunch`
        features : TeacherFeatures of shape (n_tiles, sum of dims), dtype=float32
            Slide after slide.
        coords : ndarray of shape (n_tiles, 2), dtype=int64, or None
            x and y of each tile, in the order of the first teacher that says. None if
            for some slide no teacher does.
        slides : ndarray of shape (n_tiles,), dtype=object
            The slide of each tile: ``groups`` for splits, unless a patient has several.
        slide_names : list of str
            The slides in order, those without tiles included.

    Raises
    ------
    FeatureFileError
        A teacher lacks a slide or some of its tiles, has others, or cannot be matched;
        or a file is damaged. The message names teacher, slide and counts.

    Notes
    -----
    Memory holds the result and one file. Files other than HDF5 are read repeatedly, to
    learn their shapes first.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from skshazam.exchange import FeatureFile, write_feature_file
    >>> from skshazam.exchange import load_slide_features
    >>> folder = Path(tempfile.mkdtemp())
    >>> coords = np.array([[0, 0], [256, 0]])
    >>> write_feature_file(folder / "S1.npz", FeatureFile(np.ones((2, 3)), coords))
    >>> bunch = load_slide_features({"uni": folder})
    >>> bunch.features.shape, bunch.slides.tolist()
    ((2, 3), ['S1', 'S1'])
    """
    files = {teacher: _files_by_slide(folders[teacher]) for teacher in folders}
    if not files:
        raise FeatureFileError(
            "folders is empty; expected at least one teacher and its folder: "
            "{'uni': 'features_uni_v1'}."
        )
    names = _slide_names(files, folders, slides)
    counts = [_count(files, name) for name in names]
    blocks = TeacherBlocks(
        tuple(files), tuple(_dim(files[teacher], names, teacher) for teacher in files)
    )
    features = np.empty((sum(counts), blocks.n_features), dtype=np.float32)
    coords: np.ndarray | None = np.zeros((len(features), 2), dtype=np.int64)
    start = 0
    for name, n_tiles in zip(names, counts, strict=True):
        rows = slice(start, start + n_tiles)
        start += n_tiles
        found = _fill(features[rows], blocks, files, name, trust_order)
        if found is None:
            coords = None
        elif coords is not None:
            coords[rows] = found
    return Bunch(
        features=TeacherFeatures(features, blocks),
        coords=coords,
        slides=np.repeat(np.array(names, dtype=object), counts),
        slide_names=names,
    )


def _files_by_slide(folder: str | os.PathLike) -> dict[str, Path]:
    """Return the files of a folder by slide."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FeatureFileError(
            f"No folder at {str(folder)!r} (working directory {str(Path.cwd())!r}). "
            "Pass the folder that holds one file of features a slide."
        )
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in FORMATS or path.name.startswith("."):
            continue
        if path.stem in files:
            raise FeatureFileError(
                f"{str(folder)!r} holds both {files[path.stem].name!r} and "
                f"{path.name!r}; expected one file a slide. Move one kind to another "
                "folder."
            )
        files[path.stem] = path
    if not files:
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        hint = f" Did you mean one of its folders {inside[:3]}?" if inside else ""
        raise FeatureFileError(
            f"{str(folder)!r} holds no {', '.join(FORMATS)} file. Pass the folder that "
            f"holds one file of features a slide.{hint}"
        )
    return files


def _slide_names(files, folders, slides: Iterable[str] | None) -> list[str]:
    """Return the slides to load, all of which every teacher has."""
    if isinstance(slides, str):
        slides = [slides]
    everywhere = sorted({slide for found in files.values() for slide in found})
    names = everywhere if slides is None else list(slides)
    if len(set(names)) != len(names) or not names:
        raise FeatureFileError(
            f"slides names {len(names)} slides, {len(set(names))} of them different; "
            "expected at least one, and each once. Drop the repeated ones."
        )
    for teacher, found in files.items():
        missing = [name for name in names if name not in found]
        if missing:
            raise FeatureFileError(
                f"Teacher {teacher!r} lacks {len(missing)} of {len(names)} slides in "
                f"{str(folders[teacher])!r}: {', '.join(map(repr, missing[:3]))}"
                f"{', ...' * (len(missing) > 3)}. Extract them, or pass slides= with "
                "those that every teacher has."
            )
    return names


def _count(files: Mapping[str, Mapping[str, Path]], slide: str) -> int:
    """Return how many tiles a slide has, on which all teachers agree."""
    counts = {
        teacher: feature_file_shape(found[slide])[0] for teacher, found in files.items()
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise FeatureFileError(
            f"Slide {slide!r} has different numbers of tiles: {listed}. Run all "
            "teachers on the same coordinates, or pass slides= without this one."
        )
    return next(iter(counts.values()))


def _dim(found: Mapping[str, Path], names: list[str], teacher: str) -> int:
    """Return the length of a teacher's vectors, from its first slide with tiles."""
    for name in names:
        n_tiles, dim = feature_file_shape(found[name])
        if n_tiles:
            return dim
    raise FeatureFileError(
        f"Teacher {teacher!r} has no tile on any of {len(names)} slides. Pass the "
        "folder that its features were written to."
    )


def _fill(
    rows: np.ndarray,
    blocks: TeacherBlocks,
    files: Mapping[str, Mapping[str, Path]],
    slide: str,
    trust_order: bool,
) -> np.ndarray | None:
    """Put all teachers' features of a slide into `rows`; return its coordinates."""
    reference: np.ndarray | None = None
    witness = ""
    without: list[str] = []
    for teacher, columns in zip(blocks.names, blocks.slices, strict=True):
        file = read_feature_file(files[teacher][slide])
        dim = columns.stop - columns.start
        if len(file.features) and file.features.shape[1] != dim:
            raise FeatureFileError(
                f"Teacher {teacher!r} has {file.features.shape[1]} numbers a tile on "
                f"slide {slide!r}, and {dim} on slides before. Extract it again with "
                "the same teacher."
            )
        order = slice(None)
        if file.coords is None:
            without.append(teacher)
        elif reference is None:
            reference, witness = file.coords, teacher
        else:
            order = _order(file.coords, reference, slide, teacher, witness)
        if len(rows):
            rows[:, columns] = file.features[order]
    if without and len(blocks.names) > 1 and len(rows) and not trust_order:
        raise FeatureFileError(
            f"Slide {slide!r} of teacher {without[0]!r} has no coordinates, so that "
            "its tiles cannot be matched with other teachers'. Pass the folder of its "
            "HDF5 files, or trust_order=True if all files hold the same tiles in the "
            "same order."
        )
    return reference if len(rows) else np.zeros((0, 2), dtype=np.int64)


def _order(
    coords: np.ndarray, reference: np.ndarray, slide: str, teacher: str, witness: str
) -> np.ndarray | slice:
    """Return how to index tiles at `coords` so that they lie at `reference`."""
    if np.array_equal(coords, reference):
        return slice(None)
    ours, theirs = np.lexsort(coords.T), np.lexsort(reference.T)
    ordered = coords[ours]
    if not np.array_equal(ordered, reference[theirs]):
        known = set(map(tuple, reference.tolist()))
        others = [place for place in coords.tolist() if tuple(place) not in known]
        shown = f", the first at {tuple(others[0])}" if others else ""
        raise FeatureFileError(
            f"Slide {slide!r}: {len(others)} of {len(coords)} tiles of teacher "
            f"{teacher!r} are not where those of {witness!r} are{shown}. Run both on "
            "the same coordinates."
        )
    if (ordered[1:] == ordered[:-1]).all(axis=1).any():
        raise FeatureFileError(
            f"Slide {slide!r}: teachers {teacher!r} and {witness!r} hold several tiles "
            "at one place, in different orders, so that these cannot be told apart. "
            "Drop repeated coordinates."
        )
    order = np.empty(len(coords), dtype=np.intp)
    order[theirs] = ours
    return order
