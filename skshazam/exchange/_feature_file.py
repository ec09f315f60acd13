"""FeatureFile: the features of one teacher as other programs keep them, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skshazam.exceptions import FeatureFileError
from skshazam.images._digest import DIGEST_SIZE

__all__ = ["FeatureFile", "plain", "wrong_shape"]

# Rows that are checked at once, so that checking needs little memory.
PORTION = 65_536


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """Features of one teacher, with what a file says about their tiles.

    Parameters
    ----------
    features : ndarray of shape (n, dim), dtype=float16 or float32
        One row a tile. Other floats become float32.
    coords : ndarray of shape (n, 2), dtype=int64, default=None
        Where on its slide each tile lies: x, y. None if the file does not say.
    digests : ndarray of shape (n, 32), dtype=uint8, default=None
        Content digest of each tile, by which a ``FeatureStore`` knows it.
    paths : tuple of str, default=None
        The image file of each tile.
    attributes : dict, default={}
        Further facts, such as TRIDENT's and CLAM's "patch_size": numbers, texts and
        lists of these.

    Raises
    ------
    FeatureFileError
        A field has another shape or dtype, or a feature is NaN or infinite.
    """

    features: np.ndarray
    coords: np.ndarray | None = None
    digests: np.ndarray | None = None
    paths: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        """Bring every field into its form, or say which cannot be."""
        features = _checked_features(self.features)
        object.__setattr__(self, "features", features)
        if self.coords is not None:
            coords = _checked_coords(self.coords, len(features))
            object.__setattr__(self, "coords", coords)
        if self.digests is not None:
            digests = _checked_digests(self.digests, len(features))
            object.__setattr__(self, "digests", digests)
        if self.paths is not None:
            object.__setattr__(self, "paths", _checked_paths(self.paths, len(features)))
        if not isinstance(self.attributes, Mapping):
            raise FeatureFileError(
                f"attributes is {self.attributes!r:.80}; expected a dict of facts by "
                "name."
            )
        object.__setattr__(self, "attributes", plain(self.attributes))


def plain(value):
    """Return facts as dicts, lists, texts and numbers.

    Parameters
    ----------
    value : object
        What a file keeps as an attribute.

    Returns
    -------
    value : dict, list, str, int, float, bool or None
        Arrays become lists, bytes text, and what is none of these its description.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    # h5py says of an attribute without a value that it is Empty.
    return None if type(value).__name__ == "Empty" else str(value)


def wrong_shape(shape: tuple[int, ...]) -> str:
    """Return the message for features that are no matrix.

    Parameters
    ----------
    shape : tuple of int
        What they have.

    Returns
    -------
    message : str
    """
    return (
        f"features has shape {tuple(shape)}; expected (n, dim), one row a tile. "
        "Reshape it before it is saved."
    )


def _checked_features(given) -> np.ndarray:
    """Return features as finite float16 or float32 (n, dim)."""
    features = np.asarray(given)
    if features.shape == (0,):  # how TRIDENT writes a slide without tissue
        features = features.reshape(0, 0)
    if features.ndim != 2 or (len(features) and not features.shape[1]):
        raise FeatureFileError(wrong_shape(features.shape))
    if features.dtype.kind != "f":
        raise FeatureFileError(
            f"features has dtype {features.dtype}; expected float16 or float32. "
            "Convert it if these are features at all."
        )
    if features.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            features = features.astype(np.float32)
    features = features.astype(features.dtype.newbyteorder("="), copy=False)
    for start in range(0, len(features), PORTION):
        finite = np.isfinite(features[start : start + PORTION]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise FeatureFileError(
                f"Row {row} of {len(features)} of features holds NaN or infinity (or "
                "more than float32 holds); expected finite numbers. Compute that tile "
                "again, or save the file without it."
            )
    return features


def _checked_coords(given, n: int) -> np.ndarray:
    """Return coordinates as int64 (n, 2)."""
    coords = np.asarray(given)
    if n == 0 and not coords.size:
        return np.zeros((0, 2), dtype=np.int64)
    if coords.shape != (n, 2) or coords.dtype.kind not in "iuf":
        raise FeatureFileError(
            f"coords has shape {coords.shape} and dtype {coords.dtype}; expected "
            f"whole numbers of shape ({n}, 2), one pair (x, y) for each row of "
            "features."
        )
    with np.errstate(invalid="ignore"):
        whole = coords.astype(np.int64)
    if not np.array_equal(whole, coords):
        raise FeatureFileError(
            "coords holds numbers that are not whole; expected pixels (x, y). Round "
            "them if they are meant so."
        )
    return whole


def _checked_digests(given, n: int) -> np.ndarray:
    """Return digests as uint8 (n, 32)."""
    digests = np.asarray(given)
    if digests.shape != (n, DIGEST_SIZE) or digests.dtype != np.uint8:
        raise FeatureFileError(
            f"digests has shape {digests.shape} and dtype {digests.dtype}; expected "
            f"uint8 of shape ({n}, {DIGEST_SIZE}), as export_features writes them."
        )
    return digests


def _checked_paths(given, n: int) -> tuple[str, ...]:
    """Return paths as n texts."""
    paths = given if isinstance(given, tuple | list) else ()
    if len(paths) != n or not all(isinstance(path, str) for path in paths):
        raise FeatureFileError(
            f"paths is a {type(given).__name__} of {len(paths)} entries; expected {n} "
            "texts, one for each row of features."
        )
    return tuple(paths)
