"""Decode once, run every teacher, collect rows.

One pass over the images whatever the number of teachers; memory holds a few batches of
pixels and the feature matrix.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from tqdm.auto import tqdm

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam._device import resolve_precision
from skshazam.exceptions import ImageReadError, TeacherOutputError
from skshazam.images import ImageStream
from skshazam.teachers import Teacher

__all__ = ["Extraction", "extract_features"]


@dataclass(frozen=True)
class Extraction:
    """What one pass over the images gave.

    Parameters
    ----------
    features : TeacherFeatures of shape (n_images, sum of dims), dtype=float32
        One row per image, teachers side by side; NaN where an image was unreadable.
    errors : dict of int to ImageReadError, default={}
        The unreadable images by position.
    """

    features: TeacherFeatures
    errors: dict[int, ImageReadError] = field(default_factory=dict)


def extract_features(
    images: Sequence,
    teachers: Mapping[str, Teacher],
    *,
    precision: str = "auto",
    batch_size: int = 64,
    n_threads: int = 1,
    on_error: str = "raise",
    progress: bool = False,
) -> Extraction:
    """Run loaded teachers over images.

    Parameters
    ----------
    images : sequence of length n_images
        What :func:`skshazam.images.read_image` reads.
    teachers : dict of str to Teacher
        Loaded teachers by the names of their blocks, in column order.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        Autocast dtype; "auto" is each teacher's own on a GPU and float32 elsewhere.
    batch_size : int, default=64
        Images a forward pass. More needs more memory and changes nothing else.
    n_threads : int, default=1
        Threads that decode images.
    on_error : {"raise", "nan"}, default="raise"
        Whether an unreadable image ends the run or becomes a row of NaN.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    extraction : Extraction

    Raises
    ------
    ImageReadError
        An image is unreadable and `on_error` is "raise"; the message names it.
    TeacherOutputError
        A teacher computed a value that is not finite.
    """
    blocks = TeacherBlocks(
        tuple(teachers), tuple(teacher.dim for teacher in teachers.values())
    )
    features = np.full((len(images), blocks.n_features), np.nan, dtype=np.float32)
    errors: dict[int, ImageReadError] = {}
    stream = ImageStream(images, n_threads=n_threads, n_ahead=2 * batch_size)
    rows = enumerate(
        tqdm(stream, desc="images", unit="image", disable=not progress, leave=False)
    )
    while batch := list(islice(_readable(rows, errors, on_error), batch_size)):
        positions = [position for position, _ in batch]
        pixels = [image for _, image in batch]
        for (name, teacher), columns in zip(
            teachers.items(), blocks.slices, strict=True
        ):
            features[positions, columns] = _run(name, teacher, pixels, precision)
    return Extraction(TeacherFeatures(features, blocks), errors)


def _readable(rows: Iterator, errors: dict, on_error: str) -> Iterator:
    """Yield (position, pixels) of readable images; keep or raise the other's errors."""
    for position, image in rows:
        if isinstance(image, np.ndarray):
            yield position, image
        elif on_error == "raise":
            raise image
        else:
            errors[position] = image


def _run(
    name: str, teacher: Teacher, pixels: list[np.ndarray], precision: str
) -> np.ndarray:
    """Return the features of one batch, shape (n, dim)."""
    dtype = resolve_precision(precision, teacher.spec.dtype, teacher.device)
    features = teacher(pixels, dtype).cpu().numpy()
    if not np.isfinite(features).all():
        raise TeacherOutputError(
            f"Teacher {name!r} computed values that are not finite, in {dtype}. Pass "
            "precision='float32'; if that is what it ran in, check its weights."
        )
    return features
