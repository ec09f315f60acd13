"""From decoded pixels to a teacher's normalised input, on the teacher's device.

Nothing is read from an architecture's own defaults: timm's are wrong for most published
teachers. "fast" resizes whole batches on the device, in uint8 with an antialiased
filter; "pil" resizes image by image with Pillow, as the model cards do. On real tiles
the two were never more than two grey levels apart, and more than one in fewer than one
value of 100,000. Tiles that are not square differ more where Pillow 13 or newer takes
columns first: by 3 in pictures, by 21 in noise.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from skshazam.teachers._image_batch import ImageBatch
from skshazam.teachers._spec import TeacherSpec

__all__ = ["PREPROCESSINGS", "preprocess"]

# Part of the fingerprint under which features are stored: another number whenever a
# pixel may change. Pillow and torch were seen to keep theirs within a major version.
PREPROCESSINGS = {
    "fast": f"uint8 antialias 1, torch {torch.__version__.partition('.')[0]}",
    "pil": f"pil 1, Pillow {Image.__version__.partition('.')[0]}",
}

# Beyond this ratio of sides the far ends of an image are cut off before resizing.
MAX_ASPECT = 16

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def preprocess(
    images: Sequence[np.ndarray],
    spec: TeacherSpec,
    device: torch.device,
    method: str = "fast",
) -> torch.Tensor:
    """Resize, crop and normalise decoded images for one teacher.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, 3), dtype=uint8
        RGB pixels; sizes may differ. An ``ImageBatch`` is uploaded once for all
        teachers.
    spec : TeacherSpec
        Geometry and colour statistics.
    device : torch.device
        Where the result lives.
    method : {"fast", "pil"}, default="fast"
        Who resizes: the device, or Pillow.

    Returns
    -------
    batch : Tensor of shape (n, 3, *spec.input_size), dtype=float32
    """
    if method == "pil":
        pixels = _with_pillow(images, spec).to(device)
    else:
        batch = images if isinstance(images, ImageBatch) else ImageBatch(images)
        pixels = _on_device(batch, spec, device)
    return (pixels.float() - _colour(spec.mean, device)) / _colour(spec.std, device)


@lru_cache(maxsize=256)
def _colour(channels: tuple[float, float, float], device: torch.device):
    """Return colour statistics in grey levels, on a device, of shape (3, 1, 1)."""
    return torch.tensor(channels, device=device).view(3, 1, 1) * 255


def _with_pillow(images: Sequence[np.ndarray], spec: TeacherSpec) -> torch.Tensor:
    """Return uint8 pixels of shape (n, 3, *input_size), resized one by one."""
    height, width = spec.input_size
    how = _FILTERS[spec.interpolation]
    fitted = []
    for pixels in images:
        scaled, (h, w) = _geometry(pixels.shape[:2], spec)
        pixels = np.ascontiguousarray(_centre(pixels, h, w))
        image = Image.fromarray(pixels).resize(scaled[::-1], how)
        fitted.append(_centre(np.asarray(image), height, width))
    return torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2)


def _on_device(
    batch: ImageBatch, spec: TeacherSpec, device: torch.device
) -> torch.Tensor:
    """Return uint8 pixels of shape (n, 3, *input_size); equal sizes go together."""
    height, width = spec.input_size
    fitted = torch.empty(
        (len(batch), 3, height, width), dtype=torch.uint8, device=device
    )
    for positions, pixels in batch.on(device):
        scaled, (h, w) = _geometry(pixels.shape[-2:], spec)
        pixels = pixels[..., *_central(pixels.shape[-2:], h, w)]
        pixels = _resize(pixels, scaled, spec.interpolation)
        fitted[positions] = pixels[..., *_central(scaled, height, width)]
    return fitted


def _geometry(
    shape: tuple[int, int], spec: TeacherSpec
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size to resize to, and the central part of the image to begin with."""
    h, w = shape
    height, width = spec.input_size
    if not spec.crop:
        return (height, width), (h, w)
    # All that the crop can show; a strip of 1 x 10,000 pixels would else be enlarged
    # to millions.
    h, w = min(h, MAX_ASPECT * w), min(w, MAX_ASPECT * h)
    short = spec.resize or max(height, width)
    # Truncation of the longer side: as torchvision does.
    scaled = (short, int(short * w / h)) if h <= w else (int(short * h / w), short)
    return scaled, (h, w)


def _central(shape: tuple[int, int], height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns of the centre, offsets rounded as torchvision's."""
    top, left = round((shape[0] - height) / 2), round((shape[1] - width) / 2)
    return slice(top, top + height), slice(left, left + width)


def _centre(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the central part of one image of shape (height, width, 3)."""
    return pixels[_central(pixels.shape[:2], height, width)]


def _resize(
    pixels: torch.Tensor, size: tuple[int, int], interpolation: str
) -> torch.Tensor:
    """Return uint8 pixels resized with an antialiased filter."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    # Only the CPU has an integer kernel. Elsewhere go in two passes, as Pillow does,
    # rounded and clipped in between: one float pass was up to 17 grey levels off at
    # edges (measured with the float kernel on a CPU).
    on_cpu = pixels.device.type == "cpu"
    for step in [size] if on_cpu else [(pixels.shape[-2], size[1]), size]:
        pixels = functional.interpolate(
            pixels if on_cpu else pixels.float(),
            size=step,
            mode=interpolation,
            antialias=True,
            align_corners=False,
        )
        pixels = pixels.round().clamp(0, 255).to(torch.uint8)
    return pixels
