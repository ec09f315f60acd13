"""One image source to uint8 pixels: the only place where a file becomes an array.

Also says what counts as a collection of images. Order and parallelism live in
``_stream``; resizing and normalisation belong to each teacher.
"""

import io
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from skshazam.exceptions import ImageCollectionError, ImageReadError

__all__ = [
    "check_files_exist",
    "check_image_collection",
    "decode_image",
    "describe_image",
    "read_encoded",
    "read_image",
]

# Nothing that Pillow accepts as an image is larger: it refuses 179 million pixels.
MAX_FILE_SIZE = 2**30

# Pillow modes that convert("RGB") maps without losing grey levels.
_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_loading = threading.Lock()
_ENCODED = bytes | bytearray | memoryview
_SOURCES = _ENCODED | Image.Image | str | os.PathLike | np.ndarray
_REMEDY = (
    "Re-export the tile as 8-bit RGB PNG or JPEG; on_error='nan' goes on without it."
)
_ACCEPTED = (
    "a path, encoded bytes, a uint8 array of shape (height, width, 3) or a PIL image"
)


def read_image(source) -> np.ndarray:
    """Decode one image.

    Parameters
    ----------
    source : str, path-like, bytes, ndarray or PIL.Image.Image
        A file, the bytes of a file, RGB pixels of shape (height, width, 3) and dtype
        uint8, or an opened image.

    Returns
    -------
    pixels : ndarray of shape (height, width, 3), dtype=uint8
        RGB values in 0..255. Grey, palette, alpha and CMYK images are converted by
        Pillow; alpha is dropped.

    Raises
    ------
    ImageReadError
        The file is missing, empty, truncated or no image, has more than 8 bits per
        channel, or the array is not uint8 RGB.

    Examples
    --------
    >>> import numpy as np
    >>> from skshazam.images import read_image
    >>> read_image(np.zeros((4, 5, 3), dtype=np.uint8)).shape
    (4, 5, 3)
    """
    if isinstance(source, np.ndarray):
        return _check_pixels(source, source)
    if not isinstance(source, _SOURCES):
        raise ImageReadError(
            f"Cannot read {describe_image(source)}: expected {_ACCEPTED}."
        )
    if isinstance(source, Image.Image):
        return _pixels_of(lambda: _opened(source), source)
    return decode_image(read_encoded(source), source)


