"""export_features: from a store to files that other programs read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skshazam.exceptions import FeatureFileError, FeatureStoreError
from skshazam.exchange._feature_file import FeatureFile
from skshazam.exchange._file_access import write_feature_file
from skshazam.features._image_digests import image_digests
from skshazam.features._recipe import FeatureRecipe
from skshazam.images import check_image_collection, describe_image
from skshazam.storage._store import FeatureStore
from skshazam.teachers import TeacherSpec

__all__ = ["export_features"]


def export_features(
    store: FeatureStore | str | os.PathLike,
    images: Sequence,
    teacher: str | TeacherSpec,
    path: str | os.PathLike,
    *,
    slides: Sequence[str] | None = None,
    coords: np.ndarray | None = None,
    weights: Mapping[str, str | os.PathLike] | None = None,
    precision: str = "auto",
    preprocessing: str = "fast",
    overwrite: bool = False,
    n_threads: int = 1,
) -> tuple[Path, ...]:
    """Write stored features of one teacher into files that other programs read.

    Parameters
    ----------
    store : FeatureStore or path-like
        Where the features are. They are written in its dtype.
    images : sequence of length n
        Whose features, in the order of the rows.
    teacher : str or TeacherSpec
        Which teacher.
    path : path-like
        The file to write, ``.h5``, ``.npz`` or ``.pt``; with `slides`, the folder that
        gets one ``.h5`` file a slide, as TRIDENT and CLAM keep them.
    slides : sequence of str, default=None
        The slide of each image.
    coords : array-like of shape (n, 2), default=None
        Where on its slide each image lies, in pixels: x, y.
    weights : dict of str to path-like, default=None
        Local checkpoint of the teacher by its name, if it was run with one.
    precision : str, default="auto"
        As it was given to :func:`extract_to_store`.
    preprocessing : str, default="fast"
        As it was given to :func:`extract_to_store`.
    overwrite : bool, default=False
        Whether files of these names are replaced.
    n_threads : int, default=1
        Threads that read images whose identity the store does not know.

    Returns
    -------
    paths : tuple of Path
        The files written.

    Raises
    ------
    FeatureStoreError
        The store lacks some of the features.
    FeatureFileError
        A file exists already or cannot be written, or a slide cannot name one.
    ImageReadError
        An image is missing.

    See Also
    --------
    import_features : The way back; rows of an exported file keep their identity.
    """
    images = check_image_collection(images)
    recipe = FeatureRecipe.of(teacher, weights, precision, preprocessing)
    coords = _checked_coords(coords, len(images))
    store = FeatureStore.of(store)
    digests, errors = image_digests(images, store, n_threads=n_threads)
    if errors:
        raise errors[min(errors)]
    rows = store.rows(recipe.fingerprint, recipe.spec.dim)
    rows.refresh()
    _check_stored(rows.has(digests), images, recipe, store)
    parts = _parts(Path(path), slides, len(images))
    for target, positions in parts.items():
        features, found = rows.read(digests[positions])
        _check_stored(found, [images[i] for i in positions], recipe, store)
        file = FeatureFile(
            features,
            coords=None if coords is None else coords[positions],
            digests=digests[positions],
            paths=_paths_of(images, positions),
            attributes=recipe.facts(),
        )
        write_feature_file(target, file, overwrite=overwrite)
    return tuple(parts)


def _check_stored(
    found: np.ndarray, images: Sequence, recipe: FeatureRecipe, store: FeatureStore
) -> None:
    """Refuse to export what is not there."""
    if not found.all():
        first = images[int(np.argmin(found))]
        raise FeatureStoreError(
            f"The store at {str(store.path)!r} lacks the features of "
            f"{recipe.spec.name!r} for {int((~found).sum())} of {len(found)} images in "
            f"{store.dtype} with {recipe.options}, the first {describe_image(first)}. "
            "Run `skshazam extract` first; it computes only what is missing. Leave out "
            "images that it calls unreadable."
        )


def _parts(path: Path, slides, n_images: int) -> dict[Path, np.ndarray]:
    """Return the positions of the rows of each file to write."""
    if slides is None:
        return {path: np.arange(n_images)}
    names = list(map(str, slides))
    if len(names) != n_images:
        raise FeatureFileError(
            f"slides has {len(names)} entries for {n_images} images; expected one an "
            "image."
        )
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        if not name or name[0] == "." or {"/", "\\"} & set(name):
            raise FeatureFileError(
                f"slides[{position}] is {name!r}, which cannot name a file; expected a "
                "name without a folder."
            )
        positions.setdefault(name, []).append(position)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatureFileError(
            f"Cannot make the folder {str(path)!r}: {error}. Pass a folder that you "
            "may write to."
        ) from error
    return {path / f"{name}.h5": np.array(rows) for name, rows in positions.items()}


def _paths_of(images: Sequence, positions: np.ndarray) -> tuple[str, ...] | None:
    """Return the files that images are from, if all are from files."""
    chosen = [images[position] for position in positions]
    if all(isinstance(image, str | os.PathLike) for image in chosen):
        return tuple(map(os.fspath, chosen))
    return None


def _checked_coords(coords, n_images: int) -> np.ndarray | None:
    """Return coordinates as an array with one row an image."""
    if coords is None:
        return None
    array = np.asarray(coords)
    if array.shape != (n_images, 2):
        raise FeatureFileError(
            f"coords has shape {array.shape} for {n_images} images; expected "
            f"({n_images}, 2), one pair (x, y) an image."
        )
    return array
