"""Digests of plain facts, of files, and of the callables that build a network.

Equal digests must mean equal vectors. The reverse may fail: code is compared by its
bytecode, so that another Python version may see other digests for the same ``build=``,
unless it declares a versioned identity of its own.
"""

import functools
import hashlib
import json
import pickle
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from skshazam.exceptions import TeacherSpecError

__all__ = ["digest_of", "digest_of_file"]

# Code of these counts by its name: following it would end in the whole of torch. Code
# of other installed packages counts by name and version, and a user's own is followed.
_LIBRARIES = sys.stdlib_module_names | {
    "PIL",
    "einops",
    "huggingface_hub",
    "joblib",
    "numpy",
    "open_clip",
    "safetensors",
    "scipy",
    "skimage",
    "sklearn",
    "timm",
    "torch",
    "torchvision",
    "transformers",
}


def digest_of(value, *, follow_paths: bool = False) -> str:
    """Return the digest of plain data, or of a callable and all it carries and calls.

    Parameters
    ----------
    value : object
        Numbers, strings, None, mappings and sequences, nested at will; functions,
        classes, ``functools.partial``, bound methods and callable objects. Of the
        latter the bytecode counts, and that of the functions and classes they use
        unless a library holds these; so do defaults, bound arguments, captured values,
        the globals they read, and tensors. A function or class that declares a text
        ``__fingerprint__``, its own and not inherited, counts by that text alone.
    follow_paths : bool, default=False
        A string or path that names an existing file counts by the file's content.

    Returns
    -------
    digest : str
        sha256 as 64 hexadecimal digits.

    Raises
    ------
    TeacherSpecError
        A callable carries an object that cannot be pickled.
    """
    return _sha256(_Description(follow_paths=follow_paths).of(value))


def digest_of_file(path: Path) -> str:
    """Return the digest of a file's content, remembered until the file changes.

    Parameters
    ----------
    path : Path
        An existing file.

    Returns
    -------
    digest : str
        sha256 as 64 hexadecimal digits.
    """
    path = path.resolve()
    stat = path.stat()
    return _digest_of_content(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _digest_of_content(path: Path, size: int, modified_ns: int) -> str:
    """Return the digest; size and time are part of the key, not of the digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(description) -> str:
    return hashlib.sha256(_as_text(description).encode()).hexdigest()


def _as_text(description) -> str:
    return json.dumps(description, sort_keys=True, separators=(",", ":"))


class _Description:
    """One walk over an object and what it refers to, giving JSON data."""

    def __init__(self, *, follow_paths: bool):
        self.follow_paths = follow_paths
        # The objects themselves are kept, so that no id is used twice.
        self.seen: dict[int, tuple[int, object]] = {}

    def of(self, value):
        """Return ``value`` as JSON data."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float | complex | bytes):
            return {type(value).__name__: repr(value)}
        if isinstance(value, str | Path):
            return self._of_text(value)
        if isinstance(value, Mapping):
            keys = sorted(value, key=self._alone)
            return {"items": [[self.of(key), self.of(value[key])] for key in keys]}
        if isinstance(value, list | tuple):
            return [self.of(item) for item in value]
        if isinstance(value, set | frozenset):
            return {"set": sorted(map(self._alone, value))}
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray) and value.dtype != object:
            content = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
            return {"array": [str(value.dtype), list(value.shape), content]}
        return self._of_reference(value)

    def _alone(self, value) -> str:
        """Return a text of ``value`` that does not depend on what was met before."""
        return _as_text(_Description(follow_paths=self.follow_paths).of(value))

    def _of_text(self, value: str | Path):
        """Return a string, or the digest of the file whose path it is."""
        try:
            if self.follow_paths and value and Path(value).is_file():
                return {"file": digest_of_file(Path(value))}
        except (OSError, ValueError):  # longer than a path can be, or with a null byte
            return str(value)
        return str(value)

    def _of_reference(self, value):
        """Return an object that may be met again, in full only the first time."""
        if id(value) in self.seen:
            return {"again": self.seen[id(value)][0]}
        self.seen[id(value)] = (len(self.seen), value)
        if isinstance(value, functools.partial):
            return {"partial": self.of((value.func, value.args, value.keywords))}
        if isinstance(value, types.MethodType):
            return {"method": self.of((value.__func__, value.__self__))}
        if isinstance(value, types.ModuleType):
            return {"module": value.__name__}
        if isinstance(value, types.FunctionType | type | types.BuiltinFunctionType):
            return self._of_code(value)
        if isinstance(value, property):
            return {"property": self.of((value.fget, value.fset, value.fdel))}
        if isinstance(value, torch.nn.Module):
            # Neither device nor training mode, which loading changes, is part of it.
            return {"network": self.of((type(value), repr(value), value.state_dict()))}
        if hasattr(value, "__wrapped__"):
            return {"wrapped": self.of(value.__wrapped__)}
        if not _in_library(type(value)) and hasattr(value, "__dict__"):
            return {"object": self.of((type(value), vars(value)))}
        return {"object": self.of((_name(type(value)), _pickled(value)))}

    def _of_code(self, value):
        """Return a function or a class: by name in a library, else by its content."""
        declared = getattr(value, "__dict__", {}).get("__fingerprint__")
        if isinstance(declared, str):
            return {"declared": declared}
        if _in_library(value) or isinstance(value, types.BuiltinFunctionType):
            return {"name": _name(value)}
        if (version := _installed_version(value)) is not None:
            return {"name": _name(value), "version": version}
        if isinstance(value, type):
            members = {
                name: self._of_used(member)
                for name, member in sorted(vars(value).items())
                if not name.startswith(("__", "_abc_")) or _is_function(member)
            }
            return {"class": [_name(value), self.of(value.__bases__), members]}
        carried = (value.__defaults__, value.__kwdefaults__, _captured_by(value))
        instructions = [
            self.of(_instructions(part)) for part in _nested(value.__code__)
        ]
        used = {name: self._of_used(item) for name, item in _globals_of(value).items()}
        return {"function": [_name(value), instructions, self.of(carried), used]}

    def _of_used(self, value):
        """Return what code refers to; of what cannot be pickled, the type alone."""
        try:
            return self.of(value)
        except TeacherSpecError:
            return {"type": _name(type(value))}


