"""Decode once, run every teacher, collect rows in memory.

One pass over the images whatever the number of teachers; memory holds a few batches of
pixels and the feature matrix. ``_stored`` does the same into a store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import SkshazamError
from skshazam.features._forward import ForwardPass, Work
from skshazam.features._options import ExtractionOptions
from skshazam.features._progress import progress_bar
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
    errors : dict of int to SkshazamError, default={}
        The images that gave no features by position: an ImageReadError if one is
        unreadable, a TeacherOutputError if a teacher computes no finite vector.
    """

    features: TeacherFeatures
    errors: dict[int, SkshazamError] = field(default_factory=dict)


def extract_features(
    images: Sequence,
    teachers: Mapping[str, Teacher],
    *,
    precision: str = "auto",
    preprocessing: str = "fast",
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
    preprocessing : {"fast", "pil"}, default="fast"
        Who resizes: the device in batches, or Pillow image by image.
    batch_size : int, default=64
        Images a forward pass. More needs more memory and changes nothing else; it is
        halved for a teacher that runs out of GPU memory.
    n_threads : int, default=1
        Threads that decode images.
    on_error : {"raise", "nan"}, default="raise"
        Whether an image that gives no features ends the run or becomes a row of NaN.
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
        A teacher computed a value that is not finite, and `on_error` is "raise"; the
        message names teacher and image.
    TeacherMemoryError
        A teacher does not fit into the device's memory with one image a batch.

    See Also
    --------
    extract_to_store : Keep the features on disk, and compute only what is missing.
    """
    ExtractionOptions(
        precision=precision,
        preprocessing=preprocessing,
        batch_size=batch_size,
        n_threads=n_threads,
        on_error=on_error,
    )
    blocks = TeacherBlocks(
        tuple(teachers), tuple(teacher.dim for teacher in teachers.values())
    )
    features = np.full((len(images), blocks.n_features), np.nan, dtype=np.float32)
    errors: dict[int, SkshazamError] = {}
    stream = ImageStream(images, n_threads=n_threads, n_ahead=2 * batch_size)
    readable = _readable(enumerate(stream), errors, on_error)
    forward = ForwardPass(
        teachers.__getitem__, precision=precision, preprocessing=preprocessing
    )
    batches = _batches(readable, batch_size, tuple(teachers))
    with progress_bar(len(images), progress) as bar:
        for outcome in forward.run(batches):
            positions = outcome.work.positions
            for row, fault in outcome.faults.items():
                errors[positions[row]] = fault.at(positions[row], len(images))
                if on_error == "raise":
                    raise errors[positions[row]]
            for name, columns in zip(teachers, blocks.slices, strict=True):
                kept = [positions[row] for row in outcome.work.rows[name]]
                features[kept, columns] = outcome.features[name]
            bar.update(len(positions))
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


def _batches(readable: Iterator, batch_size: int, names: tuple[str, ...]) -> Iterator:
    """Yield batches of images that every teacher has to see."""
    while batch := list(islice(readable, batch_size)):
        everything = list(range(len(batch)))
        yield Work(
            [position for position, _ in batch],
            [image for _, image in batch],
            dict.fromkeys(names, everything),
        )
