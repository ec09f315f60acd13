"""Which columns of a feature matrix belong to which teacher, and who carries it.

Nobody else slices a feature matrix by teacher.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import index

import numpy as np

from skshazam.exceptions import FeatureBlockError

__all__ = ["TeacherBlocks", "TeacherFeatures"]

SEPARATOR = "__"


@dataclass(frozen=True)
class TeacherBlocks:
    """Names and widths of the teachers' blocks, in column order.

    Parameters
    ----------
    names : tuple of str
        One name per teacher, all different.
    dims : tuple of int
        Width of each teacher's block, at least 1.

    Raises
    ------
    FeatureBlockError
        No teacher, two teachers of one name, or a width below 1.
    """

    names: tuple[str, ...]
    dims: tuple[int, ...]

    def __post_init__(self):
        """Make both fields tuples and check that they describe blocks."""
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        try:
            object.__setattr__(self, "dims", tuple(map(index, self.dims)))
        except TypeError as error:
            raise FeatureBlockError(
                f"teacher_dims={self.dims!r} must be a sequence of integers."
            ) from error
        if not self.dims or min(self.dims) < 1:
            raise FeatureBlockError(
                f"teacher_dims={self.dims} must hold at least one width, each at "
                "least 1. Pass the dims of the teachers that produced X: "
                "ShazamClassifier(teacher_dims=transformer.teacher_dims_)."
            )
        if len(set(self.names)) != len(self.names) or len(self.names) != len(self.dims):
            raise FeatureBlockError(
                f"Each teacher needs one name of its own and one dim, but names="
                f"{self.names} and dims={self.dims}. Give two teachers of one name "
                "different names: dataclasses.replace(spec, name=...)."
            )

    @classmethod
    def from_dims(cls, dims: Sequence[int]) -> "TeacherBlocks":
        """Return blocks of these widths, named ``teacher0``, ``teacher1``, ...

        Parameters
        ----------
        dims : sequence of int
            Width of each teacher's block, in column order.

        Returns
        -------
        blocks : TeacherBlocks
        """
        return cls(tuple(f"teacher{i}" for i in range(len(dims))), tuple(dims))

    @classmethod
    def from_feature_names(cls, feature_names: Iterable[str]) -> "TeacherBlocks | None":
        """Return the blocks that columns named ``<teacher>__<i>`` describe.

        Parameters
        ----------
        feature_names : iterable of str
            Column names in order.

        Returns
        -------
        blocks : TeacherBlocks or None
            None if any name lacks the prefix.

        Raises
        ------
        FeatureBlockError
            The columns of one teacher are not side by side.
        """
        widths: dict[str, int] = {}
        last = None
        for feature_name in feature_names:
            name, separator, _ = str(feature_name).rpartition(SEPARATOR)
            if not separator or not name:
                return None
            if name != last and name in widths:
                raise FeatureBlockError(
                    f"The columns of teacher {name!r} are not side by side: "
                    f"{feature_name!r} comes after a column of {last!r}. Reorder the "
                    "columns so that each teacher's stand together."
                )
            widths[name] = widths.get(name, 0) + 1
            last = name
        return cls(tuple(widths), tuple(widths.values())) if widths else None

    @cached_property
    def n_features(self) -> int:
        """Columns of the whole matrix."""
        return sum(self.dims)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Column range of each teacher, in order."""
        stops = list(accumulate(self.dims))
        return tuple(
            slice(stop - dim, stop) for dim, stop in zip(self.dims, stops, strict=True)
        )

    def to_dict(self) -> dict[str, int]:
        """Return ``{teacher name: width}``.

        Returns
        -------
        widths : dict of str to int
        """
        return dict(zip(self.names, self.dims, strict=True))

    def get_feature_names(self) -> np.ndarray:
        """Return the column names ``<teacher>__<i>``.

        Returns
        -------
        names : ndarray of shape (n_features,), dtype=object
        """
        return np.asarray(
            [
                f"{name}{SEPARATOR}{i}"
                for name, dim in zip(self.names, self.dims, strict=True)
                for i in range(dim)
            ],
            dtype=object,
        )

    def split(self, features) -> dict:
        """Return each teacher's columns.

        Parameters
        ----------
        features : ndarray of shape (n_samples, n_features)
            A whole matrix.

        Returns
        -------
        columns : dict of str to ndarray of shape (n_samples, dim)
            Views of `features` by teacher name.
        """
        return {
            name: features[:, columns]
            for name, columns in zip(self.names, self.slices, strict=True)
        }


