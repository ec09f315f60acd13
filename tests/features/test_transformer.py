"""TeacherFeatureTransformer as a scikit-learn citizen that never carries weights."""

import copy
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks, estimator_html_repr, get_tags
from torchvision import transforms

from skshazam import TeacherFeatureTransformer, TeacherSpec
from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.datasets import make_tissue_tiles
from skshazam.exceptions import (
    FeatureBlockError,
    ImageCollectionError,
    ImageReadError,
    TeacherOutputError,
    TeacherSpecError,
    UnknownTeacherError,
)
from tests.tiny_teachers import TinyConvolution, tiny_convolution, tiny_vit

SPECS = (tiny_vit(), tiny_convolution())
BLOCKS = TeacherBlocks(("tiny-vit", "tiny-convolution"), (24, 10))
# Batched matrix products may add in another order; features are of order 1.
ATOL = 1e-5


def small(**parameters):
    return TeacherFeatureTransformer(
        **{"teachers": SPECS, "device": "cpu", **parameters}
    )


@pytest.fixture
def no_loading(monkeypatch):
    def refuse(spec, device="auto"):
        pytest.fail(f"{spec.name} was loaded")

    monkeypatch.setattr("skshazam.features._transformer.load_teacher", refuse)


@pytest.fixture
def paths(tmp_path, tiles):
    """The tiles as PNG files."""
    files = [tmp_path / f"tile{i}.png" for i in range(len(tiles))]
    for file, tile in zip(files, tiles, strict=True):
        Image.fromarray(tile).save(file)
    return files


# --- fit ---------------------------------------------------------------------------


def test_fit_loads_nothing_and_opens_no_image(no_loading):
    transformer = small()
    assert transformer.fit(["not/there.png"]) is transformer
    assert transformer.teachers_ == SPECS
    assert transformer.teacher_dims_ == (24, 10)
    assert transformer.teacher_blocks_ == BLOCKS


def test_fit_loads_only_the_teachers_of_unknown_dim(builds, tiles):
    unknown = tiny_convolution("unknown", dim=None, build=lambda: TinyConvolution(7))
    transformer = small(teachers=(tiny_vit(), unknown)).fit(tiles)
    assert builds == ["unknown"]
    assert transformer.teacher_dims_ == (24, 7)


def test_the_default_teachers_are_the_papers(no_loading):
    transformer = TeacherFeatureTransformer().fit(["tile.png"])
    names = [spec.name for spec in transformer.teachers_]
    assert names == ["uni", "phikon-v2", "virchow", "gigapath"]
    assert transformer.teacher_dims_ == (1024, 1024, 2560, 1536)


def test_names_revisions_weights_and_specs_are_resolved(no_loading):
    transformer = small(
        teachers=["uni", "gigapath@abc", "stain", SPECS[0]],
        weights={"uni": Path("uni.pt")},
    ).fit(["tile.png"])
    uni, gigapath, stain, vit = transformer.teachers_
    assert (uni.weights, uni.revision) == ("uni.pt", None)
    assert gigapath.revision == "abc"
    assert stain.name == "stain"
    assert vit is SPECS[0]


