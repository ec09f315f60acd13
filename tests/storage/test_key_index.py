"""The index finds the first accepted entry, however the shards came."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skshazam.storage._key_index import KeyIndex, key_prefixes


def accept_all(positions, shards, rows):
    return np.ones(len(positions), dtype=bool)


def test_a_prefix_is_the_first_eight_bytes():
    keys = np.arange(64, dtype=np.uint8).reshape(2, 32)
    expected = [int.from_bytes(bytes(key[:8]), "little") for key in keys]
    assert key_prefixes(keys).tolist() == expected


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shards=st.lists(st.lists(st.integers(0, 12), max_size=12), max_size=12),
    dropped=st.sets(st.integers(0, 11)),
    refused=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20),
    together=st.integers(1, 4),
)
def test_find_is_a_search_through_a_list(shards, dropped, refused, together):
    index = KeyIndex()
    entries = []
    for start in range(0, len(shards), together):
        group = shards[start : start + together]
        numbers = index.add([np.array(shard, dtype=np.uint64) for shard in group])
        entries += [
            (prefix, number, row)
            for number, shard in zip(numbers, group, strict=True)
            for row, prefix in enumerate(shard)
        ]
        for number in dropped & set(numbers):
            index.drop(number)
    living = [entry for entry in entries if entry[1] not in dropped]

    def accept(positions, numbers, rows):
        pairs = zip(numbers.tolist(), rows.tolist(), strict=True)
        return np.array([pair not in refused for pair in pairs], dtype=bool)

    asked = np.array([5, *range(14), 5], dtype=np.uint64)
    found_shards, found_rows = index.find(asked, accept)
    for prefix, shard, row in zip(asked, found_shards, found_rows, strict=True):
        places = [(s, r) for p, s, r in living if p == prefix and (s, r) not in refused]
        assert (shard, row) == places[0] if places else shard == -1
    prefixes = [prefix for prefix, _, _ in living]
    repeated = sorted({p for p in prefixes if prefixes.count(p) > 1})
    assert index.repeated_prefixes().tolist() == repeated
    assert index.shards_with(index.repeated_prefixes()) == {
        shard for prefix, shard, _ in living if prefix in repeated
    }
    assert index.repeated_prefixes([]).tolist() == []


@pytest.mark.parametrize("size", [1, 64])
def test_many_small_shards_make_few_levels(size):
    rng = np.random.default_rng(0)
    index = KeyIndex()
    prefixes = rng.integers(0, 2**63, (1000, size), dtype=np.uint64)
    for shard in prefixes:
        index.add([shard])
    assert len(index._levels) <= 6
    shards, rows = index.find(prefixes.ravel(), accept_all)
    np.testing.assert_array_equal(shards, np.repeat(np.arange(1000), size))
    np.testing.assert_array_equal(rows, np.tile(np.arange(size), 1000))


def test_entries_take_sixteen_bytes_and_dropped_ones_are_freed():
    rng = np.random.default_rng(0)
    index = KeyIndex()
    [number] = index.add([rng.integers(0, 2**63, 1000, dtype=np.uint64)])
    assert index.n_bytes == 16_000
    index.drop(number)
    index.add([rng.integers(0, 2**63, 1000, dtype=np.uint64)])
    assert index.n_bytes == 16_000
