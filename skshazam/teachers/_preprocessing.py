"""From decoded pixels to a teacher's normalised input, on the teacher's device.

Resizing stays in uint8 with an antialiased filter, as Pillow does it: 99.9 % of pixels
at most one grey level apart, and all at most two from a Pillow that resizes rows first.
Nothing is read from an architecture's own defaults: timm's are wrong for most published
teachers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from skshazam.teachers._spec import TeacherSpec

__all__ = ["preprocess"]

# Beyond this ratio of sides the far ends of an image are cut off before resizing.
MAX_ASPECT = 16


def preprocess(
    images: Sequence[np.ndarray], spec: TeacherSpec, device: torch.device
) -> torch.Tensor:
    """Resize, crop and normalise decoded images for one teacher.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, 3), dtype=uint8
        RGB pixels; sizes may differ.
    spec : TeacherSpec
        Geometry and colour statistics.
    device : torch.device
        Where the result lives.

    Returns
    -------
    batch : Tensor of shape (n, 3, *spec.input_size), dtype=float32
    """
    pixels = _resized(images, spec, device)
    mean = torch.tensor(spec.mean, device=device).view(3, 1, 1) * 255
    std = torch.tensor(spec.std, device=device).view(3, 1, 1) * 255
    return (pixels.float() - mean) / std


def _resized(images, spec: TeacherSpec, device: torch.device) -> torch.Tensor:
    """Return uint8 pixels of shape (n, 3, *input_size); equal sizes go together."""
    height, width = spec.input_size
    batch = torch.empty(
        (len(images), 3, height, width), dtype=torch.uint8, device=device
    )
    rows_of_shape: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        rows_of_shape.setdefault(image.shape, []).append(row)
    for rows in rows_of_shape.values():
        same_size = torch.from_numpy(np.stack([images[row] for row in rows]))
        pixels = same_size.to(device).permute(0, 3, 1, 2)
        batch[rows] = _fit(pixels, spec)
    return batch


def _fit(pixels: torch.Tensor, spec: TeacherSpec) -> torch.Tensor:
    """Return pixels of one size brought to the spec's input size."""
    height, width = spec.input_size
    if not spec.crop:
        return _resize(pixels, (height, width), spec.interpolation)
    short = spec.resize or max(height, width)
    h, w = pixels.shape[-2:]
    if max(h, w) > MAX_ASPECT * min(h, w):
        # All that the crop can show; a strip of 1 x 10,000 pixels would else be
        # enlarged to millions.
        h, w = (min(side, MAX_ASPECT * min(h, w)) for side in (h, w))
        pixels = _centre(pixels, h, w)
    # Truncation of the longer side and rounding of the offset: as torchvision does.
    scaled = (short, int(short * w / h)) if h <= w else (int(short * h / w), short)
    pixels = _resize(pixels, scaled, spec.interpolation)
    return _centre(pixels, height, width)


def _centre(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the central part of images, the offset rounded as torchvision does."""
    h, w = pixels.shape[-2:]
    top, left = round((h - height) / 2), round((w - width) / 2)
    return pixels[..., top : top + height, left : left + width]


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
