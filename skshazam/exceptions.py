"""Every exception and warning of skshazam, under one root each.

An error that a user's input can cause is also the builtin that scikit-learn users
expect (``ValueError``, ``OSError``, ``ImportError``), so ``except ValueError`` works.
"""

__all__ = [
    "CheckpointMismatchError",
    "DeviceError",
    "ExtractionInterruptedError",
    "FeatureBlockError",
    "FeatureFileError",
    "FeatureStoreError",
    "FeatureStoreMismatchError",
    "FineTuningError",
    "GatedTeacherError",
    "ImageCollectionError",
    "ImageReadError",
    "MissingDependencyError",
    "OfflineTeacherError",
    "SkshazamError",
    "TeacherLoadingError",
    "TeacherMemoryError",
    "TeacherOutputError",
    "TeacherSpecError",
    "UndeclaredBlocksWarning",
    "UnknownTeacherError",
]


class SkshazamError(Exception):
    """Root of every error that skshazam raises on purpose."""

    def at(self, index: int, n_images: int) -> "SkshazamError":
        """Return the same error, caused by this one, with an image's position.

        Parameters
        ----------
        index : int
            Position in the collection.
        n_images : int
            Length of the collection.

        Returns
        -------
        error : SkshazamError
            Of the same class.
        """
        named = type(self)(f"Image {index} of {n_images}: {self}")
        named.__cause__ = self
        return named


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


class OfflineTeacherError(TeacherLoadingError):
    """The weights are not in the Hub's cache, and the Hub cannot be reached."""


class CheckpointMismatchError(SkshazamError, ValueError):
    """A checkpoint does not fit the architecture; the first keys are named."""


class TeacherOutputError(SkshazamError, ValueError):
    """A loaded teacher does not return the vectors its spec promises."""


class FineTuningError(SkshazamError, ValueError):
    """A teacher's weights cannot be trained, or not as asked."""


class DeviceError(SkshazamError, ValueError):
    """A device is unknown, or not on this machine."""


class TeacherMemoryError(SkshazamError, MemoryError, ValueError):
    """A teacher does not fit into the device's memory, even with one image a batch."""


class FeatureStoreError(SkshazamError, OSError):
    """A feature store cannot be opened, read or written; what is stored is kept."""


class FeatureStoreMismatchError(FeatureStoreError, ValueError):
    """What is asked of a feature store disagrees with what it holds."""


class FeatureFileError(SkshazamError, OSError, ValueError):
    """A file of features (HDF5, .npz, .pt) cannot be read or does not fit its use."""


class ExtractionInterruptedError(SkshazamError, OSError):
    """An extraction ended before every image was stored; running it again goes on."""


class FeatureBlockError(SkshazamError, ValueError):
    """The columns of a feature matrix do not divide into the teachers' blocks."""


class UndeclaredBlocksWarning(UserWarning):
    """X does not say which columns belong to which teacher; one teacher assumed."""
