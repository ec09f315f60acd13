"""Students as scikit-learn estimators."""

from skshazam.fusion._shazam import ShazamClassifier

__all__ = ["ShazamClassifier"]
