"""ImageBatch: a sequence of decoded images that is uploaded once."""

import numpy as np
import pytest
import torch

from skshazam.teachers._image_batch import ImageBatch

CPU = torch.device("cpu")


@pytest.fixture
def batch(tiles):
    return ImageBatch(tiles)


def test_it_is_the_sequence_it_was_made_from(batch, tiles):
    assert len(batch) == len(tiles)
    assert all(mine is given for mine, given in zip(batch, tiles, strict=True))
    part = batch[1:3]
    assert isinstance(part, ImageBatch)
    assert [image is tiles[i] for i, image in enumerate(part, start=1)] == [True, True]


def test_every_image_is_in_one_group_of_its_size(batch, tiles):
    groups = batch.on(CPU)
    assert sorted(i for positions, _ in groups for i in positions) == list(range(6))
    assert [tuple(pixels.shape) for _, pixels in groups] == [
        (4, 3, 40, 40),
        (2, 3, 30, 50),
    ]
    for positions, pixels in groups:
        assert pixels.dtype == torch.uint8
        for position, image in zip(positions, pixels, strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0), tiles[position])


def test_images_are_uploaded_once_a_device(batch):
    assert batch.on(CPU) is batch.on(torch.device("cpu"))


def test_changing_the_upload_leaves_the_images_alone(batch, tiles):
    before = tiles[0].copy()
    batch.on(CPU)[0][1].zero_()
    np.testing.assert_array_equal(tiles[0], before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_pixels(batch):
    pairs = zip(batch.on(CPU), batch.on(torch.device("cuda")), strict=True)
    for (positions, pixels), (same_positions, same_pixels) in pairs:
        assert positions == same_positions
        assert torch.equal(pixels, same_pixels.cpu())
