"""One pass over the images: the same pixels for every teacher, every row in place."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from skshazam import TeacherSpec
from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import ImageReadError, TeacherOutputError
from skshazam.features import Extraction, extract_features
from skshazam.teachers import load_teacher
from tests.tiny_teachers import tiny_convolution, tiny_vit

# Batched matrix products may add in another order; features are of order 1.
ATOL = 1e-5


@pytest.fixture
def teachers():
    specs = [tiny_vit(), tiny_convolution()]
    return {spec.name: load_teacher(spec, "cpu") for spec in specs}


@pytest.fixture
def many(tiles):
    """Seventeen different tiles of two sizes."""
    return [np.roll(tiles[i % 6], 3 * i, axis=1) for i in range(17)]


class Recorder:
    """A teacher that remembers the pixels it was given and returns their means."""

    device = torch.device("cpu")

    def __init__(self, dim=3):
        self.spec = tiny_convolution(dtype="bfloat16")
        self.dim = dim
        self.batches = []
        self.dtypes = []

    def __call__(self, pixels, dtype, preprocessing):
        self.batches.append(list(pixels))
        self.dtypes.append(dtype)
        means = np.stack([image.mean((0, 1)) for image in pixels])
        return torch.from_numpy(np.float32(means[:, : self.dim]))


def test_features_are_those_of_each_teacher_side_by_side(teachers, many):
    features = extract_features(many, teachers, batch_size=4).features
    assert isinstance(features, TeacherFeatures)
    assert features.dtype == np.float32
    assert features.shape == (17, 34)
    assert features.teacher_blocks == TeacherBlocks(
        ("tiny-vit", "tiny-convolution"), (24, 10)
    )
    for name, columns in features.teacher_blocks.split(features).items():
        expected = teachers[name](many).numpy()
        np.testing.assert_allclose(columns, expected, rtol=0, atol=ATOL)
        assert columns.std(axis=0).min() > 0


@pytest.mark.parametrize("batch_size", [1, 2, 5, 17, 100])
def test_the_batch_size_changes_nothing_but_speed(teachers, many, batch_size):
    reference = extract_features(many, teachers, batch_size=7).features
    found = extract_features(many, teachers, batch_size=batch_size).features
    np.testing.assert_allclose(found, reference, rtol=0, atol=ATOL)


def test_permuted_images_give_permuted_rows(teachers, many):
    order = np.random.default_rng(0).permutation(len(many))
    reference = extract_features(many, teachers, batch_size=5).features
    found = extract_features([many[i] for i in order], teachers, batch_size=5).features
    np.testing.assert_allclose(found, reference[order], rtol=0, atol=ATOL)


@pytest.mark.parametrize("n_threads", [2, 8])
def test_the_number_of_threads_changes_no_bit(teachers, many, n_threads):
    reference = extract_features(many, teachers, batch_size=4).features
    found = extract_features(many, teachers, batch_size=4, n_threads=n_threads)
    np.testing.assert_array_equal(found.features, reference)


def test_images_are_decoded_by_as_many_threads_as_asked_for(monkeypatch, tiles):
    together = threading.Barrier(3, timeout=10)
    monkeypatch.setattr(
        "skshazam.images._stream.read_image", lambda tile: (together.wait(), tile)[1]
    )
    extraction = extract_features(tiles, {"a": Recorder()}, n_threads=3)
    assert np.isfinite(extraction.features).all()


def test_every_teacher_gets_the_same_decoded_arrays(tmp_path, tiles):
    paths = []
    for i, tile in enumerate(tiles):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(tile).save(paths[-1])
    first, second = Recorder(), Recorder(dim=2)
    extract_features(paths, {"a": first, "b": second}, batch_size=4)
    assert [len(batch) for batch in first.batches] == [4, 2]
    seen = [[image for batch in r.batches for image in batch] for r in (first, second)]
    assert all(a is b for a, b in zip(*seen, strict=True))
    for image, tile in zip(seen[0], tiles, strict=True):
        np.testing.assert_array_equal(image, tile)


def test_every_image_is_decoded_once_whatever_the_number_of_teachers(
    monkeypatch, tiles
):
    from skshazam.images import _stream

    reads = []
    read = _stream.read_image
    monkeypatch.setattr(
        _stream, "read_image", lambda s: (reads.append(id(s)), read(s))[1]
    )
    extract_features(tiles, {name: Recorder() for name in "abc"}, batch_size=2)
    assert sorted(reads) == sorted(map(id, tiles))


def test_no_image_gives_a_matrix_without_rows(teachers):
    features = extract_features([], teachers).features
    assert features.shape == (0, 34)
    assert features.teacher_blocks.dims == (24, 10)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("auto", torch.float32),
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
    ],
)
def test_the_precision_reaches_the_teacher(tiles, precision, dtype):
    recorder = Recorder()
    extract_features(tiles, {"a": recorder}, precision=precision)
    assert recorder.dtypes == [dtype]


@pytest.fixture
def damaged(tiles):
    """Six images of which the second and the last two are unreadable."""
    return [tiles[0], b"no image", *tiles[2:4], "missing.png", tiles[5] / 255]


def test_the_first_unreadable_image_ends_the_run(damaged):
    with pytest.raises(ImageReadError, match=r"Image 1 of 6.*8 encoded bytes"):
        extract_features(damaged, {"a": Recorder()})


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_unreadable_images_become_rows_of_nan(teachers, damaged, batch_size, n_threads):
    extraction = extract_features(
        damaged, teachers, batch_size=batch_size, n_threads=n_threads, on_error="nan"
    )
    features, errors = extraction.features, extraction.errors
    assert list(errors) == [1, 4, 5]
    assert all(isinstance(error, ImageReadError) for error in errors.values())
    assert "Image 4 of 6" in str(errors[4])
    assert "missing.png" in str(errors[4])
    assert np.isnan(features[[1, 4, 5]]).all()
    readable = [0, 2, 3]
    expected = extract_features([damaged[i] for i in readable], teachers).features
    np.testing.assert_allclose(features[readable], expected, rtol=0, atol=ATOL)


def test_nothing_but_unreadable_images_reach_no_teacher():
    recorder = Recorder()
    extraction = extract_features([b"", b"x"], {"a": recorder}, on_error="nan")
    assert recorder.batches == []
    assert np.isnan(extraction.features).all()
    assert list(extraction.errors) == [0, 1]


def test_batches_are_filled_up_past_unreadable_images(damaged):
    recorder = Recorder()
    extract_features(damaged, {"a": recorder}, batch_size=3, on_error="nan")
    assert [len(batch) for batch in recorder.batches] == [3]


@pytest.mark.parametrize("progress", [True, False])
def test_a_progress_bar_is_shown_if_asked_for(capsys, tiles, progress):
    extract_features(tiles, {"a": Recorder()}, progress=progress)
    printed = capsys.readouterr()
    assert ("images" in printed.err) == progress
    assert printed.out == ""


def test_an_extraction_without_errors_has_no_errors(tiles):
    extraction = extract_features(tiles, {"a": Recorder()})
    assert isinstance(extraction, Extraction)
    assert extraction.errors == {}


class Overflowing(torch.nn.Module):
    """Is finite for a black image alone."""

    def forward(self, images):
        return torch.exp(1e4 * images.mean(dim=(2, 3)))


def test_a_teacher_that_overflows_is_named():
    spec = TeacherSpec(
        "wild", build=Overflowing, dim=3, size=8, mean=(0, 0, 0), std=(1, 1, 1)
    )
    white = [np.full((8, 8, 3), 255, dtype=np.uint8)]
    with pytest.raises(TeacherOutputError, match=r"'wild'.*not finite"):
        extract_features(white, {"wild": load_teacher(spec, "cpu")})
