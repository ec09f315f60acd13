"""The identity of images: by content; and of files: by all that moves when they do."""

import hashlib
import os
import shutil

import numpy as np
import pytest

from skshazam.images import _digest
from skshazam.images._digest import digest_of_encoded, digest_of_pixels, file_key

PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


@pytest.fixture
def settled(monkeypatch):
    """Trust the stat of files that were written a moment ago."""
    monkeypatch.setattr(_digest, "SETTLED_AFTER_NS", 0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tile.png"
    path.write_bytes(b"content")
    return path


def test_encoded_images_count_by_their_bytes():
    assert digest_of_encoded(b"abc") == hashlib.sha256(b"abc").digest()
    assert digest_of_encoded(memoryview(b"abc")) == digest_of_encoded(b"abc")
    assert len(digest_of_encoded(b"")) == 32


def test_pixels_count_by_value_and_shape():
    digest = digest_of_pixels(PIXELS)
    assert digest == digest_of_pixels(PIXELS.copy())
    assert digest == digest_of_pixels(np.asfortranarray(PIXELS))
    others = [
        PIXELS[::-1],
        PIXELS.reshape(5, 4, 3),
        PIXELS.transpose(1, 0, 2),
        PIXELS[:, :4],
        PIXELS ^ (np.arange(60) == 59).reshape(4, 5, 3),
    ]
    digests = {digest_of_pixels(other) for other in others}
    assert len(digests) == len(others)
    assert digest not in digests


def test_pixels_are_never_taken_for_a_file_of_the_same_bytes():
    assert digest_of_pixels(PIXELS) != digest_of_encoded(PIXELS.tobytes())


def test_a_file_keeps_its_key_however_it_is_spelt(settled, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    spellings = [str(file), "tile.png", f"{file.parent}/./tile.png"]
    assert {file_key(spelling) for spelling in spellings} == {file_key(file)}
    assert len(file_key(file)) == 32


def rewrite_in_place(file):
    with file.open("r+b") as opened:
        opened.write(b"CONTENT")


def replace_and_restore_the_time(file):
    before = file.stat()
    file.with_name("other").write_bytes(b"CONTENT")
    file.with_name("other").replace(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def rewrite_and_restore_the_time(file):
    before = file.stat()
    rewrite_in_place(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        rewrite_in_place,
        rewrite_and_restore_the_time,
        replace_and_restore_the_time,
        lambda file: file.write_bytes(b"longer content"),
    ],
)
def test_a_file_that_changed_has_another_key(settled, file, change):
    import time

    before = file_key(file)
    time.sleep(0.02)  # longer than a tick of the clock of this file system
    change(file)
    assert file_key(file) != before


def test_a_copy_is_another_file(settled, file):
    shutil.copy2(file, file.with_name("copy.png"))
    assert file_key(file.with_name("copy.png")) != file_key(file)


def test_a_file_just_written_has_no_key_yet(file):
    assert file_key(file) is None


def test_a_file_from_the_future_has_no_key(file, monkeypatch):
    monkeypatch.setattr(_digest.time, "time_ns", lambda: 0)
    assert file_key(file) is None


@pytest.mark.parametrize("path", ["missing.png", "a\0b.png", 5000 * "x"])
def test_what_cannot_be_a_file_has_no_key(settled, path):
    assert file_key(path) is None
