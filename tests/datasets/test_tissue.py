import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import fftconvolve
from skimage.color import rgb2gray, rgb2hed
from skimage.feature import structure_tensor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

from skshazam.datasets._tissue import make_tissue_tiles

CLASSES = [
    "background",
    "gland-irregular",
    "gland-regular",
    "inflammation",
    "mucus",
    "muscle",
    "necrosis",
    "stroma",
]


def draw_small(**kwargs):
    kwargs = {"n_patients": 3, "tiles_per_patient": 9, "tile_size": 32} | kwargs
    return make_tissue_tiles(**kwargs)


def compute_optical_density(images):
    return -np.log10(np.maximum(images, 1) / 255)


def compute_haematoxylin(image):
    return rgb2hed(image)[..., 0]


def measure(tiles, descriptor):
    """Return ``{class name: descriptor of each of its tiles}``."""
    values = np.array([descriptor(image) for image in tiles.images])
    return {name: values[tiles.target == name] for name in CLASSES}


@pytest.fixture(scope="module")
def textbook():
    return make_tissue_tiles(8, 16, difficulty=0, random_state=0)


# ------------------------------------------------------------------ the container


@pytest.mark.parametrize("tile_size", [32, 47, 130])
@pytest.mark.parametrize("difficulty", [0, 1])
def test_shapes_and_dtypes(tile_size, difficulty):
    tiles = draw_small(tile_size=tile_size, difficulty=difficulty, random_state=0)
    assert tiles.images.shape == (27, tile_size, tile_size, 3)
    assert tiles.images.dtype == np.uint8
    assert tiles.target.shape == tiles.groups.shape == (27,)
    assert tiles.target.dtype.kind == tiles.groups.dtype.kind == "U"


def test_classes_are_the_eight_tissues_and_patients_are_numbered():
    tiles = draw_small(random_state=0)
    assert tiles.target_names == CLASSES
    assert set(tiles.target) == set(CLASSES)
    np.testing.assert_array_equal(
        tiles.groups, np.repeat(["patient-00", "patient-01", "patient-02"], 9)
    )


def test_description_says_that_the_tiles_are_synthetic_and_how_they_were_drawn():
    tiles = draw_small(difficulty=0.25, random_state=0)
    for words in ("Synthetic", "27 tiles of 32 x 32", "3 patients", "0.25", "Beer"):
        assert words in tiles.DESCR


# ------------------------------------------------------------------ randomness


def test_an_int_seed_gives_the_same_bits_again():
    first, second = draw_small(random_state=5), draw_small(random_state=5)
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.target, second.target)


def test_another_seed_gives_other_tiles():
    first, second = draw_small(random_state=5), draw_small(random_state=6)
    assert (first.images != second.images).mean() > 0.5
    assert (first.target != second.target).any()


def test_a_random_state_instance_is_drawn_from():
    source = np.random.RandomState(3)
    first, second = draw_small(random_state=source), draw_small(random_state=source)
    again = draw_small(random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != second.images).any()


@pytest.mark.parametrize("random_state", [None, 0])
def test_the_global_generator_is_neither_used_nor_moved(random_state):
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1:3]  # noqa: NPY002
    first = draw_small(random_state=random_state)
    after = np.random.get_state()[1:3]  # noqa: NPY002
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1] == after[1]
    np.random.seed(0)  # noqa: NPY002
    second = draw_small(random_state=random_state)
    assert (first.images == second.images).all() == (random_state == 0)


# ------------------------------------------------------------------ the cohort


