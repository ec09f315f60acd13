"""The file format: safetensors that others can read, and nothing else is accepted."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from skshazam.exceptions import FeatureStoreMismatchError
from skshazam.storage._shard_file import (
    DamagedShardError,
    ShardFile,
    encode_shard,
    row_checks,
)

N, WIDTH = 12, 6
KEYS = np.random.default_rng(0).integers(0, 256, (N, 32), dtype=np.uint8)
ROWS = np.random.default_rng(1).standard_normal((N, WIDTH)).astype(np.float16)


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(encode_shard(KEYS, ROWS, {"teacher": "uni"}))
    return path


def header_of(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def forge(path, header, data):
    """Write a file with this header, which may be text, and data."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def splitmix64(index):
    """Return the index-th number from seed 0 (Steele, Lea, Flood 2014), odd."""
    mask = 2**64 - 1
    z = (index + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return (z ^ z >> 31) | 1


def test_the_safetensors_library_reads_a_shard(shard):
    with safe_open(shard, "numpy") as file:
        assert file.metadata() == {"teacher": "uni", "skshazam_shard": "1"}
        np.testing.assert_array_equal(file.get_tensor("keys"), KEYS)
        np.testing.assert_array_equal(file.get_tensor("rows"), ROWS)
        checks = row_checks(KEYS, ROWS.view(np.uint8))
        np.testing.assert_array_equal(file.get_tensor("checks"), checks)


def test_a_shard_opens_as_it_was_written(shard):
    file = ShardFile(shard)
    assert (file.n_rows, file.width, file.dtype) == (N, WIDTH, np.float16)
    assert file.metadata == {"teacher": "uni"}
    assert file.n_bytes == shard.stat().st_size
    np.testing.assert_array_equal(file.keys(), KEYS)


@pytest.mark.parametrize(
    "rows",
    [[], [0], [11], [3, 4, 5], [0, 11], [2, 2, 2, 5, 5, 6], list(range(12))],
)
def test_rows_are_taken_by_number_repeated_or_not(shard, rows):
    rows = np.array(rows, dtype=int)
    keys, values, intact = ShardFile(shard).take(rows)
    np.testing.assert_array_equal(keys, KEYS[rows])
    np.testing.assert_array_equal(values, ROWS[rows])
    assert intact.all() and len(intact) == len(rows)


def test_rows_too_far_apart_to_read_through_are_taken_too(tmp_path):
    rows = np.arange(40 * 5000, dtype=np.float32).reshape(40, 5000)
    keys = np.random.default_rng(0).integers(0, 256, (40, 32), dtype=np.uint8)
    path = tmp_path / "wide.safetensors"
    path.write_bytes(encode_shard(keys, rows, {}))
    wanted = np.array([0, 1, 7, 8, 9, 39])
    _, values, intact = ShardFile(path).take(wanted)
    np.testing.assert_array_equal(values, rows[wanted])
    assert intact.all()


def words_of(content, size, offset=0):
    """Return words of some bytes, little-endian."""
    return [
        int.from_bytes(content[i : i + size], "little")
        for i in range(offset, len(content) - size + 1, size)
    ]


@pytest.mark.parametrize(
    ("row_bytes", "word"), [(12, 4), (6, 2), (7, 1), (8, 8), (16, 8), (3072, 8)]
)
def test_a_check_is_the_documented_sum(row_bytes, word):
    row = np.random.default_rng(2).integers(0, 256, (1, row_bytes), dtype=np.uint8)
    key = KEYS[:1]
    key_words = words_of(bytes(key[0]), 8) + words_of(bytes(key[0]), 8, offset=4)
    row_words = words_of(bytes(row[0]), word)
    if word == 8:
        row_words += words_of(bytes(row[0]), 8, offset=4)
    total = splitmix64(0)
    total += sum(splitmix64(1 + i) * value for i, value in enumerate(key_words))
    total += sum(splitmix64(65 + i) * value for i, value in enumerate(row_words))
    assert row_checks(key, row).tolist() == [total % 2**64]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_every_change_of_up_to_four_aligned_bytes_changes_the_check(data):
    n_bytes = data.draw(st.sampled_from([4, 8, 12, 16, 24, 32]))
    row = np.arange(n_bytes, dtype=np.uint8)[None].copy()
    key = np.array(KEYS[:1])
    before = row_checks(key, row)[0]
    target = data.draw(st.sampled_from([row, key]))
    word = data.draw(st.integers(0, target.shape[1] // 4 - 1))
    change = data.draw(st.integers(1, 2**32 - 1) | st.sampled_from([2**31, 2**24]))
    target[0, 4 * word : 4 * word + 4] ^= np.frombuffer(
        change.to_bytes(4, "little"), np.uint8
    )
    assert row_checks(key, row)[0] != before


def test_checks_notice_any_set_of_upper_bits():
    # Products modulo 2**64 forget the upper bits of a factor: here none are lost.
    rows = np.zeros((256, 64), dtype=np.uint8)
    for bit in range(8):
        rows[:, 8 * bit + 7] = 0x80 * (np.arange(256) >> bit & 1)
    keys = np.repeat(KEYS[:1], 256, axis=0)
    assert len(set(row_checks(keys, rows).tolist())) == 256


def test_swapped_rows_are_noticed(shard):
    header, data = header_of(shard)
    start, stop = header["rows"]["data_offsets"]
    size = (stop - start) // N
    data = bytearray(data)
    first, second = (slice(start + i * size, start + (i + 1) * size) for i in (0, 5))
    data[first], data[second] = data[second], data[first]
    forge(shard, header, bytes(data))
    _, _, intact = ShardFile(shard).take(np.arange(N))
    np.testing.assert_array_equal(np.flatnonzero(~intact), [0, 5])


def test_a_later_format_is_refused_with_the_way_out(shard):
    header, data = header_of(shard)
    header["__metadata__"]["skshazam_shard"] = "2"
    forge(shard, header, data)
    with pytest.raises(FeatureStoreMismatchError, match=r"format 2.*pip install -U"):
        ShardFile(shard)


FORGERIES = {
    "dtype of keys": ("keys", "dtype", "I8"),
    "dtype of rows": ("rows", "dtype", "F64"),
    "dtype that is no text": ("rows", "dtype", ["F16"]),
    "bfloat16": ("rows", "dtype", "BF16"),
    "dtype of checks": ("checks", "dtype", "F64"),
    "rows without a width": ("rows", "shape", [N * WIDTH]),
    "rows of no width": ("rows", "shape", [N, 0]),
    "other number of rows": ("rows", "shape", [N + 1, WIDTH]),
    "other number of checks": ("checks", "shape", [N - 1]),
    "short keys": ("keys", "shape", [2 * N, 16]),
    "shape of text": ("rows", "shape", ["12", "6"]),
    "shape of truth": ("checks", "shape", [True]),
    "shape of floats": ("rows", "shape", [12.0, 6.0]),
    "huge shape": ("rows", "shape", [N, 2**70]),
    "nested shape": ("rows", "shape", [[N], WIDTH]),
    "negative offset": ("rows", "data_offsets", [-8, 144 - 8]),
    "reversed offsets": ("rows", "data_offsets", [240, 96]),
    "overlap": ("rows", "data_offsets", [90, 234]),
    "beyond the file": ("rows", "data_offsets", [2**40, 2**40 + 144]),
    "three offsets": ("rows", "data_offsets", [0, 96, 144]),
    "no offsets": ("rows", "data_offsets", None),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_entry_is_damage(shard, forgery):
    name, field, value = FORGERIES[forgery]
    header, data = header_of(shard)
    header[name][field] = value
    forge(shard, header, data)
    with pytest.raises(DamagedShardError):
        ShardFile(shard)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        "1",
        {},
        {"skshazam_shard": 1},
        {"skshazam_shard": "-1"},
        {"skshazam_shard": "1.0"},
        {"skshazam_shard": "9" * 5000},
        {"skshazam_shard": "²"},
        {"skshazam_shard": "1", "more": {}},
    ],
)
def test_forged_metadata_is_damage(shard, metadata):
    header, data = header_of(shard)
    header["__metadata__"] = metadata
    forge(shard, header, data)
    with pytest.raises(DamagedShardError):
        ShardFile(shard)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        '{"a": ' * 50_000,
        "9" * 5000,
        "NaN",
        "\x00",
    ],
)
def test_a_header_that_is_no_header_is_damage(shard, text):
    forge(shard, text, b"x" * 400)
    with pytest.raises(DamagedShardError):
        ShardFile(shard)