def read_encoded(source) -> bytes:
    """Return the content of an image file.

    Parameters
    ----------
    source : str, path-like or bytes-like
        A file; bytes are returned as they are.

    Returns
    -------
    data : bytes-like

    Raises
    ------
    ImageReadError
        There is no such file, it cannot be read, or it is larger than 1 GiB.
    """
    if isinstance(source, _ENCODED):
        return source
    path = Path(source)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise ImageReadError(
                f"Cannot read {describe_image(source)}: it is {kind}. Pass an image "
                "file; on_error='nan' goes on without it."
            )
        if status.st_size > MAX_FILE_SIZE:
            raise ImageReadError(
                f"Cannot read {describe_image(source)}: {status.st_size / 2**30:.1f} "
                "GiB; expected a tile of at most 1 GiB. Cut a slide into tiles first."
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ImageReadError(
            f"No file at {describe_image(source)} (working directory "
            f"{str(Path.cwd())!r}). Pass an existing path."
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, ImageReadError):
            raise
        raise ImageReadError(
            f"Cannot read {describe_image(source)}: {error}. Pass a readable file; "
            "on_error='nan' goes on without it."
        ) from error


def decode_image(data: bytes, source) -> np.ndarray:
    """Decode the content of an image file.

    Parameters
    ----------
    data : bytes-like
        From :func:`read_encoded`.
    source : object
        Where it is from; error messages name it.

    Returns
    -------
    pixels : ndarray of shape (height, width, 3), dtype=uint8

    Raises
    ------
    ImageReadError
        As :func:`read_image`.
    """

    def decoded():
        with Image.open(io.BytesIO(data)) as image:
            return _rgb(image, source)

    return _pixels_of(decoded, source)


def _pixels_of(decode: Callable[[], np.ndarray], source) -> np.ndarray:
    """Return what ``decode`` gives; whatever Pillow raises becomes our error."""
    try:
        return _check_pixels(decode(), source)
    except ImageReadError:
        raise
    except UnidentifiedImageError as error:  # its text shows our buffer's address
        raise ImageReadError(
            f"Cannot decode {describe_image(source)}: Pillow knows no image format "
            f"that begins like this. {_REMEDY}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything
        raise ImageReadError(
            f"Cannot decode {describe_image(source)}: {error}. {_REMEDY}"
        ) from error


def _opened(image: Image.Image) -> np.ndarray:
    """Return the RGB pixels of an image that the user opened."""
    # It reads its file when first asked, which two threads must not do at once if it
    # is in the collection twice.
    with _loading:
        image.load()
    return _rgb(image, image)


def _rgb(image: Image.Image, source) -> np.ndarray:
    """Return the RGB pixels of an opened image of at most 8 bits a channel."""
    if image.mode not in _EIGHT_BIT_MODES or _is_deep(image):
        raise ImageReadError(
            f"Cannot read {describe_image(source)}: Pillow mode {image.mode!r} holds "
            "more than 8 bits per channel or no colour. Convert it to 8-bit RGB first."
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _is_deep(image: Image.Image) -> bool:
    """Return whether a file has more than 8 bits a channel, whatever its mode says.

    Pillow calls a 16-bit colour file "RGB", and would drop its lower bytes.
    """
    for tile in getattr(image, "tile", ()):
        arguments = tile[-1] if isinstance(tile[-1], tuple) else (tile[-1],)
        # The decoders of PPM are told the largest value instead.
        is_ppm = str(tile[0]).startswith("ppm")
        if any(
            ";16" in str(value) or (is_ppm and isinstance(value, int) and value > 255)
            for value in arguments
        ):
            return True
    return False


def _check_pixels(pixels: np.ndarray, source) -> np.ndarray:
    """Return ``pixels`` if it is a non-empty uint8 RGB array."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageReadError(
            f"Cannot read {describe_image(source)}: expected uint8 RGB pixels of shape "
            "(height, width, 3) with values 0..255."
        )
    if not pixels.size:
        raise ImageReadError(f"Cannot read {describe_image(source)}: it has no pixels.")
    return pixels


def describe_image(source) -> str:
    """Return how an error message names an image source.

    Parameters
    ----------
    source : object
        Anything a user put into an image collection.

    Returns
    -------
    description : str
        The quoted path, or the kind and size of what was given.
    """
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source))
    if isinstance(source, _ENCODED):
        return f"{len(source)} encoded bytes"
    if isinstance(source, np.ndarray):
        return f"array of shape {source.shape}, dtype {source.dtype}"
    if isinstance(source, Image.Image):
        return f"PIL image {getattr(source, 'filename', '')!r} of mode {source.mode!r}"
    return f"{type(source).__name__} {source!r:.80}"


def check_image_collection(X) -> Sequence:
    """Return ``X`` as a sequence with one image source an entry.

    Parameters
    ----------
    X : sequence, Series, one-column DataFrame or ndarray
        Paths, bytes, uint8 arrays of shape (height, width, 3) or PIL images, in a list
        or a 1-d or (n, 1) object array; or one uint8 array of shape
        (n, height, width, 3).

    Returns
    -------
    sources : sequence of length n
        The entries; nothing is opened.

    Raises
    ------
    ImageCollectionError
        X is a single image, empty, or no collection of images.
    """
    if isinstance(X, str | os.PathLike) and Path(X).is_dir():
        raise ImageCollectionError(
            f"X is a folder, {describe_image(X)}; expected its images. Pass "
            "sorted(pathlib.Path(folder).glob('*/*.png')), or the like."
        )
    if isinstance(X, _ENCODED | str | os.PathLike | Image.Image):
        raise ImageCollectionError(
            f"X is a single image ({describe_image(X)}); expected a collection. "
            "Pass a list: [image]."
        )
    sources = X if isinstance(X, list | tuple) else _column(X)
    if len(sources) == 0:
        raise ImageCollectionError(
            "X holds 0 images, while a minimum of 1 is required. Check the pattern or "
            "the folder that the paths came from."
        )
    for index, source in enumerate(sources):
        if not isinstance(source, _SOURCES):
            raise ImageCollectionError(
                f"X[{index}] is {describe_image(source)}; expected {_ACCEPTED}."
            )
    return sources


def check_files_exist(sources: Sequence) -> None:
    """Refuse a collection with missing files before hours are spent on the others.

    Parameters
    ----------
    sources : sequence
        From :func:`check_image_collection`; only paths are looked at.

    Raises
    ------
    ImageReadError
        Some files are missing; the message counts them and names the first three.
    """
    missing = [
        index
        for index, source in enumerate(sources)
        if isinstance(source, str | os.PathLike) and not Path(source).exists()
    ]
    if missing:
        named = ", ".join(f"X[{i}] {describe_image(sources[i])}" for i in missing[:3])
        raise ImageReadError(
            f"{len(missing)} of {len(sources)} files are missing: {named}"
            f"{', ...' if len(missing) > 3 else ''} (working directory "
            f"{str(Path.cwd())!r}). Correct the paths, or pass on_error='nan'."
        )


def _column(X) -> np.ndarray:
    """Return an array-like of images as an array whose first axis counts images."""
    array = X if isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind in "OU":
        return array
    if array.ndim == 4 and array.dtype == np.uint8:
        return array
    hint = "Pass [image] for a single image." if array.ndim == 3 else ""
    raise ImageCollectionError(
        f"X is an array of shape {array.shape} and dtype {array.dtype}; expected "
        "paths, bytes, PIL images or uint8 arrays in a list or 1-d object array, or "
        f"one uint8 array of shape (n, height, width, 3). {hint}".rstrip()
    )
