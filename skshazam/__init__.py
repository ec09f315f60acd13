"""Fuse several frozen pathology foundation models into one scikit-learn classifier."""

from skshazam.features import TeacherFeatureTransformer
from skshazam.fusion import ShazamClassifier
from skshazam.teachers import TeacherSpec

__version__ = "0.1.0.dev0"

__all__ = [
    "ShazamClassifier",
    "TeacherFeatureTransformer",
    "TeacherSpec",
    "__version__",
]
