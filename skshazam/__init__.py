"""Fuse several frozen pathology foundation models into one classifier."""

__version__ = "0.1.0.dev0"
