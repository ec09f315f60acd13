"""From a store to a feature matrix; rows that turn out damaged are computed again."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import FeatureStoreError
from skshazam.features._options import ExtractionOptions
from skshazam.features._progress import progress_bar
from skshazam.features._stored import StoredExtraction, StoreRun, fingerprints_of
from skshazam.storage._store import FeatureStore
from skshazam.teachers import TeacherSpec, resolve_teachers

__all__ = ["read_features", "stored_features"]

logger = logging.getLogger("skshazam")

# Rows that are read at once, so that memory holds little more than the result.
PORTION = 65_536

# Damage comes to light on reading; more than this is a disk to be replaced.
MAX_ROUNDS = 3


def read_features(
    digests: np.ndarray,
    teachers: Sequence[str | TeacherSpec],
    store: "FeatureStore | str",
    *,
    weights: Mapping | None = None,
    precision: str = "auto",
    preprocessing: str = "fast",
) -> TeacherFeatures:
    """Return stored features of images; no image is opened, no teacher loaded.

    Parameters
    ----------
    digests : ndarray of shape (n_images, 32), dtype=uint8
        From :func:`extract_to_store`.
    teachers : sequence of str or TeacherSpec
        Whose features, in column order.
    store : FeatureStore or path-like
        Where they are.
    weights : dict of str to path-like, default=None
        As they were given to :func:`extract_to_store`.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        As it was given to :func:`extract_to_store`.
    preprocessing : {"fast", "pil"}, default="fast"
        As it was given to :func:`extract_to_store`.

    Returns
    -------
    features : TeacherFeatures of shape (n_images, sum of dims), dtype=float32

    Raises
    ------
    FeatureStoreError
        Some rows are not stored, or are damaged.
    """
    specs = resolve_teachers(teachers, weights)
    store = FeatureStore.of(store)
    options = ExtractionOptions(precision=precision, preprocessing=preprocessing)
    digests = np.asarray(digests)
    if digests.dtype != np.uint8 or digests.ndim != 2 or digests.shape[1] != 32:
        raise FeatureStoreError(
            f"digests has shape {digests.shape} and dtype {digests.dtype}; expected "
            "(n_images, 32) and uint8. Pass extract_to_store(images, ...).digests; for "
            "images themselves, use TeacherFeatureTransformer(store=...)."
        )
    features, found = _gathered(digests, specs, store, options)
    if not found.all():
        first = int(np.flatnonzero(~found)[0])
        n_zeros = int((~digests.any(axis=1)).sum())
        if n_zeros:
            raise FeatureStoreError(
                f"{n_zeros} of {len(digests)} digests are zeros: their images gave no "
                "features. Leave out the positions in extraction.errors."
            )
        raise FeatureStoreError(
            f"The store at {str(store.path)!r} lacks the features of "
            f"{int((~found).sum())} of {len(found)} images, the first at position "
            f"{first}. Call extract_to_store(images, teachers, store) again with the "
            "same settings; it computes only what is missing."
        )
    return features


def stored_features(
    images: Sequence,
    specs: Sequence[TeacherSpec],
    store: FeatureStore,
    options: ExtractionOptions,
    progress: bool = False,
) -> tuple[TeacherFeatures, StoredExtraction]:
    """Return the features of images from a store, after adding what it lacks.

    Parameters
    ----------
    images : sequence of length n_images
        From :func:`skshazam.images.check_image_collection`.
    specs : sequence of TeacherSpec
        Whose features, in column order.
    store : FeatureStore
        Where they are kept.
    options : ExtractionOptions
        How teachers run.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    features : TeacherFeatures of shape (n_images, sum of dims), dtype=float32
        NaN where an image was unreadable.
    extraction : StoredExtraction
        What was computed, found and unreadable; of images that had to be computed
        again, too.

    Raises
    ------
    FeatureStoreError
        Rows are damaged again and again.
    """
    n_computed = 0
    for _ in range(MAX_ROUNDS):
        with progress_bar(len(images), progress) as bar:
            extraction = StoreRun(images, specs, store, options).run(bar)
        unreadable = np.zeros(len(images), dtype=bool)
        unreadable[list(extraction.errors)] = True
        features, found = _gathered(extraction.digests, specs, store, options)
        n_lost = int((~found & ~unreadable).sum())
        n_readable = len(images) - len(extraction.errors)
        # An image may have been computed in two rounds.
        n_computed = min(n_computed + extraction.n_computed, n_readable)
        if not n_lost:
            return features, replace(
                extraction, n_computed=n_computed, n_found=n_readable - n_computed
            )
        logger.warning("%d stored rows were damaged; computing them again", n_lost)
    raise FeatureStoreError(
        f"The store at {str(store.path)!r} returned damaged rows {MAX_ROUNDS} times in "
        f"a row, the last time {n_lost} of {len(images)}. The disk or network below it "
        "is failing: move the store elsewhere, then run `skshazam store verify`."
    )


def _gathered(
    digests: np.ndarray,
    specs: Sequence[TeacherSpec],
    store: FeatureStore,
    options: ExtractionOptions,
) -> tuple[TeacherFeatures, np.ndarray]:
    """Return stored features, NaN in rows that lack a teacher, and a mask of the rest.

    Shapes are (n_images, sum of dims) and (n_images,).
    """
    fingerprints = fingerprints_of(specs, options)
    folders = [store.rows(fingerprints[spec.name], spec.dim) for spec in specs]
    for spec, folder in zip(specs, folders, strict=True):
        folder.refresh()
        if folder.width is None:
            raise FeatureStoreError(
                f"The store at {str(store.path)!r} holds nothing of teacher "
                f"{spec.name!r} with precision={options.precision!r} and "
                f"preprocessing={options.preprocessing!r}. Call "
                "extract_to_store(images, teachers, store) first."
            )
    blocks = TeacherBlocks(
        tuple(spec.name for spec in specs), tuple(folder.width for folder in folders)
    )
    features = np.full((len(digests), blocks.n_features), np.nan, dtype=np.float32)
    found = np.ones(len(digests), dtype=bool)
    for folder, columns in zip(folders, blocks.slices, strict=True):
        for start in range(0, len(digests), PORTION):
            portion = slice(start, start + PORTION)
            rows, is_there = folder.read(digests[portion])
            features[portion, columns][is_there] = rows[is_there]
            found[portion] &= is_there
    features[~found] = np.nan
    return TeacherFeatures(features, blocks), found
