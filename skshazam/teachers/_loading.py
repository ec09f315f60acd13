"""load_teacher: the only door to timm; ``_hub`` is the one to the Hub.

A loaded teacher is kept for the life of the process, once per device, so that clones
and cross-validation folds share it. Nothing here is ever pickled.
"""

import copy
import importlib
import logging
import threading
from pathlib import Path

import torch
from torch import nn

from skshazam._device import resolve_device
from skshazam._randomness import private_randomness
from skshazam.exceptions import (
    SkshazamError,
    TeacherLoadingError,
    TeacherOutputError,
    TeacherSpecError,
)
from skshazam.teachers._hub import HUB_PREFIX, fetch_from_hub, local_file_hint
from skshazam.teachers._spec import TeacherSpec, find_weights_file
from skshazam.teachers._teacher import Teacher
from skshazam.teachers._weights import load_weights

__all__ = ["load_teacher", "unload_teachers"]

logger = logging.getLogger("skshazam")

_loaded: dict[tuple[str, str], Teacher] = {}
_loading = threading.RLock()


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
        load_weights(module, _weights_file(spec), spec)
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