def _instructions(code: types.CodeType) -> tuple:
    """Return what a code object does, without the code objects inside it."""
    constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
    return code.co_code, code.co_names, code.co_exceptiontable, constants


def _captured_by(function: types.FunctionType) -> dict:
    """Return the variables of outer functions that a function holds on to."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}


def _globals_of(function: types.FunctionType) -> dict:
    """Return the globals that a function, or one inside it, may read."""
    names = sorted({n for part in _nested(function.__code__) for n in part.co_names})
    return {n: function.__globals__[n] for n in names if n in function.__globals__}


def _nested(code: types.CodeType) -> list[types.CodeType]:
    """Return a code object and those inside it: comprehensions, inner functions."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [code, *(nested for part in inner for nested in _nested(part))]


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


def _is_function(member) -> bool:
    return isinstance(member, types.FunctionType | staticmethod | classmethod)


def _in_library(value) -> bool:
    """Return whether code counts by its name alone."""
    return (value.__module__ or "builtins").partition(".")[0] in _LIBRARIES


def _installed_version(value) -> str | None:
    """Return the version of an installed package's code; None for the user's own."""
    # A script's or a prompt's own code, whatever program runs it.
    if value.__module__ == "__main__":
        return None
    file = getattr(sys.modules.get(value.__module__), "__file__", None) or ""
    if not {"site-packages", "dist-packages"} & set(Path(file).parts):
        return None
    package = sys.modules.get(value.__module__.partition(".")[0])
    return str(getattr(package, "__version__", ""))


def _name(value) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _pickled(value) -> str:
    """Return the digest of an object's pickle."""
    try:
        return hashlib.sha256(pickle.dumps(value, protocol=5)).hexdigest()
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise TeacherSpecError(
            f"A teacher's build= captures {value!r:.80}, which cannot be pickled "
            f"({error}), so that the teacher has no fingerprint. Build that object "
            "inside the callable."
        ) from error
