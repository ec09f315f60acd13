"""Paths, labels, groups and synthetic data."""

from skshazam.datasets._features import make_teacher_features
from skshazam.datasets._tissue import make_tissue_tiles

__all__ = ["make_teacher_features", "make_tissue_tiles"]
