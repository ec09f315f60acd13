"""Images become numbers, once."""

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.features._extraction import Extraction, extract_features
from skshazam.features._readback import read_features
from skshazam.features._stored import StoredExtraction
from skshazam.features._tasks import extract_to_store
from skshazam.features._transformer import TeacherFeatureTransformer
from skshazam.storage import FeatureStore

__all__ = [
    "Extraction",
    "FeatureStore",
    "StoredExtraction",
    "TeacherBlocks",
    "TeacherFeatureTransformer",
    "TeacherFeatures",
    "extract_features",
    "extract_to_store",
    "read_features",
]