@pytest.mark.parametrize(
    ("parameters", "error", "named"),
    [
        ({"precision": "half"}, ValueError, "'precision'.*'half'"),
        ({"batch_size": 0}, ValueError, "'batch_size'.*0"),
        ({"batch_size": 2.5}, ValueError, r"'batch_size'.*2\.5"),
        ({"n_jobs": "all"}, ValueError, "'n_jobs'.*'all'"),
        ({"on_error": "skip"}, ValueError, "'on_error'.*'skip'"),
        ({"progress": "yes"}, ValueError, "'progress'.*'yes'"),
        ({"store": 3}, ValueError, "'store'.*3"),
        ({"preprocessing": "cv2"}, ValueError, "'preprocessing'.*'cv2'"),
        ({"channels_last": "yes"}, ValueError, "'channels_last'.*'yes'"),
        ({"compile": "yes"}, ValueError, "'compile'.*'yes'"),
        ({"weights": "uni.pt"}, ValueError, "'weights'.*'uni.pt'"),
        ({"weights": {"uni": "a.pt"}}, UnknownTeacherError, "'uni'.*'tiny-vit'"),
        ({"teachers": ["uni2"]}, UnknownTeacherError, "'uni2'.*'uni'"),
        ({"teachers": []}, TeacherSpecError, "empty"),
        ({"teachers": None}, TeacherSpecError, "None"),
        ({"teachers": [TinyConvolution(3)]}, TeacherSpecError, "build="),
        ({"teachers": ["stain", "stain"]}, TeacherSpecError, "'stain'"),
    ],
)
def test_a_wrong_parameter_is_refused_by_fit(no_loading, parameters, error, named):
    transformer = small(**parameters)
    with pytest.raises(error, match=f"(?s){named}"):
        transformer.fit(["tile.png"])


def test_no_thread_at_all_is_refused(tiles):
    with pytest.raises(ValueError, match="n_jobs"):
        small(n_jobs=0).fit_transform(tiles)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", None])
def test_a_wrong_device_is_refused_with_the_names_that_work(tiles, device):
    with pytest.raises(ValueError, match=r"device=.*'cpu'"):
        small(device=device).fit(tiles).transform(tiles)


@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
@pytest.mark.parametrize("X", ["tile.png", [], np.zeros((3, 2)), None])
def test_what_is_no_collection_of_images_is_refused(method, X):
    transformer = small()
    if method == "transform":
        transformer.fit(["tile.png"])
    with pytest.raises(ImageCollectionError):
        getattr(transformer, method)(X)


# --- transform ---------------------------------------------------------------------


def test_features_carry_their_blocks(tiles):
    features = small().fit_transform(tiles)
    assert isinstance(features, TeacherFeatures)
    assert features.shape == (6, 34)
    assert features.dtype == np.float32
    assert features.teacher_blocks == BLOCKS
    assert np.isfinite(features).all()
    assert features.std(axis=0).min() > 0


def collections_of(paths, tiles):
    strings = [str(path) for path in paths]
    array = np.empty(len(tiles), dtype=object)
    array[:] = tiles
    return {
        "paths": paths,
        "strings": strings,
        "string array": np.array(strings),
        "string column": np.array(strings)[:, None],
        "object array": np.array(paths, dtype=object),
        "object column": np.array(paths, dtype=object)[:, None],
        "Series": pd.Series(strings),
        "DataFrame": pd.DataFrame({"path": strings}),
        "bytes": [path.read_bytes() for path in paths],
        "PIL images": [Image.fromarray(tile) for tile in tiles],
        "arrays": tiles,
        "array of arrays": array,
    }


def test_every_kind_of_collection_gives_the_same_features(paths, tiles):
    reference = small().fit_transform(tiles)
    transformer = small().fit(tiles)
    for kind, X in collections_of(paths, tiles).items():
        found = transformer.transform(X)
        np.testing.assert_array_equal(found, reference, err_msg=kind)


def test_one_four_dimensional_array_is_a_collection(tiles):
    X = np.stack(tiles[:4])
    transformer = small().fit(X)
    np.testing.assert_array_equal(transformer.transform(X), transformer.transform([*X]))


@pytest.mark.parametrize(
    "parameters", [{"batch_size": 1}, {"batch_size": 4}, {"n_jobs": 3}, {"n_jobs": -1}]
)
def test_batches_and_threads_change_nothing_but_speed(tiles, parameters):
    reference = small().fit_transform(tiles)
    found = small(**parameters).fit_transform(tiles)
    np.testing.assert_allclose(found, reference, rtol=0, atol=ATOL)


