"""Three classical image descriptors, the teachers that need no download."""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn

__all__ = ["HANDCRAFTED", "FrequencyDescriptor", "StainDescriptor", "TextureDescriptor"]


class _Descriptor(nn.Module):
    """What the descriptors share: the check of their input and float32 throughout."""

    dim: int

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Describe every image by one vector.

        Parameters
        ----------
        images : torch.Tensor of shape (n_images, 3, height, width)
            RGB, float32 in [0, 1], at least 16 pixels high and wide.

        Returns
        -------
        features : torch.Tensor of shape (n_images, dim)
            float32 and finite; row i depends on image i alone. Carries no gradient.

        Raises
        ------
        ValueError
            Another shape, or integers.
        """
        shape = tuple(images.shape)
        is_rgb = len(shape) == 4 and shape[1] == 3 and min(shape[2:]) >= 16
        if not (is_rgb and images.is_floating_point()):
            raise ValueError(
                f"images: {images.dtype}, {shape} -> expected floats in [0, 1] of "
                "shape (n_images, 3, height, width), sides of 16 or more -> turn bytes "
                "with channels last by images.permute(0, 3, 1, 2).float() / 255."
            )
        # Autocast would run the matrix products in half precision.
        with torch.autocast(images.device.type, enabled=False):
            nothing = images.new_empty(0, self.dim, dtype=torch.float32)
            return self._describe(images.float()) if len(images) else nothing


def _grey(images):
    # Channel by channel: a matrix product may round equal pixels differently.
    red, green, blue = images.unbind(1)
    return 0.2125 * red + 0.7154 * green + 0.0721 * blue  # ITU-R BT.709


STAINS_TO_RGB = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
DARKEST = 1e-6
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CONSTANT_STAIN = 1e-6


class StainDescriptor(_Descriptor):
    r"""Distribution of haematoxylin, eosin and residual stain over the pixels.

    Attributes
    ----------
    dim : int
        27.

    Notes
    -----
    With M the optical densities of the three stains (rows: haematoxylin, eosin,
    DAB as the residual), a pixel's concentrations are

    .. math:: c = \max(0, M^{-T} \log(\max(rgb, 10^{-6})) / \log 10^{-6})

    Columns 0 to 23: for each stain in turn, the mean, standard deviation, skewness
    :math:`m_3 / m_2^{3/2}` and quantiles 0.05, 0.25, 0.5, 0.75, 0.95 (linear) of c.
    Columns 24 to 26: Pearson's correlations haematoxylin-eosin, haematoxylin-residual
    and eosin-residual. Skewness and they are 0 where the deviation is at most 1e-6.

    References
    ----------
    .. [1] Ruifrok and Johnston (2001). Quantification of histochemical staining by
       color deconvolution. Anal. Quant. Cytol. Histol. 23(4), 291-299.

    Examples
    --------
    >>> import torch
    >>> from skshazam.teachers._handcrafted import StainDescriptor
    >>> StainDescriptor()(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 27])
    """

    __fingerprint__ = "skshazam.stain/1"
    dim = 27

    def __init__(self):
        super().__init__()
        unmix = np.linalg.inv(np.array(STAINS_TO_RGB)).T / math.log(DARKEST)
        self.register_buffer("unmix", torch.tensor(unmix).float(), persistent=False)

    def _describe(self, images):
        stains = (self.unmix @ images.flatten(2).clamp_min(DARKEST).log()).clamp_min(0)
        mean = stains.mean(-1, keepdim=True)
        centred = stains - mean
        std = centred.square().mean(-1, keepdim=True).sqrt()
        # A constant stain's rounding errors must not become a skewness.
        scaled = torch.where(std > CONSTANT_STAIN, centred / std, 0.0)
        skewness = scaled.pow(3).mean(-1, keepdim=True)
        per_stain = torch.cat([mean, std, skewness, _quantiles(stains)], -1)
        h, e, r = scaled.unbind(1)
        correlations = torch.stack([h * e, h * r, e * r], 1).mean(-1)
        return torch.cat([per_stain.flatten(1), correlations], -1)


def _quantiles(values):
    # torch.quantile refuses more than 2**24 values, one batch of large tiles.
    ordered = values.sort(-1).values
    places = [q * (ordered.shape[-1] - 1) for q in QUANTILES]
    found = [ordered[..., int(p)].lerp(ordered[..., int(p) + 1], p % 1) for p in places]
    return torch.stack(found, -1)


LBP_RINGS = ((8, 1), (16, 2))
LBP_TIE = 1e-3
GLCM_LEVELS = 16
GLCM_DISTANCES = (1, 3)


class TextureDescriptor(_Descriptor):
    r"""Local binary patterns and grey-level co-occurrence of the grey image.

    Attributes
    ----------
    dim : int
        38.

    Notes
    -----
    Both parts see the grey value 0.2125 R + 0.7154 G + 0.0721 B, rounded (half up) to
    0 to 255. Rotations by 90 degrees and flips leave every column unchanged.

    Columns 0 to 27: histograms (fractions) of the rotation-invariant uniform patterns
    [1]_ for (P, R) = (8, 1), 10 bins, and (16, 2), 18 bins: :math:`\sum_p s_p` where
    :math:`\sum_p |s_p - s_{p-1}| \le 2`, else P + 1, with :math:`s_p = 1` if the
    bilinearly interpolated neighbour p of P at radius R is at least the centre, else 0.
    A difference within 1e-3 is a tie, so that rounding errors decide nothing. The
    border of R pixels has no full circle and is left out.

    Columns 28 to 37: for the distances 1 and 3 in turn, the contrast, dissimilarity,
    homogeneity, energy and correlation (1 where constant) of the symmetric normalised
    co-occurrence matrix [2]_ of 16 levels (grey // 16), each the mean over 0, 45, 90
    and 135 degrees. Diagonal offsets are whole pixels: (1, 1) and (2, 2).

    References
    ----------
    .. [1] Ojala, Pietikainen and Maenpaa (2002). Multiresolution gray-scale and
       rotation invariant texture classification. IEEE TPAMI 24(7), 971-987.
    .. [2] Haralick, Shanmugam and Dinstein (1973). Textural features for image
       classification. IEEE Trans. SMC 3(6), 610-621.

    Examples
    --------
    >>> import torch
    >>> from skshazam.teachers._handcrafted import TextureDescriptor
    >>> TextureDescriptor()(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 38])
    """

    __fingerprint__ = "skshazam.texture/1"
    dim = 38

    def __init__(self):
        super().__init__()
        levels = torch.arange(GLCM_LEVELS, dtype=torch.float32)
        gaps = (levels[:, None] - levels).abs()
        weights = torch.stack([gaps.square(), gaps, 1 / (1 + gaps.square())])
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def _describe(self, images):
        # Of 8-bit images, 255 * grey is a multiple of 1e-4: half of that keeps
        # rounding errors of float32 from moving a value that ends in .5.
        grey = (255 * _grey(images) + (0.5 + 5e-5)).floor().clamp(0, 255)
        rings = [_histograms(_patterns(grey, p, r), p + 2) for p, r in LBP_RINGS]
        return torch.cat([*rings, self._co_occurrence(grey)], -1)

    def _co_occurrence(self, grey):
        codes = (grey // (256 // GLCM_LEVELS)).long()
        counts = [
            _histograms(first * GLCM_LEVELS + second, GLCM_LEVELS**2)
            for distance in GLCM_DISTANCES
            for first, second in _neighbour_pairs(codes, distance)
        ]
        joint = torch.stack(counts, 1).unflatten(-1, (GLCM_LEVELS, GLCM_LEVELS))
        joint = (joint + joint.mT) / 2
        marginal = joint.sum(-1)
        centred = self.levels - (marginal * self.levels).sum(-1, keepdim=True)
        variance = (marginal * centred.square()).sum(-1)
        covariance = (joint * centred[..., None] * centred[..., None, :]).sum((-2, -1))
        correlation = torch.where(variance > 0, covariance / variance, 1.0)
        energy = joint.square().sum((-2, -1)).sqrt()
        weighted = (joint[:, :, None] * self.weights).sum((-2, -1))
        found = torch.cat([weighted, torch.stack([energy, correlation], -1)], -1)
        return found.unflatten(1, (len(GLCM_DISTANCES), -1)).mean(2).flatten(1)


def _histograms(codes, n_bins):
    """Return the fractions (n_images, n_bins) of integer codes (n_images, ...)."""
    codes = codes.flatten(1).long()
    starts = n_bins * torch.arange(len(codes), device=codes.device)[:, None]
    counts = torch.bincount((codes + starts).flatten(), minlength=n_bins * len(codes))
    return counts.view(len(codes), n_bins) / codes.shape[1]


def _patterns(grey, points, radius):
    centre = grey[:, radius:-radius, radius:-radius]
    angles = [2 * math.pi * k / points for k in range(points)]
    bits = [_interpolate(grey, radius, a) - centre >= -LBP_TIE for a in angles]
    ones = torch.zeros_like(centre, dtype=torch.uint8)
    changes = torch.zeros_like(ones)
    for previous, bit in pairwise([bits[-1], *bits]):
        ones += bit
        changes += bit ^ previous
    return torch.where(changes <= 2, ones, points + 1)


def _interpolate(grey, radius, angle):
    """Return the bilinear samples at one angle on the circle around every pixel."""
    height, width = (side - 2 * radius for side in grey.shape[1:])
    row, column = radius - radius * math.sin(angle), radius + radius * math.cos(angle)
    samples = 0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            weight = (1 - abs(row - i)) * (1 - abs(column - j))
            # On the axes the cosine is 1e-16 instead of 0, and i + 1 may lie outside.
            if weight > 1e-9:
                samples = samples + weight * grey[:, i : i + height, j : j + width]
    return samples


def _neighbour_pairs(codes, distance):
    """Yield codes at a pixel and at its neighbour for 0, 45, 90 and 135 degrees."""
    diagonal = round(distance * math.sqrt(0.5))
    yield codes[:, :, :-distance], codes[:, :, distance:]
    yield codes[:, :-diagonal, :-diagonal], codes[:, diagonal:, diagonal:]
    yield codes[:, :-distance], codes[:, distance:]
    yield codes[:, :-diagonal, diagonal:], codes[:, diagonal:, :-diagonal]


FREQUENCIES = tuple(0.05 * 8 ** (i / 4) for i in range(5))
# The four angles (degrees) whose mirror images complete the six orientations.
ANGLES = (0, 30, 60, 90)
# Standard deviation times frequency of a Gabor filter of one octave bandwidth.
SIGMA_TIMES_FREQUENCY = 3 * math.sqrt(math.log(2) / 2) / math.pi
FLAT_ENERGY = 1e-7
N_BANDS = 8
POWER_FLOOR = 1e-8


class FrequencyDescriptor(_Descriptor):
    r"""Gabor energies and radial power spectrum of the grey image.

    Attributes
    ----------
    dim : int
        23.

    Notes
    -----
    The grey image 0.2125 R + 0.7154 G + 0.0721 B minus its mean is convolved with
    complex Gabor filters [1]_ of one octave bandwidth (:math:`\sigma = 0.562 / f`)

    .. math:: g(x, y) = \frac{1}{2 \pi \sigma^2} \exp\left(-\frac{x^2 + y^2}
              {2 \sigma^2} + 2 \pi i f (x \cos\theta + y \sin\theta)\right)

    cut at :math:`\lceil 3 \sigma \max(|\cos\theta|, |\sin\theta|)\rceil` pixels, for
    f = 0.05, 0.084, 0.141, 0.238, 0.4 cycles per pixel and 0, 30, ..., 150 degrees,
    with mirrored borders (``numpy.pad(mode="symmetric")``). Rotations by 90 degrees
    and flips change the columns only by rounding.

    Columns 0 to 14: for each frequency in turn, of the magnitude of the response, the
    mean over pixels and orientations; the largest orientation's mean over that mean
    (1 is isotropic, as are means below 1e-7; 6 is one orientation alone); the standard
    deviation over the pixels of the mean over the orientations.

    Columns 15 to 22: :math:`\log(10^{-8} + \bar P_b)`, b = 0 to 7, with
    :math:`\bar P_b` the mean of the periodogram :math:`|FFT(w z)|^2 / \sum w^2` (z the
    grey image minus its mean, w the symmetric Hann window) over the radial frequencies
    :math:`[2^{b/2}/32, 2^{(b+1)/2}/32)`: v for white noise of variance v, 0 for a band
    without a bin (the lowest, of images under 32 pixels).

    References
    ----------
    .. [1] Daugman (1985). Uncertainty relation for resolution in space, spatial
       frequency, and orientation. J. Opt. Soc. Am. A 2(7), 1160-1169.

    Examples
    --------
    >>> import torch
    >>> from skshazam.teachers._handcrafted import FrequencyDescriptor
    >>> FrequencyDescriptor()(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 23])
    """

    __fingerprint__ = "skshazam.frequency/1"
    dim = 23

    def __init__(self):
        super().__init__()
        self.register_buffer("taps", torch.tensor(_gabor_taps()).float(), False)

    def _describe(self, images):
        grey = _grey(images)
        grey = grey - grey.mean((1, 2), keepdim=True)
        gabor = [_orientation_statistics(grey, *taps) for taps in self.taps]
        return torch.cat([*gabor, _band_powers(grey)], -1)


def _gabor_taps():
    """Return the filters' factors, float64 (frequency, y/x, angle, re/im, position)."""
    frequency = np.array(FREQUENCIES)[:, None, None, None]
    sigma = SIGMA_TIMES_FREQUENCY / frequency
    turns = np.deg2rad(ANGLES)
    direction = np.stack([np.sin(turns), np.cos(turns)])[..., None]
    reach = np.ceil(3 * sigma * abs(direction).max(0))
    position = np.arange(-reach.max(), reach.max() + 1)
    bell = np.exp(-0.5 * (position / sigma) ** 2) / (math.sqrt(2 * math.pi) * sigma)
    phase = 2 * math.pi * frequency * direction * position
    cut = bell * (abs(position) <= reach)
    return np.stack([cut * np.cos(phase), cut * np.sin(phase)], -2)


