"""load_teacher: from a spec to a teacher, whose network timm or a user's code builds.

A loaded teacher is kept for the life of the process, once per device, so that clones
and cross-validation folds share it. Nothing here is ever pickled.
"""

import copy
import functools
import importlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from skshazam._device import resolve_device
from skshazam._randomness import private_randomness
from skshazam.exceptions import (
    MissingDependencyError,
    SkshazamError,
    TeacherLoadingError,
    TeacherOutputError,
    TeacherSpecError,
)
from skshazam.teachers._hub import (
    HUB_PREFIX,
    HubFile,
    fetch_from_hub,
    weights_address,
)
from skshazam.teachers._pretrained import (
    TimmSource,
    check_architecture,
    fetch_timm_source,
)
from skshazam.teachers._remedies import missing_step
from skshazam.teachers._spec import TeacherSpec, find_weights_file
from skshazam.teachers._teacher import Teacher
from skshazam.teachers._weights import load_weights

__all__ = ["build_network", "load_teacher", "unload_teachers"]

logger = logging.getLogger("skshazam")

Key = tuple[str, str, bool, bool]

_loaded: dict[Key, Teacher] = {}
# One a teacher: a download must not hold up those that are loaded or load beside it.
_fetching: dict[Key, threading.Lock] = {}
# Never waited for inside the other: a user's build= may load a teacher itself.
_building = threading.RLock()


def load_teacher(
    spec: TeacherSpec,
    device="auto",
    *,
    channels_last: bool = False,
    compile: bool = False,
) -> Teacher:
    """Return a teacher ready to run, loaded at most once per process and device.

    Parameters
    ----------
    spec : TeacherSpec
        Which teacher.
    device : str or torch.device, default="auto"
        Where it runs; "auto" is a GPU if there is one.
    channels_last : bool, default=False
        Keep the channels innermost in memory.
    compile : bool, default=False
        Let :func:`torch.compile` translate the network at its first batch.

    Returns
    -------
    teacher : Teacher

    Raises
    ------
    TeacherSpecError
        timm does not know the architecture, or it refuses the arguments.
    MissingDependencyError
        The spec requires a package or file that skshazam does not bring.
    TeacherLoadingError
        The weights cannot be found, reached or read.
    GatedTeacherError
        The Hub asks to accept the licence first.
    OfflineTeacherError
        The weights are not in the Hub's cache, and the Hub cannot be asked.
    CheckpointMismatchError
        The weights do not fit the architecture.
    TeacherOutputError
        The output is not what the spec promises.
    """
    resolved = resolve_device(device)
    key = (spec.fingerprint(), str(resolved), channels_last, compile)
    if (loaded := _loaded.get(key)) is not None:
        return loaded
    with _fetching.setdefault(key, threading.Lock()):
        _fetch(spec)
    with _building:
        teacher = _loaded.get(key)
        if teacher is None:
            logger.info("Loading teacher %s on %s", spec.name, resolved)
            module, commit = _build(spec)
            teacher = _loaded[key] = Teacher(
                spec,
                module,
                resolved,
                commit=commit,
                channels_last=channels_last,
                compile=compile,
            )
        return teacher


def build_network(spec: TeacherSpec) -> nn.Module:
    """Return a new network of a teacher, its weights in place, shared with nobody.

    Unlike that of :func:`load_teacher` it is neither frozen nor kept nor tried out.

    Parameters
    ----------
    spec : TeacherSpec
        Which teacher.

    Returns
    -------
    module : nn.Module
        On the CPU, as timm or the user's code leaves it.

    Raises
    ------
    SkshazamError
        Whatever :func:`load_teacher` raises before the teacher's first image.
    """
    _fetch(spec)
    with _building:
        return _build(spec)[0]


def unload_teachers() -> None:
    """Forget all loaded teachers, so that their memory can be used again."""
    _loaded.clear()


def _build(spec: TeacherSpec) -> tuple[nn.Module, str | None]:
    """Return the network of a spec, its weights in place, and their Hub commit."""
    source, found = _fetch(spec)
    # Fixed seed: whatever a network initialises at random must not change the vector
    # from one process to the next.
    with private_randomness(0, torch.device("cpu")):
        module = _call_build(spec) if spec.build else _create_timm_model(spec, source)
    if found is None:
        return module, None
    if isinstance(found, Path):
        load_weights(module, found, spec)
        return module, None
    try:
        load_weights(module, found.path, spec)
    except TeacherLoadingError as error:
        raise TeacherLoadingError(f"{error}{_fetch_again(found)}") from error
    return module, found.commit


