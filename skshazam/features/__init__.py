"""Images become numbers, once."""

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.features._export import export_features
from skshazam.features._extraction import Extraction, extract_features
from skshazam.features._feature_file import FeatureFile
from skshazam.features._file_access import read_feature_file, write_feature_file
from skshazam.features._import import FeatureImport, import_features
from skshazam.features._readback import read_features
from skshazam.features._shards import ShardFolder
from skshazam.features._slides import load_slide_features
from skshazam.features._store import FeatureStore
from skshazam.features._store_report import ShardReport, StoredTeacher, StoreInfo
from skshazam.features._stored import StoredExtraction
from skshazam.features._tasks import extract_to_store
from skshazam.features._transformer import TeacherFeatureTransformer

__all__ = [
    "Extraction",
    "FeatureFile",
    "FeatureImport",
    "FeatureStore",
    "ShardFolder",
    "ShardReport",
    "StoreInfo",
    "StoredExtraction",
    "StoredTeacher",
    "TeacherBlocks",
    "TeacherFeatureTransformer",
    "TeacherFeatures",
    "export_features",
    "extract_features",
    "extract_to_store",
    "import_features",
    "load_slide_features",
    "read_feature_file",
    "read_features",
    "write_feature_file",
]