class TeacherFeatures(np.ndarray):
    """A feature matrix that knows its teachers' blocks.

    Row slicing, ``take`` along rows, ``copy``, ``astype``, pickle and
    ``joblib.Memory`` keep ``teacher_blocks``. Every other operation sets it to None
    rather than guess, because a wrong block is worse than a missing one.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        The matrix; not copied if it is an ndarray.
    blocks : TeacherBlocks
        Its blocks, of ``n_features`` columns together.

    Attributes
    ----------
    teacher_blocks : TeacherBlocks or None
        The blocks, or None for an array that is no longer whole rows.
    """

    teacher_blocks: TeacherBlocks | None

    def __new__(cls, features, blocks: TeacherBlocks):
        """View ``features`` as a matrix with ``blocks``."""
        matrix = np.asarray(features).view(cls)
        if matrix.ndim != 2 or matrix.shape[1] != blocks.n_features:
            raise FeatureBlockError(
                f"A matrix of shape {matrix.shape} does not divide into the blocks "
                f"{blocks.to_dict()}, which need "
                f"{blocks.n_features} columns."
            )
        matrix.teacher_blocks = blocks
        return matrix

    def __array_finalize__(self, parent):
        """Forget the blocks; the row-preserving operations put them back."""
        self.teacher_blocks = None

    def _with_blocks_of(self, parent):
        if isinstance(self, TeacherFeatures) and self.ndim == 2:
            self.teacher_blocks = parent.teacher_blocks
        return self

    def __getitem__(self, key):
        """Index like an ndarray; whole rows keep their blocks."""
        picked = super().__getitem__(key)
        rows_only = not isinstance(key, tuple) or all(
            part is Ellipsis or (isinstance(part, slice) and part == slice(None))
            for part in key[1:]
        )
        # A two-dimensional mask picks entries, and None adds an axis: not rows.
        if (
            rows_only
            and isinstance(picked, TeacherFeatures)
            and picked.shape[1:] == self.shape[1:]
        ):
            return TeacherFeatures._with_blocks_of(picked, self)
        return picked

    def take(self, indices, axis=None, **kwargs):
        """Take entries like an ndarray; rows keep their blocks.

        Parameters
        ----------
        indices : array-like of int
            Positions.
        axis : int, default=None
            0 takes rows. None takes from the flattened matrix.
        **kwargs : dict
            ``out`` and ``mode`` of :meth:`numpy.ndarray.take`.

        Returns
        -------
        taken : TeacherFeatures
        """
        taken = super().take(indices, axis=axis, **kwargs)
        return TeacherFeatures._with_blocks_of(taken, self) if axis == 0 else taken

    def copy(self, order="C"):
        """Return a copy with the same blocks.

        Parameters
        ----------
        order : {"C", "F", "A", "K"}, default="C"
            Memory layout.

        Returns
        -------
        copy : TeacherFeatures
        """
        return super().copy(order)._with_blocks_of(self)

    def __copy__(self):
        """Return a copy with the same blocks."""
        return self.copy()

    def __deepcopy__(self, memo):
        """Return a copy with the same blocks."""
        return self.copy()

    def astype(self, dtype, **kwargs):
        """Return the matrix in another dtype with the same blocks.

        Parameters
        ----------
        dtype : dtype
            New dtype.
        **kwargs : dict
            Further arguments of :meth:`numpy.ndarray.astype`.

        Returns
        -------
        features : TeacherFeatures
        """
        return TeacherFeatures._with_blocks_of(super().astype(dtype, **kwargs), self)

    def __reduce__(self):
        """Pickle the blocks beside the array."""
        constructor, arguments, state = super().__reduce__()
        return constructor, arguments, (state, self.teacher_blocks)

    def __setstate__(self, state):
        """Restore the array and its blocks."""
        array_state, self_blocks = state
        super().__setstate__(array_state)
        self.teacher_blocks = self_blocks
