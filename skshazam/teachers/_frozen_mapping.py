"""FrozenMapping: a dict that nobody can change, so that a spec can be hashed."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["FrozenMapping"]


class FrozenMapping(Mapping):
    """A read-only, hashable dict of hashable values."""

    def __init__(self, items: Mapping[str, Any] | None = None):
        self._items = {key: _freeze(value) for key, value in dict(items or {}).items()}

    def __getitem__(self, key: str) -> Any:
        """Return one value."""
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._items)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def __hash__(self) -> int:
        """Hash the items, whatever their order."""
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        """Look like the dict it was made from."""
        return repr(self._items)


def _freeze(value):
    """Return ``value`` with lists, sets and dicts inside made read-only."""
    if isinstance(value, Mapping):
        return FrozenMapping(value)
    if isinstance(value, set | frozenset):
        return frozenset(value)
    return tuple(map(_freeze, value)) if isinstance(value, list | tuple) else value
