"""Rows on disk by 32-byte key: durable, shared without locks, never wrong."""

from skshazam.storage._shards import ShardFolder
from skshazam.storage._store import FeatureStore
from skshazam.storage._store_report import ShardReport, StoredTeacher, StoreInfo

__all__ = [
    "FeatureStore",
    "ShardFolder",
    "ShardReport",
    "StoreInfo",
    "StoredTeacher",
]
