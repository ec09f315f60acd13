"""Synthetic colon tiles: eight tissue classes painted as stain concentrations.

Owns the painters of the classes, the cohort (who has which class, how each patient
is stained) and the optics that turn concentrations into RGB.
"""

from collections.abc import Callable
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

__all__ = ["make_tissue_tiles"]

# Ruifrok & Johnston (2001), table 1: optical density of the stains in R, G, B.
HAEMATOXYLIN_OD = (0.65, 0.70, 0.29)
EOSIN_OD = (0.07, 0.99, 0.11)

# What borders each tissue in a colon; a mixed tile shows a strip of one of these.
NEIGHBOURS = {
    "background": ("stroma", "mucus", "necrosis", "muscle"),
    "gland-irregular": ("stroma", "necrosis", "gland-regular", "inflammation"),
    "gland-regular": ("stroma", "inflammation", "mucus", "gland-irregular"),
    "inflammation": ("stroma", "gland-regular", "necrosis"),
    "mucus": ("stroma", "gland-irregular", "background", "necrosis"),
    "muscle": ("stroma", "inflammation"),
    "necrosis": ("gland-irregular", "stroma", "mucus", "inflammation"),
    "stroma": ("inflammation", "muscle", "gland-regular", "mucus"),
}

DESCR = """\
Synthetic colon tiles ({n_tiles} of {tile_size} x {tile_size} px, {n_patients} patients)

No patient and no slide stands behind these images: they are drawn by a program. Each
tile is a haematoxylin and an eosin concentration map, painted with ellipses (nuclei),
star-shaped glands, and smoothed or stretched noise (fibres, debris, mucus). The
Beer-Lambert law with the stain vectors of Ruifrok and Johnston (2001) turns the maps
into RGB. Every patient has stain vectors, stain strengths, lamp, focus and sensor noise
of their own, and only some of the eight classes. difficulty={difficulty} sets how far
patients differ, how atypical the tiles are and how many show a second tissue.
"""


class _Scene(NamedTuple):
    """What a painter returns: two maps and the nuclei still to be stamped.

    ``haematoxylin`` and ``eosin`` have shape (size, size); a row of ``nuclei`` is
    y, x, half length, half width, angle of the long axis, concentration.
    """

    haematoxylin: np.ndarray
    eosin: np.ndarray
    nuclei: np.ndarray


