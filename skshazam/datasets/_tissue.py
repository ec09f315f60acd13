"""Synthetic H&E tiles of eight colon tissues from a cohort of patients.

Painters draw (haematoxylin, eosin, nuclei): two concentration maps (size, size) and
rows of ellipses. A slide stamps the nuclei and turns the concentrations into RGB.
"""

from functools import partial
from math import cos, pi, sin, sqrt
from numbers import Integral, Real

import numpy as np
from scipy import ndimage, spatial
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

__all__ = ["make_tissue_tiles"]

# Ruifrok & Johnston (2001): optical density of haematoxylin and eosin in R, G, B.
STAIN_OD = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))

DESCR = """\
Synthetic colon H&E: {} tiles of {} x {} px, {} patients, difficulty {}.

No patient and no slide stands behind these images: a program drew ellipses (nuclei),
warped discs (glands) and stretched noise (fibres, debris, mucus) as haematoxylin and
eosin concentrations; the Beer-Lambert law turned them into RGB. Each patient has a
stain, lamp, focus and sensor noise of their own, and only some of the classes.
"""


def _noise(rng, size, sigma):
    """Return smooth noise of mean 0, variance 1 and grain ``sigma`` px."""
    step = max(1, int(sigma / 2))
    noise = rng.standard_normal((size // step + 2,) * 2, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, sigma / step, mode="wrap", truncate=3)
    # The variance of white noise under a Gaussian of s px is 1 / (4 pi s^2).
    noise *= sqrt(4 * pi) * sigma / step
    gaps = np.abs(np.arange(size)[:, None] / step - np.arange(len(noise)))
    hats = np.float32(np.maximum(1 - gaps, 0))
    return noise[:size, :size] if step == 1 else hats @ noise @ hats.T


def _sites(rng, size, pitch, jitter=0.3, keep=1.0):
    """Return jittered honeycomb points (n, 2) on the tile and just outside it."""
    lattice = np.mgrid[-1 : size / pitch / 0.87 + 2, -1 : size / pitch + 2]
    points = lattice.reshape(2, -1).T
    points[:, 1] += points[:, 0] % 2 / 2
    points = points * (0.87, 1) + rng.uniform(-0.5, 0.5, 2)
    points += jitter * rng.uniform(-1, 1, points.shape)
    return pitch * points[rng.random(len(points)) < keep]


def _ellipses(rng, sites, length, width, angle, strength, spread=0.12):
    """Return rows y, x, half length, half width, angle, concentration."""
    vary = np.exp(spread * rng.standard_normal((3, len(sites))))
    length, width, strength = vary * np.array([[length], [width], [strength]])
    angle = np.broadcast_to(angle, len(sites))
    return np.column_stack([sites, length, width, angle, strength])


def _stamp(size, ellipses):
    """Return the map (size, size) of soft-rimmed ellipses; the densest wins."""
    reach = int(np.ceil(ellipses[:, 2:4].max(initial=0))) + 1
    y, x, length, width, angle, strength = np.float32(ellipses).T[..., None, None]
    offset = np.arange(-reach, reach + 1, dtype=np.int32)
    row = np.rint(y).astype(np.int32) + offset[:, None]
    column = np.rint(x).astype(np.int32) + offset
    down, right = np.float32(row - y), np.float32(column - x)
    along = (right * np.cos(angle) + down * np.sin(angle)) / length
    across = (down * np.cos(angle) - right * np.sin(angle)) / width
    radius = np.sqrt(along**2 + across**2)
    # Chromatin is densest under the membrane, so the middle is a little paler.
    body = np.clip((1 - radius) * width + 0.5, 0, 1) * (0.78 + 0.22 * radius**2)
    hit = (body > 0) & (np.minimum(row, column) >= 0) & (np.maximum(row, column) < size)
    canvas = np.zeros(size * size, np.float32)
    np.maximum.at(canvas, (row * size + column)[hit], (strength * body)[hit])
    return canvas.reshape(size, size)


def _at(field, sites):
    """Return ``field`` at the pixels nearest to ``sites``."""
    row, column = np.clip(np.rint(sites).astype(int), 0, field.shape[-1] - 1).T
    return field[..., row, column]


def _uphill(field, sites):
    """Return the angle in which ``field`` grows at ``sites``."""
    return np.arctan2(*(_at(slope, sites) for slope in np.gradient(field)))


def _strands(rng, size, width, stretch, wave):
    """Return noise along lines that bend ``wave`` px, and the coordinate across."""
    angle = rng.uniform(0, pi)
    y, x = np.indices((size, size), dtype=np.float32)
    across = y * cos(angle) - x * sin(angle) + wave * _noise(rng, size, 12)
    along = y * sin(angle) + x * cos(angle)
    noise = rng.standard_normal((2 * size, size // 2), dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (width, stretch / 4), mode="wrap")
    noise *= sqrt(pi * width * stretch)
    where = np.stack([across, along / 4])
    return ndimage.map_coordinates(noise, where, order=1, mode="grid-wrap"), across


def _spindles(rng, sites, across, length, width, strength):
    angle = _uphill(across, sites) + pi / 2 + 0.15 * rng.standard_normal(len(sites))
    return _ellipses(rng, sites, length, width, angle, strength)


def _lymphocytes(rng, size, pitch, keep):
    sites = _sites(rng, size, pitch, keep=keep)
    return _ellipses(rng, sites, 2.5, 2.3, rng.uniform(0, pi, len(sites)), 1.2)


def _paint_fibres(rng, size, order):
    """Paint from loose wavy collagen (order 0) to bundles of muscle (order 1)."""
    width, stretch = 1.1 + 0.6 * order, 10 + 20 * order
    texture, across = _strands(rng, size, width, stretch, 7 - 5.5 * order)
    ridge = across / rng.uniform(13, 19) + 0.12 * _noise(rng, size, 10)
    cleft = 1 - 0.75 * order * (1 - np.abs(np.sin(pi * ridge)) ** 0.4)
    loose = 0.05 * (1 - order) * _noise(rng, size, 9)
    eosin = 0.17 + 0.11 * order + (0.07 - 0.04 * order) * texture + loose
    haematoxylin = 0.06 + 0.03 * order + 0.02 * (1 - order) * texture
    sites = _sites(rng, size, 14.5, 0.45, 0.6 + 0.15 * order)
    nuclei = _spindles(rng, sites, across, 5, 1.2 + 0.4 * order, 0.78)
    return haematoxylin * cleft, eosin * cleft, nuclei


def _paint_inflammation(rng, size, sparseness):
    eosin = 0.12 + 0.03 * _noise(rng, size, 2) + 0.03 * _noise(rng, size, 8)
    crowd = _lymphocytes(rng, size, 5.8 + 1.4 * sparseness, 0.94 - 0.3 * sparseness)
    return np.full_like(eosin, 0.07), eosin, crowd


def _paint_necrosis(rng, size, ghosts):
    grain = (1 - 0.6 * ghosts) * _noise(rng, size, 0.9 + 0.7 * ghosts)
    smudge = _noise(rng, size, 5)
    haematoxylin = 0.09 + 0.05 * _noise(rng, size, 1.2) - 0.03 * smudge
    dots = _sites(rng, size, 9, 0.5, 0.18 + 0.3 * ghosts)
    pyknotic = _ellipses(rng, dots, 1.5, 1.2, rng.uniform(0, pi, len(dots)), 0.9, 0.35)
    rest = _sites(rng, size, 8, 0.4, 0.8 * ghosts)
    faded = _ellipses(rng, rest, 3.2, 2.4, 0.7, 0.3, 0.25)
    nuclei = np.concatenate([pyknotic, faded])
    return haematoxylin, 0.21 + 0.045 * (grain + smudge), nuclei


def _paint_mucus(rng, size, debris):
    texture, across = _strands(rng, size, 2.2, 14, 11 - 5 * debris)
    haematoxylin = 0.1 + 0.035 * texture + 0.03 * _noise(rng, size, 10)
    eosin = 0.03 + 0.1 * debris * rng.random() + 0.015 * texture
    sites = _sites(rng, size, 24, 0.5, 0.15 + 0.4 * debris)
    return haematoxylin, eosin, _spindles(rng, sites, across, 3, 1.8, 0.7)


def _paint_background(rng, size, dirt):
    y, x = np.indices((size, size), dtype=np.float32) / size - 0.5
    turn = rng.uniform(0, pi)
    line = y * cos(turn) - x * sin(turn) + 0.05 * _noise(rng, size, 16)
    fold = np.exp(-(((line - rng.uniform(-0.4, 0.4)) / 0.02) ** 2))
    fold *= (rng.random() < 0.4) * (0.05 + 0.1 * dirt)
    glass = 0.006 + 0.003 * _noise(rng, size, 8) + fold
    dust = _sites(rng, size, 26, 0.5, 0.25)
    return glass, glass, _ellipses(rng, dust, 1.0, 0.8, 0.0, 0.25, 0.4)


def _ring(rng, centres, radius, warp, depth, level, spacing):
    """Return sites along all gland rims shrunk to ``level``, and the way outwards."""
    count = int(2 * pi * radius * level / spacing)
    turn = np.arange(count) + rng.uniform(-0.3, 0.3, (len(centres), count))
    turn *= 2 * pi / count
    tips = level * radius * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    sites = warped = (centres[:, None] + tips).reshape(-1, 2)
    for _ in range(3):  # The fixed point undoes the warp.
        sites = warped - _at(warp, sites).T
    sites = sites + 0.6 * rng.standard_normal(sites.shape)
    # Elsewhere a neighbour's cells are in the way.
    sites = sites[np.abs(_at(depth, sites) - level) < 0.12]
    return sites, _uphill(depth, sites)


def _paint_glands(rng, size, atypia):
    """Paint from round crypts (atypia 0) to crowded, stratified glands (atypia 1)."""
    pitch = 43 - atypia
    centres = _sites(rng, size, pitch, 0.06 + 0.14 * atypia)
    radius = pitch * (0.42 + 0.11 * atypia)
    warp = (1 + 5 * atypia) * np.stack([_noise(rng, size, 9) for _ in "yx"])
    pixels = np.moveaxis(np.indices((size, size)) + warp, 0, -1)
    # 0 in a gland's middle, 1 at its rim.
    depth = np.float32(spatial.cKDTree(centres).query(pixels)[0] / radius)
    ring = partial(_ring, rng, centres, radius, warp, depth)
    lamina_haematoxylin, lamina_eosin, cells = _paint_fibres(rng, size, 0.2)
    cells = np.concatenate([cells, _lymphocytes(rng, size, 7, 0.3)])
    nuclei = [cells[_at(depth, cells[:, :2]) > 1.2]]
    for level in [0.86, 0.68, 0.54][: 1 + int(1.5 * atypia + 0.7 * rng.random())]:
        sites, outwards = ring(level, 4.2 + 1.2 * atypia)
        outwards += 0.4 * atypia * rng.standard_normal(len(sites))
        length, width = 3.2 + 0.7 * atypia, 1.5 + 0.5 * atypia
        strength, spread = 0.85 + 0.1 * atypia, 0.08 + 0.14 * atypia
        nuclei.append(_ellipses(rng, sites, length, width, outwards, strength, spread))
    sites, outwards = ring(0.57, 7)
    goblets = _ellipses(rng, sites, 3.4, 2.7, outwards, 1.1)
    goblets = goblets[rng.random(len(sites)) < 0.95 * (1 - atypia) ** 1.5]
    slit = 0.28 + 0.12 * atypia + (0.04 + 0.05 * atypia) * _noise(rng, size, 3)
    lumen = np.clip(np.maximum((slit - depth) * 12, _stamp(size, goblets)), 0, 1)
    epithelium = np.clip((1.02 - depth) * 10, 0, 1)
    cytoplasm = 0.2 + 0.03 * atypia + 0.015 * _noise(rng, size, 1.5)
    secretion = 0.04 + 0.1 * atypia * np.clip(_noise(rng, size, 2), 0, 1)
    eosin = _blend(_blend(lamina_eosin, cytoplasm, epithelium), secretion, lumen)
    haematoxylin = _blend(lamina_haematoxylin, 0.12 + 0.05 * atypia, epithelium)
    return _blend(haematoxylin, 0.07, lumen), eosin, np.concatenate(nuclei)


def _blend(under, over, mask):
    return under + mask * (over - under)


# Painter, its trait in a textbook tile, how ambiguity moves it, bordering tissues.
TISSUES = {
    "background": (_paint_background, 0.0, 1.0, "stroma mucus necrosis muscle"),
    "gland-irregular": (_paint_glands, 0.95, -0.8, "stroma necrosis gland-regular"),
    "gland-regular": (_paint_glands, 0.05, 0.8, "stroma inflammation gland-irregular"),
    "inflammation": (_paint_inflammation, 0.0, 1.0, "stroma gland-regular necrosis"),
    "mucus": (_paint_mucus, 0.0, 1.0, "stroma gland-irregular background necrosis"),
    "muscle": (_paint_fibres, 1.0, -0.8, "stroma inflammation"),
    "necrosis": (_paint_necrosis, 0.0, 1.0, "stroma gland-irregular mucus"),
    "stroma": (_paint_fibres, 0.0, 0.8, "inflammation muscle gland-regular mucus"),
}


def _paint(rng, name, size, ambiguity):
    painter, typical, slope, _ = TISSUES[name]
    return painter(rng, size, typical + slope * ambiguity)


def _invade(rng, scene, guest, share):
    """Return ``scene`` with ``guest`` on the ``share`` of it along one side."""
    size = len(scene[0])
    y, x = np.indices((size, size), dtype=np.float32) / size
    turn = rng.uniform(0, 2 * pi)
    side = y * sin(turn) + x * cos(turn) + 0.06 * _noise(rng, size, 8)
    side -= np.quantile(side, 1 - share)
    mask = np.clip(side * size / 2 + 0.5, 0, 1)
    stay = scene[2][_at(side, scene[2][:, :2]) < 0]
    enter = guest[2][_at(side, guest[2][:, :2]) >= 0]
    haematoxylin, eosin = (_blend(scene[i], guest[i], mask) for i in (0, 1))
    return haematoxylin, eosin, np.concatenate([stay, enter])


def _concentrations(rng, name, size, difficulty):
    """Return the haematoxylin and eosin maps (2, size, size) of one tile."""
    # At 0.56 regular and irregular glands are drawn alike, so 0.65 is hard enough.
    most = difficulty * (1.25 - 0.6 * difficulty)
    scene = _paint(rng, name, size, rng.uniform(0, most))
    if rng.random() < 1.6 * difficulty:
        guest = _paint(rng, rng.choice(TISSUES[name][-1].split()), size, 0.3)
        share = rng.uniform(0.1, min(0.1 + 0.8 * difficulty, 0.49))
        scene = _invade(rng, scene, guest, share)
    haematoxylin, eosin, nuclei = scene
    infiltrate = _lymphocytes(rng, size, 7, 0.8 * difficulty * rng.beta(1, 4))
    infiltrate = infiltrate[_at(eosin, infiltrate[:, :2]) > 0.1]
    nuclei = _stamp(size, np.concatenate([nuclei, infiltrate]))
    eosin = _blend(eosin, 0.4 * eosin + 0.06, np.minimum(nuclei, 1))
    chromatin = nuclei * (1 + 0.13 * _noise(rng, size, 0.8))
    return np.maximum([np.maximum(haematoxylin, chromatin), eosin], 0)


def _draw_slide(rng, difficulty):
    """Return how one patient's slide is stained and photographed."""
    tilt = (0.02 + 0.1 * difficulty) * rng.standard_normal((2, 3))
    stains = np.maximum(STAIN_OD + tilt, 0.02)
    strengths = np.exp((0.06 + 0.28 * difficulty) * rng.standard_normal((2, 1)))
    return Bunch(
        stains=strengths * stains / np.linalg.norm(stains, axis=1, keepdims=True),
        lamp=rng.uniform(0.97 - 0.12 * difficulty, 1) * rng.uniform(0.98, 1, 3),
        focus=rng.uniform(0.3, 0.6 + 1.2 * difficulty),
        noise=rng.uniform(1, 2 + 14 * difficulty),
        grain=rng.uniform(0.01, 0.1 + 1.6 * difficulty),
    )


def _photograph(rng, maps, slide, difficulty):
    """Return the RGB tile (size, size, 3) of two concentration maps."""
    thickness = np.exp((0.03 + 0.12 * difficulty) * rng.standard_normal((2, 1)))
    light = 10 ** -np.einsum("sc,syx->cyx", np.float32(thickness * slide.stains), maps)
    light *= slide.lamp[:, None, None]
    focus, gain = np.exp(0.6 * difficulty * rng.standard_normal(2)).tolist()
    blur = (0, focus * slide.focus, focus * slide.focus)
    light = ndimage.gaussian_filter(light, blur, truncate=3)
    # One grain for the three channels, as demosaicing and JPEG leave it.
    noise = rng.standard_normal(light.shape[1:], dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, slide.grain, truncate=3)
    grey = 255 * light + gain * slide.noise / noise.std() * noise
    return np.moveaxis(np.clip(np.rint(grey), 0, 255), 0, -1).astype(np.uint8)


def _draw_cohort(rng, n_patients, tiles_per_patient):
    """Yield each patient's class names, one per tile."""
    names = np.array(list(TISSUES))
    most = min(len(names), tiles_per_patient)
    room = np.minimum(rng.integers(4, 8, n_patients), most)
    quota = min(max(3, n_patients // 3), n_patients, n_patients * most // len(names))
    while room.sum() < quota * len(names):
        room[np.argmin(room)] += 1
    has = np.zeros((n_patients, len(names)), bool)
    for label in rng.permutation(len(names)):
        # Patients with the most room first, so that the last class still finds some.
        roomy = np.lexsort([rng.random(n_patients), has.sum(axis=1) - room])[:quota]
        has[roomy, label] = True
    for own, n_classes in zip(has, room, strict=True):
        others = rng.permutation(np.flatnonzero(~own))[: n_classes - own.sum()]
        classes = names[np.concatenate([np.flatnonzero(own), others])]
        share = rng.dirichlet(np.full(n_classes, 2.0))
        counts = 1 + rng.multinomial(tiles_per_patient - n_classes, share)
        yield rng.permutation(np.repeat(classes, counts))


@validate_params(
    {
        "n_patients": [Interval(Integral, 1, None, closed="left")],
        "tiles_per_patient": [Interval(Integral, 1, None, closed="left")],
        "tile_size": [Interval(Integral, 32, None, closed="left")],
        "difficulty": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_tissue_tiles(
    n_patients=24,
    tiles_per_patient=36,
    *,
    tile_size=96,
    difficulty=0.5,
    random_state=None,
):
    """Draw synthetic H&E tiles of eight colon tissues from many patients.

    Parameters
    ----------
    n_patients : int, default=24
        Patients, each with one slide.
    tiles_per_patient : int, default=36
        Tiles of each patient.
    tile_size : int, default=96
        Side in pixels, at least 32. A larger tile shows more tissue, not more detail.
    difficulty : float, default=0.5
        From 0 (textbook tiles, similar slides) to 1: how far stains, focus and noise
        vary, how atypical the tissues are and how many tiles show two of them.
    random_state : int, RandomState instance or None, default=None
        Seed. None draws a new cohort and leaves numpy's global generator alone.

    Returns
    -------
    data : Bunch
        ``images`` uint8 (n, tile_size, tile_size, 3) RGB; ``target`` str (n,) class
        names; ``target_names`` sorted list of the eight; ``groups`` str (n,) patients
        "patient-00", ...; ``DESCR`` str.

    Raises
    ------
    ValueError
        A parameter is of the wrong type or out of range.

    Notes
    -----
    Channel k of a pixel is ``255 lamp_k 10^-(h H_k + e E_k)``, blurred, plus noise: h
    and e are the painted concentrations, H and E the patient's optical densities. A
    patient has 4 to 7 classes, or 8 where else a class would lack its minimum of
    ``min(n_patients, max(3, n_patients // 3))`` patients; never more than tiles.

    References
    ----------
    Ruifrok and Johnston. Quantification of histochemical staining by color
    deconvolution. Analytical and Quantitative Cytology and Histology 23, 2001.

    Examples
    --------
    >>> from skshazam.datasets import make_tissue_tiles
    >>> tiles = make_tissue_tiles(n_patients=3, tiles_per_patient=8, random_state=0)
    >>> tiles.images.shape, len(tiles.target_names)
    ((24, 96, 96, 3), 8)
    """
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    # A generator of our own, so that None does not mean numpy's global one.
    rng = np.random.default_rng(random_state)
    target = list(_draw_cohort(rng, n_patients, tiles_per_patient))
    images = []
    for labels in target:
        slide = _draw_slide(rng, difficulty)
        for name in labels:
            maps = _concentrations(rng, name, tile_size, difficulty)
            images.append(_photograph(rng, maps, slide, difficulty))
    return Bunch(
        images=np.stack(images),
        target=np.concatenate(target),
        target_names=sorted(TISSUES),
        groups=np.repeat(
            [f"patient-{i:02d}" for i in range(n_patients)], tiles_per_patient
        ),
        DESCR=DESCR.format(len(images), tile_size, tile_size, n_patients, difficulty),
    )
