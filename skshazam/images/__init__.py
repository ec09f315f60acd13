"""From a path, bytes or an array to pixels."""

from skshazam.images._reading import (
    check_files_exist,
    check_image_collection,
    describe_image,
    read_image,
)
from skshazam.images._stream import ImageStream

__all__ = [
    "ImageStream",
    "check_files_exist",
    "check_image_collection",
    "describe_image",
    "read_image",
]
