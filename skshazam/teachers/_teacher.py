"""Teacher: a frozen network with its preprocessing, ready to run on one device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from skshazam.exceptions import TeacherMemoryError, TeacherOutputError
from skshazam.teachers._pooling import pooled_features
from skshazam.teachers._preprocessing import preprocess
from skshazam.teachers._remedies import numbered, steps_for_misfit
from skshazam.teachers._spec import TeacherSpec

__all__ = ["Teacher"]


class Teacher:
    """A frozen network with its preprocessing: decoded images in, features out.

    Parameters
    ----------
    spec : TeacherSpec
        The facts.
    module : nn.Module
        The network with its weights.
    device : torch.device
        Where it runs.
    commit : str, default=None
        The Hub commit that the weights are from; None if they are not from the Hub.
    channels_last : bool, default=False
        Keep images and weights with their channels innermost, which convolutions on a
        GPU, and of half precision on a CPU, often run faster in.
    compile : bool, default=False
        Let :func:`torch.compile` translate the network at its first batch.

    Attributes
    ----------
    dim : int
        Length of its feature vector, measured by a dry forward pass.
    """

    def __init__(
        self,
        spec: TeacherSpec,
        module: nn.Module,
        device: torch.device,
        *,
        commit: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
    ):
        self.spec = spec
        self.device = device
        self.commit = commit
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.module = module.eval().requires_grad_(False)
        try:
            self.module.to(device, memory_format=self._layout)
            self.dim = self._measured_dim()
        except torch.OutOfMemoryError as error:
            raise TeacherMemoryError(
                f"Teacher {spec.name!r} does not fit into the free memory of {device}. "
                "1. Free memory there: skshazam.teachers.unload_teachers() forgets "
                "teachers that are loaded. 2. Run the teachers one by one, with a "
                "store. 3. Or pass device='cpu'."
            ) from error
        if compile:
            _compile(self.module, spec)

    @torch.inference_mode()
    def __call__(
        self,
        images: Sequence[np.ndarray],
        dtype: torch.dtype = torch.float32,
        preprocessing: str = "fast",
    ) -> torch.Tensor:
        """Return the features of decoded images.

        Parameters
        ----------
        images : sequence of ndarray of shape (height, width, 3), dtype=uint8
            RGB pixels; sizes may differ. An ``ImageBatch`` is uploaded once for all
            teachers.
        dtype : torch.dtype, default=torch.float32
            Autocast dtype; float32 turns autocast off.
        preprocessing : {"fast", "pil"}, default="fast"
            Who resizes: the device, or Pillow.

        Returns
        -------
        features : Tensor of shape (n_images, dim), dtype=float32
            On the teacher's device.
        """
        batch = preprocess(images, self.spec, self.device, preprocessing)
        batch = batch.contiguous(memory_format=self._layout)
        with torch.autocast(
            self.device.type, dtype=dtype, enabled=dtype != torch.float32
        ):
            return pooled_features(self.module, batch, self.spec).float()

    def _measured_dim(self) -> int:
        """Return the length of a black image's feature, checked against the spec."""
        spec = self.spec
        black = np.zeros((*spec.input_size, 3), dtype=np.uint8)
        try:
            features = self([black])
        except (TeacherOutputError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise TeacherOutputError(
                f"Teacher {spec.name!r} cannot process a {spec.input_size} image: "
                f"{type(error).__name__}: {error}."
                + _steps(spec, "Check size= and architecture_kwargs.")
            ) from error
        n_rows, dim = features.shape
        if n_rows != 1 or (spec.dim is not None and dim != spec.dim):
            raise TeacherOutputError(
                f"Teacher {spec.name!r} returns features of shape ({n_rows}, {dim}) "
                f"for one image; its spec promises (1, {spec.dim})."
                + _steps(
                    spec, f"Set dim={dim}, or another pooling than {spec.pooling!r}."
                )
            )
        if not torch.isfinite(features).all():
            raise TeacherOutputError(
                f"Teacher {spec.name!r} returns non-finite values for a black image."
                + _steps(spec, "Check its weights.")
            )
        return dim


def _steps(spec: TeacherSpec, own_step: str) -> str:
    """Return what to do about an output, as lines that follow a message."""
    return numbered(steps_for_misfit(spec, own_step))


def _compile(module: nn.Module, spec: TeacherSpec) -> None:
    """Compile, in place, the method that this spec's pooling calls."""
    if spec.pooling == "model" or spec.architecture is None:
        module.compile()
    else:
        module.forward_features = torch.compile(module.forward_features)