def test_a_tensor_named_twice_is_damage(shard):
    header, data = header_of(shard)
    text = json.dumps(header)
    forge(shard, text[:-1] + ', "rows": ' + json.dumps(header["rows"]) + "}", data)
    with pytest.raises(DamagedShardError, match="twice"):
        ShardFile(shard)


@pytest.mark.parametrize("more", [["extra"], []])
def test_a_missing_or_further_tensor_is_damage(shard, more):
    header, data = header_of(shard)
    if more:
        header["extra"] = header["keys"]
    else:
        del header["checks"]
    forge(shard, header, data)
    with pytest.raises(DamagedShardError, match="it holds"):
        ShardFile(shard)


@pytest.mark.parametrize("length", [0, 7, 2**20 + 1, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_impossible_length_is_damage(shard, length):
    content = shard.read_bytes()
    shard.write_bytes(struct.pack("<Q", length) + content[8:])
    with pytest.raises(DamagedShardError):
        ShardFile(shard)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dtype", "shape", "data_offsets", "a"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    header=st.dictionaries(
        st.sampled_from(["keys", "rows", "checks", "__metadata__", "x"]), JSON
    )
    | JSON
)
def test_no_header_leads_to_another_error(tmp_path_factory, header):
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    forge(path, header, b"x" * 300)
    with pytest.raises((DamagedShardError, FeatureStoreMismatchError)):
        ShardFile(path)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(content=st.binary(max_size=300))
def test_no_bytes_lead_to_another_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "noise.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedShardError):
        ShardFile(path)
