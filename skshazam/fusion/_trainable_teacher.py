"""TrainableTeacher: a teacher's own network to train, and its input, batch by batch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import nn

from skshazam.exceptions import FineTuningError, ImageReadError, TeacherMemoryError
from skshazam.fusion._fine_tuning import TeacherWithHead
from skshazam.images import check_files_exist, check_image_collection, read_image
from skshazam.images._stream import map_in_order
from skshazam.teachers import Teacher, TeacherSpec, resolve_teachers
from skshazam.teachers._loading import build_network
from skshazam.teachers._pooling import pooled_features
from skshazam.teachers._preprocessing import preprocess

__all__ = ["TrainableTeacher", "check_images", "memory_advice"]


class TrainableTeacher:
    """A teacher whose network may be trained, with its preprocessing.

    Parameters
    ----------
    spec : TeacherSpec
        Which teacher, and what it starts from.
    """

    def __init__(self, spec: TeacherSpec):
        self.spec = spec

    @classmethod
    def of(cls, teacher, weights=None) -> "TrainableTeacher":
        """Return the teacher that two parameters of an estimator stand for.

        Parameters
        ----------
        teacher : str or TeacherSpec
            Name or spec.
        weights : path-like or dict of str to path-like, default=None
            Local checkpoint file or folder to start from; a dict holds it by name, as
            for ``TeacherFeatureTransformer``.

        Returns
        -------
        teacher : TrainableTeacher
        """
        (spec,) = resolve_teachers(teacher)
        if weights is not None:
            of_name = weights if isinstance(weights, Mapping) else {spec.name: weights}
            (spec,) = resolve_teachers(spec, of_name)
        return cls(spec)

    def make_backbone(
        self, *, trained: bool, gradient_checkpointing: bool
    ) -> tuple[nn.Module, int]:
        """Return a network that nobody else has, on the CPU, and the feature's length.

        Parameters
        ----------
        trained : bool
            Whether gradients are to be computed for its weights.
        gradient_checkpointing : bool
            Whether layers are computed twice to save memory.

        Returns
        -------
        backbone : nn.Module
            In float32. Weights that its authors fixed stay fixed.
        dim : int
            Measured by a dry forward pass.

        Raises
        ------
        FineTuningError
            It has no weights to train, or no gradient checkpointing.
        SkshazamError
            Whatever :func:`skshazam.teachers.load_teacher` raises.
        """
        backbone = build_network(self.spec).float()
        # A copy is tried out: this freezes it, and in inference mode, so that what a
        # network caches there could not be trained on.
        dim = Teacher(self.spec, deepcopy(backbone), torch.device("cpu")).dim
        if not trained:
            backbone.requires_grad_(False)
        elif not any(p.requires_grad for p in backbone.parameters()):
            raise FineTuningError(
                f"Teacher {self.spec.name!r} has no weights to train. Use its features "
                "as they are: TeacherFeatureTransformer, or backbone_lr=0."
            )
        if trained and gradient_checkpointing:
            self._turn_on_checkpointing(backbone)
        return backbone, dim

    def rebuilt_backbone(self) -> nn.Module:
        """Return the network once more, without the weights that it started from.

        Returns
        -------
        backbone : nn.Module
            In float32, on the CPU, frozen.
        """
        spec = replace(self.spec, weights="random")
        return build_network(spec).float().requires_grad_(False)

    def with_head(
        self, backbone: nn.Module, dim: int, n_classes: int, head: str
    ) -> TeacherWithHead:
        """Return a network that classifies this teacher's pooled feature.

        Parameters
        ----------
        backbone : nn.Module
            From :meth:`make_backbone` or :meth:`rebuilt_backbone`.
        dim : int
            Length of the feature.
        n_classes : int
            Number of classes.
        head : {"linear", "mlp"}
            Kind of classifier.

        Returns
        -------
        network : TeacherWithHead
        """
        pool = partial(pooled_features, spec=self.spec)
        return TeacherWithHead(backbone, pool, dim, n_classes, head)

    def batches(
        self,
        images: Sequence,
        rows: np.ndarray,
        device: torch.device,
        *,
        batch_size: int,
        n_threads: int,
        preprocessing: str,
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield images decoded and preprocessed as for the frozen teacher.

        One batch is decoded ahead; nothing is kept.

        Parameters
        ----------
        images : sequence
            The collection.
        rows : ndarray of shape (n,), dtype=int
            Which of it, in this order.
        device : torch.device
            Where the network is.
        batch_size : int
            Images a batch.
        n_threads : int
            Threads that decode.
        preprocessing : {"fast", "pil"}
            Who resizes.

        Yields
        ------
        rows : ndarray of shape (B,), dtype=int
            The batch's part of `rows`.
        pixels : Tensor of shape (B, 3, height, width), dtype=float32
            The network's input.

        Raises
        ------
        ImageReadError
            An image is unreadable; the message says which of the collection.
        """

        def read(row):
            try:
                return read_image(images[row])
            except ImageReadError as error:
                raise error.at(row, len(images)) from error

        stream = map_in_order(
            read, rows.tolist(), n_threads=n_threads, n_ahead=batch_size
        )
        for start in range(0, len(rows), batch_size):
            with _no_on_error():
                decoded = list(islice(stream, batch_size))
            pixels = preprocess(decoded, self.spec, device, preprocessing)
            yield rows[start : start + batch_size], pixels

    def _turn_on_checkpointing(self, backbone: nn.Module) -> None:
        """Let a network, or the networks that it wraps, forget what they compute.

        timm's that cannot do it say so with an AssertionError.
        """
        parts = [backbone] if _switch_of(backbone) else list(backbone.children())
        switches = [switch for part in parts if (switch := _switch_of(part))]
        reason = "it has no method set_grad_checkpointing()"
        try:
            for switch in switches:
                switch()
        except (AssertionError, ValueError) as error:
            reason = str(error)
        else:
            if switches:
                return
        raise FineTuningError(
            f"Teacher {self.spec.name!r}: gradient_checkpointing=True, but "
            f"{type(backbone).__name__} cannot do it: {reason}. Pass "
            "gradient_checkpointing=False, and a smaller batch_size to save memory."
        )