def _mirror_convolution(taps, length):
    """Return the matrices (..., length, length) that convolve a mirrored signal."""
    period = 2 * length
    rest = -taps.shape[-1] % period
    around = nn.functional.pad(taps, (0, rest)).roll(-(taps.shape[-1] // 2), -1)
    around = around.unflatten(-1, (-1, period)).sum(-2)
    n = torch.arange(length, device=taps.device)
    inside, mirrored = n[:, None] - n, n[:, None] + n + 1
    return around[..., inside % period] + around[..., mirrored % period]


def _orientation_statistics(grey, row_taps, column_taps):
    """Return mean, anisotropy and spread (n_images, 3) of one frequency's energy."""
    # As the Gaussian is round, a filter is an outer product: two matrix products.
    rows = _mirror_convolution(row_taps, grey.shape[1]).flatten(1, 2)
    columns = _mirror_convolution(column_taps, grey.shape[2]).flatten(1, 2).mT
    means, total = [], 0
    for angle, row, column in zip(ANGLES, rows, columns, strict=True):
        for magnitude in _magnitudes(row @ (grey @ column), angle):
            means.append(magnitude.mean((1, 2)))
            total = total + magnitude
    energy = torch.stack(means, -1)
    mean = energy.mean(-1)
    anisotropy = torch.where(mean > FLAT_ENERGY, energy.amax(-1) / mean, 1.0)
    centred = total / len(means) - mean[:, None, None]
    spread = centred.square().mean((1, 2)).sqrt()
    return torch.stack([mean, anisotropy, spread], -1)


def _magnitudes(products, angle):
    """Yield the magnitude at an angle and, unless it is the same, at its mirror."""
    (rr, ri), (ir, ii) = (half.chunk(2, -1) for half in products.chunk(2, -2))
    yield torch.hypot(rr - ii, ri + ir)
    if angle % 90:
        # Minus the angle conjugates the filter's row factor.
        yield torch.hypot(rr + ii, ri - ir)


def _band_powers(grey):
    sides = grey.shape[1:]
    windows = [torch.hann_window(n, periodic=False, device=grey.device) for n in sides]
    window = torch.outer(*windows)
    power = torch.fft.fft2(grey * window).abs().square().flatten(1)
    bands = [
        power[:, torch.from_numpy(bins)].sum(1) / max(1, bins.size)
        for bins in _radial_bins(*sides)
    ]
    return (torch.stack(bands, -1) / window.square().sum() + POWER_FLOOR).log()


def _radial_bins(height, width):
    """Return the flat indices of every band's bins in a spectrum of this size."""
    # In whole numbers, squared: an edge such as (3, 3) / 96 is met exactly.
    row, column = (np.minimum(np.arange(n), n - np.arange(n)) for n in (height, width))
    square = np.add.outer((row * width) ** 2, (column * height) ** 2).ravel() * 32**2
    edges = 2 ** np.arange(N_BANDS + 1) * (height * width) ** 2
    bands = np.searchsorted(edges, square, side="right") - 1
    return [np.flatnonzero(bands == band) for band in range(N_BANDS)]


HANDCRAFTED = {
    "stain": StainDescriptor,
    "texture": TextureDescriptor,
    "frequency": FrequencyDescriptor,
}
