"""The fitted state of a network and its optimizer as plain numpy arrays.

A pickled estimator then holds no torch object, hence no device, and continues training
exactly where it stopped.
"""

import numpy as np
import torch

__all__ = ["arrays_of", "load_arrays"]


def arrays_of(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Return the state of a network and its optimizer.

    Parameters
    ----------
    network : torch.nn.Module
        On any device.
    optimizer : torch.optim.Optimizer
        Of the network's parameters.

    Returns
    -------
    state : dict
        Nested dicts and lists of numpy arrays and numbers.
    """
    return {
        "network": _to_numpy(network.state_dict()),
        "optimizer": _to_numpy(optimizer.state_dict()),
    }


def load_arrays(
    state: dict, network: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Put a state of :func:`arrays_of` back in place.

    Parameters
    ----------
    state : dict
        From :func:`arrays_of`.
    network : torch.nn.Module
        Of the same shape, on any device.
    optimizer : torch.optim.Optimizer
        Of the network's parameters.
    """
    network.load_state_dict(_to_torch(state["network"]))
    optimizer.load_state_dict(_to_torch(state["optimizer"]))


def _to_numpy(value):
    """Return ``value`` with every tensor inside as an array."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {key: _to_numpy(item) for key, item in value.items()}
    return [_to_numpy(item) for item in value] if isinstance(value, list) else value


def _to_torch(value):
    """Return ``value`` with every array inside as a tensor of its own memory."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, dict):
        return {key: _to_torch(item) for key, item in value.items()}
    return [_to_torch(item) for item in value] if isinstance(value, list) else value
