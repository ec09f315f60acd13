"""Images become numbers, once."""

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.features._extraction import Extraction, extract_features
from skshazam.features._transformer import TeacherFeatureTransformer

__all__ = [
    "Extraction",
    "TeacherBlocks",
    "TeacherFeatureTransformer",
    "TeacherFeatures",
    "extract_features",
]
