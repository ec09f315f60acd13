"""Students as scikit-learn estimators."""

from skshazam.fusion._base import FusionClassifier
from skshazam.fusion._shazam import ShazamClassifier

__all__ = ["FusionClassifier", "ShazamClassifier"]
