"""Files of features: what is written is read again, others' layouts, and damage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skshazam.exceptions import FeatureFileError, MissingDependencyError
from skshazam.exchange import FeatureFile, read_feature_file, write_feature_file
from skshazam.exchange._file_access import feature_file_shape

SUFFIXES = (".h5", ".hdf5", ".npz", ".pt", ".pth")


def some_features(n=5, dim=7, dtype=np.float16):
    return np.random.default_rng(0).normal(size=(n, dim)).astype(dtype)


def everything(n=5, dtype=np.float16):
    """Return a file with every field."""
    return FeatureFile(
        some_features(n, dtype=dtype),
        coords=np.arange(2 * n).reshape(n, 2) * 512,
        digests=np.random.default_rng(1).integers(0, 256, (n, 32), dtype=np.uint8),
        paths=tuple(f"tiles/ä, [{i}].png" for i in range(n)),
        attributes={"patch_size": 512, "level": 0.5, "name": "S-1", "sizes": [1, 2]},
    )


def check_equal(found, expected):
    assert found.features.dtype == expected.features.dtype
    np.testing.assert_array_equal(found.features, expected.features)
    for name in ("coords", "digests"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    assert found.paths == expected.paths
    assert found.attributes == expected.attributes


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_written_is_read_bit_for_bit(tmp_path, suffix, dtype):
    path = tmp_path / f"all{suffix}"
    write_feature_file(path, everything(dtype=dtype))
    check_equal(read_feature_file(path), everything(dtype=dtype))
    assert feature_file_shape(path) == (5, 7)
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_features_alone_and_empty_files_survive(tmp_path, suffix):
    for name, features in (("a", some_features()), ("b", some_features(0))):
        path = tmp_path / (name + suffix)
        write_feature_file(path, FeatureFile(features))
        check_equal(read_feature_file(path), FeatureFile(features))


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(derandomize=True, max_examples=15, deadline=None, database=None)
@given(
    attributes=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        st.one_of(
            st.integers(-(2**62), 2**62),
            st.booleans(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.none(),
            st.lists(st.integers(0, 99), min_size=1, max_size=3),
        ),
        max_size=4,
    )
)
def test_facts_of_every_kind_survive(tmp_path_factory, suffix, attributes):
    path = tmp_path_factory.mktemp("facts") / f"file{suffix}"
    write_feature_file(path, FeatureFile(some_features(), attributes=attributes))
    assert read_feature_file(path).attributes == attributes


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_paths_of_any_bytes_survive(tmp_path, suffix):
    paths = ("ä.png", os.fsdecode(b"\xff\xe4.png"), "", "long" * 50)
    file = FeatureFile(some_features(4), paths=paths)
    write_feature_file(tmp_path / f"a{suffix}", file)
    assert read_feature_file(tmp_path / f"a{suffix}").paths == paths


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nested_facts_are_kept_at_least_as_json(tmp_path, suffix):
    facts = {"mixed": [1, "a", None], "nested": {"b": [2]}}
    path = tmp_path / f"file{suffix}"
    write_feature_file(path, FeatureFile(some_features(), attributes=facts))
    found = read_feature_file(path).attributes
    assert {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in found.items()
    } == facts


def test_other_programs_find_their_layout(tmp_path):
    write_feature_file(tmp_path / "slide.h5", everything())
    with h5py.File(tmp_path / "slide.h5") as file:
        assert file["features"].shape == (5, 7)
        assert file["coords"].attrs["patch_size"] == 512
        assert file["features"].fletcher32
    write_feature_file(tmp_path / "slide.pt", FeatureFile(some_features()))
    bag = torch.load(tmp_path / "slide.pt", weights_only=True)
    assert torch.is_tensor(bag) and bag.shape == (5, 7)


def test_a_slide_of_trident_is_read_with_its_attributes(tmp_path):
    with h5py.File(tmp_path / "slide.h5", "w") as file:
        features = file.create_dataset(
            "features", data=some_features(dtype=np.float32), chunks=(1, 7)
        )
        features.attrs["encoder"] = "uni_v1"
        features.attrs["name"] = np.bytes_("S-1")
        coords = file.create_dataset("coords", data=np.ones((5, 2), np.int64))
        coords.attrs["patch_size"] = np.int64(256)
        coords.attrs["target_magnification"] = 20
        coords.attrs["nothing"] = h5py.Empty("f")
    file = read_feature_file(tmp_path / "slide.h5")
    np.testing.assert_array_equal(file.features, some_features(dtype=np.float32))
    # Of texts only those of fixed length are read: HDF5 may hang on the others.
    assert file.attributes == {
        "name": "S-1",
        "patch_size": 256,
        "target_magnification": 20,
        "nothing": None,
    }
    assert type(file.attributes["patch_size"]) is int


def test_an_empty_slide_of_trident_has_no_rows_and_no_dim(tmp_path):
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["features"] = np.zeros((0,), np.float32)
        file["coords"] = np.zeros((0,), np.int64)
    file = read_feature_file(tmp_path / "empty.h5")
    assert file.features.shape == (0, 0)
    assert file.coords.shape == (0, 2)
    assert feature_file_shape(tmp_path / "empty.h5") == (0, 0)


def test_a_leading_axis_of_one_is_dropped(tmp_path):
    with h5py.File(tmp_path / "bag.h5", "w") as file:
        file["features"] = some_features()[None]
        file["coords"] = np.ones((1, 5, 2), np.int32)
    file = read_feature_file(tmp_path / "bag.h5")
    assert file.features.shape == (5, 7)
    assert file.coords.shape == (5, 2)
    assert feature_file_shape(tmp_path / "bag.h5") == (5, 7)


def test_pt_files_of_clam_of_dicts_and_of_features_with_labels(tmp_path):
    features, path = torch.from_numpy(some_features()), tmp_path / "bag.pt"
    labels = torch.arange(5)
    for content in (
        features,
        {"features": features, "coords": torch.ones(5, 2)},
        (features, labels),
        [features, labels],
        (features,),
    ):
        torch.save(content, path)
        np.testing.assert_array_equal(read_feature_file(path).features, features)
    torch.save(features.bfloat16(), path)
    assert read_feature_file(path).features.dtype == np.float32
    torch.save(features.double().requires_grad_(), path)
    assert read_feature_file(path).features.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((torch.ones(5, 7),) * 3, r"float32 \(5, 7\).*nothing says which.*i=2"),
        (
            ((torch.ones(5, 7),) * 3 + (torch.ones(5).long(),)),
            r"tuple of 4 entries .*int64 \(5,\)",
        ),
        ((torch.ones(5, 7), torch.ones(4).long()), "5 features and 4 labels"),
        ((torch.ones(5, 7), torch.ones(5)), "nothing says which"),
        ({"feats": torch.ones(5, 7)}, r"'feats': float32 \(5, 7\).*'features'"),
        (torch.ones(7), r"shape \(7,\); expected \(n, dim\)"),
        (torch.ones(5, 7).long(), "dtype int64; expected float"),
        ("features", "it holds str"),
        (Path("/features"), "loading it could run code"),
        ({"features": torch.ones(2, 3), "paths": ["a"]}, "expected 2 texts"),
        ({"features": torch.ones(2, 3), "coords": torch.ones(3, 2)}, "coords has"),
        ({"features": torch.ones(2, 3), "coords": torch.rand(2, 2)}, "not whole"),
        ({"features": torch.ones(2, 3), "digests": torch.ones(2, 32)}, "digests has"),
        ({"features": torch.ones(2, 3), "attributes": [1]}, "expected a dict"),
    ],
)
def test_what_cannot_be_interpreted_without_guessing_is_described(
    tmp_path, content, said
):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(FeatureFileError, match=f"(?s)odd.pt.*{said}"):
        read_feature_file(tmp_path / "odd.pt")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(tmp_path, value):
    features = some_features()
    features[3, 2] = value
    np.savez(tmp_path / "a.npz", features=features)
    with pytest.raises(FeatureFileError, match=r"a\.npz.*Row 3 of 5"):
        read_feature_file(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", features=np.array([[1.0, 1e300]]))
    with pytest.raises(FeatureFileError, match=r"Row 0 of 1 .* more than float32"):
        read_feature_file(tmp_path / "b.npz")


def test_pickles_in_npz_files_are_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", features=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FeatureFileError, match=r"a\.npz.*allow_pickle"):
        read_feature_file(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_overwritten_unless_asked(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"file{suffix}"
    write_feature_file(path, everything(3))
    with pytest.raises(FeatureFileError, match=r"already, and it is kept.*overwrite"):
        write_feature_file(path, everything(4))
    # Another process may be faster than the first look.
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: False)
        with pytest.raises(FeatureFileError, match="already, and it is kept"):
            write_feature_file(path, everything(4))
    check_equal(read_feature_file(path), everything(3))
    write_feature_file(path, everything(4), overwrite=True)
    check_equal(read_feature_file(path), everything(4))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_write_that_fails_leaves_nothing(tmp_path, suffix, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / f"file{suffix}"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FeatureFileError, match=r"Cannot write.*No space left"):
            write_feature_file(path, everything())
    assert not list(tmp_path.iterdir())
    with pytest.raises(FeatureFileError, match="Cannot write"):
        write_feature_file(tmp_path / "absent" / f"file{suffix}", everything())


def test_missing_files_and_unknown_kinds_are_named(tmp_path):
    with pytest.raises(FeatureFileError, match=r"No file at .*absent\.npz"):
        read_feature_file(tmp_path / "absent.npz")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(FeatureFileError, match="No file at"):
        read_feature_file(tmp_path / "folder.h5")
    for use in (read_feature_file, lambda path: write_feature_file(path, everything())):
        with pytest.raises(FeatureFileError, match=r"'\.csv'; expected one of \.h5"):
            use(tmp_path / "a.csv")


def test_without_h5py_the_message_says_what_to_install(tmp_path, monkeypatch):
    write_feature_file(tmp_path / "a.h5", everything())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"skshazam\[hdf5\]"):
        read_feature_file(tmp_path / "a.h5")
    with pytest.raises(MissingDependencyError, match=r"skshazam\[hdf5\]"):
        write_feature_file(tmp_path / "b.h5", everything())


def test_numbers_that_were_changed_are_noticed_by_the_checksum(tmp_path):
    write_feature_file(tmp_path / "a.h5", everything())
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["features"][1, 1] += 1
    with pytest.raises(FeatureFileError, match="the checksum differs"):
        read_feature_file(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["coords"].attrs["crc32"]
    changed = read_feature_file(tmp_path / "a.h5").features - everything().features
    assert changed[1, 1] == 1


def test_a_dataset_larger_than_its_file_can_hold_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("features", shape=(2**40, 1024), dtype="f4", chunks=True)
    with pytest.raises(FeatureFileError, match="it is damaged"):
        read_feature_file(tmp_path / "a.h5")


def read_or_refuse(path, truth):
    """Read a damaged file: a typed error, or what was written."""
    try:
        file = read_feature_file(path)
    except FeatureFileError as error:
        assert str(path) in str(error)
        return
    np.testing.assert_array_equal(file.features, truth)


def damaged(content, damage):
    """Return bytes that were cut, or in which bits were flipped."""
    kept, flips = damage
    data = bytearray(content[: int(kept * len(content))])
    for place, bit in flips:
        if data:
            data[place % len(data)] ^= 1 << bit
    return bytes(data)


DAMAGE = st.tuples(
    st.sampled_from([1, 1, 1, 0.999, 0.9, 0.5, 0.1, 0]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), max_size=3),
)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_damage_is_a_typed_error(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    write_feature_file(path, everything())
    content = path.read_bytes()
    truth = everything().features

    @settings(derandomize=True, max_examples=150, deadline=None, database=None)
    @given(DAMAGE)
    def check(damage):
        path.write_bytes(damaged(content, damage))
        read_or_refuse(path, truth)

    check()


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_random_bytes_are_a_typed_error(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    starts = [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x02", b"\x80\x02}q\x00."]

    @settings(derandomize=True, max_examples=100, deadline=None, database=None)
    @given(st.sampled_from(starts), st.binary(max_size=200))
    def check(start, rest):
        path.write_bytes(start + rest)
        with pytest.raises(FeatureFileError):
            read_feature_file(path)

    check()


# HDF5's C library may crash on damage, which would end the tests: a child reads.
FUZZ_HDF5 = """
import sys
from pathlib import Path

import numpy as np

from tests.exchange.test_feature_file import damaged, everything, read_or_refuse

path, n = Path(sys.argv[1]), int(sys.argv[2])
content = path.read_bytes()
features = everything().features.tobytes()
assert content.count(features) == 1
rng = np.random.default_rng(0)
for i in range(n):
    kept = 1 if i % 3 else rng.uniform()
    flips = [(int(rng.integers(len(content))), int(rng.integers(8))) for _ in "ab"]
    where = path.with_name("damaged.h5")
    where.write_bytes(damaged(content, (kept, flips[: i % 3 + (i % 3 == 0)])))
    read_or_refuse(where, everything().features)
    place = content.index(features) + int(rng.integers(len(features)))
    where.write_bytes(damaged(content, (1, [(place, int(rng.integers(8)))])))
    read_or_refuse(where, everything().features)
"""


def test_damaged_hdf5_is_a_typed_error(tmp_path):
    path = tmp_path / "file.h5"
    write_feature_file(path, everything())
    result = subprocess.run(
        [sys.executable, "-c", FUZZ_HDF5, str(path), "150"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == 0, result.stderr[-2000:]
