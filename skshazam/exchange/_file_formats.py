"""HDF5, .npz and .pt files of features: which array lies where in each.

Readers return whatever is there; ``FeatureFile`` decides whether it will do.
"""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skshazam._optional import require
from skshazam.exceptions import FeatureFileError
from skshazam.exchange._feature_file import FeatureFile

__all__ = ["FORMATS", "FileFormat"]

ARRAYS = ("features", "coords", "digests")

# Large enough for reading in bulk, small enough to read few rows.
CHUNK_BYTES = 1 << 18

# No filter of HDF5 compresses further; a file that claims more is damaged, and asking
# for its content would only exhaust the memory.
MAX_COMPRESSION = 2000


class FileFormat(NamedTuple):
    """How one kind of file is read and written.

    Parameters
    ----------
    name : str
        What it is called in messages.
    read : callable
        From a path to the fields of a ``FeatureFile`` by name, unchecked.
    shape : callable
        From a path to the shape of the features.
    write : callable
        Takes a path and a ``FeatureFile``.
    """

    name: str
    read: Callable[[Path], dict[str, Any]]
    shape: Callable[[Path], tuple[int, ...]]
    write: Callable[[Path, FeatureFile], None]


def _read_npz(path: Path) -> dict[str, Any]:
    """Return what a .npz file holds; nothing in it is unpickled."""
    # numpy leaves a damaged file open if it has to open it itself.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        if "features" not in file:
            raise FeatureFileError(_no_features(file.files))
        entries = {name: file[name] for name in ARRAYS if name in file}
        if "paths" in file:
            entries["paths"] = file["paths"].tolist()
        if "attributes" in file:
            entries["attributes"] = json.loads(str(file["attributes"]))
    return entries


def _npz_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the features."""
    return _read_npz(path)["features"].shape


def _write_npz(path: Path, file: FeatureFile) -> None:
    """Write a .npz file that ``np.load`` reads without pickle."""
    entries = {name: getattr(file, name) for name in ARRAYS}
    entries = {name: array for name, array in entries.items() if array is not None}
    if file.paths is not None:
        entries["paths"] = np.array(file.paths, dtype=str)
    if file.attributes:
        entries["attributes"] = np.array(json.dumps(file.attributes))
    with path.open("xb") as stream:
        np.savez(stream, **entries)


def _read_pt(path: Path) -> dict[str, Any]:
    """Return what a .pt file holds; no code in it is run."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FeatureFileError(
            "it holds more than tensors, numbers and texts, or is damaged; loading it "
            "could run code. Save the tensors alone: torch.save({'features': features, "
            "'coords': coords}, path)."
        ) from error
    if isinstance(content, torch.Tensor):
        return {"features": _from_tensor(content)}
    if isinstance(content, Mapping) and "features" in content:
        entries = {
            name: content[name]
            for name in (*ARRAYS, "paths", "attributes")
            if content.get(name) is not None
        }
        return {name: _from_tensor(entry) for name, entry in entries.items()}
    if isinstance(content, tuple | list):
        return {"features": _the_only_matrix(content)}
    raise FeatureFileError(_no_features(_described(content)))


def _the_only_matrix(content) -> np.ndarray:
    """Return the features beside labels (n,); refuse to choose between several."""
    import torch

    if all(isinstance(entry, torch.Tensor) for entry in content):
        matrices = [entry for entry in content if entry.ndim == 2]
        labels = [
            entry
            for entry in content
            if entry.ndim == 1 and not entry.is_floating_point()
        ]
        if len(matrices) == 1 and len(labels) == len(content) - 1 <= 1:
            if labels and len(labels[0]) != len(matrices[0]):
                raise FeatureFileError(
                    f"it holds {len(matrices[0])} features and {len(labels[0])} "
                    "labels; expected as many. Save them together again."
                )
            return _from_tensor(matrices[0])
    # Shazam's authors save low, middle and high layers of a teacher in one tuple.
    raise FeatureFileError(
        f"it holds {_described(content)}, and nothing says which of these are the "
        "teacher's features. Save these alone: torch.save(torch.load(path)[i], "
        "other_path), with i=2 for the last layer in the files of Shazam's authors."
    )