@pytest.mark.parametrize("n_patients", [1, 3, 4, 5, 12])
@pytest.mark.parametrize("tiles_per_patient", [1, 4, 9])
def test_every_class_has_its_minimum_of_patients(n_patients, tiles_per_patient):
    tiles = draw_small(
        n_patients=n_patients, tiles_per_patient=tiles_per_patient, random_state=1
    )
    owners = [len(set(tiles.groups[tiles.target == name])) for name in CLASSES]
    slots = n_patients * min(8, tiles_per_patient) // 8
    assert min(owners) >= min(max(3, n_patients // 3), n_patients, slots)


def test_patients_have_four_to_seven_classes_in_different_proportions():
    tiles = draw_small(n_patients=16, tiles_per_patient=12, random_state=0)
    counts = np.array(
        [
            [np.sum(tiles.target[tiles.groups == patient] == name) for name in CLASSES]
            for patient in np.unique(tiles.groups)
        ]
    )
    n_classes = (counts > 0).sum(axis=1)
    assert n_classes.min() >= 4
    assert n_classes.max() <= 7
    assert len(set(n_classes)) > 1
    assert len({tuple(row) for row in counts}) == 16


# ------------------------------------------------------------------ the physics


def test_pixels_lie_in_the_plane_of_the_two_stains():
    tiles = make_tissue_tiles(12, 9, difficulty=0, tile_size=48, random_state=0)
    haematoxylin, eosin = [0.65, 0.70, 0.29], [0.07, 0.99, 0.11]
    expected = np.cross(haematoxylin, eosin)
    expected /= np.linalg.norm(expected)
    normals = []
    for patient in np.unique(tiles.groups):
        mine = (tiles.groups == patient) & (tiles.target != "background")
        pixels = compute_optical_density(tiles.images[mine]).reshape(-1, 3)
        # The lamp adds one optical density to every pixel; differences are free of it.
        pixels = pixels - pixels.mean(axis=0)
        energy, axes = np.linalg.eigh(pixels.T @ pixels)
        assert energy[0] < 0.02 * energy.sum()
        normals.append(axes[:, 0] * np.sign(axes[:, 0] @ expected))
    mean = np.mean(normals, axis=0)
    assert mean @ expected / np.linalg.norm(mean) > np.cos(np.radians(5))


# ------------------------------------------------------------------ the tissues


def test_background_is_paler_than_any_tile_of_tissue(textbook):
    density = measure(textbook, lambda image: compute_optical_density(image).mean())
    tissue = [density[name].min() for name in CLASSES[1:]]
    assert 2 * density["background"].max() < min(tissue)


def test_mucus_is_the_palest_tissue(textbook):
    density = measure(textbook, lambda image: compute_optical_density(image).mean())
    tissue = [name for name in CLASSES if name not in ("background", "mucus")]
    assert density["mucus"].max() < min(density[name].min() for name in tissue)


def test_mucus_is_bluer_than_the_eosinophilic_tissues(textbook):
    # Haematoxylin absorbs red almost as green; eosin absorbs hardly any red.
    def red_by_green(image):
        red, green, _ = compute_optical_density(image).mean(axis=(0, 1))
        return red / green

    ratio = measure(textbook, red_by_green)
    for name in ("muscle", "necrosis", "stroma"):
        assert ratio["mucus"].min() > 1.2 * np.median(ratio[name])


def test_inflammation_has_the_most_haematoxylin(textbook):
    amount = measure(textbook, lambda image: compute_haematoxylin(image).mean())
    others = [amount[name].mean() for name in CLASSES if name != "inflammation"]
    assert amount["inflammation"].mean() > 1.15 * max(others)


def test_irregular_glands_are_more_hyperchromatic_than_regular_ones(textbook):
    amount = measure(textbook, lambda image: compute_haematoxylin(image).mean())
    assert amount["gland-irregular"].min() > 1.15 * amount["gland-regular"].max()


def test_regular_glands_are_rings_of_nuclei_round_a_pale_middle(textbook):
    y, x = np.mgrid[-18:19, -18:19]
    distance = np.hypot(y, x)
    ring, middle = (distance > 12) & (distance < 18), distance < 9
    template = ring / ring.sum() - middle / middle.sum()

    def match(image):
        amount = compute_haematoxylin(image)
        # The template is its own mirror image, so convolving is matching.
        return fftconvolve(amount, template, mode="valid").max() / amount.mean()

    best = measure(textbook, match)
    others = [np.median(best[name]) for name in CLASSES if name != "gland-regular"]
    assert np.median(best["gland-regular"]) > 1.1 * max(others)


def coherence(image):
    """Return how far the whole tile shares one orientation, from 0 to 1."""
    grey = ndimage.gaussian_filter(rgb2gray(image), 1)
    yy, xy, xx = (a.mean() for a in structure_tensor(grey, sigma=2, order="rc"))
    return np.hypot(yy - xx, 2 * xy) / (yy + xx)


def test_fibres_share_a_direction_and_muscle_more_than_wavy_stroma(textbook):
    shared = measure(textbook, coherence)
    fibrous = ("muscle", "stroma")
    others = np.concatenate([shared[name] for name in CLASSES if name not in fibrous])
    assert shared["stroma"].min() > others.max()
    assert np.median(shared["muscle"]) > 1.1 * np.median(shared["stroma"])


def test_muscle_is_denser_than_loose_stroma(textbook):
    density = measure(textbook, lambda image: compute_optical_density(image).mean())
    assert density["muscle"].min() > density["stroma"].max()


def test_necrosis_is_eosinophilic_without_direction_and_nearly_without_nuclei(
    textbook,
):
    nuclei = measure(textbook, lambda image: (compute_haematoxylin(image) > 0.1).mean())
    eosin = measure(textbook, lambda image: rgb2hed(image)[..., 1].mean())
    shared = measure(textbook, coherence)
    for name in ("gland-irregular", "gland-regular", "inflammation", "muscle"):
        assert nuclei["necrosis"].max() < np.median(nuclei[name])
    assert eosin["necrosis"].min() > 2 * np.median(eosin["mucus"])
    assert shared["necrosis"].max() < min(shared["muscle"].min(), 0.15)


# ------------------------------------------------------------------ the difficulty


def compute_stain_variances(difficulty):
    """Return the mean variance of a tissue's colour between and within patients."""
    tiles = make_tissue_tiles(
        16, 12, difficulty=difficulty, tile_size=40, random_state=0
    )
    colour = compute_optical_density(tiles.images).mean(axis=(1, 2))
    colour /= np.linalg.norm(colour, axis=1, keepdims=True)
    between, within = [], []
    for name in CLASSES[1:]:
        own = [
            colour[(tiles.target == name) & (tiles.groups == patient)]
            for patient in np.unique(tiles.groups)
        ]
        means = [values.mean(axis=0) for values in own if len(values)]
        between.append(np.var(means, axis=0, ddof=1).sum())
        repeated = [values for values in own if len(values) > 1]
        within.append(
            np.mean([values.var(axis=0, ddof=1).sum() for values in repeated])
        )
    return np.mean(between), np.mean(within)


def test_stain_differs_between_patients_more_than_within_and_more_when_harder():
    between, within = np.transpose(
        [compute_stain_variances(difficulty) for difficulty in (0, 0.5, 1)]
    )
    assert (between > 1.3 * within).all()
    assert between[1] > 2 * between[0]
    assert between[2] > 1.5 * between[1]


def classify_by_colour(difficulty):
    tiles = make_tissue_tiles(
        12, 18, difficulty=difficulty, tile_size=40, random_state=0
    )
    stains = np.array([rgb2hed(image) for image in tiles.images])
    colour = np.hstack([stains.mean(axis=(1, 2)), stains.std(axis=(1, 2))])
    return cross_val_score(
        LinearDiscriminantAnalysis(),
        colour,
        tiles.target,
        groups=tiles.groups,
        cv=StratifiedGroupKFold(3),
        scoring="balanced_accuracy",
    ).mean()


def test_colour_solves_the_textbook_tiles_but_not_the_default_ones():
    assert classify_by_colour(0) > 0.85
    assert 0.3 < classify_by_colour(0.5) < 0.75


# ------------------------------------------------------------------ the parameters


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_patients": 0},
        {"n_patients": 2.5},
        {"tiles_per_patient": 0},
        {"tile_size": 31},
        {"tile_size": "96"},
        {"difficulty": -0.1},
        {"difficulty": 1.01},
        {"difficulty": None},
        {"random_state": "seed"},
    ],
)
def test_a_wrong_parameter_is_named_in_the_error(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        draw_small(**wrong)
