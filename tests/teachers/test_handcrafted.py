"""The classical descriptors against scikit-image, number by number."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage, signal, stats
from skimage import color, feature, filters

from skshazam.teachers._handcrafted import (
    HANDCRAFTED,
    FrequencyDescriptor,
    StainDescriptor,
    TextureDescriptor,
)

ORIENTATIONS = np.deg2rad([0, 30, 60, 90, 120, 150])
GABOR_FREQUENCIES = 0.05 * 8.0 ** np.array([0, 0.25, 0.5, 0.75, 1])
LBP = slice(0, 28)
GLCM = slice(28, 38)


def smooth_noise(rng, shape, scale):
    noise = ndimage.gaussian_filter(rng.normal(size=shape), scale)
    return (noise - noise.min()) / np.ptp(noise)


def tissue(rng, shape):
    """Return uint8 RGB of smooth fields of three stains with a little grain."""
    stains = np.stack([smooth_noise(rng, shape, scale) for scale in (2.5, 5, 4)], 2)
    rgb = color.hed2rgb(stains * [0.2, 0.15, 0.1]) + rng.normal(0, 0.02, (*shape, 1))
    return (rgb.clip(0, 1) * 255).round().astype(np.uint8)


def picture(kind, shape):
    rng = np.random.default_rng(7)
    if kind == "tissue":
        return tissue(rng, shape)
    if kind == "noise":
        return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    channels = [smooth_noise(rng, shape, scale) for scale in (1, 2, 4)]
    return (np.stack(channels, 2) * 255).round().astype(np.uint8)


def to_tensor(*pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def describe(descriptor, *pictures):
    return descriptor()(to_tensor(*pictures)).numpy()


def collection():
    """Return eight unlike tissue images of 48 x 48 as one float batch."""
    rng = np.random.default_rng(3)
    return to_tensor(*(tissue(rng, (48, 48)) for _ in range(8)))


def grey_bytes(rgb):
    # 1e-6 rounds halves up where float64 stores them a little below.
    return np.floor(255 * color.rgb2gray(rgb) + 0.5 + 1e-6).astype(np.uint8)


def stain_reference(rgb):
    stains = color.rgb2hed(rgb / 255).reshape(-1, 3).T
    numbers = [
        [
            s.mean(),
            s.std(),
            stats.skew(s),
            *np.quantile(s, [0.05, 0.25, 0.5, 0.75, 0.95]),
        ]
        for s in stains
    ]
    return np.r_[np.ravel(numbers), np.corrcoef(stains)[np.triu_indices(3, 1)]]


def lbp_reference(rgb):
    histograms = []
    for points, radius in ((8, 1), (16, 2)):
        codes = feature.local_binary_pattern(
            grey_bytes(rgb), points, radius, method="uniform"
        )[radius:-radius, radius:-radius]
        counts = np.bincount(codes.ravel().astype(int), minlength=points + 2)
        histograms.append(counts / codes.size)
    return np.concatenate(histograms)


def tied_lbp_reference(rgb):
    """Ojala's definition with interpolation by scipy and ties up to 1e-3."""
    grey = grey_bytes(rgb).astype(float)
    histograms = []
    for points, radius in ((8, 1), (16, 2)):
        rows, columns = np.indices(grey.shape)
        angles = 2 * np.pi * np.arange(points) / points
        bits = np.stack(
            [
                ndimage.map_coordinates(
                    grey,
                    [rows - radius * np.sin(a), columns + radius * np.cos(a)],
                    order=1,
                )
                - grey
                >= -1e-3
                for a in angles
            ]
        )[:, radius:-radius, radius:-radius]
        uniform = (bits != np.roll(bits, 1, 0)).sum(0) <= 2
        codes = np.where(uniform, bits.sum(0), points + 1)
        histograms.append(np.bincount(codes.ravel(), minlength=points + 2) / codes.size)
    return np.concatenate(histograms)


def glcm_reference(rgb):
    matrix = feature.graycomatrix(
        grey_bytes(rgb) // 16,
        [1, 3],
        np.deg2rad([0, 45, 90, 135]),
        levels=16,
        symmetric=True,
        normed=True,
    )
    names = ["contrast", "dissimilarity", "homogeneity", "energy", "correlation"]
    return np.stack(
        [feature.graycoprops(matrix, name).mean(1) for name in names], 1
    ).ravel()


