"""From "auto" to a torch device and an autocast dtype."""

import torch

from skshazam.exceptions import DeviceError

__all__ = ["resolve_device", "resolve_precision"]

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def resolve_device(device: "str | torch.device") -> torch.device:
    """Return the torch device that a ``device`` parameter stands for.

    Parameters
    ----------
    device : str or torch.device
        "auto" is the first CUDA device, else Apple's "mps", else the CPU. Anything
        else is handed to :class:`torch.device`.

    Returns
    -------
    device : torch.device

    Raises
    ------
    DeviceError
        The name is unknown to torch, or names a kind of device that is not here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(
            f"device={device!r} is not a torch device. "
            "Use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    if resolved.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(
            f"device={device!r} is of a kind that skshazam has not been tried on. "
            "Use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        )
    available = {"cuda": torch.cuda, "mps": torch.backends.mps}.get(resolved.type)
    if available is not None and not available.is_available():
        raise DeviceError(
            f"device={device!r} was asked for, but torch {torch.__version__} sees no "
            f"{resolved.type.upper()} device here. Use device='auto' or device='cpu'."
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device={device!r} was asked for, but there are only "
            f"{torch.cuda.device_count()} CUDA devices here. Use device='auto'."
        )
    if resolved.type == "cuda" and resolved.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return resolved


def resolve_precision(
    precision: str, preferred: str, device: torch.device
) -> torch.dtype:
    """Return the dtype in which a teacher computes on ``device``.

    Parameters
    ----------
    precision : {"auto", "float32", "float16", "bfloat16"}
        "auto" follows ``preferred`` on CUDA and is float32 elsewhere, where half
        precision is emulated and slow.
    preferred : {"float32", "float16", "bfloat16"}
        What the teacher's spec asks for.
    device : torch.device
        Where the teacher runs.

    Returns
    -------
    dtype : torch.dtype
    """
    if precision == "auto":
        precision = preferred if device.type == "cuda" else "float32"
    return DTYPES[precision]
