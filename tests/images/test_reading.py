"""read_image gives uint8 RGB or an ImageReadError that names the image."""

import io
import os
import struct
import warnings
import zlib
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skshazam.exceptions import ImageCollectionError, ImageReadError
from skshazam.images import check_image_collection, describe_image, read_image

# Smooth in both directions, with three channels that differ.
PIXELS = (np.indices((12, 17)).sum(0)[..., None] * [3, 5, 8]).astype(np.uint8)
GREY = np.arange(12 * 17, dtype=np.uint8).reshape(12, 17)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
PALETTE = np.array([[255, 0, 0], [0, 128, 0], [9, 8, 7], [200, 100, 50]], np.uint8)

quick = settings(derandomize=True, deadline=None, max_examples=150)


def encoded(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_chunks(header, *chunks):
    """Return a PNG file of (kind, content) chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [(b"IHDR", header), *chunks, (b"IEND", b"")]
    )


def sixteen_bit_png(samples):
    """Return a PNG of uint16 samples; Pillow itself writes none in colour."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples)
    return png_of_chunks(header, (b"IDAT", zlib.compress(lines)))


def broken_chunk_png():
    """Return a PNG whose pixels go on in a chunk that has no valid name."""
    lines = zlib.compress(b"".join(b"\0" + line.tobytes() for line in NOISE))
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return png_of_chunks(header, (b"IDAT", lines[:100]), (b"\0\1\2\3", lines[100:]))


def indexed_image():
    image = Image.fromarray(GREY % 4)
    image.putpalette(PALETTE.tobytes())
    return image


def with_alpha(pixels):
    alpha = np.broadcast_to(np.arange(17, dtype=np.uint8) * 15, (12, 17))
    return np.dstack([pixels, alpha])


JPEG = encoded(PIXELS, "JPEG", quality=95)
PNG = encoded(PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_the_same_file_gives_the_same_pixels_however_it_is_passed(tmp_path, kind):
    data = encoded(PIXELS, kind)
    path = tmp_path / f"tile.{kind.lower()}"
    path.write_bytes(data)
    expected = read_image(path)
    assert expected.dtype == np.uint8
    assert expected.shape == PIXELS.shape
    if kind in ("PNG", "TIFF", "BMP"):
        np.testing.assert_array_equal(expected, PIXELS)
    same = [str(path), np.str_(path), data, bytearray(data), memoryview(data)]
    for source in [*same, Image.open(path), Image.open(io.BytesIO(data)), expected]:
        np.testing.assert_array_equal(read_image(source), expected)


def test_an_array_is_returned_without_a_copy():
    assert read_image(PIXELS) is PIXELS


@pytest.mark.parametrize("write", [True, False], ids=["from a file", "in memory"])
@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), np.dstack([GREY] * 3)),
        (Image.fromarray(GREY > 99), np.dstack([(GREY > 99) * 255] * 3)),
        (Image.fromarray(with_alpha(GREY)), np.dstack([GREY] * 3)),
        (Image.fromarray(with_alpha(PIXELS)), PIXELS),
        (indexed_image(), PALETTE[GREY % 4]),
    ],
    ids=["L", "1", "LA", "RGBA", "P"],
)
def test_every_eight_bit_mode_becomes_rgb(image, expected, write):
    pixels = read_image(encoded(image) if write else image)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("write", [True, False], ids=["from a file", "in memory"])
def test_cmyk_ink_darkens_the_channels_it_should(write):
    ink = with_alpha(PIXELS)
    image = Image.frombytes("CMYK", (17, 12), ink.tobytes())
    pixels = read_image(encoded(image, "TIFF") if write else image)
    light = 255.0 - ink
    expected = light[..., :3] * light[..., 3:] / 255
    np.testing.assert_allclose(pixels, expected, atol=1)


def test_ycbcr_of_neutral_chroma_is_grey():
    neutral = Image.new("L", (17, 12), 128)
    image = Image.merge("YCbCr", [Image.fromarray(GREY), neutral, neutral])
    np.testing.assert_allclose(read_image(image), np.dstack([GREY] * 3), atol=1)