def test_a_context_of_joblib_sets_the_threads(tiles, monkeypatch):
    from skshazam.features import _transformer

    seen = []
    extract = _transformer.extract_features

    def spy(*args, n_threads, **kwargs):
        seen.append(n_threads)
        return extract(*args, n_threads=n_threads, **kwargs)

    monkeypatch.setattr(_transformer, "extract_features", spy)
    small().fit_transform(tiles)
    with joblib.parallel_config("threading", n_jobs=3):
        small().fit_transform(tiles)
        small(n_jobs=2).fit_transform(tiles)
    assert seen == [1, 3, 2]


def test_rows_follow_their_images(tiles):
    order = [3, 5, 0, 0]
    transformer = small().fit(tiles)
    reference = transformer.transform(tiles)[order]
    found = transformer.transform([tiles[i] for i in order])
    np.testing.assert_allclose(found, reference, rtol=0, atol=ATOL)


def test_the_order_of_teachers_is_the_order_of_blocks(tiles):
    forwards = small().fit_transform(tiles)
    backwards = small(teachers=SPECS[::-1]).fit_transform(tiles)
    assert backwards.teacher_blocks.names == BLOCKS.names[::-1]
    np.testing.assert_array_equal(np.asarray(backwards)[:, 10:], forwards[:, :24])


def test_precision_changes_features_a_little(tiles):
    exact = np.asarray(small(precision="float32").fit_transform(tiles))
    half = np.asarray(small(precision="bfloat16").fit_transform(tiles))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.1
    np.testing.assert_array_equal(small(precision="auto").fit_transform(tiles), exact)


def test_teachers_of_equal_facts_keep_their_own_names(tiles, builds):
    twins = (tiny_vit("a"), tiny_vit("b"))
    features = small(teachers=twins).fit_transform(tiles)
    assert features.teacher_blocks == TeacherBlocks(("a", "b"), (24, 24))
    a, b = features.teacher_blocks.split(np.asarray(features)).values()
    np.testing.assert_array_equal(a, b)
    assert len(builds) == 1


def test_a_teacher_that_breaks_its_promise_is_named_on_transform(tiles):
    transformer = small(teachers=tiny_vit(dim=99)).fit(tiles)
    with pytest.raises(TeacherOutputError, match=r"(?s)'tiny-vit'.*dim=24"):
        transformer.transform(tiles)


def test_transform_counts_images_and_errors(tiles):
    damaged = [*tiles[:2], b"", "missing.png"]
    transformer = small(on_error="nan").fit(damaged)
    features = transformer.transform(damaged)
    assert sorted(transformer.errors_) == [2, 3]
    assert "missing.png" in str(transformer.errors_[3])
    assert np.isnan(features[2:]).all()
    assert np.isfinite(features[:2]).all()
    assert transformer.n_images_computed_ == 2
    assert transformer.n_images_cached_ == 0
    transformer.transform(tiles)
    assert transformer.errors_ == {}
    assert transformer.n_images_computed_ == 6


def test_an_unreadable_image_is_named_with_its_position(tiles):
    damaged = [*tiles, "missing.png"]
    with pytest.raises(
        ImageReadError, match=r"1 of 7 files are missing: X\[6\] .*missing\.png"
    ):
        small().fit(damaged).transform(damaged)


@pytest.mark.parametrize("call", ["transform", "get_feature_names_out"])
def test_an_unfitted_transformer_says_so_and_loads_nothing(no_loading, call):
    arguments = ([b"no image"],) if call == "transform" else ()
    with pytest.raises(NotFittedError):
        getattr(small(), call)(*arguments)


# --- scikit-learn ------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_mixin_order",
    ],
)
@pytest.mark.parametrize("make", [TeacherFeatureTransformer, small])
def test_the_generic_checks_of_scikit_learn_pass(check, make):
    getattr(estimator_checks, check)("TeacherFeatureTransformer", make())


def test_the_tags_say_that_images_are_no_matrix():
    tags = get_tags(small())
    assert not tags.input_tags.two_d_array
    assert tags.input_tags.string
    assert tags.no_validation
    assert not tags.target_tags.required
    assert not is_classifier(small())


