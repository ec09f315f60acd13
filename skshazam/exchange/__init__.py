"""Features in files that other programs write and read."""

from skshazam.exchange._export import export_features
from skshazam.exchange._feature_file import FeatureFile
from skshazam.exchange._file_access import read_feature_file, write_feature_file
from skshazam.exchange._import import FeatureImport, import_features
from skshazam.exchange._slides import load_slide_features

__all__ = [
    "FeatureFile",
    "FeatureImport",
    "export_features",
    "import_features",
    "load_slide_features",
    "read_feature_file",
    "write_feature_file",
]