def _switch_of(module: nn.Module):
    """Return what turns checkpointing on: timm's method or Hugging Face's, or None."""
    return getattr(
        module,
        "set_grad_checkpointing",
        getattr(module, "gradient_checkpointing_enable", None),
    )


def check_images(X) -> Sequence:
    """Return a collection of images, none of whose files is missing.

    Parameters
    ----------
    X : sequence
        As for :func:`skshazam.images.check_image_collection`.

    Returns
    -------
    images : sequence of length n

    Raises
    ------
    ImageCollectionError
        X is no collection of images.
    ImageReadError
        Some files are missing.
    """
    images = check_image_collection(X)
    with _no_on_error():
        check_files_exist(images)
    return images


@contextmanager
def memory_advice(name: str) -> Iterator[None]:
    """Say what helps when training or prediction runs out of memory.

    Parameters
    ----------
    name : str
        The teacher's name.

    Yields
    ------
    None
        While memory is asked for.

    Raises
    ------
    TeacherMemoryError
        In place of torch's OutOfMemoryError.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TeacherMemoryError(
            f"Teacher {name!r} needs more memory than is free. 1. Lower batch_size. "
            "2. Pass precision='bfloat16' and, for fit, gradient_checkpointing=True. "
            "3. skshazam.teachers.unload_teachers() forgets teachers that are loaded."
        ) from error


@contextmanager
def _no_on_error() -> Iterator[None]:
    """Add to messages on images that what they may advise does not exist here."""
    try:
        yield
    except ImageReadError as error:
        raise ImageReadError(
            f"{error} (There is no on_error in fine-tuning: leave the image out of X "
            "and y.)"
        ) from error
