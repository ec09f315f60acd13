"""OpenFolders: one ShardFolder for each folder in a process, whoever asks for it.

What took long to learn, the index, is kept between tasks that are unpickled one after
the other, and between calls of ``FeatureStore(path)``.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable

from skshazam.storage._shards import ShardFolder

__all__ = ["OPEN_FOLDERS", "OpenFolders"]

# A process works on one store, or copies from one to another. An index takes 16 bytes
# a row, so that those of stores used long ago are let go.
MAX_STORES = 4


class OpenFolders:
    """The folders of the stores that were used last; a forked child begins anew."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        """Let all folders go; whoever still uses one keeps it."""
        self._stores: OrderedDict[str, dict[str, ShardFolder]] = OrderedDict()
        self._lock, self._pid = threading.Lock(), os.getpid()

    def folder(self, store: str, path: str, make: Callable[[], ShardFolder]):
        """Return the folder at a path; one that is there already looks again.

        Parameters
        ----------
        store, path : str
            Absolute paths of a store and of a folder in it.
        make : callable
            Makes a ShardFolder without touching the disk.

        Returns
        -------
        folder : ShardFolder
        """
        if self._pid != os.getpid():
            self.clear()
        with self._lock:
            folders = self._stores.setdefault(store, {})
            self._stores.move_to_end(store)
            if len(self._stores) > MAX_STORES:
                self._stores.popitem(last=False)
            if path in folders:
                folders[path].expire()
            else:
                folders[path] = make()
            return folders[path]


OPEN_FOLDERS = OpenFolders()
