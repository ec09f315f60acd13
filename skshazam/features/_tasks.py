"""extract_to_store: in this process, or as tasks for any executor.

A task is pure data and may run twice: features go to the store and never through the
scheduler, and what is stored is not computed again.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, wait
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval, validate_parameter_constraints
from tqdm.auto import tqdm

from skshazam._device import resolve_device
from skshazam.exceptions import (
    ExtractionInterruptedError,
    FeatureStoreError,
    FeatureStoreMismatchError,
    OfflineTeacherError,
    SkshazamError,
    TeacherMemoryError,
)
from skshazam.features._options import ExtractionOptions
from skshazam.features._progress import progress_bar
from skshazam.features._stored import StoredExtraction, StoreRun
from skshazam.images import check_files_exist, check_image_collection
from skshazam.storage._store import FeatureStore
from skshazam.teachers import TeacherSpec, resolve_teachers

__all__ = ["ExtractionTask", "extract_to_store", "run_task"]

logger = logging.getLogger("skshazam")

# How often a task whose worker died is handed out again.
MAX_ROUNDS = 3
# What may be different on another worker, or a minute later.
PASSING = (FeatureStoreError, OfflineTeacherError, TeacherMemoryError)
# Tasks handed out at once: enough for any cluster, and a bound on what waits there.
MAX_WAITING = 256


@dataclass(frozen=True)
class ExtractionTask:
    """A part of an extraction, for a worker that shares the file system.

    Parameters
    ----------
    images : sequence of length n
        A slice of the user's collection.
    first, n_images : int
        Where it begins there, and how long the collection is.
    teachers : tuple of TeacherSpec
        Whose features.
    store : FeatureStore
        Where they go.
    options : ExtractionOptions
        How teachers run.
    """

    images: Sequence
    first: int
    n_images: int
    teachers: tuple[TeacherSpec, ...]
    store: FeatureStore
    options: ExtractionOptions


def run_task(task: ExtractionTask, round_: int = 0) -> StoredExtraction:
    """Compute and store what a part of an extraction lacks.

    Parameters
    ----------
    task : ExtractionTask
        The part.
    round_ : int, default=0
        How often it was tried before; tells schedulers that the call is a new one.

    Returns
    -------
    extraction : StoredExtraction
        Digests and errors, by position in the part.
    """
    run = StoreRun(
        task.images,
        task.teachers,
        task.store,
        task.options,
        first=task.first,
        n_images=task.n_images,
    )
    return run.run(progress_bar(len(task.images), shown=False))


def extract_to_store(
    images: Sequence,
    teachers: Sequence[str | TeacherSpec],
    store: "FeatureStore | str | os.PathLike",
    *,
    weights: Mapping[str, str | os.PathLike] | None = None,
    device="auto",
    precision: str = "auto",
    preprocessing: str = "fast",
    channels_last: bool = False,
    compile: bool = False,
    batch_size: int = 64,
    n_threads: int = 1,
    on_error: str = "raise",
    progress: bool = False,
    executor: Executor | None = None,
    task_size: int = 4096,
) -> StoredExtraction:
    """Make sure that a store holds the features of images.

    Parameters
    ----------
    images : sequence of length n_images
        What :func:`skshazam.images.read_image` reads.
    teachers : sequence of str or TeacherSpec
        As for ``TeacherFeatureTransformer``. A teacher is loaded only if some image
        lacks its features.
    store : FeatureStore or path-like
        Where features are kept. Any number of processes may write to it at once.
    weights : dict of str to path-like, default=None
        Local checkpoint file or folder for some of the names.
    device : str or torch.device, default="auto"
        Where teachers run; "auto" is a GPU if the process that runs them has one.
    precision : {"auto", "float32", "float16", "bfloat16"}, default="auto"
        Autocast dtype; "auto" is each teacher's own on a GPU and float32 elsewhere.
    preprocessing : {"fast", "pil"}, default="fast"
        Who resizes: the device in batches, or Pillow image by image.
    channels_last : bool, default=False
        Keep the channels innermost in memory.
    compile : bool, default=False
        Let :func:`torch.compile` translate the teachers.
    batch_size : int, default=64
        Images a forward pass, and images that are on disk together.
    n_threads : int, default=1
        Threads that read and decode.
    on_error : {"raise", "nan"}, default="raise"
        Whether the first image that is found to give no features ends the run, or all
        such images are listed in ``errors``. What was computed before is kept in both
        cases. Which is found first may differ from run to run: batches of neighbours
        are taken in random order, so that runs side by side share the work.
    progress : bool, default=False
        Show a progress bar with rate and remaining time.
    executor : concurrent.futures.Executor, default=None
        Runs tasks of `task_size` images elsewhere, for example
        ``dask.distributed.Client(...).get_executor()``; None runs everything here.
        Workers must see the same files and the same store.
    task_size : int, default=4096
        Images a task.

    Returns
    -------
    extraction : StoredExtraction
        The digests by which :func:`read_features` finds the features again.

    Raises
    ------
    ImageReadError
        An image is unreadable and `on_error` is "raise"; the message names it.
    TeacherOutputError
        A teacher computes no vector that the store can keep, and `on_error` is "raise".
    FeatureStoreError
        The store cannot be written, for example because the disk is full.
    DeviceError
        There is no such device here.
    ExtractionInterruptedError
        Workers of the executor died repeatedly. What they computed is kept.

    See Also
    --------
    TeacherFeatureTransformer : The same as a step of a pipeline.
    """
    validate_parameter_constraints(
        {"task_size": [Interval(Integral, 1, None, closed="left")]},
        {"task_size": task_size},
        caller_name="extract_to_store",
    )
    options = ExtractionOptions(
        device=device,
        precision=precision,
        preprocessing=preprocessing,
        channels_last=channels_last,
        compile=compile,
        batch_size=batch_size,
        n_threads=n_threads,
        on_error=on_error,
    )
    images = check_image_collection(images)
    specs = resolve_teachers(teachers, weights)
    store = FeatureStore.of(store)
    if executor is None:
        resolve_device(device)
    if on_error == "raise":
        check_files_exist(images)
    with progress_bar(len(images), progress) as bar:
        if executor is None:
            return StoreRun(images, specs, store, options).run(bar)
        tasks = [
            ExtractionTask(
                images[first : first + task_size],
                first,
                len(images),
                specs,
                store,
                options,
            )
            for first in range(0, len(images), task_size)
        ]
        parts = _run_everywhere(tasks, executor, bar)
    return _joined(tasks, parts)


def _run_everywhere(
    tasks: Sequence[ExtractionTask], executor: Executor, bar: tqdm
) -> dict[int, StoredExtraction]:
    """Return the outcome of every task, trying again those whose worker died."""
    parts: dict[int, StoredExtraction] = {}
    error: BaseException | None = None
    for round_ in range(MAX_ROUNDS):
        remaining = [index for index in range(len(tasks)) if index not in parts]
        for index, outcome in _outcomes(tasks, remaining, executor, round_):
            if isinstance(outcome, StoredExtraction):
                parts[index] = outcome
                bar.update(len(tasks[index].images))
            else:
                error = outcome
                logger.warning("Task %d of %d: %r", index, len(tasks), outcome)
        if len(parts) == len(tasks):
            return parts
        if isinstance(error, BrokenExecutor):
            break
    raise ExtractionInterruptedError(
        f"{len(tasks) - len(parts)} of {len(tasks)} tasks did not finish, the last for "
        f"{type(error).__name__}: {error}. What was computed is stored: run the same "
        "call again with a working executor, and it goes on from there."
    ) from error


def _outcomes(
    tasks: Sequence[ExtractionTask],
    indices: Sequence[int],
    executor: Executor,
    round_: int,
) -> Iterator[tuple[int, StoredExtraction | Exception]]:
    """Yield tasks as they end: index, and the extraction or what killed the worker."""
    running: dict = {}
    waiting = iter(indices)
    try:
        while True:
            for index in waiting:
                try:
                    future = executor.submit(run_task, tasks[index], round_)
                except (RuntimeError, OSError) as error:  # a broken pool takes no more
                    yield index, error
                    break
                running[future] = index
                if len(running) >= MAX_WAITING:
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), _outcome(future)
    finally:
        for future in running:
            future.cancel()


def _outcome(future) -> StoredExtraction | Exception:
    """Return what a task gave; errors that another try would meet again are raised."""
    try:
        return future.result()
    except FeatureStoreMismatchError:
        raise
    except PASSING as error:
        return error
    except SkshazamError:
        raise
    except Exception as error:  # noqa: BLE001 - every scheduler has its own classes
        return error


def _joined(
    tasks: Sequence[ExtractionTask], parts: Mapping[int, StoredExtraction]
) -> StoredExtraction:
    """Return one extraction from its parts."""
    ordered = [parts[index] for index in range(len(tasks))]
    errors = {
        task.first + position: error
        for task, part in zip(tasks, ordered, strict=True)
        for position, error in part.errors.items()
    }
    return StoredExtraction(
        np.concatenate([part.digests for part in ordered]),
        errors,
        sum(part.n_computed for part in ordered),
        sum(part.n_found for part in ordered),
    )
