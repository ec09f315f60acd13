"""Preprocessing equals torchvision's pipeline on Pillow images, to one grey level.

Pillow resizes in two passes and rounds in between. Which pass comes first changes a few
pixels by several grey levels; it was the horizontal one until Pillow 13, which takes
the cheaper one first. The reference here asks for the horizontal one.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from skshazam.teachers._preprocessing import preprocess
from tests.tiny_teachers import tiny_vit

CPU = torch.device("cpu")
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
# Square, landscape, portrait; smaller, equal, larger; odd differences to the crop.
SHAPES = [
    (32, 32),
    (20, 20),
    (97, 97),
    (40, 61),
    (61, 40),
    (33, 32),
    (9, 25),
    (200, 90),
]
GEOMETRIES = {
    "crop": {"size": 32},
    "resize": {"size": 32, "resize": 37},
    "wide": {"size": (24, 40)},
    "tall, resize": {"size": (41, 24), "resize": 50},
    "squash": {"size": 32, "crop": False},
    "squash wide": {"size": (24, 40), "crop": False},
}


def picture(shape, seed=0):
    """Return tissue-like pixels: blobs with sharp edges and saturated corners."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(*shape, 3)), (2, 2, 0))
    pixels = (smooth * 400 + 128).clip(0, 255).round().astype(np.uint8)
    pixels[: shape[0] // 4, : shape[1] // 4] = [255, 0, 255]
    return pixels


def resized(image, size, how):
    """Return a Pillow image resized to (width, height), horizontally first."""
    return image.resize((size[0], image.height), how).resize(size, how)


def with_torchvision_on_pillow(pixels, spec):
    """Return what the classical evaluation transform gives, written out by hand."""
    image = Image.fromarray(pixels)
    height, width = spec.input_size
    how = FILTERS[spec.interpolation]
    if spec.crop:
        short = spec.resize or max(height, width)
        w, h = image.size
        size = (int(short * w / h), short) if h < w else (short, int(short * h / w))
        image = resized(image, size, how)
        left = round((image.width - width) / 2)
        top = round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    else:
        image = resized(image, (width, height), how)
    values = np.asarray(image).transpose(2, 0, 1) / 255
    mean, std = (np.array(v)[:, None, None] for v in (spec.mean, spec.std))
    return (values - mean) / std


def grey_levels(batch, spec):
    """Return a batch in units of grey levels, so that 1 is one of 255."""
    std = np.array(spec.std)[:, None, None]
    mean = np.array(spec.mean)[:, None, None]
    return (np.asarray(batch, dtype=float) * std + mean) * 255


def assert_one_grey_level(found, expected, spec):
    """Compare two normalised images; one value in a thousand may be two levels off."""
    apart = np.abs(grey_levels(found, spec) - grey_levels(expected, spec))
    assert np.quantile(apart, 0.999) < 1.01
    assert apart.max() < 2.01
    assert apart.mean() < 0.1


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pixels_are_those_of_torchvision_on_pillow(shape, geometry, interpolation):
    spec = tiny_vit(**geometry, interpolation=interpolation)
    pixels = picture(shape)
    batch = preprocess([pixels], spec, CPU)
    assert batch.shape == (1, 3, *spec.input_size)
    assert batch.dtype == torch.float32
    assert_one_grey_level(batch[0], with_torchvision_on_pillow(pixels, spec), spec)


def test_torchvision_itself_agrees():
    transforms = pytest.importorskip("torchvision.transforms")
    spec = tiny_vit(size=32, resize=37)
    pipeline = transforms.Compose(
        [
            transforms.Resize(37, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    for shape in [(60, 60), (40, 61), (20, 30)]:
        pixels = picture(shape)
        expected = pipeline(Image.fromarray(pixels)).numpy()
        assert_one_grey_level(preprocess([pixels], spec, CPU)[0], expected, spec)


def test_the_two_filters_and_the_two_geometries_differ():
    pixels = picture((40, 61))
    specs = [
        tiny_vit(),
        tiny_vit(interpolation="bilinear"),
        tiny_vit(crop=False),
        tiny_vit(resize=48),
    ]
    batches = [preprocess([pixels], spec, CPU) for spec in specs]
    for i, first in enumerate(batches):
        for second in batches[:i]:
            assert (first - second).abs().mean() > 0.02


def test_an_image_of_the_input_size_is_only_normalised():
    pixels = picture((32, 32))
    spec = tiny_vit(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    expected = (pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
    found = preprocess([pixels], spec, CPU)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_crop_is_the_centre():
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, 16:48] = 255
    spec = tiny_vit(mean=(0, 0, 0), std=(1, 1, 1))
    assert (preprocess([pixels], spec, CPU) == 1).all()
    assert (preprocess([pixels.transpose(1, 0, 2)], spec, CPU) == 1).all()


def test_overshoot_of_the_filter_is_clipped_to_the_grey_levels():
    pixels = np.zeros((9, 9, 3), dtype=np.uint8)
    pixels[3:6] = 255
    batch = preprocess([pixels], tiny_vit(mean=(0, 0, 0), std=(1, 1, 1)), CPU)
    assert batch.min() == 0
    assert batch.max() == 1
    levels = (batch * 255).numpy()
    np.testing.assert_allclose(levels, levels.round(), atol=1e-3)


def test_sizes_may_be_mixed_and_the_order_is_kept():
    images = [picture(shape, seed) for seed, shape in enumerate(SHAPES * 2)]
    spec = tiny_vit()
    together = preprocess(images, spec, CPU)
    for image, row in zip(images, together, strict=True):
        assert torch.equal(row, preprocess([image], spec, CPU)[0])
    backwards = preprocess(images[::-1], spec, CPU)
    assert torch.equal(backwards.flip(0), together)


@pytest.mark.parametrize(
    "view",
    [lambda a: a[::-1, ::-1], lambda a: a.transpose(1, 0, 2), lambda a: a[:, 3:, ::-1]],
)
def test_views_and_read_only_arrays_are_welcome(view):
    pixels = picture((40, 50))
    pixels.flags.writeable = False
    given = view(pixels)
    expected = preprocess([np.ascontiguousarray(given).copy()], tiny_vit(), CPU)
    assert torch.equal(preprocess([given], tiny_vit(), CPU), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_a_gpu_gives_the_same_pixels_to_one_grey_level(geometry, interpolation):
    spec = tiny_vit(**geometry, interpolation=interpolation)
    images = [picture(shape) for shape in SHAPES]
    on_cpu = preprocess(images, spec, CPU)
    on_gpu = preprocess(images, spec, torch.device("cuda")).cpu()
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        assert_one_grey_level(cpu, gpu, spec)


# --- Pillow's own resizing --------------------------------------------------------


def as_the_card_does(pixels, spec):
    """Return what the card's transform gives with the Pillow installed here."""
    transforms = pytest.importorskip("torchvision.transforms")
    how = transforms.InterpolationMode(spec.interpolation)
    short = spec.resize or max(spec.input_size)
    steps = [transforms.Resize(short if spec.crop else spec.input_size, how)]
    if spec.crop:
        steps.append(transforms.CenterCrop(spec.input_size))
    steps += [transforms.ToTensor(), transforms.Normalize(spec.mean, spec.std)]
    return transforms.Compose(steps)(Image.fromarray(pixels)).numpy()


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_pil_path_is_exactly_the_cards(shape, geometry, interpolation):
    spec = tiny_vit(**geometry, interpolation=interpolation)
    pixels = picture(shape)
    found = preprocess([pixels], spec, CPU, "pil")[0].numpy()
    expected = as_the_card_does(pixels, spec)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("side", [16, 27, 33, 48, 64, 97, 200, 512])
def test_square_tiles_differ_by_one_grey_level_and_a_few_values_by_two(
    side, interpolation
):
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    spec = tiny_vit(interpolation=interpolation, size=24)
    for pixels in (picture((side, side)), noise):
        fast = grey_levels(preprocess([pixels], spec, CPU)[0], spec)
        pil = grey_levels(preprocess([pixels], spec, CPU, "pil")[0], spec)
        apart = np.abs(fast - pil)
        assert apart.max() < 2.01
        assert (apart > 1.01).mean() < 1e-3


def test_the_two_paths_are_two():
    pixels, spec = picture((97, 97)), tiny_vit()
    fast, pil = (preprocess([pixels], spec, CPU, how) for how in ("fast", "pil"))
    assert not torch.equal(fast, pil)


def test_the_pil_path_mixes_sizes_in_order():
    images = [picture(shape, seed) for seed, shape in enumerate(SHAPES)]
    together = preprocess(images, tiny_vit(), CPU, "pil")
    for image, row in zip(images, together, strict=True):
        assert torch.equal(row, preprocess([image], tiny_vit(), CPU, "pil")[0])


@pytest.mark.parametrize("method", ["fast", "pil"])
@pytest.mark.parametrize("shape", [(1, 20_000, 3), (20_000, 1, 3)])
def test_a_strip_is_cut_before_it_is_enlarged(shape, method):
    strip = np.zeros(shape, dtype=np.uint8)
    middle = slice(9_900, 10_100)
    strip[middle if shape[0] > 1 else slice(None)] = 255
    if shape[1] > 1:
        strip[:] = 0
        strip[:, middle] = 255
    spec = tiny_vit(mean=(0, 0, 0), std=(1, 1, 1))
    batch = preprocess([strip], spec, torch.device("cpu"), method)
    assert batch.shape == (1, 3, 32, 32)
    assert batch.min() == 1
