"""load_teacher: the only door to timm and weight files; ``_hub`` is the one to the Hub.

A loaded teacher is kept for the life of the process, once per device, so that clones
and cross-validation folds share it. Nothing here is ever pickled.
"""

import copy
import importlib
import logging
import pickle
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skshazam._device import resolve_device
from skshazam._randomness import private_randomness
from skshazam.exceptions import (
    CheckpointMismatchError,
    SkshazamError,
    TeacherLoadingError,
    TeacherOutputError,
    TeacherSpecError,
)
from skshazam.teachers._checkpoints import to_timm_layout
from skshazam.teachers._hub import HUB_PREFIX, fetch_from_hub, local_file_hint
from skshazam.teachers._pooling import pooled_features
from skshazam.teachers._preprocessing import preprocess
from skshazam.teachers._spec import TeacherSpec, find_weights_file

__all__ = ["Teacher", "load_teacher", "unload_teachers"]

logger = logging.getLogger("skshazam")

_loaded: dict[tuple[str, str], "Teacher"] = {}
_loading = threading.RLock()


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

    Attributes
    ----------
    dim : int
        Length of its feature vector, measured by a dry forward pass.
    """

    def __init__(self, spec: TeacherSpec, module: nn.Module, device: torch.device):
        self.spec = spec
        self.device = device
        self.module = module.eval().requires_grad_(False).to(device)
        self.dim = self._measured_dim()

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        """Return the features of decoded images.

        Parameters
        ----------
        images : sequence of ndarray of shape (height, width, 3), dtype=uint8
            RGB pixels; sizes may differ.
        dtype : torch.dtype, default=torch.float32
            Autocast dtype; float32 turns autocast off.

        Returns
        -------
        features : Tensor of shape (n_images, dim), dtype=float32
            On the teacher's device.
        """
        batch = preprocess(images, self.spec, self.device)
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
        except TeacherOutputError:
            raise
        except Exception as error:
            raise TeacherOutputError(
                f"Teacher {spec.name!r} cannot process a {spec.input_size} image: "
                f"{type(error).__name__}: {error}. Check size= and architecture_kwargs."
            ) from error
        n_rows, dim = features.shape
        if n_rows != 1 or (spec.dim is not None and dim != spec.dim):
            raise TeacherOutputError(
                f"Teacher {spec.name!r} returns features of shape ({n_rows}, {dim}) "
                f"for one image; its spec promises (1, {spec.dim}). Set dim={dim}, or "
                f"another pooling than {spec.pooling!r}."
            )
        if not torch.isfinite(features).all():
            raise TeacherOutputError(
                f"Teacher {spec.name!r} returns non-finite values for a black image. "
                "Check its weights."
            )
        return dim


def load_teacher(spec: TeacherSpec, device="auto") -> Teacher:
    """Return a teacher ready to run, loaded at most once per process and device.

    Parameters
    ----------
    spec : TeacherSpec
        Which teacher.
    device : str or torch.device, default="auto"
        Where it runs; "auto" is a GPU if there is one.

    Returns
    -------
    teacher : Teacher

    Raises
    ------
    TeacherSpecError
        timm does not know the architecture, or it refuses the arguments.
    TeacherLoadingError
        The weights cannot be found, reached or read.
    GatedTeacherError
        The Hub asks to accept the licence first.
    CheckpointMismatchError
        The weights do not fit the architecture.
    TeacherOutputError
        The output is not what the spec promises.
    """
    resolved = resolve_device(device)
    key = (spec.fingerprint(), str(resolved))
    with _loading:
        if key not in _loaded:
            logger.info("Loading teacher %s on %s", spec.name, resolved)
            _loaded[key] = Teacher(spec, _build(spec), resolved)
        return _loaded[key]


def unload_teachers() -> None:
    """Forget all loaded teachers, so that their memory can be used again."""
    with _loading:
        _loaded.clear()


def _build(spec: TeacherSpec) -> nn.Module:
    """Return the network of a spec with its weights in place."""
    # Fixed seed: whatever a network initialises at random must not change the vector
    # from one process to the next.
    with private_randomness(0, torch.device("cpu")):
        module = _call_build(spec) if spec.build else _create_timm_model(spec)
    if spec.weights not in (None, "random"):
        _load_weights(module, _weights_file(spec), spec)
    return module


def _call_build(spec: TeacherSpec) -> nn.Module:
    try:
        # A copy: the module may be the user's own, or that of another teacher.
        module = copy.deepcopy(spec.build())
    except SkshazamError:
        raise
    except Exception as error:
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: build() raised {type(error).__name__}: {error}. "
            "It is called without arguments and has to return a torch.nn.Module."
        ) from error
    if not isinstance(module, nn.Module):
        raise TeacherOutputError(
            f"Teacher {spec.name!r}: build() returned {type(module).__name__}; "
            "expected a torch.nn.Module that maps (n, 3, height, width) to features."
        )
    return module


def _create_timm_model(spec: TeacherSpec) -> nn.Module:
    """Return timm's model without its classifier."""
    import timm

    arguments = {
        key: _imported(value, spec) for key, value in spec.architecture_kwargs.items()
    }
    architecture, pretrained = spec.architecture, spec.weights is None
    if not architecture.startswith(HUB_PREFIX):
        _check_architecture(spec, timm)
    elif pretrained and spec.revision is not None:
        architecture = f"{architecture}@{spec.revision}"
    try:
        return timm.create_model(
            architecture, pretrained=pretrained, num_classes=0, **arguments
        )
    except Exception as error:
        if pretrained and not isinstance(error, TypeError | AssertionError | KeyError):
            raise TeacherLoadingError(
                f"Teacher {spec.name!r}: timm cannot get the weights of "
                f"{architecture!r}: {error} {local_file_hint(spec)}"
            ) from error
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: timm cannot build {architecture!r} with "
            f"architecture_kwargs={spec.architecture_kwargs}: {error}."
        ) from error


