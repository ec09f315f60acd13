"""FeatureRecipe: whose features, and how they are made, for files and stores alike."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sklearn.utils._param_validation import validate_parameter_constraints

from skshazam.features._identity import describe_features, feature_fingerprint
from skshazam.features._options import OPTION_CONSTRAINTS
from skshazam.teachers import TeacherSpec, resolve_teachers

__all__ = ["FeatureRecipe"]


@dataclass(frozen=True)
class FeatureRecipe:
    """Whose features, and how they are made.

    Parameters
    ----------
    spec : TeacherSpec
        The teacher.
    precision : {"auto", "float32", "float16", "bfloat16"}
        In which dtype it runs.
    preprocessing : {"fast", "pil"}
        Who resizes.
    """

    spec: TeacherSpec
    precision: str
    preprocessing: str

    def __post_init__(self):
        """Refuse options that no extraction has."""
        validate_parameter_constraints(
            {name: OPTION_CONSTRAINTS[name] for name in self.options},
            self.options,
            caller_name="FeatureRecipe",
        )

    @classmethod
    def of(
        cls,
        teacher: str | TeacherSpec,
        weights: Mapping[str, str | os.PathLike] | None,
        precision: str,
        preprocessing: str,
    ) -> "FeatureRecipe":
        """Return the recipe for what a user calls a teacher.

        Parameters
        ----------
        teacher : str or TeacherSpec
            One teacher.
        weights : dict of str to path-like or None
            Its local checkpoint, by its name.
        precision, preprocessing : str
            How it runs.

        Returns
        -------
        recipe : FeatureRecipe
        """
        (spec,) = resolve_teachers([teacher], weights)
        return cls(spec, precision, preprocessing)

    @property
    def options(self) -> dict[str, str]:
        """How the teacher runs, as keyword arguments."""
        return {"precision": self.precision, "preprocessing": self.preprocessing}

    @cached_property
    def fingerprint(self) -> str:
        """Under which name a store keeps these features."""
        return feature_fingerprint(self.spec, **self.options)

    def facts(self) -> dict[str, str]:
        """Return what a file of such features says about them.

        Returns
        -------
        facts : dict of str to str
        """
        return {
            "teacher": self.spec.name,
            "fingerprint": self.fingerprint,
            **self.options,
        }

    def description(self, dim: int) -> dict:
        """Return what a store of such features says about them.

        Parameters
        ----------
        dim : int
            Length of a feature vector.

        Returns
        -------
        facts : dict
        """
        return describe_features(self.spec, **self.options, dim=dim)
