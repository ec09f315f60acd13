"""A stable digest of plain data, callables and files.

Equal digests must mean equal vectors, on every machine and Python version.
"""

import functools
import hashlib
import inspect
import json
import pickle
import types
from collections.abc import Mapping
from pathlib import Path

from skshazam.exceptions import TeacherSpecError

__all__ = ["digest_of", "digest_of_file"]


def digest_of(value) -> str:
    """Return the sha256 of ``value`` as 64 hexadecimal digits.

    Parameters
    ----------
    value : object
        Numbers, strings, None, mappings, sequences and callables, nested at will.

    Returns
    -------
    digest : str
    """
    text = json.dumps(_describe(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return the sha256 of a file's content, remembered until the file changes.

    Parameters
    ----------
    path : Path
        An existing file.

    Returns
    -------
    digest : str
    """
    path = path.resolve()
    stat = path.stat()
    return _digest_of_content(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _digest_of_content(path: Path, size: int, modified_ns: int) -> str:
    """Return the digest; size and time are part of the key, not of the digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(value, seen: tuple[int, ...] = ()):
    """Return ``value`` as JSON data; ``seen`` guards against functions in circles."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, Mapping):
        return {str(key): _describe(item, seen) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(item, seen) for item in value]
    if isinstance(value, Path):
        return {"file": digest_of_file(value)} if value.is_file() else str(value)
    if id(value) in seen:
        return "recursion"
    seen = (*seen, id(value))
    if isinstance(value, functools.partial):
        return {
            "partial": _describe(value.func, seen),
            "args": [_describe(_as_path(item), seen) for item in value.args],
            "kwargs": {
                key: _describe(_as_path(item), seen)
                for key, item in value.keywords.items()
            },
        }
    if isinstance(value, types.FunctionType):
        return _describe_function(value, seen)
    if isinstance(value, types.MethodType):
        return [_describe(value.__func__, seen), _describe(value.__self__, seen)]
    if isinstance(value, type | types.BuiltinFunctionType):
        return {"object": _qualified_name(value), "source": _source_text(value)}
    return {"type": _qualified_name(type(value)), "content": _pickled(value)}


def _as_path(value):
    """Return a path if ``value`` names an existing file, so that its content counts."""
    if isinstance(value, str) and 0 < len(value) < 4096 and "\0" not in value:
        return Path(value) if Path(value).is_file() else value
    return value


def _describe_function(function: types.FunctionType, seen: tuple[int, ...]):
    """Return name, source text and the values the function captures.

    What it captures from other packages counts by name and source alone: following
    those functions would end in the whole of torch.
    """
    variables = inspect.getclosurevars(function)
    captured = {**variables.nonlocals, **variables.globals}
    return {
        "function": _qualified_name(function),
        "source": _source_text(function),
        "defaults": _describe(function.__defaults__, seen),
        "keyword_defaults": _describe(function.__kwdefaults__, seen),
        "captured": {
            name: _source_text(item)
            if _is_foreign(item, function)
            else _describe(_as_path(item), seen)
            for name, item in captured.items()
            if not isinstance(item, types.ModuleType)
        },
    }


def _is_foreign(value, function: types.FunctionType) -> bool:
    """Return whether ``value`` is code of another package than ``function``."""
    if not isinstance(value, types.FunctionType | type):
        return False
    return value.__module__.partition(".")[0] != function.__module__.partition(".")[0]


def _qualified_name(value) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _source_text(value) -> str:
    """Return the source, or the bytecode of what was never written to a file."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        return _bytecode_text(getattr(value, "__code__", None))


def _bytecode_text(code: types.CodeType | None) -> str:
    """Return instructions, names and constants of ``code`` and the code inside it."""
    if code is None:
        return ""
    constants = [
        _bytecode_text(constant) if isinstance(constant, types.CodeType) else constant
        for constant in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names!r} {constants!r}"


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