def test_a_palette_with_transparency_is_read_without_a_warning():
    data = encoded(indexed_image(), transparency=bytes([0, 90, 180, 255]))
    np.testing.assert_array_equal(read_image(data), PALETTE[GREY % 4])


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    data = encoded(frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(data), PIXELS)


def test_the_first_page_of_a_tiff_is_read():
    pages = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image(data), PIXELS)


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]
)
def test_a_tiff_is_read_whatever_its_lossless_compression(compression):
    data = encoded(PIXELS, "TIFF", compression=compression)
    np.testing.assert_array_equal(read_image(data), PIXELS)


def test_a_tiff_of_jpeg_tiles_is_read_as_pillow_does():
    data = encoded(PIXELS, "TIFF", compression="jpeg")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(read_image(data), expected)


def test_a_lossless_webp_gives_its_pixels_and_drops_alpha():
    data = encoded(PIXELS, "WEBP", lossless=True)
    np.testing.assert_array_equal(read_image(data), PIXELS)
    opaque = np.dstack([PIXELS, np.full((12, 17), 255, np.uint8)])
    data = encoded(opaque, "WEBP", lossless=True)
    np.testing.assert_array_equal(read_image(data), PIXELS)


def test_a_note_to_rotate_is_ignored_as_plain_pillow_does():
    note = Image.Exif()
    note[0x0112] = 6  # orientation: a quarter turn
    data = encoded(PIXELS, "JPEG", quality=95, exif=note)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    np.testing.assert_array_equal(read_image(data), read_image(JPEG))


