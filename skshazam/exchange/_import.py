"""import_features: from files of features to a store that knows images by content."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skshazam.exceptions import FeatureFileError, FeatureStoreMismatchError
from skshazam.exchange._feature_file import FeatureFile
from skshazam.exchange._file_access import read_feature_file
from skshazam.exchange._file_formats import FORMATS
from skshazam.features._extraction import extract_features
from skshazam.features._image_digests import image_digests
from skshazam.features._recipe import FeatureRecipe
from skshazam.images import check_image_collection, describe_image
from skshazam.storage._store import FeatureStore
from skshazam.teachers import TeacherSpec, load_teacher

__all__ = ["FeatureImport", "import_features"]

# Two runs of a teacher in different precision agree better than this.
MIN_COSINE = 0.999
MAX_RELATIVE_LENGTH = 0.01


@dataclass(frozen=True)
class FeatureImport:
    """What :func:`import_features` did.

    Parameters
    ----------
    n_imported : int, default=0
        Rows that the store lacked.
    n_found : int, default=0
        Rows that it held already; these were kept.
    n_checked : int, default=0
        Rows that were computed again and agreed.
    """

    n_imported: int = 0
    n_found: int = 0
    n_checked: int = 0


def import_features(
    store: FeatureStore | str | os.PathLike,
    path: str | os.PathLike,
    teacher: str | TeacherSpec,
    *,
    precision: str,
    preprocessing: str,
    images: Sequence | None = None,
    weights: Mapping[str, str | os.PathLike] | None = None,
    check: int = 0,
    device="auto",
    n_threads: int = 1,
) -> FeatureImport:
    """Put features that were computed elsewhere into a store.

    From then on they count as if skshazam had computed them in the way that `teacher`,
    `precision` and `preprocessing` say. That they were made so, nobody can see in the
    numbers; `check` computes a few again.

    Parameters
    ----------
    store : FeatureStore or path-like
        Where they go. Rows that are there already are kept.
    path : path-like
        A file for :func:`read_feature_file`, or a folder of files with ``digests``, as
        :func:`export_features` writes it.
    teacher : str or TeacherSpec
        Whose features these are.
    precision : {"auto", "float32", "float16", "bfloat16"}
        In which dtype the teacher ran; "auto" is its own.
    preprocessing : {"fast", "pil"}
        Who resized; "pil" is how model cards and most programs do it.
    images : sequence of length n, default=None
        The images that the rows are of, in their order. Needed for files without
        ``digests``; where a file has ``paths``, the names must agree.
    weights : dict of str to path-like, default=None
        Local checkpoint of the teacher by its name, if it is going to be run with one.
    check : int, default=0
        How many rows to compute again from `images` and to compare: the cosine has to
        exceed 0.999, and lengths to agree within 1 %.
    device : str or torch.device, default="auto"
        Where these are computed.
    n_threads : int, default=1
        Threads that read images.

    Returns
    -------
    counts : FeatureImport

    Raises
    ------
    FeatureFileError
        The file is damaged, says that it is of another teacher, or its rows have no
        identity and `images` does not give them one.
    FeatureStoreMismatchError
        The dim is not the teacher's, or rows computed again differ.

    See Also
    --------
    load_slide_features : Slides of TRIDENT or CLAM as a matrix, without a store.
    """
    recipe = FeatureRecipe.of(teacher, weights, precision, preprocessing)
    store = FeatureStore.of(store)
    if images is not None:
        images = check_image_collection(images)
    if check and images is None:
        raise FeatureFileError(
            f"check={check} rows cannot be computed again without their images. Pass "
            "images=, or check=0."
        )
    counts = FeatureImport()
    for source in _sources(Path(path), images):
        file = read_feature_file(source)
        digests = _identities(file, source, images, store, n_threads)
        _check_origin(file, source, recipe)
        n_checked = _check_rows(file, images, recipe, check, device)
        n_imported = _store_rows(file, digests, source, recipe, store)
        counts = FeatureImport(
            counts.n_imported + n_imported,
            counts.n_found + len(digests) - n_imported,
            counts.n_checked + n_checked,
        )
    return counts


def _sources(path: Path, images) -> list[Path]:
    """Return the files to import."""
    if not path.is_dir():
        return [path]
    found = [
        inside
        for inside in sorted(path.iterdir())
        if inside.suffix.lower() in FORMATS and not inside.name.startswith(".")
    ]
    if not found:
        raise FeatureFileError(
            f"{str(path)!r} holds no {', '.join(FORMATS)} file. Pass the file itself, "
            "or the folder that holds some."
        )
    if images is not None:
        raise FeatureFileError(
            f"{str(path)!r} is a folder of {len(found)} files, and images= does not "
            "say which belong to which. Import file by file."
        )
    return found


def _identities(
    file: FeatureFile, source: Path, images, store: FeatureStore, n_threads: int
) -> np.ndarray:
    """Return the digests (n, 32) by which the rows of a file will be found."""
    n_rows = len(file.features)
    if images is None:
        if file.digests is None:
            raise FeatureFileError(
                f"{str(source)!r} does not say which image each row is of: a store "
                "knows images by their content, and the file has no 'digests'. Pass "
                "images= (--images) in the order of the rows; or use "
                "load_slide_features, which needs no store."
            )
        return file.digests
    if len(images) != n_rows:
        raise FeatureFileError(
            f"{str(source)!r} has {n_rows} rows for {len(images)} images; expected one "
            "row an image, in order. Pass the images that it was made from."
        )
    for row, written in enumerate(file.paths or ()):
        image = images[row]
        if not isinstance(image, str | os.PathLike):
            break
        if Path(image).name != Path(written).name:
            raise FeatureFileError(
                f"{str(source)!r}: row {row} is of {written!r}, and image {row} is "
                f"{describe_image(image)}. Pass images= in the order of the rows."
            )
    digests, errors = image_digests(images, store, n_threads=n_threads)
    if errors:
        raise errors[min(errors)]
    if file.digests is not None and not np.array_equal(digests, file.digests):
        row = int(np.argmax((digests != file.digests).any(axis=1)))
        raise FeatureFileError(
            f"{str(source)!r}: row {row} is of another content than image {row}, "
            f"{describe_image(images[row])}. Pass the images that it was made from, or "
            "no images=."
        )
    return digests


def _check_origin(file: FeatureFile, source: Path, recipe: FeatureRecipe) -> None:
    """Refuse a file that says that it is of another teacher, or of other settings."""
    written = file.attributes.get("fingerprint")
    if written not in {None, recipe.fingerprint}:
        facts = ", ".join(
            f"{name}={file.attributes.get(name)!r}"
            for name in ("teacher", *recipe.options)
        )
        raise FeatureFileError(
            f"{str(source)!r} was exported with {facts} and another fingerprint than "
            f"{recipe.spec.name!r} has with {recipe.options}. Pass the teacher, "
            "weights and settings that it was made with."
        )


def _check_rows(
    file: FeatureFile, images, recipe: FeatureRecipe, check: int, device
) -> int:
    """Compute some rows again and compare; return how many."""
    n_rows = len(file.features)
    n_checked = min(check, n_rows)
    if not n_checked:
        return 0
    rows = np.random.default_rng(0).choice(n_rows, n_checked, replace=False)
    spec = recipe.spec
    teachers = {spec.name: load_teacher(spec, device)}
    chosen = [images[row] for row in rows]
    truth = np.asarray(extract_features(chosen, teachers, **recipe.options).features)
    given = file.features[rows].astype(np.float64)
    if given.shape != truth.shape:
        raise FeatureStoreMismatchError(_wrong_dim(spec, given.shape[1]))
    lengths = np.linalg.norm(given, axis=1), np.linalg.norm(truth, axis=1)
    cosines = (given * truth).sum(axis=1) / np.maximum(lengths[0] * lengths[1], 1e-30)
    ratios = lengths[0] / np.maximum(lengths[1], 1e-30)
    wrong = (cosines <= MIN_COSINE) | (np.abs(ratios - 1) > MAX_RELATIVE_LENGTH)
    if wrong.any():
        worst = int(np.flatnonzero(wrong)[np.argmin(cosines[wrong])])
        raise FeatureStoreMismatchError(
            f"{int(wrong.sum())} of {n_checked} rows differ from what {spec.name!r} "
            f"gives with {recipe.options}; row {rows[worst]}, for example, has cosine "
            f"{cosines[worst]:.4f} and {ratios[worst]:.3f} times the length; expected "
            f"more than {MIN_COSINE} and 1.00. Nothing was imported. Check teacher, "
            "weights, preprocessing and the order of the images."
        )
    return n_checked


def _store_rows(
    file: FeatureFile,
    digests: np.ndarray,
    source: Path,
    recipe: FeatureRecipe,
    store: FeatureStore,
) -> int:
    """Write the rows that the store lacks; return how many."""
    if not len(digests):
        return 0
    dim = file.features.shape[1]
    if recipe.spec.dim not in {None, dim}:
        raise FeatureStoreMismatchError(_wrong_dim(recipe.spec, dim))
    store.check_writable()
    store.describe(recipe.fingerprint, recipe.description(dim))
    folder = store.rows(recipe.fingerprint, dim)
    folder.refresh()
    lacking = ~folder.has(digests)
    first_of = np.zeros(len(digests), dtype=bool)
    first_of[np.unique(digests, axis=0, return_index=True)[1]] = True
    rows = np.flatnonzero(lacking & first_of)
    provenance = {"origin": f"imported from {source.name}"}
    for start in range(0, len(rows), folder.rows_per_shard):
        portion = rows[start : start + folder.rows_per_shard]
        folder.write(digests[portion], file.features[portion], provenance)
    return len(rows)


def _wrong_dim(spec: TeacherSpec, dim: int) -> str:
    """Return the message for rows of a wrong length."""
    return (
        f"The file has {dim} numbers a row, and teacher {spec.name!r} has "
        f"{spec.dim or 'another number'}. Pass the teacher that it was made with; the "
        "same network with another pooling is another teacher."
    )