def test_a_clone_has_the_parameters_and_shares_the_loaded_teachers(tiles, builds):
    original = small(batch_size=3).fit(tiles)
    reference = original.transform(tiles)
    duplicate = clone(original)
    assert not hasattr(duplicate, "teacher_blocks_")
    assert duplicate.get_params()["batch_size"] == 3
    assert [s.fingerprint() for s in duplicate.teachers] == [
        s.fingerprint() for s in SPECS
    ]
    np.testing.assert_array_equal(duplicate.fit_transform(tiles), reference)
    np.testing.assert_array_equal(copy.deepcopy(original).transform(tiles), reference)
    assert sorted(builds) == ["tiny-convolution", "tiny-vit"]


def test_fit_does_not_change_the_parameters(tiles):
    parameters = {"teachers": ["stain"], "weights": {}, "batch_size": 2}
    transformer = small(**copy.deepcopy(parameters)).fit(tiles)
    transformer.transform(tiles)
    for name, value in parameters.items():
        assert getattr(transformer, name) == value


def test_a_pickle_holds_no_weights(tiles):
    transformer = small().fit(tiles)
    reference = transformer.transform(tiles)
    pickled = pickle.dumps(transformer)
    # The tiny ViT alone has 100 kB of weights.
    assert len(pickled) < 20_000
    assert b"storage" not in pickled
    np.testing.assert_array_equal(pickle.loads(pickled).transform(tiles), reference)


def test_feature_names_are_teacher_and_column(tiles):
    names = small().fit(tiles).get_feature_names_out()
    assert names.dtype == object
    assert list(names[[0, 23, 24, 33]]) == [
        "tiny-vit__0",
        "tiny-vit__23",
        "tiny-convolution__0",
        "tiny-convolution__9",
    ]
    assert len(names) == 34


def test_pandas_output_has_the_feature_names_as_columns(tiles):
    transformer = small().set_output(transform="pandas")
    frame = transformer.fit_transform(tiles)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(transformer.get_feature_names_out())
    assert (frame.dtypes == np.float32).all()
    np.testing.assert_array_equal(frame.to_numpy(), small().fit_transform(tiles))


def test_pandas_output_keeps_the_index_of_a_frame(paths):
    frame = pd.DataFrame({"path": map(str, paths)}, index=list("abcdef"))
    output = small().set_output(transform="pandas").fit_transform(frame)
    assert list(output.index) == list("abcdef")


def test_the_html_repr_names_the_transformer_and_its_teachers(tiles):
    for transformer in (small(), small().fit(tiles)):
        html = estimator_html_repr(transformer)
        assert "TeacherFeatureTransformer" in html
        assert "tiny-vit" in html


