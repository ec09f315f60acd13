"""Images become numbers, once."""

from skshazam.features._extraction import Extraction, extract_features
from skshazam.features._transformer import TeacherFeatureTransformer

__all__ = ["Extraction", "TeacherFeatureTransformer", "extract_features"]
