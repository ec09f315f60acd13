"""By which keys a store knows images: the extraction's own, read only where needed."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from skshazam.features import FeatureStore, _image_digests, extract_to_store
from skshazam.features._image_digests import image_digests
from skshazam.images import _digest
from tests.tiny_teachers import tiny_convolution


@pytest.fixture
def paths(tmp_path, tiles, monkeypatch):
    """Six files that count as old enough to be known by their stat."""
    monkeypatch.setattr(_digest, "SETTLED_AFTER_NS", 0)
    monkeypatch.setattr(_image_digests, "BLOCK", 4)
    for i, tile in enumerate(tiles):
        Image.fromarray(tile).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.glob("*.png"))


@pytest.fixture
def read(monkeypatch):
    """Record which files are read."""
    names, read_encoded = [], _image_digests.read_encoded
    monkeypatch.setattr(
        _image_digests,
        "read_encoded",
        lambda source: (names.append(source), read_encoded(source))[1],
    )
    return names


@pytest.mark.parametrize("n_threads", [1, 3])
def test_digests_are_those_of_the_extraction(tmp_path, paths, tiles, read, n_threads):
    store = FeatureStore(tmp_path / "store")
    images = [*paths, paths[0].read_bytes(), *tiles, Image.fromarray(tiles[0])]
    before, _ = image_digests(images, store, n_threads=n_threads)
    assert not store.path.exists()
    assert before[0].tobytes() == hashlib.sha256(paths[0].read_bytes()).digest()
    extraction = extract_to_store(images, [tiny_convolution()], store)
    np.testing.assert_array_equal(before, extraction.digests)
    read.clear()
    store = FeatureStore(tmp_path / "store")
    after, errors = image_digests(images, store, n_threads=n_threads)
    np.testing.assert_array_equal(after, extraction.digests)
    assert not errors
    assert not any(source in paths for source in read)


def test_only_files_that_changed_are_read_again(tmp_path, paths, tiles, read):
    store = FeatureStore(tmp_path / "store")
    known = extract_to_store(paths, [tiny_convolution()], store).digests
    Image.fromarray(tiles[3][::-1]).save(paths[3])
    digests, _ = image_digests(paths, store)
    assert read == [paths[3]]
    changed = (digests != known).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [3]


def test_files_that_cannot_be_read_are_named_by_position(tmp_path, paths):
    paths[2].unlink()
    digests, errors = image_digests(paths, FeatureStore(tmp_path / "store"))
    assert list(errors) == [2]
    assert str(errors[2]).startswith("Image 2 of 6")
    assert not digests[2].any() and digests[[0, 1, 3, 4, 5]].any(axis=1).all()
