"""Optional dependencies: one place that imports them, one sentence when absent."""

import importlib
from types import ModuleType

from skshazam.exceptions import MissingDependencyError

_EXTRA_OF = {"distributed": "dask", "h5py": "hdf5", "matplotlib": "plot"}


def require(module: str, *, needed_by: str) -> ModuleType:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
        Dotted module name, for example ``"matplotlib.pyplot"``.
    needed_by : str
        What the user called; named in the error message.

    Returns
    -------
    module : module
        The imported module.

    Raises
    ------
    MissingDependencyError
        The package is not installed; the message holds the install command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingDependencyError(
            f"{needed_by} needs the optional package {package!r}, which cannot be "
            f"imported ({error}). Install it with: "
            f"pip install 'skshazam[{_EXTRA_OF[package]}]'"
        ) from error