def gabor_reference(grey):
    numbers = []
    for frequency in GABOR_FREQUENCIES:
        magnitudes = []
        for theta in ORIENTATIONS:
            kernel = filters.gabor_kernel(frequency, theta=theta, bandwidth=1)
            margins = [(side // 2, side // 2) for side in kernel.shape]
            extended = np.pad(grey, margins, mode="symmetric")
            magnitudes.append(abs(signal.fftconvolve(extended, kernel, mode="valid")))
        energies = np.mean(magnitudes, axis=(1, 2))
        numbers += [
            energies.mean(),
            energies.max() / energies.mean(),
            np.mean(magnitudes, axis=0).std(),
        ]
    return np.array(numbers)


def band_reference(grey):
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = abs(np.fft.fft2(grey * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    edges = 2 ** (np.arange(9) / 2) / 32 - 1e-9
    return np.log(
        [
            1e-8 + power[(low <= radius) & (radius < high)].mean()
            for low, high in pairwise(edges)
        ]
    )


def frequency_reference(rgb):
    grey = color.rgb2gray(rgb / 255)
    grey = grey - grey.mean()
    return np.r_[gabor_reference(grey), band_reference(grey)]


pictures = pytest.mark.parametrize("kind", ["tissue", "noise", "smooth"])
shapes = pytest.mark.parametrize("shape", [(96, 96), (40, 57)])
descriptors = pytest.mark.parametrize("descriptor", HANDCRAFTED.values())


@pictures
@shapes
def test_stain_numbers_are_those_of_scikit_image(kind, shape):
    rgb = picture(kind, shape)
    found = describe(StainDescriptor, rgb)[0]
    np.testing.assert_allclose(found, stain_reference(rgb), rtol=1e-4, atol=1e-5)


def test_stain_of_black_pixels_is_clipped_like_scikit_image():
    rgb = picture("noise", (32, 32))
    rgb[:16] = 0
    rgb[16:20] = 255
    found = describe(StainDescriptor, rgb)[0]
    np.testing.assert_allclose(found, stain_reference(rgb), rtol=1e-4, atol=1e-5)


@pictures
@shapes
def test_binary_patterns_are_those_of_scikit_image_on_the_interior(kind, shape):
    # scikit-image leaves ties between interpolated values to rounding errors: of
    # a few pixels in smooth images, of none in noise.
    rgb = picture(kind, shape)
    found = describe(TextureDescriptor, rgb)[0, LBP]
    tolerance = 1e-6 if kind == "noise" else 1e-3
    np.testing.assert_allclose(found, lbp_reference(rgb), atol=tolerance)


@pictures
@shapes
def test_binary_patterns_count_ties_as_ones(kind, shape):
    rgb = picture(kind, shape)
    found = describe(TextureDescriptor, rgb)[0, LBP]
    np.testing.assert_allclose(found, tied_lbp_reference(rgb), atol=1e-6)


def test_grey_values_that_end_in_one_half_are_rounded_up():
    colours = np.random.default_rng(0).integers(0, 256, (2_000_000, 3), dtype=np.uint8)
    halves = colours[colours @ [2125, 7154, 721] % 10_000 == 5_000]
    rgb = np.resize(halves, (32, 32, 3))
    rgb[::2] = picture("noise", (16, 32))
    found = describe(TextureDescriptor, rgb)[0, LBP]
    np.testing.assert_allclose(found, tied_lbp_reference(rgb), atol=1e-6)


@pictures
@shapes
def test_co_occurrence_is_that_of_scikit_image(kind, shape):
    rgb = picture(kind, shape)
    found = describe(TextureDescriptor, rgb)[0, GLCM]
    np.testing.assert_allclose(found, glcm_reference(rgb), rtol=1e-5, atol=1e-6)


@pictures
@shapes
def test_frequency_numbers_are_those_of_scikit_image(kind, shape):
    rgb = picture(kind, shape)
    found = describe(FrequencyDescriptor, rgb)[0]
    np.testing.assert_allclose(found, frequency_reference(rgb), rtol=1e-5, atol=1e-6)


def test_gabor_filters_may_be_larger_than_the_image():
    rgb = picture("tissue", (16, 20))
    grey = color.rgb2gray(rgb / 255)
    found = describe(FrequencyDescriptor, rgb)[0, :15]
    expected = gabor_reference(grey - grey.mean())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_stripes_peak_at_their_own_frequency_and_are_anisotropic():
    columns = np.cos(2 * np.pi * GABOR_FREQUENCIES[2] * np.arange(96))
    rgb = np.broadcast_to((127.5 + 100 * columns)[:, None], (96, 96, 3))
    found = describe(FrequencyDescriptor, rgb.round().astype(np.uint8))[0, :15]
    energy, anisotropy, spread = found.reshape(5, 3).T
    assert energy.argmax() == 2
    assert anisotropy[2] > 3
    assert spread[2] < 0.2 * energy[2]


def test_white_noise_has_its_variance_in_every_band():
    values = np.random.default_rng(0).normal(0.5, 0.1, (128, 128, 1)).repeat(3, 2)
    images = torch.from_numpy(values).permute(2, 0, 1)[None].float()
    bands = FrequencyDescriptor()(images)[0, 15:].numpy()
    np.testing.assert_allclose(bands, np.log(0.01), atol=0.5)


@descriptors
def test_dim_is_the_width_of_the_finite_float32_output(descriptor):
    module = descriptor()
    for shape in ((16, 16), (33, 20), (96, 64)):
        features = module(torch.rand(2, 3, *shape))
        assert features.shape == (2, descriptor.dim)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()


@descriptors
def test_rows_do_not_depend_on_the_batch(descriptor):
    images = collection()
    module = descriptor()
    alone = torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(module(images), alone, rtol=1e-5, atol=1e-6)


@descriptors
def test_results_repeat_bit_for_bit(descriptor):
    images = collection()
    assert torch.equal(descriptor()(images), descriptor()(images.clone()))


@descriptors
@pytest.mark.parametrize(
    "move",
    [
        lambda images: images.rot90(1, (2, 3)),
        lambda images: images.flip(3),
        lambda images: images.flip(2),
    ],
    ids=["rotated by 90 degrees", "flipped left-right", "flipped up-down"],
)
def test_rotations_and_flips_change_nothing(descriptor, move):
    images = collection()[..., :40]
    module = descriptor()
    torch.testing.assert_close(
        module(move(images)), module(images), rtol=1e-4, atol=1e-5
    )


@descriptors
@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_constant_images_have_finite_features(descriptor, value):
    features = descriptor()(torch.full((2, 3, 40, 40), value))
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 0.7, 1.0])
def test_constant_images_have_no_skewness_correlation_texture_or_anisotropy(value):
    images = torch.full((1, 3, 40, 41), value)
    stain = StainDescriptor()(images)[0]
    assert (stain[[2, 10, 18, 24, 25, 26]] == 0).all()
    texture = TextureDescriptor()(images)[0]
    assert texture[8] == 1
    assert texture[10 + 16] == 1
    assert texture[GLCM].tolist() == [0, 0, 1, 1, 1] * 2
    frequency = FrequencyDescriptor()(images)[0]
    assert (frequency[1:15:3] == 1).all()
    np.testing.assert_allclose(frequency[15:], np.log(1e-8), atol=1e-3)


@descriptors
def test_every_column_varies_over_varied_images(descriptor):
    features = descriptor()(collection())
    spread = features.std(0) / features.abs().amax(0)
    assert (spread > 1e-3).all()


@descriptors
def test_there_is_nothing_to_learn_or_to_save(descriptor):
    module = descriptor()
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    assert not module(torch.rand(1, 3, 32, 32, requires_grad=True)).requires_grad


@descriptors
def test_autocast_does_not_lower_the_precision(descriptor):
    images = collection()
    expected = descriptor()(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = descriptor()(images)
    assert torch.equal(found, expected)


@descriptors
def test_float64_images_are_taken_as_float32(descriptor):
    images = collection()
    assert torch.equal(descriptor()(images.double()), descriptor()(images))


@descriptors
def test_an_empty_batch_gives_no_rows(descriptor):
    assert descriptor()(torch.rand(0, 3, 32, 32)).shape == (0, descriptor.dim)


@descriptors
@pytest.mark.parametrize(
    "images",
    [
        torch.rand(3, 32, 32),
        torch.rand(2, 32, 32, 3),
        torch.rand(2, 3, 15, 32),
        torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
    ],
    ids=["one image", "channels last", "too small", "bytes"],
)
def test_other_inputs_are_refused_with_the_remedy(descriptor, images):
    with pytest.raises(ValueError, match=r"permute\(0, 3, 1, 2\)"):
        descriptor()(images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@descriptors
def test_cuda_gives_the_features_of_the_cpu(descriptor):
    images = collection()
    found = descriptor().cuda()(images.cuda()).cpu()
    torch.testing.assert_close(found, descriptor()(images), rtol=1e-4, atol=1e-5)