def _check_architecture(spec: TeacherSpec, timm) -> None:
    """Refuse an architecture that timm does not know, with the nearest it does."""
    import difflib

    name = spec.architecture.partition(".")[0]
    if timm.is_model(name):
        return
    nearest = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.3)
    raise TeacherSpecError(
        f"Teacher {spec.name!r}: timm {timm.__version__} knows no architecture "
        f"{spec.architecture!r}. Nearest: {', '.join(nearest) or 'none'}."
    )


def _imported(value, spec: TeacherSpec):
    """Return the object that a dotted name of timm or torch stands for."""
    if not (isinstance(value, str) and value.startswith(("timm.", "torch."))):
        return value
    module, _, attribute = value.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: architecture_kwargs names {value!r}, which cannot "
            f"be imported: {error}."
        ) from error


def _weights_file(spec: TeacherSpec) -> Path:
    """Return a spec's checkpoint as a local file, fetched from the Hub if need be."""
    if spec.weights.startswith(HUB_PREFIX):
        return fetch_from_hub(spec)
    path = Path(spec.weights).expanduser()
    if path.is_dir():
        return find_weights_file(path)
    if not path.is_file():
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: no weights at {spec.weights!r} (working directory "
            f"{str(Path.cwd())!r}). Pass a file, a folder that holds one, or "
            f"'{HUB_PREFIX}owner/repository/file'."
        )
    return path


def _read_state(path: Path, spec: TeacherSpec) -> dict[str, torch.Tensor]:
    """Return the state dict in a checkpoint; no code in it is ever run."""
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {str(path)!r} is no plain state dict, and loading "
            "it could run code. Save module.state_dict() as .safetensors instead."
        ) from error
    except Exception as error:  # damaged files raise nearly anything
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {str(path)!r} is no readable checkpoint: {error}. "
            "Fetch or copy it again."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor)
        for key, value in state.items()
    ):
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {str(path)!r} holds {type(state).__name__}, not a "
            "state dict of tensors. Save module.state_dict() alone."
        )
    return state


def _load_weights(module: nn.Module, path: Path, spec: TeacherSpec) -> None:
    """Load a checkpoint strictly, but for the classifier that no feature needs."""
    state = _read_state(path, spec)
    expected = module.state_dict()
    if spec.architecture is not None:
        state = to_timm_layout(state)
        classifier = module.pretrained_cfg.get("classifier") or ()
        prefixes = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        state = {
            key: value
            for key, value in state.items()
            if key in expected or not key.startswith(tuple(f"{p}." for p in prefixes))
        }
    problems = [
        *_first_keys("missing from the file", expected.keys() - state.keys()),
        *_first_keys("unknown to the architecture", state.keys() - expected.keys()),
        *_first_keys(
            "of another shape",
            {
                f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
                for key, value in expected.items()
                if key in state and state[key].shape != value.shape
            },
        ),
    ]
    if problems:
        raise CheckpointMismatchError(
            f"The weights {str(path)!r} do not fit teacher {spec.name!r} "
            f"({spec.architecture or spec.build}): {'; '.join(problems)}. Check "
            "architecture, architecture_kwargs and the file."
        )
    module.load_state_dict(state)


def _first_keys(problem: str, keys) -> list[str]:
    """Return one phrase that counts the keys and names the first three, or none."""
    if not keys:
        return []
    first = sorted(keys)[:3]
    return [
        f"{len(keys)} key{'s' * (len(keys) > 1)} {problem}: {', '.join(first)}"
        + ", ..." * (len(keys) > 3)
    ]