def _noise(rng, size, sigma):
    """Return smooth noise of mean 0 and variance 1 with grain ``sigma`` px."""
    step = max(1, int(sigma / 2))
    coarse = rng.standard_normal((size // step + 2,) * 2, dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, sigma / step, mode="wrap", truncate=3)
    if step > 1:
        knots = np.arange(len(coarse), dtype=np.float32)
        hats = np.abs(np.arange(size, dtype=np.float32)[:, None] / step - knots)
        hats = np.maximum(1 - hats, 0)
        coarse = hats @ coarse @ hats.T
    # The variance of white noise under a Gaussian of s px is 1 / (4 pi s^2).
    return coarse[:size, :size] * np.float32(np.sqrt(4 * np.pi) * sigma / step)


def _sites(rng, size, pitch, jitter=0.25, keep=1.0):
    """Return jittered honeycomb points (n, 2) that cover the tile and its rim."""
    rows = np.arange(-1, size / (0.87 * pitch) + 2)
    columns = np.arange(-1, size / pitch + 2)
    y, x = np.meshgrid(rows * 0.87, columns, indexing="ij")
    x = x + 0.5 * (np.arange(len(rows)) % 2)[:, None]
    points = np.stack([y.ravel(), x.ravel()], axis=1) + rng.uniform(-0.5, 0.5, 2)
    points += jitter * rng.uniform(-1, 1, points.shape)
    return pitch * points[rng.random(len(points)) < keep]


def _ellipses(rng, sites, length, width, angle, strength, spread=0.15):
    """Return rows (y, x, length, width, angle, strength) with lognormal spread."""
    jitter = np.exp(spread * rng.standard_normal((3, len(sites))))
    angle = np.broadcast_to(angle, len(sites))
    return np.column_stack(
        [sites, length * jitter[0], width * jitter[1], angle, strength * jitter[2]]
    )


def _stamp(size, ellipses):
    """Return the map (size, size) of ellipses with soft rims; the darkest wins."""
    if not len(ellipses):
        return np.zeros((size, size), np.float32)
    reach = int(np.ceil(ellipses[:, 2:4].max())) + 1
    inside = (np.abs(ellipses[:, :2] - size / 2) < size / 2 + reach - 1).all(axis=1)
    y, x, length, width, angle, strength = ellipses[inside].T.astype(np.float32)[
        :, :, None, None
    ]
    offset = np.arange(-reach, reach + 1)
    row = np.rint(y).astype(int) + offset[:, None]
    column = np.rint(x).astype(int) + offset
    down, right = row - y, column - x
    along = (right * np.cos(angle) + down * np.sin(angle)) / length
    across = (down * np.cos(angle) - right * np.sin(angle)) / width
    radius = np.sqrt(along**2 + across**2)
    # Chromatin is densest under the membrane, so the middle is a little paler.
    body = np.clip((1 - radius) * width + 0.5, 0, 1) * (0.78 + 0.22 * radius**2)
    pad = 2 * reach
    canvas = np.zeros((size + 2 * pad,) * 2, np.float32)
    pixels = (row + pad) * len(canvas) + column + pad
    hit = body > 0
    np.maximum.at(canvas.ravel(), pixels[hit], (strength * body)[hit])
    return canvas[pad:-pad, pad:-pad]


def _fibres(rng, size, *, width, stretch, wave):
    """Return fibre noise, the coordinate across it, and the direction along it.

    The lines bend ``wave`` px; all three maps have shape (size, size).
    """
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    across = y * np.cos(angle) - x * np.sin(angle) + wave * _noise(rng, size, 12)
    along = y * np.sin(angle) + x * np.cos(angle)
    strands = rng.standard_normal((2 * size, 2 * size // 4), dtype=np.float32)
    strands = ndimage.gaussian_filter(strands, (width, stretch / 4), mode="wrap")
    strands *= np.float32(np.sqrt(4 * np.pi * width * stretch / 4))
    texture = ndimage.map_coordinates(
        strands, [across, along / 4], order=1, mode="grid-wrap"
    )
    slope_y, slope_x = np.gradient(across)
    return texture, across, np.arctan2(slope_y, slope_x) + np.pi / 2


def _at(field, sites):
    """Return ``field`` at the pixels nearest to ``sites``."""
    row, column = np.clip(np.rint(sites).astype(int), 0, len(field) - 1).T
    return field[row, column]


def _spindles(rng, sites, direction, length, width, strength):
    angle = _at(direction, sites) + 0.15 * rng.standard_normal(len(sites))
    return _ellipses(rng, sites, length, width, angle, strength)


def _lymphocytes(rng, size, pitch, keep):
    sites = _sites(rng, size, pitch, jitter=0.3, keep=keep)
    return _ellipses(rng, sites, 2.5, 2.3, rng.uniform(0, np.pi, len(sites)), 1.2, 0.1)


def _paint_stroma(rng, size, ambiguity):
    texture, _, direction = _fibres(
        rng, size, width=1.1 + 0.5 * ambiguity, stretch=10 + 9 * ambiguity,
        wave=7 - 5 * ambiguity,
    )
    loose = (0.05 - 0.03 * ambiguity) * _noise(rng, size, 9)
    eosin = 0.17 + 0.07 * ambiguity + (0.07 - 0.03 * ambiguity) * texture + loose
    sites = _sites(rng, size, 15, 0.45, 0.6)
    spindles = _spindles(rng, sites, direction, 5, 1.2 + 0.3 * ambiguity, 0.75)
    infiltrate = _lymphocytes(rng, size, 8, 0.02 + 0.35 * ambiguity * rng.random())
    nuclei = np.concatenate([spindles, infiltrate])
    return _Scene(0.06 + 0.02 * texture, eosin, nuclei)


def _paint_muscle(rng, size, ambiguity):
    texture, across, direction = _fibres(
        rng, size, width=1.7 - 0.4 * ambiguity, stretch=30 - 20 * ambiguity,
        wave=1.5 + 6 * ambiguity,
    )
    ridge = across / rng.uniform(13, 19) + 0.12 * _noise(rng, size, 10)
    bundle = np.abs(np.sin(np.pi * ridge)) ** 0.4
    cleft = 1 - (0.75 - 0.6 * ambiguity) * (1 - bundle)
    eosin = (0.28 - 0.07 * ambiguity + (0.03 + 0.05 * ambiguity) * texture) * cleft
    sites = _sites(rng, size, 14, 0.45, 0.75)
    nuclei = _spindles(rng, sites, direction, 5.2, 1.6 - 0.3 * ambiguity, 0.8)
    return _Scene(0.09 * cleft, eosin, nuclei)


def _paint_inflammation(rng, size, ambiguity):
    eosin = 0.12 + 0.03 * _noise(rng, size, 2) + 0.03 * _noise(rng, size, 8)
    crowd = _lymphocytes(rng, size, 5.8 + 1.4 * ambiguity, 0.94 - 0.3 * ambiguity)
    return _Scene(np.full_like(eosin, 0.07), eosin, crowd)


def _paint_necrosis(rng, size, ambiguity):
    grain = (1 - 0.6 * ambiguity) * _noise(rng, size, 0.9 + 0.7 * ambiguity)
    smudge = _noise(rng, size, 5)
    eosin = 0.21 + 0.045 * grain + 0.045 * smudge
    haematoxylin = 0.09 + 0.05 * _noise(rng, size, 1.2) - 0.03 * smudge
    dots = _sites(rng, size, 9, 0.5, 0.18 + 0.3 * ambiguity)
    turn = rng.uniform(0, np.pi, len(dots))
    pyknotic = _ellipses(rng, dots, 1.5, 1.2, turn, 0.9, 0.35)
    ghosts = _sites(rng, size, 8, 0.4, 0.8 * ambiguity)
    ghosts = _ellipses(rng, ghosts, 3.2, 2.4, 0.7, 0.3, 0.25)
    return _Scene(haematoxylin, eosin, np.concatenate([pyknotic, ghosts]))


def _paint_mucus(rng, size, ambiguity):
    texture, _, direction = _fibres(
        rng, size, width=2.2, stretch=14, wave=11 - 5 * ambiguity
    )
    haematoxylin = 0.1 + 0.035 * texture + 0.03 * _noise(rng, size, 10)
    eosin = 0.03 + 0.1 * ambiguity * rng.random() + 0.015 * texture
    sites = _sites(rng, size, 24, 0.5, 0.15 + 0.4 * ambiguity)
    return _Scene(
        haematoxylin, eosin, _spindles(rng, sites, direction, 3.0, 1.8, 0.7)
    )


def _paint_background(rng, size, ambiguity):
    glass = 0.006 + 0.003 * _noise(rng, size, 8)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    turn = rng.uniform(0, np.pi)
    bend = y * np.cos(turn) - x * np.sin(turn) + 0.05 * _noise(rng, size, 16)
    fold = np.exp(-(((bend - rng.uniform(-0.4, 0.4)) / 0.02) ** 2))
    fold *= (rng.random() < 0.4) * (0.05 + 0.1 * ambiguity)
    dust = _sites(rng, size, 26, 0.5, 0.25)
    specks = _ellipses(rng, dust, 1.0, 0.8, 0.0, 0.25, 0.4)
    return _Scene(glass + fold, glass + fold, specks)


def _outline(rng, roughness):
    """Return the complex harmonics 2 to 5 of a gland's outline, mean radius 1."""
    phase = np.exp(2j * np.pi * rng.random(4))
    return roughness * phase * rng.rayleigh(0.8, 4) / np.arange(1.6, 5)


def _radius(harmonics, unit):
    """Return the outline's radius in the directions ``unit`` (complex, modulus 1)."""
    powers = (unit ** (k + 2) * c for k, c in enumerate(harmonics))
    return np.clip(1 + sum(powers).real, 0.45, 1.6)


def _paint_glands(rng, size, atypia):
    """Paint glands from a textbook crypt (atypia 0) to a carcinoma's (atypia 1)."""
    pitch = 44 - 2 * atypia
    depth = np.full((size, size), 2, np.float32)
    glands = []
    for centre in _sites(rng, size, pitch, 0.08 + 0.12 * atypia):
        outline = _outline(rng, 0.07 + 0.4 * atypia)
        mean_radius = pitch * (0.42 + 0.1 * atypia) * rng.uniform(0.9, 1.1)
        if _lower(depth, centre, outline, mean_radius):
            glands.append((centre, outline, mean_radius))
    lamina = _paint_stroma(rng, size, 0.3)
    cells = np.concatenate([lamina.nuclei, _lymphocytes(rng, size, 7, 0.3)])
    nuclei, goblets = [cells[_at(depth, cells[:, :2]) > 1.2]], []
    for gland in glands:
        nuclei.append(_epithelium(rng, depth, gland, atypia))
        goblets.append(_goblets(rng, depth, gland, 0.95 * (1 - atypia) ** 1.5))
    vacuole = _stamp(size, np.concatenate(goblets))
    slit = 0.28 + 0.12 * atypia + (0.04 + 0.05 * atypia) * _noise(rng, size, 3)
    lumen = np.clip((slit - depth) * 12, 0, 1)
    lumen = np.maximum(lumen, np.minimum(vacuole, 1))
    epithelium = np.clip((1.02 - depth) * 10, 0, 1)
    cytoplasm = 0.2 + 0.03 * atypia + 0.015 * _noise(rng, size, 1.5)
    eosin = lamina.eosin + epithelium * (cytoplasm - lamina.eosin)
    base = 0.06 + 0.06 * epithelium * (1 + 0.8 * atypia)
    debris = 0.04 + 0.1 * atypia * np.clip(_noise(rng, size, 2), 0, 1)
    return _Scene(
        base + lumen * (0.07 - base),
        eosin + lumen * (debris - eosin),
        np.concatenate(nuclei),
    )


def _lower(depth, centre, outline, mean_radius):
    """Carve a gland into ``depth`` (0 centre, 1 rim); return whether it was in view."""
    reach = 1.7 * mean_radius
    first = np.clip(np.floor(centre - reach), 0, len(depth)).astype(int)
    last = np.clip(np.ceil(centre + reach), 0, len(depth)).astype(int)
    if not (first < last).all():
        return False
    y, x = np.mgrid[first[0] : last[0], first[1] : last[1]]
    ray = (x - centre[1]) + 1j * (y - centre[0])
    distance = np.maximum(np.abs(ray), 1e-6)
    own = distance / (mean_radius * _radius(outline, ray / distance))
    window = depth[first[0] : last[0], first[1] : last[1]]
    np.minimum(window, own, out=window)
    return True


def _ring(rng, depth, gland, level, spacing):
    """Return sites along a gland's outline scaled to ``level``, and their rays.

    Sites that lie in a neighbouring gland are dropped.
    """
    centre, outline, mean_radius = gland
    count = int(2 * np.pi * mean_radius * level / spacing)
    turn = 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count
    ray = np.exp(1j * turn)
    level = level + 0.04 * rng.standard_normal(count)
    tip = level * mean_radius * _radius(outline, ray) * ray
    sites = centre + np.column_stack([tip.imag, tip.real])
    own = np.abs(_at(depth, sites) - level) < 0.1
    return sites[own], turn[own]


def _epithelium(rng, depth, gland, atypia):
    """Return the nuclei of a gland: one basal row, or several when atypical."""
    rows = [0.86] + [0.68, 0.54][: int(1.5 * atypia + 0.7 * rng.random())]
    strata = []
    for level in rows:
        sites, turn = _ring(rng, depth, gland, level, 4.2 + 1.2 * atypia)
        turn = turn + 0.4 * atypia * rng.standard_normal(len(turn))
        strata.append(
            _ellipses(
                rng, sites, 3.2 + 0.7 * atypia, 1.5 + 0.5 * atypia, turn,
                0.85 + 0.1 * atypia, 0.08 + 0.14 * atypia,
            )
        )
    return np.concatenate(strata)


def _goblets(rng, depth, gland, keep):
    sites, turn = _ring(rng, depth, gland, 0.57, 7.0)
    chosen = rng.random(len(sites)) < keep
    return _ellipses(rng, sites[chosen], 3.4, 2.7, turn[chosen], 1.1, 0.1)


def _paint_regular(rng, size, ambiguity):
    return _paint_glands(rng, size, 0.05 + 0.8 * ambiguity)


def _paint_irregular(rng, size, ambiguity):
    return _paint_glands(rng, size, 0.95 - 0.8 * ambiguity)


PAINTERS: dict[str, Callable] = {
    "background": _paint_background,
    "gland-irregular": _paint_irregular,
    "gland-regular": _paint_regular,
    "inflammation": _paint_inflammation,
    "mucus": _paint_mucus,
    "muscle": _paint_muscle,
    "necrosis": _paint_necrosis,
    "stroma": _paint_stroma,
}


def _invaded(rng, scene, guest, share):
    """Return ``scene`` with a strip of ``guest`` along one side, ``share`` wide."""
    size = len(scene.eosin)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    side = y * np.sin(turn) + x * np.cos(turn) + 0.06 * _noise(rng, size, 8)
    side -= np.quantile(side, 1 - share)
    mask = np.clip(side * size / 2 + 0.5, 0, 1)
    stay = _at(side, scene.nuclei[:, :2]) < 0
    enter = _at(side, guest.nuclei[:, :2]) >= 0
    return _Scene(
        scene.haematoxylin + mask * (guest.haematoxylin - scene.haematoxylin),
        scene.eosin + mask * (guest.eosin - scene.eosin),
        np.concatenate([scene.nuclei[stay], guest.nuclei[enter]]),
    )


def _concentrations(rng, name, size, difficulty):
    """Return the haematoxylin and eosin maps (2, size, size) of one tile."""
    # At 0.56 regular and irregular glands are drawn alike, so 0.65 is hard enough.
    most = difficulty * (1.25 - 0.6 * difficulty)
    scene = PAINTERS[name](rng, size, rng.uniform(0, most))
    if rng.random() < 1.6 * difficulty:
        guest = PAINTERS[rng.choice(NEIGHBOURS[name])](rng, size, 0.3)
        share = rng.uniform(0.1, min(0.1 + 0.8 * difficulty, 0.49))
        scene = _invaded(rng, scene, guest, share)
    infiltrate = _lymphocytes(rng, size, 7, 0.8 * difficulty * rng.beta(1, 4))
    infiltrate = infiltrate[_at(scene.eosin, infiltrate[:, :2]) > 0.1]
    nuclei = _stamp(size, np.concatenate([scene.nuclei, infiltrate]))
    cover = np.minimum(nuclei, 1)
    nuclei *= 1 + 0.13 * _noise(rng, size, 0.8)
    haematoxylin = np.maximum(scene.haematoxylin, nuclei)
    eosin = scene.eosin * (1 - 0.6 * cover) + 0.06 * cover
    return np.maximum([haematoxylin, eosin], 0)


class _Slide(NamedTuple):
    """How one patient's slide is stained and photographed."""

    stains: np.ndarray
    strengths: np.ndarray
    lamp: np.ndarray
    focus: float
    noise: float
    grain: float


def _draw_slide(rng, difficulty):
    stains = np.array([HAEMATOXYLIN_OD, EOSIN_OD])
    stains = stains + (0.02 + 0.1 * difficulty) * rng.standard_normal((2, 3))
    stains = np.maximum(stains, 0.02)
    return _Slide(
        stains / np.linalg.norm(stains, axis=1, keepdims=True),
        np.exp((0.06 + 0.28 * difficulty) * rng.standard_normal(2)),
        rng.uniform(0.97 - 0.12 * difficulty, 1) * rng.uniform(0.98, 1, 3),
        rng.uniform(0.3, 0.6 + 1.4 * difficulty),
        rng.uniform(1, 2 + 14 * difficulty),
        rng.uniform(0.01, 0.1 + 1.6 * difficulty),
    )


def _photograph(rng, maps, slide, difficulty):
    """Return the RGB tile (size, size, 3) of two concentration maps."""
    thickness = np.exp((0.03 + 0.12 * difficulty) * rng.standard_normal(2))
    weights = (slide.strengths * thickness)[:, None] * slide.stains
    light = [
        lamp * 10 ** -(maps[0] * h + maps[1] * e)
        for lamp, h, e in zip(slide.lamp, *weights.astype(np.float32))
    ]
    focus, gain = np.exp(0.6 * difficulty * rng.standard_normal(2))
    focus *= slide.focus
    light = ndimage.gaussian_filter(light, (0, focus, focus), truncate=3)
    # One grain for the three channels, as demosaicing and JPEG leave it.
    noise = rng.standard_normal(light.shape[1:], dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, slide.grain, truncate=3)
    grey = 255 * light + gain * slide.noise / noise.std() * noise
    return np.moveaxis(np.clip(np.rint(grey), 0, 255), 0, -1).astype(np.uint8)


def _draw_cohort(rng, n_patients, tiles_per_patient):
    """Return which patient has which class: bool (n_patients, 8)."""
    n_classes = len(PAINTERS)
    most = min(n_classes, tiles_per_patient)
    room = np.minimum(rng.integers(4, 8, n_patients), most)
    quota = min(max(3, n_patients // 3), n_patients, n_patients * most // n_classes)
    while room.sum() < quota * n_classes:
        room[np.argmin(room)] += 1
    has = np.zeros((n_patients, n_classes), bool)
    for label in rng.permutation(n_classes):
        # Patients with the most room first, so that the last class still finds some.
        roomy = np.lexsort([rng.random(n_patients), -room])[:quota]
        has[roomy, label] = True
        room[roomy] -= 1
    for patient in range(n_patients):
        free = rng.permutation(np.flatnonzero(~has[patient]))
        has[patient, free[: room[patient]]] = True
    return has


def _draw_labels(rng, has, tiles_per_patient):
    """Return one class name per tile, patient by patient."""
    names = np.array(list(PAINTERS))
    for row in has:
        own = np.flatnonzero(row)
        share = rng.dirichlet(np.full(len(own), 2.0))
        extra = rng.multinomial(tiles_per_patient - len(own), share)
        yield rng.permutation(names[np.repeat(own, 1 + extra)])


def _generator(random_state):
    """Return a generator of our own, so that numpy's global one stays untouched."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    return np.random.default_rng(random_state)


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
    """
    rng = _generator(random_state)
    has = _draw_cohort(rng, n_patients, tiles_per_patient)
    target = list(_draw_labels(rng, has, tiles_per_patient))
    images = np.empty((n_patients, tiles_per_patient, tile_size, tile_size, 3), np.uint8)
    for patient, labels in enumerate(target):
        slide = _draw_slide(rng, difficulty)
        for tile, name in enumerate(labels):
            maps = _concentrations(rng, name, tile_size, difficulty)
            images[patient, tile] = _photograph(rng, maps, slide, difficulty)
    names = [f"patient-{patient:02d}" for patient in range(n_patients)]
    return Bunch(
        images=images.reshape(-1, tile_size, tile_size, 3),
        target=np.concatenate(target),
        target_names=sorted(PAINTERS),
        groups=np.repeat(names, tiles_per_patient),
        DESCR=DESCR.format(
            n_tiles=n_patients * tiles_per_patient,
            tile_size=tile_size,
            n_patients=n_patients,
            difficulty=difficulty,
        ),
    )