class BlockRecorder(ClassifierMixin, BaseEstimator):
    """A student that only looks at what it is given."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.blocks_ = X.teacher_blocks
        return self

    def predict(self, X):
        if X.teacher_blocks != self.blocks_:
            raise FeatureBlockError("other blocks than in fit")
        return np.repeat(self.classes_[:1], len(X))


LABELS = np.array(["a", "b"] * 3)


def test_a_student_in_a_pipeline_sees_the_blocks(tiles):
    pipeline = make_pipeline(small(), BlockRecorder()).fit(tiles, LABELS)
    assert pipeline[-1].blocks_ == BLOCKS
    assert len(pipeline.predict(tiles)) == 6


def test_a_caching_pipeline_extracts_once_and_keeps_the_blocks(
    tmp_path, tiles, request
):
    pipeline = Pipeline(
        [("teachers", small()), ("student", BlockRecorder())],
        memory=joblib.Memory(tmp_path, verbose=0),
    )
    assert pipeline.fit(tiles, LABELS)[-1].blocks_ == BLOCKS
    request.getfixturevalue("no_loading")
    assert clone(pipeline).fit(tiles, LABELS)[-1].blocks_ == BLOCKS


def test_a_cache_does_not_mix_up_teachers_of_one_name(tmp_path, tiles):
    memory = joblib.Memory(tmp_path, verbose=0)
    widths = []
    for dim in (3, 4, 3):
        spec = tiny_convolution("own", dim=dim)
        pipeline = make_pipeline(small(teachers=spec), BlockRecorder(), memory=memory)
        widths.append(pipeline.fit(tiles, LABELS)[-1].blocks_.dims)
    assert widths == [(3,), (4,), (3,)]


def test_a_search_over_a_pipeline_loads_each_teacher_once(paths, builds):
    pipeline = Pipeline(
        [("teachers", small()), ("student", LogisticRegression(max_iter=20, tol=1))]
    )
    grid = {"teachers__batch_size": [2, 4], "student__C": [0.1, 1.0]}
    X, y = np.array(list(map(str, paths)))[:, None], LABELS
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.predict(X).shape == (6,)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert sorted(builds) == ["tiny-convolution", "tiny-vit"]
    assert len(pickle.dumps(search)) < 100_000


def test_teachers_can_be_searched_over(tiles):
    pipeline = make_pipeline(small(), LogisticRegression(max_iter=20, tol=1))
    grid = {"teacherfeaturetransformer__teachers": [SPECS, SPECS[:1], ("stain",)]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(tiles, LABELS)
    assert search.cv_results_["mean_test_score"].shape == (3,)


def test_cross_validation_slices_every_kind_of_collection(paths, tiles):
    pipeline = make_pipeline(small(), LogisticRegression(max_iter=20, tol=1))
    scores = [
        cross_val_score(pipeline, X, LABELS, cv=3, error_score="raise")
        for kind, X in collections_of(paths, tiles).items()
        if kind in ("paths", "string column", "arrays", "object array", "DataFrame")
    ]
    for score in scores[1:]:
        np.testing.assert_array_equal(score, scores[0])


def test_a_spec_is_shown_where_a_parameter_is_shown():
    spec = TeacherSpec("mine", architecture="resnet18", dim=512)
    assert "mine" in repr(TeacherFeatureTransformer(teachers=[spec]))


def test_features_equal_plain_timm_and_pillow():
    tiles = make_tissue_tiles(2, 4, tile_size=80, random_state=0).images
    spec = tiny_vit()
    ours = TeacherFeatureTransformer([spec], device="cpu").fit_transform(tiles)
    card = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    torch.default_generator.manual_seed(0)
    model = timm.create_model(
        spec.architecture, num_classes=0, **spec.architecture_kwargs
    ).eval()
    with torch.inference_mode():
        plain = model(torch.stack([card(Image.fromarray(tile)) for tile in tiles]))
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(ours), plain)
    assert cosine.min() > 0.9999


@pytest.mark.parametrize("wrong", [1, None, 2.5, {"path": "a.png"}])
def test_an_entry_of_a_wrong_type_is_no_unreadable_image(wrong, tiles):
    transformer = TeacherFeatureTransformer(["stain"], on_error="nan")
    with pytest.raises(ImageCollectionError, match=r"X\[1\] is"):
        transformer.fit([tiles[0], wrong])


def test_missing_files_are_counted_before_anything_is_computed(tiles, monkeypatch):
    monkeypatch.setattr(
        "skshazam.features._transformer.load_teacher", lambda *a: pytest.fail("loaded")
    )
    transformer = TeacherFeatureTransformer(["stain"]).fit(tiles)
    paths = [*tiles, "a.png", "b.png", "c.png", "d.png"]
    named = r"4 of 10 files are missing: X\[6\] 'a.png'.*'c.png', \.\.\. \(working"
    with pytest.raises(ImageReadError, match=named):
        transformer.transform(paths)


def test_a_folder_is_not_its_images(tmp_path):
    with pytest.raises(ImageCollectionError, match=r"folder.*glob"):
        TeacherFeatureTransformer(["stain"]).fit(str(tmp_path))
