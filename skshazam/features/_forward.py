"""ForwardPass: batches of decoded images through several teachers, one after another.

Keeps a GPU busy while results travel, and survives its running out of memory.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from skshazam._device import resolve_precision
from skshazam.exceptions import (
    SkshazamError,
    TeacherMemoryError,
    TeacherOutputError,
)
from skshazam.teachers import Teacher
from skshazam.teachers._image_batch import ImageBatch

__all__ = ["ForwardPass", "Work"]

logger = logging.getLogger("skshazam")


@dataclass(frozen=True)
class Work:
    """One batch of decoded images, and which of them each teacher has to see.

    Parameters
    ----------
    positions : list of int
        Positions of the images in their collection.
    images : list of ndarray of shape (height, width, 3), dtype=uint8
        Their pixels.
    rows : dict of str to list of int
        For each teacher, indices into `images`.
    """

    positions: list[int]
    images: list[np.ndarray]
    rows: dict[str, list[int]] = field(default_factory=dict)

    @property
    def n_lacking(self) -> int:
        """Number of images that at least one teacher has to see."""
        return len({row for of_teacher in self.rows.values() for row in of_teacher})


@dataclass(frozen=True)
class Outcome:
    """What became of one batch.

    Parameters
    ----------
    work : Work
        The batch, its rows without the images in `faults`.
    features : dict of str to ndarray of shape (len(rows), dim), dtype=float32
        By teacher.
    faults : dict of int to TeacherOutputError
        Indices into ``work.images`` of those that give no features.
    """

    work: Work
    features: dict[str, np.ndarray]
    faults: dict[int, TeacherOutputError]


class ForwardPass:
    """Run teachers over batches.

    Parameters
    ----------
    load : callable
        Returns the teacher of a name; called when the name has rows for the first time.
    precision : {"auto", "float32", "float16", "bfloat16"}
        Autocast dtype.
    preprocessing : {"fast", "pil"}
        Who resizes.
    kept_as : dtype, default=np.float32
        In which the features will be kept; what it cannot hold is a fault.
    """

    def __init__(
        self,
        load: Callable[[str], Teacher],
        *,
        precision: str,
        preprocessing: str,
        kept_as=np.float32,
    ):
        self.load = load
        self.precision = precision
        self.preprocessing = preprocessing
        self.kept_as = np.dtype(kept_as)
        self._teachers: dict[str, Teacher] = {}
        # Images a forward pass, of those teachers that ran out of memory.
        self._fitting: dict[str, int] = {}

    def run(self, batches: Iterable[Work]) -> Iterator["Outcome"]:
        """Yield each batch with its features.

        Parameters
        ----------
        batches : iterable of Work
            Taken one ahead on a GPU, so that it computes while the caller stores.

        Yields
        ------
        outcome : Outcome
            Of each batch; if the next cannot be had, those in flight come first.
        """
        launched: deque = deque()
        try:
            for work in batches:
                launched.append((work, self._launch(work)))
                if len(launched) > self._n_in_flight():
                    yield self._collected(*launched.popleft())
        except SkshazamError:
            while launched:
                yield self._collected(*launched.popleft())
            raise
        while launched:
            yield self._collected(*launched.popleft())

    def _n_in_flight(self) -> int:
        """Return how many batches wait on the device while the next is prepared."""
        return int(any(t.device.type == "cuda" for t in self._teachers.values()))

    def _launch(self, work: Work) -> dict[str, torch.Tensor]:
        """Return the features of one batch, on the device and perhaps still to come."""
        shared: dict[tuple[int, ...], ImageBatch] = {}
        features = {}
        for name, rows in work.rows.items():
            if not rows:
                continue
            if name not in self._teachers:
                self._teachers[name] = self.load(name)
            # Teachers that see the same images share one upload.
            images = shared.setdefault(
                tuple(rows), ImageBatch([work.images[row] for row in rows])
            )
            features[name] = self._features(name, images)
        return features

    def _features(self, name: str, images: ImageBatch) -> torch.Tensor:
        """Return the features of images, in as many parts as memory allows."""
        while True:
            n_fitting = min(self._fitting.get(name, len(images)), len(images))
            try:
                if n_fitting == len(images):
                    return self._one_pass(name, images)
                parts = [
                    self._one_pass(name, images[start : start + n_fitting])
                    for start in range(0, len(images), n_fitting)
                ]
                return torch.cat(parts)
            except torch.OutOfMemoryError as error:
                # Its traceback would keep alive what took the memory.
                failure = error.with_traceback(None)
            self._halve(name, n_fitting, failure)

    def _one_pass(self, name: str, images: ImageBatch) -> torch.Tensor:
        teacher = self._teachers[name]
        return teacher(images, self._dtype(teacher), self.preprocessing)

    def _dtype(self, teacher: Teacher) -> torch.dtype:
        return resolve_precision(self.precision, teacher.spec.dtype, teacher.device)

    def _halve(self, name: str, n_images: int, error: torch.OutOfMemoryError) -> None:
        """Remember that half as many images go at once; refuse when that is none."""
        device = self._teachers[name].device
        if n_images == 1:
            raise TeacherMemoryError(
                f"Teacher {name!r} ran out of memory on {device} with a single image. "
                "Free memory there (skshazam.teachers.unload_teachers() forgets loaded "
                "teachers), run the teachers one by one with a store, or pass "
                "precision='float16' or device='cpu'."
            ) from error
        self._fitting[name] = n_images // 2
        logger.warning(
            "Teacher %s ran out of memory with %d images; going on with %d at once",
            name,
            n_images,
            n_images // 2,
        )
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _collected(self, work: Work, launched: dict[str, torch.Tensor]) -> "Outcome":
        """Wait for the features of one batch, and take out what cannot be kept."""
        features = {name: tensor.cpu().numpy() for name, tensor in launched.items()}
        faults: dict[int, TeacherOutputError] = {}
        for name, values in features.items():
            with np.errstate(over="ignore"):
                is_kept = np.isfinite(values.astype(self.kept_as)).all(axis=1)
            for row in np.flatnonzero(~is_kept):
                fault = self._fault(name, values[row])
                faults.setdefault(work.rows[name][row], fault)
        rows = {}
        for name, values in features.items():
            kept = [row not in faults for row in work.rows[name]]
            rows[name] = [row for row in work.rows[name] if row not in faults]
            features[name] = values[kept]
        return Outcome(replace(work, rows=rows), features, faults)

    def _fault(self, name: str, values: np.ndarray) -> TeacherOutputError:
        """Return what is wrong with the features of one image."""
        if np.isfinite(values).all():
            return TeacherOutputError(
                f"Teacher {name!r} gives {np.abs(values).max():.6g}, and "
                f"{self.kept_as.name}, in which the store keeps features, ends at "
                f"{np.finfo(self.kept_as).max:.6g}. Use FeatureStore(path, "
                "dtype='float32')."
            )
        return TeacherOutputError(
            f"Teacher {name!r} computes values that are not finite, in "
            f"{self._dtype(self._teachers[name])}. Pass precision='float32'; if that "
            "is what it ran in, check its weights, and look at the image."
        )
