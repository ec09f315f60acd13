"""ImageStream: in order, a bounded window ahead, errors in their place."""

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from skshazam.exceptions import ImageReadError
from skshazam.images import ImageStream

N = 12
READ = "skshazam.images._stream.read_image"


def tile(value):
    return np.full((2, 2, 3), value, dtype=np.uint8)


@pytest.fixture
def reads(monkeypatch):
    """Replace decoding by a lookup that records which source was read."""
    record = []

    def read(source):
        record.append(source)
        return tile(source)

    monkeypatch.setattr(READ, read)
    return record


@pytest.mark.parametrize("n_ahead", [1, 3, 100])
@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_order_is_kept_even_if_early_images_are_the_slow_ones(
    monkeypatch, n_threads, n_ahead
):
    def slow_at_first(source):
        time.sleep(0.004 if source < 3 else 0)
        return tile(source)

    monkeypatch.setattr(READ, slow_at_first)
    stream = ImageStream(range(N), n_threads=n_threads, n_ahead=n_ahead)
    assert [image[0, 0, 0] for image in stream] == list(range(N))
    assert len(stream) == N


@pytest.mark.parametrize(("n_threads", "n_ahead"), [(1, 1), (1, 4), (3, 4), (4, 1)])
def test_no_more_than_a_window_is_read_ahead(reads, n_threads, n_ahead):
    window = max(n_threads, n_ahead)
    for consumed, _ in enumerate(
        ImageStream(range(N), n_threads=n_threads, n_ahead=n_ahead), start=1
    ):
        time.sleep(0.005)  # Let the threads run as far as they may.
        assert consumed <= len(reads) <= min(N, consumed + window - 1)
    assert sorted(reads) == list(range(N))


def test_the_window_is_filled_before_it_is_asked_for(reads):
    stream = iter(ImageStream(range(N), n_threads=2, n_ahead=5))
    next(stream)
    deadline = time.monotonic() + 5
    while len(reads) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sorted(reads) == [0, 1, 2, 3, 4]
    stream.close()


@pytest.mark.parametrize("n_ahead", [1, 3])
def test_threads_decode_at_the_same_time(monkeypatch, n_ahead):
    together = threading.Barrier(3, timeout=10)
    monkeypatch.setattr(READ, lambda source: (together.wait(), tile(source))[1])
    images = list(ImageStream(range(6), n_threads=3, n_ahead=n_ahead))
    assert [image[0, 0, 0] for image in images] == list(range(6))


def test_nothing_is_read_before_iteration(reads):
    ImageStream(range(N), n_threads=2)
    time.sleep(0.01)
    assert reads == []


def test_closing_cancels_what_is_not_being_read(monkeypatch):
    record = []

    def slow(source):
        record.append(source)
        time.sleep(0.005)
        return tile(source)

    monkeypatch.setattr(READ, slow)
    stream = iter(ImageStream(range(N), n_threads=1, n_ahead=N))
    next(stream)
    stream.close()
    assert len(record) < N / 2


def test_a_stream_can_be_iterated_again(reads):
    stream = ImageStream([3, 4])
    assert [image[0, 0, 0] for image in [*stream, *stream]] == [3, 4, 3, 4]


def test_an_empty_stream_ends_at_once():
    assert list(ImageStream([])) == []


@pytest.mark.parametrize("n_threads", [1, 3])
def test_errors_stand_in_place_and_name_position_and_path(tmp_path, n_threads):
    good = tmp_path / "good.png"
    Image.fromarray(tile(9)).save(good)
    (tmp_path / "bad.png").write_text("no image")
    sources = [good, tmp_path / "missing.png", good, str(tmp_path / "bad.png"), None]
    results = list(ImageStream(sources, n_threads=n_threads, n_ahead=2))
    kinds = [type(result) for result in results]
    assert kinds == [np.ndarray, ImageReadError, np.ndarray, *2 * [ImageReadError]]
    for position, name in [(1, "missing.png"), (3, "bad.png"), (4, "NoneType")]:
        message = str(results[position])
        assert f"Image {position} of 5" in message
        assert name in message
        assert isinstance(results[position].__cause__, ImageReadError)


def test_a_damaged_pil_image_is_an_error_in_place_too():
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    damaged = Image.open(io.BytesIO(buffer.getvalue()[:-900]))
    first, second = ImageStream([damaged, tile(1)])
    assert isinstance(first, ImageReadError)
    np.testing.assert_array_equal(second, tile(1))


def test_an_error_that_is_no_image_error_is_not_swallowed(monkeypatch):
    def broken(source):
        raise MemoryError("no memory left")

    monkeypatch.setattr(READ, broken)
    with pytest.raises(MemoryError, match="no memory left"):
        list(ImageStream([1, 2, 3], n_threads=2))


def test_one_lazy_image_may_be_in_a_collection_many_times(tmp_path):
    Image.fromarray(tile(3)).save(tmp_path / "lazy.png")
    for _ in range(5):
        with Image.open(tmp_path / "lazy.png") as lazy:
            for pixels in ImageStream([lazy] * 32, n_threads=8):
                np.testing.assert_array_equal(pixels, tile(3))