def _fetch(spec: TeacherSpec) -> tuple[TimmSource | None, Path | HubFile | None]:
    """Return the files that a network and its weights are made from.

    They come first: a network of a billion weights takes a while to build for nothing.
    Asked again, the caches have them.
    """
    _check_requirements(spec)
    source = None if spec.build else _timm_source(spec)
    if spec.weights is None:
        return source, source.weights if source else None
    return source, None if spec.weights == "random" else _weights_file(spec)


def _fetch_again(found: HubFile) -> str:
    """Return the second step: how to replace a damaged file of the Hub's cache."""
    command = found.address.download_command(force=True)
    return f"\n2. It is in the Hub's cache; to replace a damaged one: `{command}`."


def _check_requirements(spec: TeacherSpec) -> None:
    """Refuse a spec that still lacks what it says a user has to add."""
    has_network = spec.build is not None or spec.architecture is not None
    if spec.requires is None or (has_network and spec.weights is not None):
        return
    raise MissingDependencyError(
        f"Teacher {spec.name!r} needs what skshazam does not bring: {spec.requires}. "
        f"{missing_step(spec)}"
    )


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


def _timm_source(spec: TeacherSpec) -> TimmSource:
    """Return the local files that timm builds a spec's network from."""
    check_architecture(spec)
    return fetch_timm_source(spec)


def _create_timm_model(spec: TeacherSpec, source: TimmSource) -> nn.Module:
    """Return timm's model without its classifier, its weights still random."""
    import json

    import timm

    arguments = {
        key: _imported(value, spec) for key, value in spec.architecture_kwargs.items()
    }
    try:
        # pretrained=True would tolerate missing weights wherever a classifier is left
        # out, and leave them random. ``load_weights`` tolerates none.
        return timm.create_model(source.architecture, num_classes=0, **arguments)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {_path_of(source.configuration)!r} is no readable "
            f"configuration: {error}.\n1. Fetch or copy it again."
            + _fetch_again_if_cached(source.configuration)
        ) from error
    except Exception as error:
        read = (
            f" of {_path_of(source.configuration)!r}, by timm {timm.__version__},"
            if source.configuration
            else ""
        )
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: timm cannot build {spec.architecture!r}{read} "
            f"with architecture_kwargs={spec.architecture_kwargs}: {error}."
        ) from error


def _path_of(file: HubFile | Path) -> str:
    return str(file.path if isinstance(file, HubFile) else file)


def _fetch_again_if_cached(file: HubFile | Path) -> str:
    return _fetch_again(file) if isinstance(file, HubFile) else ""


def _imported(value, spec: TeacherSpec):
    """Return the object that a dotted name of timm or torch stands for."""
    if isinstance(value, Mapping) and "partial" in value:
        bound = {key: _imported(item, spec) for key, item in value.items()}
        function = bound.pop("partial")
        if callable(function):
            return functools.partial(function, **bound)
        raise TeacherSpecError(
            f"Teacher {spec.name!r}: architecture_kwargs binds arguments to "
            f"{function!r}; expected the dotted name of a class or function of timm or "
            "torch, such as {'partial': 'torch.nn.LayerNorm', 'eps': 1e-12}."
        )
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


def _weights_file(spec: TeacherSpec) -> Path | HubFile:
    """Return a spec's checkpoint as a local file, fetched from the Hub if need be."""
    if spec.weights.startswith(HUB_PREFIX):
        return fetch_from_hub(weights_address(spec), spec.name)
    path = Path(spec.weights).expanduser()
    if path.is_dir():
        return find_weights_file(path, spec.name)
    if not path.is_file():
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: no weights at {spec.weights!r} (working directory "
            f"{str(Path.cwd())!r}).\n1. Pass a file, or a folder that holds one.\n"
            f"2. Or let it be fetched: '{HUB_PREFIX}owner/repository/file'."
        )
    return path
