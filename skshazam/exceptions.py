"""Every exception and warning of skshazam, under one root each.

An error that a user's input can cause is also the builtin that scikit-learn users
expect (``ValueError``, ``OSError``, ``ImportError``), so ``except ValueError`` works.
"""

__all__ = [
    "CheckpointMismatchError",
    "FeatureBlockError",
    "GatedTeacherError",
    "ImageCollectionError",
    "ImageReadError",
    "MissingDependencyError",
    "SkshazamError",
    "TeacherLoadingError",
    "TeacherOutputError",
    "TeacherSpecError",
    "UndeclaredBlocksWarning",
    "UnknownTeacherError",
]


class SkshazamError(Exception):
    """Root of every error that skshazam raises on purpose."""


class MissingDependencyError(SkshazamError, ImportError):
    """An optional package is needed and not installed."""


class ImageCollectionError(SkshazamError, ValueError):
    """X is not a collection of images (see ``TeacherFeatureTransformer``)."""


class ImageReadError(SkshazamError, OSError, ValueError):
    """One image cannot be turned into pixels; the message names it."""


class TeacherSpecError(SkshazamError, ValueError):
    """A field of a ``TeacherSpec`` holds a value that no teacher can have."""


class UnknownTeacherError(SkshazamError, ValueError):
    """A teacher name is in nobody's list; the message offers the nearest one."""


class TeacherLoadingError(SkshazamError, OSError):
    """The weights or the code of a teacher cannot be reached."""


class GatedTeacherError(TeacherLoadingError):
    """The Hub refuses the weights until its terms are accepted."""


class CheckpointMismatchError(SkshazamError, ValueError):
    """A checkpoint does not fit the architecture; the first keys are named."""


class TeacherOutputError(SkshazamError, ValueError):
    """A loaded teacher does not return the vectors its spec promises."""


class FeatureBlockError(SkshazamError, ValueError):
    """The columns of a feature matrix do not divide into the teachers' blocks."""


class UndeclaredBlocksWarning(UserWarning):
    """X does not say which columns belong to which teacher; one teacher assumed."""