def test_a_ppm_of_eight_bits_or_fewer_is_read():
    np.testing.assert_array_equal(read_image(encoded(PIXELS, "PPM")), PIXELS)
    assert read_image(b"P6 1 1 15\n\x0f\x00\x0f").tolist() == [[[255, 0, 255]]]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("frame 0"), NotImplementedError("fourcc"), struct.error("short")],
)
def test_whatever_a_plugin_of_pillow_raises_is_an_unreadable_image(monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(ImageReadError, match=str(error)):
        read_image(PNG)


def test_lack_of_memory_is_no_unreadable_image(monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(MemoryError):
        read_image(PNG)


def test_a_single_pixel_is_an_image():
    np.testing.assert_array_equal(read_image(encoded(PIXELS[:1, :1])), PIXELS[:1, :1])


def test_the_content_decides_and_not_the_extension(tmp_path):
    np.testing.assert_array_equal(
        read_image(written(tmp_path, "really a png.jpg", PNG)), PIXELS
    )


@pytest.mark.parametrize(
    "name",
    [
        "a, b.png",
        "[60183,10255] ROI (2).png",
        "Gewebe-Übersicht ✓.png",
        "組織.png",
        'quote\'s "double".png',
        " leading space.png",
        "no extension",
    ],
)
def test_any_file_name_will_do(tmp_path, name):
    np.testing.assert_array_equal(read_image(written(tmp_path, name, PNG)), PIXELS)
    np.testing.assert_array_equal(read_image(str(tmp_path / name)), PIXELS)


def written(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def closed_image():
    image = Image.new("RGB", (4, 4))
    image.close()
    return image


def named_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path / "pipe.png"


def sixteen_bit_ppm(kind):
    samples = np.array([258, 513, 65535], dtype=">u2").tobytes()
    return kind + b" 1 1 65535\n" + samples


def huge_file(tmp_path):
    """Return a file that claims three GiB and takes no room."""
    with (tmp_path / "slide.tif").open("wb") as file:
        file.truncate(3 * 2**30)
    return tmp_path / "slide.tif"


# source from tmp_path -> what the message must name
UNREADABLE = {
    "missing file": (lambda p: p / "no.png", "no.png"),
    "missing file as text": (lambda p: "no/such/tile.png", "no/such/tile.png"),
    "directory": (lambda p: p, "it is a folder"),
    "named pipe": (lambda p: named_pipe(p), "no regular file"),
    "16-bit PPM": (lambda p: sixteen_bit_ppm(b"P6"), "more than 8 bits"),
    "16-bit plain PPM": (lambda p: b"P3 1 1 65535 258 513 65535", "more than 8 bits"),
    "empty file": (lambda p: written(p, "empty.png", b""), "empty.png"),
    "text": (lambda p: written(p, "notes.png", b"tile 1: tumour\n"), "notes.png"),
    "truncated JPEG": (lambda p: written(p, "cut.jpg", JPEG[:-200]), "cut.jpg"),
    "broken PNG": (lambda p: written(p, "bad.png", broken_chunk_png()), "bad.png"),
    "truncated PNG": (lambda p: written(p, "cut.png", PNG[: len(PNG) // 2]), "cut.png"),
    "null character": (lambda p: "a\0b.png", "a\\x00b.png"),
    "long path": (lambda p: 5000 * "x", "xxx"),
    "empty bytes": (lambda p: b"", "0 encoded bytes"),
    "bytes of a truncated JPEG": (lambda p: JPEG[:300], "300 encoded bytes"),
    "truncated PIL image": (
        lambda p: Image.open(io.BytesIO(encoded(NOISE, "JPEG")[:-900])),
        "PIL image",
    ),
    "closed PIL image": (lambda p: closed_image(), "PIL image"),
    "PIL image without pixels": (lambda p: Image.new("RGB", (0, 5)), "PIL image"),
    "a file larger than any tile": (lambda p: huge_file(p), "at most 1 GiB"),
    "16-bit grey": (lambda p: Image.fromarray(np.uint16(GREY)), "I;16"),
    "16-bit grey PNG": (lambda p: encoded(np.uint16(GREY)), "I;16"),
    "16-bit colour PNG": (
        lambda p: written(p, "deep.png", sixteen_bit_png(PIXELS * 200)),
        "deep.png",
    ),
    "16-bit colour and alpha PNG": (
        lambda p: sixteen_bit_png(with_alpha(PIXELS)),
        "encoded bytes",
    ),
    "32-bit grey": (lambda p: Image.fromarray(np.int32(GREY)), "'I'"),
    "float TIFF": (lambda p: encoded(np.float32(GREY), "TIFF"), "'F'"),
    "float array": (lambda p: PIXELS / 255, "float64"),
    "uint16 array": (lambda p: np.uint16(PIXELS), "uint16"),
    "signed array": (lambda p: np.int8(PIXELS), "int8"),
    "grey array": (lambda p: GREY, "(12, 17)"),
    "channels first": (lambda p: PIXELS.transpose(2, 0, 1), "(3, 12, 17)"),
    "four channels": (lambda p: with_alpha(PIXELS), "(12, 17, 4)"),
    "empty array": (lambda p: np.empty((0, 5, 3), np.uint8), "(0, 5, 3)"),
    "None": (lambda p: None, "NoneType"),
    "NaN": (lambda p: float("nan"), "float nan"),
    "number": (lambda p: 3, "int 3"),
    "list": (lambda p: [str(p)], "list"),
}


@pytest.mark.parametrize(("make", "named"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_image_is_named_in_a_typed_error(tmp_path, make, named):
    source = make(tmp_path)
    with pytest.raises(ImageReadError) as caught:
        read_image(source)
    assert named in str(caught.value)
    assert str(caught.value).count("Cannot ") <= 1  # The reason is given once.
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ValueError)


def test_a_decompression_bomb_is_an_unreadable_image(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageReadError, match="bomb"):
        read_image(PNG)


def read_or_refuse(data):
    """Read bytes; a warning about a damaged file is Pillow's right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = read_image(data)
        except ImageReadError:
            return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.size


@quick
@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_an_image_read_error(data):
    read_or_refuse(data)


@pytest.mark.parametrize(
    "data",
    [PNG, JPEG, encoded(indexed_image(), transparency=0), encoded(PIXELS, "GIF")],
    ids=["PNG", "JPEG", "palette", "GIF"],
)
@quick
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6
    ),
    keep=st.integers(1, 2000),
)
def test_a_damaged_file_raises_nothing_but_an_image_read_error(data, edits, keep):
    damaged = bytearray(data[:keep])
    for position, value in edits:
        damaged[position % len(damaged)] = value
    read_or_refuse(bytes(damaged))


@pytest.mark.parametrize(
    ("source", "description"),
    [
        ("a/b.png", "'a/b.png'"),
        (Path("a/b.png"), "'a/b.png'"),
        (b"12345", "5 encoded bytes"),
        (np.zeros((2, 3)), "array of shape (2, 3), dtype float64"),
        (Image.new("L", (2, 2)), "PIL image '' of mode 'L'"),
        (None, "NoneType None"),
    ],
)
def test_an_image_is_described_in_a_few_words(source, description):
    assert describe_image(source) == description


def test_a_description_stays_short_whatever_the_object():
    assert len(describe_image(list(range(10_000)))) < 100


def objects(entries):
    array = np.empty(len(entries), dtype=object)
    array[:] = entries
    return array


PATHS = ["a.png", "b.png", "c.png"]

COLLECTIONS = {
    "list": PATHS,
    "tuple": tuple(PATHS),
    "deque": deque(PATHS),
    "strings": np.array(PATHS),
    "objects": objects(PATHS),
    "column": objects(PATHS)[:, None],
    "column of strings": np.array(PATHS)[:, None],
    "Series": pd.Series(PATHS, index=[7, 3, 5]),
    "Series of objects": pd.Series(PATHS, dtype=object),
    "Index": pd.Index(PATHS),
    "DataFrame": pd.DataFrame({"path": PATHS}, index=[7, 3, 5]),
}


@pytest.mark.parametrize("X", COLLECTIONS.values(), ids=COLLECTIONS)
def test_one_path_an_entry_whatever_the_container(X):
    sources = check_image_collection(X)
    assert [sources[i] for i in range(len(sources))] == PATHS


@pytest.mark.parametrize(
    "entries",
    [
        [Path("a.png"), b"x", PIXELS],
        [PIXELS, PIXELS[:, :5]],
        [Image.new("RGB", (2, 2))],
    ],
)
@pytest.mark.parametrize("container", [list, objects, lambda x: objects(x)[:, None]])
def test_entries_of_any_kind_are_handed_on_untouched(entries, container):
    sources = check_image_collection(container(entries))
    assert len(sources) == len(entries)
    assert all(sources[i] is entry for i, entry in enumerate(entries))


def test_a_four_dimensional_array_is_one_image_an_entry():
    X = np.stack([PIXELS, 255 - PIXELS])
    assert check_image_collection(X) is X


def test_a_list_of_arrays_stays_a_list():
    X = [PIXELS, PIXELS]
    assert check_image_collection(X) is X


REFUSED = {
    "path": ("a.png", "Pass a list"),
    "Path": (Path("a.png"), "Pass a list"),
    "bytes": (PNG, "Pass a list"),
    "bytearray": (bytearray(PNG), "Pass a list"),
    "memoryview": (memoryview(PNG), "Pass a list"),
    "PIL image": (Image.new("RGB", (2, 2)), "Pass a list"),
    "one array": (PIXELS, r"shape \(12, 17, 3\).*Pass \[image\]"),
    "empty list": ([], "0 images"),
    "empty array": (np.array([], dtype=object), "0 images"),
    "no rows": (np.empty((0, 4, 4, 3), np.uint8), "0 images"),
    "empty Series": (pd.Series([], dtype=object), "0 images"),
    "numbers": (np.zeros(5), "float64"),
    "features": (np.zeros((5, 3)), r"\(5, 3\)"),
    "column of numbers": (np.zeros((5, 1)), r"float64"),
    "float images": (np.zeros((2, 4, 4, 3)), "float64"),
    "two columns": (np.full((2, 2), "a.png", dtype=object), r"\(2, 2\)"),
    "wide DataFrame": (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"\(1, 2\)"),
    "None": (None, r"\(\)"),
    "dict": ({"a": "a.png"}, r"\(\)"),
    "generator": ((path for path in PATHS), r"\(\)"),
    "number": (3, r"\(\)"),
}


@pytest.mark.parametrize(("X", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_collection_of_images_is_refused(X, named):
    with pytest.raises(ImageCollectionError, match=f"(?s){named}"):
        check_image_collection(X)
