"""Run teachers over images into a store; what is stored is not computed again.

Each batch is on disk before the next is waited for, so that a run that is killed loses
only what was in flight.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice

import numpy as np
from tqdm.auto import tqdm

from skshazam.exceptions import FeatureStoreError, SkshazamError
from skshazam.features._forward import ForwardPass, Outcome, Work
from skshazam.features._identity import describe_features, feature_fingerprint
from skshazam.features._options import ExtractionOptions
from skshazam.features._pending import PendingImages
from skshazam.features._progress import progress_bar
from skshazam.storage._store import FeatureStore
from skshazam.teachers import Teacher, TeacherSpec, load_teacher

__all__ = ["StoreRun", "StoredExtraction"]

logger = logging.getLogger("skshazam")

# What the index of files learns is written in portions; losing one costs some reading.
LEARNT_ROWS = 4096


@dataclass(frozen=True)
class StoredExtraction:
    """What a pass over the images put into a store, or found there.

    Parameters
    ----------
    digests : ndarray of shape (n_images, 32), dtype=uint8
        Content digest of each image, by which its features are stored; zeros where an
        image gave none.
    errors : dict of int to SkshazamError, default={}
        The images that gave no features by position: an ImageReadError if one is
        unreadable, a TeacherOutputError if a teacher computes no vector that can be
        kept.
    n_computed : int, default=0
        Images that at least one teacher was run on.
    n_found : int, default=0
        Images whose features were stored already.
    """

    digests: np.ndarray
    errors: dict[int, SkshazamError] = field(default_factory=dict)
    n_computed: int = 0
    n_found: int = 0


class StoreRun:
    """One process's pass over images into a store.

    Parameters
    ----------
    images : sequence of length n
        From :func:`skshazam.images.check_image_collection`.
    teachers : sequence of TeacherSpec
        Loaded when an image lacks their features, not before.
    store : FeatureStore
        Where features are found and kept.
    options : ExtractionOptions
        How teachers run.
    first, n_images : int, default=0, None
        Where `images` begin in the user's collection and its length, for messages.
    """

    def __init__(
        self,
        images: Sequence,
        teachers: Sequence[TeacherSpec],
        store: FeatureStore,
        options: ExtractionOptions,
        *,
        first: int = 0,
        n_images: int | None = None,
    ):
        self.store = store
        self.options = options
        self._fingerprints = fingerprints_of(teachers, options)
        self._specs = {spec.name: spec for spec in teachers}
        self._folders = {
            name: store.rows(fingerprint, self._specs[name].dim)
            for name, fingerprint in self._fingerprints.items()
        }
        self._pending = PendingImages(
            images,
            store.files,
            self._folders,
            n_threads=options.n_threads,
            batch_size=options.batch_size,
            on_error=options.on_error,
            first=first,
            n_images=n_images,
            on_settled=self._on_settled,
        )
        self._bar = progress_bar(len(images), shown=False)
        self._commits: dict[str, str] = {}
        self._n_computed = 0

    def run(self, bar: tqdm) -> StoredExtraction:
        """Compute and store what is missing.

        Parameters
        ----------
        bar : tqdm
            Moved on by the number of images that need nothing more.

        Returns
        -------
        extraction : StoredExtraction
        """
        forward = ForwardPass(
            self._load,
            precision=self.options.precision,
            preprocessing=self.options.preprocessing,
            kept_as=self.store.dtype,
        )
        self._bar = bar
        self._refresh()
        try:
            for outcome in forward.run(self._batches()):
                self._keep(outcome)
                self._on_settled()
        finally:
            self._learn(at_least=1)
            if self._n_computed:
                self.store.close()  # merges the small shards of this run
        self._on_settled()
        pending = self._pending
        return StoredExtraction(
            pending.digests, pending.errors, self._n_computed, pending.n_found
        )

    def _batches(self) -> Iterator[Work]:
        """Yield batches of images that are not stored by anyone yet."""
        decoded = iter(self._pending)
        while batch := list(islice(decoded, self.options.batch_size)):
            positions = [position for position, _ in batch]
            self._refresh()
            work = Work(
                positions,
                [image for _, image in batch],
                self._pending.lacking(positions),
            )
            self._pending.n_found += len(batch) - work.n_lacking
            if work.n_lacking:
                yield work

    def _refresh(self) -> None:
        """See what other processes have stored meanwhile."""
        for folder in self._folders.values():
            folder.refresh()

    def _load(self, name: str) -> Teacher:
        """Return a teacher, its facts noted in the store."""
        self.store.check_writable()
        options = self.options
        teacher = load_teacher(
            self._specs[name],
            options.device,
            channels_last=options.channels_last,
            compile=options.compile,
        )
        facts = describe_features(
            self._specs[name],
            precision=options.precision,
            preprocessing=options.preprocessing,
            dim=teacher.dim,
            commit=teacher.commit,
        )
        self.store.describe(self._fingerprints[name], facts)
        if teacher.commit is not None:
            self._commits[name] = teacher.commit
        return teacher

    def _keep(self, outcome: Outcome) -> None:
        """Write one batch, and then say which of its images cannot be written."""
        work = outcome.work
        digests = self._pending.digests[work.positions]
        for name, values in outcome.features.items():
            origin = {"torch": version("torch")}
            if name in self._commits:
                origin["commit"] = self._commits[name]
            self._folders[name].write(digests[work.rows[name]], values, origin)
        self._n_computed += work.n_lacking
        for row, fault in outcome.faults.items():
            # An image that is in the batch twice was computed once.
            for twin in np.flatnonzero((digests == digests[row]).all(axis=1)):
                self._pending.refuse(work.positions[twin], fault, was_found=twin != row)

    def _learn(self, at_least: int) -> None:
        """Write what was learnt about files, if it is worth a shard."""
        learnt = self._pending.learnt
        if len(learnt) < at_least:
            return
        portion = learnt[:]  # decoding threads go on appending
        del learnt[: len(portion)]
        entries = np.frombuffer(b"".join(a + b for a, b in portion), dtype=np.uint8)
        keys, digests = np.split(entries.reshape(len(portion), -1), 2, axis=1)
        try:
            self.store.files.write(keys, digests)
        except FeatureStoreError as error:
            # The index saves reading, and nothing depends on it.
            logger.debug("The index of files was not written: %s", error)

    def _on_settled(self) -> None:
        """Keep what was learnt, and move the progress bar."""
        self._learn(at_least=LEARNT_ROWS)
        pending = self._pending
        done = pending.n_found + len(pending.errors) + self._n_computed
        self._bar.update(done - self._bar.n)


def fingerprints_of(
    teachers: Sequence[TeacherSpec], options: ExtractionOptions
) -> dict[str, str]:
    """Return under which fingerprint each teacher's features are stored.

    Parameters
    ----------
    teachers : sequence of TeacherSpec
        The teachers.
    options : ExtractionOptions
        How they run.

    Returns
    -------
    fingerprints : dict of str to str
        By the teachers' names, in order.
    """
    return {
        spec.name: feature_fingerprint(
            spec, precision=options.precision, preprocessing=options.preprocessing
        )
        for spec in teachers
    }
