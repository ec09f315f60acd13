"""Images become numbers, once."""

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.features._extraction import Extraction, extract_features
from skshazam.features._options import ExtractionOptions
from skshazam.features._readback import read_features
from skshazam.features._stored import StoredExtraction
from skshazam.features._tasks import ExtractionTask, extract_to_store, run_task
from skshazam.features._transformer import TeacherFeatureTransformer
from skshazam.storage import FeatureStore

__all__ = [
    "Extraction",
    "ExtractionOptions",
    "ExtractionTask",
    "FeatureStore",
    "StoredExtraction",
    "TeacherBlocks",
    "TeacherFeatureTransformer",
    "TeacherFeatures",
    "extract_features",
    "extract_to_store",
    "read_features",
    "run_task",
]
