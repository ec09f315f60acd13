"""From a checkpoint file to the weights of a network: safely read, strictly loaded."""

import argparse
import pickle
import sys
from pathlib import Path

import torch
from torch import nn

from skshazam.exceptions import CheckpointMismatchError, TeacherLoadingError
from skshazam.teachers._checkpoints import to_timm_layout
from skshazam.teachers._remedies import name_of_network, numbered, steps_for_misfit
from skshazam.teachers._spec import TeacherSpec

__all__ = ["load_weights", "read_state"]


def read_state(path: Path, spec: TeacherSpec) -> dict[str, torch.Tensor]:
    """Return the state dict in a checkpoint; no code in it is ever run."""
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # DINO's training code keeps its arguments, a Namespace, beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {str(path)!r} is no plain state dict, and loading "
            "it could run code.\n1. Save module.state_dict() as .safetensors instead."
        ) from error
    except Exception as error:  # damaged files raise nearly anything
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {str(path)!r} is no readable checkpoint: {error}."
            "\n1. Fetch or copy it again."
        ) from error
    for wrapper in ("state_dict", "model", "teacher"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor)
        for key, value in state.items()
    ):
        raise TeacherLoadingError(
            f"Teacher {spec.name!r}: {str(path)!r} holds {type(state).__name__}, not a "
            "state dict of tensors.\n1. Save module.state_dict() alone."
        )
    return state


def load_weights(module: nn.Module, path: Path, spec: TeacherSpec) -> None:
    """Load a checkpoint strictly, but for what no feature needs.

    A timm model's may be in another layout (see ``to_timm_layout``) and may hold its
    classifier; where the architecture names weights of its own, timm's rules for these
    come first, so that position embeddings of another size are brought to the
    network's. That of a module with a method ``adapt_checkpoint`` goes through it.
    """
    state = read_state(path, spec)
    expected = module.state_dict()
    if spec.architecture is not None:
        if _names_weights(spec):
            state = _by_timms_rules(module, state)
        state = _adapted_to_timm(module, state, expected)
    elif hasattr(module, "adapt_checkpoint"):
        state = module.adapt_checkpoint(state)
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
        own = "architecture and architecture_kwargs" if spec.architecture else "build="
        steps = steps_for_misfit(spec, f"Check {own}.")
        raise CheckpointMismatchError(
            f"The weights {str(path)!r} do not fit teacher {spec.name!r} "
            f"({name_of_network(spec)}): {'; '.join(problems)}.{numbered(steps)}"
        )
    module.load_state_dict(state)


def _names_weights(spec: TeacherSpec) -> bool:
    """Return whether an architecture is one of published weights, by tag or address."""
    return spec.weights is None or "." in spec.architecture or "/" in spec.architecture


def _by_timms_rules(module: nn.Module, state: dict) -> dict:
    """Return a checkpoint as timm brings its published ones to its networks."""
    rules = vars(sys.modules[type(module).__module__])
    rule = rules.get("checkpoint_filter_fn") or rules.get("_filter_fn")
    if rule is None:
        return state
    try:
        return rule(dict(state), module)
    except Exception:  # noqa: BLE001 - not of its layout: the strict load names the keys
        return state


def _adapted_to_timm(module: nn.Module, state: dict, expected: dict) -> dict:
    """Return a checkpoint in timm's layout, without the classifier."""
    grid = getattr(getattr(module, "patch_embed", None), "grid_size", None)
    state = to_timm_layout(state, grid)
    classifier = module.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    prefixes = tuple(f"{name}." for name in names)
    return {
        key: value
        for key, value in state.items()
        if key in expected or not key.startswith(prefixes)
    }


def _first_keys(problem: str, keys) -> list[str]:
    """Return one phrase that counts the keys and names the first three, or none."""
    if not keys:
        return []
    first = sorted(keys)[:3]
    return [
        f"{len(keys)} key{'s' * (len(keys) > 1)} {problem}: {', '.join(first)}"
        + ", ..." * (len(keys) > 3)
    ]
