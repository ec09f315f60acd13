"""ImageBatch: decoded images that several teachers share, uploaded once."""

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["ImageBatch"]


class ImageBatch(Sequence):
    """Decoded images, and the same as uint8 tensors on the devices that asked.

    Pixels travel as uint8, a quarter of what float32 costs, from pinned memory and
    without waiting where the device is a GPU.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, 3), dtype=uint8
        RGB pixels; sizes may differ.
    """

    def __init__(self, images: Sequence[np.ndarray]):
        self._images = images
        self._on_device: dict[torch.device, list] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __getitem__(self, index):
        """Return one image, or a batch of several."""
        if isinstance(index, slice):
            return ImageBatch(self._images[index])
        return self._images[index]

    def on(self, device: torch.device) -> list[tuple[list[int], torch.Tensor]]:
        """Return the images on a device, those of one size stacked.

        Parameters
        ----------
        device : torch.device
            Where a teacher runs.

        Returns
        -------
        groups : list of (list of int, Tensor of shape (k, 3, height, width))
            Positions in the batch and their uint8 pixels.
        """
        if device not in self._on_device:
            positions: dict[tuple[int, ...], list[int]] = {}
            for position, image in enumerate(self._images):
                positions.setdefault(image.shape, []).append(position)
            self._on_device[device] = [
                (group, self._upload(group, device)) for group in positions.values()
            ]
        return self._on_device[device]

    def _upload(self, positions: list[int], device: torch.device) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack([self._images[i] for i in positions]))
        if device.type == "cuda":
            pixels = pixels.pin_memory()
        return pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
