"""Several teachers' files of slides: every tile meets its own features."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skshazam import ShazamClassifier
from skshazam.exceptions import FeatureFileError
from skshazam.exchange import FeatureFile, load_slide_features, write_feature_file

DIMS = {"uni": 5, "virchow": 3}


def features_at(coords, slide, teacher):
    """Return features that say whose, where and on which slide they are."""
    rows = np.zeros((len(coords), DIMS[teacher]), dtype=np.float32)
    rows[:, :2] = coords
    rows[:, 2] = float(slide[1:])
    return rows


def write_slides(root, slides, teachers=DIMS, suffix=".h5", seed=0):
    """Write random tiles of slides, in another order for every teacher."""
    rng = np.random.default_rng(seed)
    folders = {teacher: root / f"features_{teacher}" for teacher in teachers}
    places = {}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for slide, n_tiles in slides.items():
        cells = rng.permutation(400)[:n_tiles]
        places[slide] = np.stack([cells % 20, cells // 20], axis=1) * 256
        for number, (teacher, folder) in enumerate(folders.items()):
            order = rng.permutation(n_tiles) if number else np.arange(n_tiles)
            coords = places[slide][order]
            features = features_at(coords, slide, teacher)
            write_feature_file(
                folder / f"{slide}{suffix}", FeatureFile(features, coords)
            )
    return folders, places


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".pt"])
def test_every_tile_has_its_features_of_every_teacher(tmp_path, suffix):
    folders, places = write_slides(tmp_path, {"s7": 30, "s2": 0, "s1": 4}, DIMS, suffix)
    bunch = load_slide_features(folders)
    assert bunch.slide_names == ["s1", "s2", "s7"]
    assert bunch.slides.tolist() == ["s1"] * 4 + ["s7"] * 30
    np.testing.assert_array_equal(bunch.coords[:4], places["s1"])
    np.testing.assert_array_equal(bunch.coords[4:], places["s7"])
    assert bunch.features.teacher_blocks.to_dict() == DIMS
    assert bunch.features.dtype == np.float32
    for columns in bunch.features.teacher_blocks.split(bunch.features).values():
        np.testing.assert_array_equal(columns[:, :2], bunch.coords)
        np.testing.assert_array_equal(columns[:, 2], [1] * 4 + [7] * 30)


@settings(derandomize=True, max_examples=10, deadline=None, database=None)
@given(
    st.dictionaries(
        st.sampled_from(["s1", "s2", "s3"]), st.integers(1, 40), min_size=1
    ),
    st.integers(0, 999),
)
def test_rows_belong_together_whatever_the_orders(tmp_path_factory, slides, seed):
    root = tmp_path_factory.mktemp("slides")
    folders, _ = write_slides(root, slides, suffix=".npz", seed=seed)
    bunch = load_slide_features(folders)
    uni, virchow = bunch.features.teacher_blocks.split(bunch.features).values()
    np.testing.assert_array_equal(uni[:, :3], virchow)
    np.testing.assert_array_equal(uni[:, :2], bunch.coords)


def test_a_student_can_be_trained_on_it(tmp_path):
    folders, _ = write_slides(tmp_path, {f"s{i}": 12 for i in range(4)})
    bunch = load_slide_features(folders)
    y = np.where(bunch.coords[:, 0] > 2000, "right", "left")
    student = ShazamClassifier(max_epochs=1, token_dim=8, depth=1, random_state=0)
    student.fit(bunch.features, y, groups=bunch.slides)
    assert student.teacher_blocks_.names == ("uni", "virchow")


def test_slides_can_be_chosen_and_ordered(tmp_path):
    folders, _ = write_slides(tmp_path, {"s1": 2, "s2": 3, "s3": 4})
    (folders["uni"] / "s2.h5").write_bytes(b"damaged, and not asked for")
    bunch = load_slide_features(folders, ["s3", "s1"])
    assert bunch.slides.tolist() == ["s3"] * 4 + ["s1"] * 2
    assert load_slide_features(folders, "s1").slide_names == ["s1"]
    for wrong in (["s1", "s1"], []):
        with pytest.raises(FeatureFileError, match="each once"):
            load_slide_features(folders, wrong)


def test_a_missing_slide_names_the_teacher_and_counts(tmp_path):
    folders, _ = write_slides(tmp_path, {"s1": 2, "s2": 3, "s3": 4})
    (folders["virchow"] / "s2.h5").unlink()
    with pytest.raises(
        FeatureFileError, match=r"'virchow' lacks 1 of 3 slides in .*: 's2'\."
    ):
        load_slide_features(folders)
    assert len(load_slide_features(folders, ["s1", "s3"]).features) == 6


def rewrite(folders, teacher, slide, change):
    path = folders[teacher] / f"{slide}.h5"
    with __import__("h5py").File(path) as file:
        features, coords = change(file["features"][()], file["coords"][()])
    write_feature_file(path, FeatureFile(features, coords), overwrite=True)


def test_missing_tiles_name_slide_and_counts(tmp_path):
    folders, _ = write_slides(tmp_path, {"s1": 2, "s2": 9})
    rewrite(folders, "virchow", "s2", lambda f, c: (f[:-2], c[:-2]))
    with pytest.raises(FeatureFileError, match=r"'s2' .*'uni' 9, 'virchow' 7"):
        load_slide_features(folders)


def test_other_coordinates_name_slide_teachers_and_counts(tmp_path):
    folders, _ = write_slides(tmp_path, {"s1": 2, "s2": 9})

    def moved(features, coords):
        coords[3:5] += 1
        return features, coords

    rewrite(folders, "virchow", "s2", moved)
    with pytest.raises(
        FeatureFileError, match=r"'s2': 2 of 9 tiles of teacher 'virchow'.*'uni'.*first"
    ):
        load_slide_features(folders)


def test_tiles_at_one_place_are_matched_only_in_the_same_order(tmp_path):
    folders, _ = write_slides(tmp_path, {"s1": 3})
    same = np.array([[0, 0], [0, 0], [256, 0]])
    for teacher in folders:
        rewrite(folders, teacher, "s1", lambda f, c: (f, same))
    assert len(load_slide_features(folders).features) == 3
    rewrite(folders, "virchow", "s1", lambda f, c: (f, same[::-1]))
    with pytest.raises(FeatureFileError, match="several tiles at one place"):
        load_slide_features(folders)


def test_files_without_coordinates_need_to_be_trusted(tmp_path):
    folders, places = write_slides(tmp_path, {"s1": 3})
    folders["virchow"] = tmp_path / "pt_files"
    folders["virchow"].mkdir()
    bag = torch.from_numpy(features_at(places["s1"], "s1", "virchow"))
    torch.save(bag, folders["virchow"] / "s1.pt")
    with pytest.raises(FeatureFileError, match=r"'virchow' has no coord.*trust_order"):
        load_slide_features(folders)
    bunch = load_slide_features(folders, trust_order=True)
    np.testing.assert_array_equal(bunch.coords, places["s1"])
    alone = load_slide_features({"virchow": folders["virchow"]})
    assert alone.coords is None
    np.testing.assert_array_equal(alone.features, bag)


def test_a_dim_that_changes_between_slides_is_refused(tmp_path):
    folders, _ = write_slides(tmp_path, {"s1": 2, "s2": 2})
    rewrite(folders, "uni", "s2", lambda f, c: (f[:, :4], c))
    with pytest.raises(FeatureFileError, match=r"'uni' has 4 numbers .*'s2', and 5"):
        load_slide_features(folders)


def test_wrong_folders_are_named_with_what_to_pass(tmp_path):
    with pytest.raises(FeatureFileError, match="folders is empty"):
        load_slide_features({})
    with pytest.raises(FeatureFileError, match=r"No folder at .*absent"):
        load_slide_features({"uni": tmp_path / "absent"})
    (tmp_path / "clam" / "h5_files").mkdir(parents=True)
    with pytest.raises(FeatureFileError, match=r"no \.h5, .*Did you mean .*h5_files"):
        load_slide_features({"uni": tmp_path / "clam"})
    folders, _ = write_slides(tmp_path, {"s1": 0})
    with pytest.raises(FeatureFileError, match="'uni' has no tile on any of 1"):
        load_slide_features(folders)
    (folders["uni"] / "s1.pt").write_bytes(b"")
    with pytest.raises(FeatureFileError, match=r"both 's1\.h5' and 's1\.pt'"):
        load_slide_features(folders)
