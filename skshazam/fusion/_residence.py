"""What stays in the device's memory for a whole fit, and what is computed only once."""

from collections.abc import Callable

import torch

__all__ = ["fixed_outputs", "resident"]

CHUNK = 512  # rows: what they become should fit what the allocator keeps
MODEST = 64 * 2**20  # bytes


def resident(
    data: dict[str, torch.Tensor], codes: torch.Tensor, device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Move a fit's tensors to the device if half of its free memory holds them.

    Parameters
    ----------
    data : dict of Tensor
        One row per sample; ``held_out`` stays where it is.
    codes : Tensor of shape (n_samples,), dtype=int64
        Class codes.
    device : torch.device
        Where the student is trained.

    Returns
    -------
    data : dict of Tensor
        On the device, without a copy if they were there; or as they were, to be moved
        batch by batch.
    codes : Tensor of shape (n_samples,), dtype=int64
        Where ``data`` is.
    """
    if device.type == "cpu":
        return data, codes
    n_bytes = sum(tensor.nbytes for tensor in data.values())
    if 2 * n_bytes > _free_bytes(device):
        return data, codes
    moved = {
        name: tensor if name == "held_out" else tensor.to(device)
        for name, tensor in data.items()
    }
    return moved, codes.to(device)


def fixed_outputs(
    compute: Callable, features: torch.Tensor, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return what training does not change, computed for all rows.

    Parameters
    ----------
    compute : callable
        Takes float32 features of shape (B, n_features) on the device; returns a dict of
        tensors with B rows.
    features : Tensor of shape (n_samples, n_features)
        On any device, of any precision.
    device : torch.device
        Where to compute.

    Returns
    -------
    outputs : dict of Tensor
        Where ``features`` is. Empty if it would need more memory than the features
        and more than 64 MiB.
    """
    with torch.no_grad():
        found: dict[str, torch.Tensor] = {}
        for start in range(0, len(features), CHUNK):
            rows = slice(start, start + CHUNK)
            chunk = compute(features[rows].to(device).float())
            if not chunk:
                return {}
            if start == 0:
                n_bytes = len(features) * sum(part[0].nbytes for part in chunk.values())
                if n_bytes > max(features.nbytes, MODEST):
                    return {}
                found = {
                    name: features.new_empty(
                        (len(features), *part.shape[1:]), dtype=part.dtype
                    )
                    for name, part in chunk.items()
                }
            for name, part in chunk.items():
                found[name][rows] = part
    return found


def _free_bytes(device: torch.device) -> int:
    """Return how much of the device's memory is free; 0 if it does not tell."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
