"""From what a network returns to one vector per image."""

import torch
from torch import nn

from skshazam.exceptions import TeacherOutputError

__all__ = ["POOLING_VERSION", "pooled_features"]

# Part of every fingerprint: raise it whenever the pooled vector of any network changes.
POOLING_VERSION = 1


def pooled_features(module: nn.Module, images: torch.Tensor, spec) -> torch.Tensor:
    """Run a teacher and pool its output as its spec says.

    Parameters
    ----------
    module : nn.Module
        The network. A timm model's tokens come from ``forward_features``; of any other
        module the output itself is taken, with its ``num_prefix_tokens`` (1 if it has
        none) class and register tokens in front.
    images : Tensor of shape (n, 3, height, width), dtype=float32
        Preprocessed images.
    spec : TeacherSpec
        Names the pooling.

    Returns
    -------
    features : Tensor of shape (n, dim)

    Raises
    ------
    TeacherOutputError
        The output's rank does not fit the pooling.
    """
    if spec.pooling == "model":
        return _require_rank(module(images), (2,), spec)
    is_timm = spec.architecture is not None
    output = module.forward_features(images) if is_timm else module(images)
    output = _require_rank(output, (3, 4) if spec.pooling == "mean" else (3,), spec)
    if output.ndim == 4:
        return output.mean(dim=_spatial_axes(module))
    # A bring-your-own module that says nothing has one class token in front.
    has_class_token = not is_timm or getattr(module, "cls_token", None) is not None
    n_prefix = getattr(module, "num_prefix_tokens", int(has_class_token))
    mean = output[:, n_prefix:].mean(dim=1)
    if spec.pooling == "mean":
        return mean
    if not has_class_token or n_prefix == 0:
        raise TeacherOutputError(
            f"Teacher {spec.name!r} has no class token, which pooling="
            f"{spec.pooling!r} needs. Use pooling='mean' or 'model'."
        )
    class_token = output[:, 0]
    return class_token if spec.pooling == "cls" else torch.cat([class_token, mean], 1)


def _spatial_axes(module: nn.Module) -> tuple[int, int]:
    """Return the axes of height and width in a feature map; swin models differ."""
    return (1, 2) if getattr(module, "output_fmt", "NCHW") == "NHWC" else (2, 3)


def _require_rank(output, ranks: tuple[int, ...], spec) -> torch.Tensor:
    """Return ``output`` if it is a tensor of an expected rank."""
    if isinstance(output, torch.Tensor) and output.ndim in ranks:
        return output
    got = (
        f"a tensor of shape {tuple(output.shape)}"
        if isinstance(output, torch.Tensor)
        else type(output).__name__
    )
    raise TeacherOutputError(
        f"Teacher {spec.name!r} returned {got}, while pooling={spec.pooling!r} needs a "
        f"tensor of {' or '.join(map(str, ranks))} axes, batch first. Choose another "
        "pooling ('model' for (n, dim); 'cls', 'mean' or 'cls+mean' for (n, tokens, "
        "dim); 'mean' for (n, dim, height, width)) or wrap the module."
    )
