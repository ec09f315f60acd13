"""The fitted state of an estimator as plain numpy arrays.

A pickled estimator then holds no torch object, hence no device, and continues training
exactly where it stopped.
"""

import warnings

import numpy as np
import torch
from skorch.exceptions import DeviceWarning
from skorch.history import History

from skshazam._device import resolve_device
from skshazam._randomness import private_randomness

__all__ = ["ArrayState"]

# What skorch keeps on the instance while it works; rebuilt from parameters and arrays.
_RUNTIME_ATTRIBUTES = {
    "module_",
    "criterion_",
    "optimizer_",
    "callbacks_",
    "virtual_params_",
    "prefixes_",
    "cuda_dependent_attributes_",
    "_modules",
    "_criteria",
    "_optimizers",
    "init_context_",
    "initialized_",
    "_in_training_loop",
    "_n_steps",
}


class ArrayState:
    """Mixin of skorch estimators that pickle as parameters and arrays."""

    def __getstate__(self):
        """Return parameters and numpy arrays: no torch object, no device."""
        state = {
            name: value
            for name, value in vars(self).items()
            if name not in _RUNTIME_ATTRIBUTES
        }
        if self.__sklearn_is_fitted__():
            state["history_"] = list(self.history_)
            state["n_iter_"] = len(self.history_)
            state["_arrays"] = arrays_of(self.module_, self.optimizer_)
        return state

    def __setstate__(self, state):
        """Rebuild the network on the device that this machine has."""
        state = dict(state)
        arrays = state.pop("_arrays", None)
        vars(self).update(state)
        if arrays is None:
            return
        try:
            resolve_device(state["device"])
        except ValueError:
            warnings.warn(
                f"The estimator was saved with device={state['device']!r}, which this "
                "machine lacks; it is loaded with device='cpu'.",
                DeviceWarning,
                stacklevel=2,
            )
            self.device = "cpu"
        history, self.history_ = History(self.history_), None
        # The weights drawn here are overwritten; a fit in another thread must not see
        # the generator move.
        with private_randomness(0, self.device):
            self.initialize()
        load_arrays(arrays, self.module_, self.optimizer_)
        self.history_ = history


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