def _from_tensor(entry):
    """Return a tensor as an array, and anything else as it is."""
    import torch

    if not isinstance(entry, torch.Tensor):
        return entry
    tensor = entry.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _pt_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the features."""
    return _read_pt(path)["features"].shape


def _write_pt(path: Path, file: FeatureFile) -> None:
    """Write a tensor if there is nothing else, as CLAM does, or a dict."""
    import torch

    content: Any = {
        name: torch.from_numpy(np.array(getattr(file, name)))
        for name in ARRAYS
        if getattr(file, name) is not None
    }
    if file.paths is not None:
        content["paths"] = list(file.paths)
    if file.attributes:
        content["attributes"] = dict(file.attributes)
    if list(content) == ["features"]:
        content = content["features"]
    with path.open("xb") as stream:
        torch.save(content, stream)


def _read_hdf5(path: Path) -> dict[str, Any]:
    """Return what an HDF5 file holds."""
    entries: dict[str, Any] = {"attributes": {}}
    with _opened_hdf5(path) as file:
        for name in ARRAYS:
            if name in file or name == "features":
                dataset = _dataset(file, name, path)
                entries[name] = dataset[()]
                if name != "digests":
                    entries["attributes"] |= _attributes(dataset)
        if "paths" in file:
            texts = _dataset(file, "paths", path)
            if texts.dtype.kind == "S":
                entries["paths"] = [
                    text.decode(errors="surrogateescape") for text in texts[()].tolist()
                ]
    return entries


def _attributes(dataset) -> dict[str, Any]:
    """Return the attributes of a dataset, without texts of variable length.

    HDF5's library never returns from reading such a text where it is damaged.
    """
    return {
        name: dataset.attrs[name]
        for name in dataset.attrs
        if not dataset.attrs.get_id(name).dtype.hasobject
    }


def _hdf5_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the features without reading them."""
    with _opened_hdf5(path) as file:
        return _dataset(file, "features", path).shape


def _opened_hdf5(path: Path):
    """Return an HDF5 file opened for reading, also where there are no file locks."""
    h5py = require("h5py", needed_by=f"Reading {path.name!r}")
    return h5py.File(path, "r", locking="best-effort")


def _dataset(file, name: str, path: Path):
    """Return a dataset whose content can be as large as it says."""
    dataset = file.get(name)
    if not hasattr(dataset, "asstr"):
        raise FeatureFileError(_no_features(list(file), name))
    if dataset.nbytes > MAX_COMPRESSION * path.stat().st_size:
        raise FeatureFileError(
            f"it has {path.stat().st_size} bytes and says that {name} has "
            f"{dataset.nbytes}; it is damaged. Copy or write the file again."
        )
    return dataset


def _write_hdf5(path: Path, file: FeatureFile) -> None:
    """Write datasets as TRIDENT and CLAM do, in chunks with checksums."""
    h5py = require("h5py", needed_by="Writing HDF5")
    with h5py.File(path, "x") as target:
        for name in ARRAYS:
            array = getattr(file, name)
            if array is not None:
                target.create_dataset(name, data=array, **_storage(array))
        if file.paths is not None:
            texts = [path.encode(errors="surrogateescape") for path in file.paths]
            text_dtype = h5py.string_dtype(length=_longest(texts))
            target.create_dataset(
                "paths", data=np.array(texts, dtype=text_dtype), dtype=text_dtype
            )
        owner = target["features" if file.coords is None else "coords"]
        for name, value in file.attributes.items():
            if value is None:
                owner.attrs[name] = h5py.Empty("f4")
                continue
            value = _as_hdf5(value)
            is_text = isinstance(value, bytes)
            text_dtype = h5py.string_dtype(length=len(value) or 1) if is_text else None
            owner.attrs.create(name, value, dtype=text_dtype)


def _as_hdf5(value):
    """Return a fact as HDF5 can hold it: numbers as they are, all else as text."""
    if isinstance(value, list):
        kinds = {type(entry) for entry in value}
        if len(kinds) == 1 and kinds <= {int, float, bool}:
            return value
    if isinstance(value, dict | list):
        value = json.dumps(value)
    return value.encode() if isinstance(value, str) else value


def _longest(texts: list[bytes]) -> int:
    """Return the length of the longest text, at least 1."""
    return max(map(len, texts), default=0) or 1


def _storage(array: np.ndarray) -> dict[str, Any]:
    """Return how a dataset is laid out; an empty one has no chunks."""
    if not array.size:
        return {}
    n_rows = max(1, min(len(array), CHUNK_BYTES // array[:1].nbytes))
    return {"chunks": (n_rows, *array.shape[1:]), "fletcher32": True}


def _no_features(found, name: str = "features") -> str:
    """Return the message for a file of another layout."""
    return (
        f"it holds {found}; expected {name!r} as an array, one row a tile. Save it "
        f"again under the name {name!r}."
    )


def _described(content) -> str:
    """Return the kind of what a .pt file holds, with shapes where there are some."""
    if isinstance(content, Mapping):
        parts = [f"{name!r}: {_described(content[name])}" for name in content]
    elif isinstance(content, tuple | list):
        parts = [_described(entry) for entry in content]
    elif hasattr(content, "shape"):
        return f"{str(content.dtype).removeprefix('torch.')} {tuple(content.shape)}"
    else:
        return type(content).__name__
    listed = ", ".join(parts[:6]) + ", ..." * (len(parts) > 6)
    return f"a {type(content).__name__} of {len(parts)} entries ({listed})"


_HDF5 = FileFormat("HDF5", _read_hdf5, _hdf5_shape, _write_hdf5)
_NPZ = FileFormat("NumPy's .npz", _read_npz, _npz_shape, _write_npz)
_PT = FileFormat("PyTorch's .pt", _read_pt, _pt_shape, _write_pt)

FORMATS = {".h5": _HDF5, ".hdf5": _HDF5, ".npz": _NPZ, ".pt": _PT, ".pth": _PT}
