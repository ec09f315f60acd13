"""Extraction into a store: computed once, whoever asks; never a wrong row."""

import dataclasses
import errno
import json
import pickle
import shutil
import time
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

from skshazam import TeacherFeatureTransformer
from skshazam.exceptions import (
    DeviceError,
    FeatureStoreError,
    FeatureStoreMismatchError,
    ImageReadError,
    TeacherOutputError,
)
from skshazam.features import (
    ExtractionOptions,
    FeatureStore,
    StoredExtraction,
    _pending,
    _readback,
    _stored,
    extract_features,
    extract_to_store,
    read_features,
)
from skshazam.features._forward import ForwardPass
from skshazam.features._identity import describe_features, feature_fingerprint
from skshazam.images import _digest, _stream
from skshazam.storage import _shard_set, _store
from skshazam.teachers import load_teacher, unload_teachers
from tests.tiny_teachers import TinyConvolution, tiny_convolution, tiny_vit

VIT, CONVOLUTION = tiny_vit(), tiny_convolution()


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def settled(monkeypatch):
    """Trust the stat of files that were written a moment ago."""
    monkeypatch.setattr(_digest, "SETTLED_AFTER_NS", 0)


@pytest.fixture
def many(tiles):
    """Two hundred different tiles of two sizes: four blocks of the random order."""
    return [np.roll(tiles[i % 6], (i, i // 6), axis=(0, 1)) for i in range(200)]


@pytest.fixture
def paths(tmp_path, many):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for i, tile in enumerate(many[:40]):
        Image.fromarray(tile).save(folder / f"{i:03}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def seen(monkeypatch):
    """Record how many images each teacher was run on."""
    counts = {}
    load = _stored.load_teacher

    def counting(spec, *arguments, **options):
        teacher = load(spec, *arguments, **options)

        class Counting:
            def __getattr__(self, name):
                return getattr(teacher, name)

            def __call__(self, images, *rest):
                counts[spec.name] = counts.get(spec.name, 0) + len(images)
                return teacher(images, *rest)

        return Counting()

    monkeypatch.setattr(_stored, "load_teacher", counting)
    return counts


@pytest.fixture
def reads(monkeypatch):
    """Record which files are read."""
    record = []
    read = _pending.read_encoded
    monkeypatch.setattr(
        _pending,
        "read_encoded",
        lambda source: (record.append(source), read(source))[1],
    )
    return record


def small(**parameters):
    return TeacherFeatureTransformer(
        **{"teachers": [VIT, CONVOLUTION], "device": "cpu", **parameters}
    )


def assert_rounded(found, exact):
    """Compare stored features with exact ones: half a float16 step, and 1e-5."""
    np.testing.assert_allclose(found, exact, rtol=2**-11, atol=1e-5)


# --- the same features, and only once ----------------------------------------------


def test_features_through_a_store_are_those_without_one_rounded(store, many):
    exact = small().fit_transform(many)
    transformer = small(store=store)
    found = transformer.fit_transform(many)
    assert found.dtype == np.float32
    assert found.teacher_blocks == exact.teacher_blocks
    assert_rounded(found, exact)
    np.testing.assert_array_equal(found, np.float32(np.float16(found)))
    assert (transformer.n_images_computed_, transformer.n_images_cached_) == (200, 0)


def test_a_float32_store_rounds_nothing(tmp_path, many):
    store = FeatureStore(tmp_path / "exact", dtype="float32")
    exact = small().fit_transform(many[:64])
    found = small(store=store).fit_transform(many[:64])
    np.testing.assert_array_equal(found, exact)


def test_what_is_stored_is_returned_bit_for_bit_and_nothing_is_loaded(
    store, many, builds
):
    first = small(store=store).fit_transform(many)
    assert builds == ["tiny-vit", "tiny-convolution"]
    builds.clear()
    unload_teachers()
    again = small(store=str(store.path))
    np.testing.assert_array_equal(again.fit_transform(many), first)
    assert builds == []
    assert (again.n_images_computed_, again.n_images_cached_) == (0, 200)


def test_order_repetition_and_selection_are_free(store, many, seen):
    whole = small(store=store).fit_transform(many)
    seen.clear()
    order = np.random.default_rng(0).integers(0, 200, 300)
    part = small(store=store).fit_transform([many[i] for i in order])
    np.testing.assert_array_equal(part, whole[order])
    assert seen == {}


def test_an_image_that_is_there_twice_is_computed_once(store, many, seen):
    transformer = small(store=store, batch_size=7)
    found = transformer.fit_transform([*many[:20], *many[:20]])
    np.testing.assert_array_equal(found[:20], found[20:])
    assert seen == {"tiny-vit": 20, "tiny-convolution": 20}
    assert transformer.n_images_computed_ == 20
    assert transformer.n_images_cached_ == 20


def test_only_new_images_are_computed(store, many, seen):
    small(store=store).fit_transform(many[:50])
    seen.clear()
    transformer = small(store=store)
    transformer.fit_transform(many[30:80])
    assert seen == {"tiny-vit": 30, "tiny-convolution": 30}
    assert (transformer.n_images_computed_, transformer.n_images_cached_) == (30, 20)


def test_only_a_new_teacher_runs(store, many, seen):
    before = small(store=store, teachers=[VIT]).fit_transform(many)
    seen.clear()
    after = small(store=store).fit_transform(many)
    np.testing.assert_array_equal(after[:, :24], before)
    assert seen == {"tiny-convolution": 200}


def test_each_teacher_sees_what_it_lacks(store, many, seen):
    small(store=store, teachers=[VIT]).fit_transform(many[:30])
    small(store=store, teachers=[CONVOLUTION]).fit_transform(many[20:60])
    seen.clear()
    exact = small().fit_transform(many[:80])
    assert_rounded(small(store=store).fit_transform(many[:80]), exact)
    assert seen == {"tiny-vit": 50, "tiny-convolution": 40}


def test_an_encoded_image_is_one_image_wherever_it_lies(store, paths, seen):
    small(store=store).fit_transform(paths[:5])
    seen.clear()
    copies = [path.read_bytes() for path in paths[:5]]
    small(store=store).fit_transform(copies)
    renamed = paths[0].rename(paths[0].with_name("renamed.jpg"))
    small(store=store).fit_transform([str(renamed)])
    assert seen == {}


def test_arrays_and_opened_images_of_the_same_pixels_are_one(store, many, seen):
    small(store=store).fit_transform(many[:5])
    seen.clear()
    small(store=store).fit_transform([Image.fromarray(tile) for tile in many[:5]])
    assert seen == {}


def test_files_and_their_pixels_are_two_images_with_equal_features(store, paths, many):
    from_files = small(store=store).fit_transform(paths[:5])
    transformer = small(store=store)
    from_pixels = transformer.fit_transform(many[:5])
    assert transformer.n_images_computed_ == 5
    np.testing.assert_array_equal(from_files, from_pixels)


# --- what tells features apart -----------------------------------------------------


def test_what_changes_the_vector_changes_the_fingerprint():
    variants = [
        feature_fingerprint(VIT),
        feature_fingerprint(VIT, precision="bfloat16"),
        feature_fingerprint(VIT, preprocessing="pil"),
        feature_fingerprint(dataclasses.replace(VIT, pooling="cls+mean", dim=48)),
        feature_fingerprint(dataclasses.replace(VIT, mean=(0.5, 0.5, 0.5))),
        feature_fingerprint(CONVOLUTION),
    ]
    assert len(set(variants)) == len(variants)


def test_auto_precision_is_that_of_the_teacher():
    half = dataclasses.replace(VIT, dtype="float16")
    assert feature_fingerprint(half) == feature_fingerprint(half, precision="float16")
    assert feature_fingerprint(half) != feature_fingerprint(half, precision="float32")


def test_a_name_does_not_change_the_fingerprint():
    renamed = dataclasses.replace(VIT, name="other", source="somewhere")
    assert feature_fingerprint(renamed) == feature_fingerprint(VIT)


@pytest.mark.parametrize(
    "changes", [{"preprocessing": "pil"}, {"precision": "bfloat16"}]
)
def test_settings_are_never_mixed(store, many, changes):
    first = small(store=store).fit_transform(many[:10])
    other = small(store=store, **changes)
    features = other.fit_transform(many[:10])
    assert other.n_images_computed_ == 10
    assert not np.array_equal(features, first)
    exact = small(**changes).fit_transform(many[:10])
    np.testing.assert_allclose(features, exact, rtol=2e-3, atol=2e-3)


def test_the_store_says_what_it_holds_and_no_path_of_this_machine(
    store, many, tmp_path
):
    local = tiny_convolution("mine", weights=tmp_path / "secret" / "weights.pt")
    (tmp_path / "secret").mkdir()
    state = TinyConvolution(10).state_dict()
    torch.save(state, tmp_path / "secret" / "weights.pt")
    small(store=store, teachers=[VIT, local]).fit_transform(many[:3])
    facts = {entry["name"]: entry for entry in store.teachers().values()}
    assert set(facts) == {"tiny-vit", "mine"}
    assert facts["tiny-vit"]["dim"] == 24
    assert facts["tiny-vit"]["precision"] == "float32"
    assert "secret" not in json.dumps(facts)


def test_facts_are_json_data():
    facts = describe_features(VIT, precision="auto", preprocessing="fast", dim=24)
    assert json.loads(json.dumps(facts)) == facts


# --- files -------------------------------------------------------------------------


def test_an_unchanged_file_is_not_read_again(store, paths, settled, reads):
    first = small(store=store).fit_transform(paths)
    assert sorted(reads) == sorted(paths)
    reads.clear()
    np.testing.assert_array_equal(small(store=store).fit_transform(paths), first)
    assert reads == []


def test_another_process_does_not_read_unchanged_files_either(
    store, paths, settled, reads
):
    small(store=store).fit_transform(paths)
    reads.clear()
    small(store=FeatureStore(store.path)).fit_transform(paths)
    assert reads == []


def test_a_file_just_written_is_read_again_and_not_computed(store, paths, reads, seen):
    small(store=store).fit_transform(paths)
    reads.clear()
    seen.clear()
    small(store=store).fit_transform(paths)
    assert sorted(reads) == sorted(paths)
    assert seen == {}


def test_a_changed_file_gets_new_features(store, paths, many, settled):
    small(store=store).fit_transform(paths)
    Image.fromarray(many[100]).save(paths[3])
    transformer = small(store=store)
    found = transformer.fit_transform(paths)
    assert transformer.n_images_computed_ == 1
    assert_rounded(found, small().fit_transform(paths))


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    store, paths, many, settled, monkeypatch
):
    read = _pending.read_encoded

    def and_change(source):
        data = read(source)
        Image.fromarray(many[100]).save(source)
        return data

    monkeypatch.setattr(_pending, "read_encoded", and_change)
    small(store=store).fit_transform(paths[:1])
    monkeypatch.undo()
    found = small(store=store).fit_transform(paths[:1])
    assert_rounded(found, small().fit_transform([many[100]]))


# --- images that cannot be read ----------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_unreadable_images_are_listed_and_never_stored(store, tiles, batch_size):
    images = [tiles[0], b"no image", tiles[1], "missing.png", tiles[2]]
    transformer = small(store=store, on_error="nan", batch_size=batch_size)
    for computed in (3, 0):
        features = transformer.fit_transform(images)
        assert np.isnan(features[[1, 3]]).all()
        assert np.isfinite(features[[0, 2, 4]]).all()
        assert sorted(transformer.errors_) == [1, 3]
        assert "Image 3 of 5" in str(transformer.errors_[3])
        assert transformer.n_images_computed_ == computed
        assert transformer.n_images_cached_ == 3 - computed
    assert all(entry.rows == 3 for entry in store.info().teachers)


def test_what_was_computed_before_an_unreadable_image_is_kept(store, many, seen):
    images = [*many, b"no image"]
    transformer = small(store=store, batch_size=8)
    # The order of blocks is random; the last image is sooner or later met.
    with pytest.raises(ImageReadError, match="Image 200 of 201"):
        transformer.fit_transform(images)
    kept = seen.get("tiny-vit", 0)
    seen.clear()
    small(store=store).fit_transform(many)
    assert seen.get("tiny-vit", 0) == 200 - kept


def test_nothing_but_unreadable_images(store):
    transformer = small(store=store, on_error="nan").fit([b""])
    assert np.isnan(transformer.transform([b"", b"x"])).all()


# --- a store that fails ------------------------------------------------------------


def flip_a_bit(store, fingerprint, tensor):
    """Damage the first row of a tensor in a teacher's only shard; return the shard."""
    [shard] = (store.path / "teachers" / fingerprint / store.dtype).glob("*.safe*")
    content = bytearray(shard.read_bytes())
    header = int.from_bytes(content[:8], "little")
    begin, _ = json.loads(content[8 : 8 + header])[tensor]["data_offsets"]
    content[8 + header + begin] ^= 4
    shard.write_bytes(content)
    return shard


@pytest.mark.parametrize("tensor", ["rows", "checks", "keys"])
def test_a_damaged_row_is_computed_again_and_never_returned(
    store, many, seen, caplog, tensor
):
    expected = small(store=store).fit_transform(many)
    shard = flip_a_bit(store, feature_fingerprint(VIT), tensor)
    seen.clear()
    fresh = FeatureStore(store.path)
    transformer = small(store=fresh)
    np.testing.assert_allclose(
        transformer.fit_transform(many), expected, rtol=2**-10, atol=1e-5
    )
    assert seen == {"tiny-vit": 1}
    assert transformer.n_images_computed_ == 1
    assert transformer.n_images_cached_ == 199
    # Under a damaged key nobody looks for a row: it is missing rather than wrong.
    if tensor != "keys":
        assert "1 stored rows were damaged" in caplog.text
        assert str(shard) + ".damaged" in fresh.info().damaged


def test_damage_that_comes_back_is_an_error(store, many, monkeypatch):
    small(store=store).fit_transform(many[:5])
    read = _store.ShardFolder.read

    def always_damaged(folder, keys):
        rows, found = read(folder, keys)
        return rows, found & (np.arange(len(keys)) > 0)

    monkeypatch.setattr(_store.ShardFolder, "read", always_damaged)
    with pytest.raises(FeatureStoreError, match=r"3 times.*1 of 5.*store verify"):
        small(store=store).fit_transform(many[:5])


@pytest.fixture
def failing_writes(monkeypatch):
    """Return a function after whose call writes fail with an errno."""

    def fail(code, after=0):
        writes = iter(range(after))

        def publish(path, content, **options):
            if next(writes, None) is None:
                error = OSError(code, "pretended")
                raise _store.storage_error(error, path) from error
            return real(path, content, **options)

        monkeypatch.setattr(_store, "publish", publish)
        monkeypatch.setattr(_shard_set, "publish", publish)

    real = _store.publish
    return fail


def test_a_read_only_store_that_holds_everything_is_enough(
    store, paths, failing_writes, settled
):
    expected = small(store=store).fit_transform(paths)
    failing_writes(errno.EROFS)
    found = small(store=FeatureStore(store.path)).fit_transform(paths)
    np.testing.assert_array_equal(found, expected)


def test_a_read_only_store_that_lacks_something_is_refused_before_loading(
    store, many, failing_writes, builds
):
    small(store=store).fit_transform(many[:5])
    builds.clear()
    unload_teachers()
    failing_writes(errno.EROFS)
    with pytest.raises(FeatureStoreError, match="store=None"):
        small(store=FeatureStore(store.path)).fit_transform(many[:6])
    assert builds == []


def test_a_full_disk_ends_the_run_and_keeps_what_was_stored(
    store, many, failing_writes, seen, monkeypatch
):
    failing_writes(errno.ENOSPC, after=12)
    with pytest.raises(FeatureStoreError, match=r"bytes are free.*it continues"):
        small(store=store, batch_size=8).fit_transform(many)
    computed = seen["tiny-vit"]
    assert 8 <= computed < 100
    monkeypatch.undo()
    kept = {entry.name: entry.rows for entry in store.info().teachers}
    assert computed - 8 <= kept["tiny-vit"] <= computed
    exact = small().fit_transform(many)
    transformer = small(store=store)
    assert_rounded(transformer.fit_transform(many), exact)
    assert transformer.n_images_computed_ <= 200 - kept["tiny-convolution"]


class Loud(TinyConvolution):
    """Gives a number too large for float16, or none at all, for a white image."""

    def __init__(self, value):
        super().__init__(2)
        self.value = value

    def forward(self, images):
        features = super().forward(images)
        features[images.amin(dim=(1, 2, 3)) > 2] = self.value
        return features


def loud(value):
    return tiny_convolution("loud", dim=2, build=partial(Loud, value))


@pytest.fixture
def with_a_white_one(many):
    white = np.full((30, 30, 3), 255, dtype=np.uint8)
    return [*many[:20], white, *many[20:40], white]


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_an_image_without_features_is_named_and_costs_no_other(
    store, with_a_white_one, value
):
    transformer = small(
        store=store, teachers=[VIT, loud(value)], on_error="nan", batch_size=8
    )
    features = transformer.fit_transform(with_a_white_one)
    assert sorted(transformer.errors_) == [20, 41]
    assert all(
        isinstance(error, TeacherOutputError) for error in transformer.errors_.values()
    )
    assert "Image 20 of 42: Teacher 'loud'" in str(transformer.errors_[20])
    assert np.isnan(features[[20, 41]]).all()
    assert np.isfinite(np.delete(features, [20, 41], axis=0)).all()
    assert (transformer.n_images_computed_, transformer.n_images_cached_) == (40, 0)
    assert all(entry.rows == 40 for entry in store.info().teachers)
    again = small(store=store, teachers=[VIT, loud(value)], on_error="nan")
    again.fit_transform(with_a_white_one)
    assert sorted(again.errors_) == [20, 41]
    assert (again.n_images_computed_, again.n_images_cached_) == (0, 40)


def test_such_an_image_ends_the_run_if_asked_to_and_the_rest_is_kept(
    store, with_a_white_one
):
    transformer = small(store=store, teachers=[loud(1e6)], batch_size=64)
    with pytest.raises(TeacherOutputError, match=r"Image (20|41) of 42.*float32"):
        transformer.fit_transform(with_a_white_one)
    assert store.info().teachers[0].rows == 40


def test_a_float32_store_holds_what_float16_cannot(tmp_path, with_a_white_one):
    exact = FeatureStore(tmp_path / "exact", dtype="float32")
    features = small(store=exact, teachers=[loud(1e6)]).fit_transform(with_a_white_one)
    assert features[20].tolist() == [1e6, 1e6]


def test_without_a_store_such_an_image_is_named_too(with_a_white_one):
    transformer = small(teachers=[loud(float("nan"))], on_error="nan")
    features = transformer.fit_transform(with_a_white_one)
    assert sorted(transformer.errors_) == [20, 41]
    assert np.isnan(features).any(axis=1).sum() == 2
    with pytest.raises(TeacherOutputError, match=r"Image 20 of 42: Teacher 'loud'"):
        small(teachers=[loud(float("nan"))]).fit_transform(with_a_white_one)


def test_other_weights_under_the_same_name_are_refused(store, tiles, monkeypatch):
    teacher = load_teacher(VIT, "cpu")
    monkeypatch.setattr(teacher, "commit", "aaaa111")
    small(store=store, teachers=[VIT]).fit_transform(tiles[:2])
    monkeypatch.setattr(teacher, "commit", "bbbb222")
    transformer = small(store=store, teachers=[VIT])
    with pytest.raises(FeatureStoreMismatchError, match=r"aaaa111.*bbbb222"):
        transformer.fit_transform(tiles)


# --- long runs ---------------------------------------------------------------------


@pytest.mark.parametrize("through_a_store", [True, False])
def test_no_more_than_two_batches_are_decoded_ahead(
    store, paths, monkeypatch, through_a_store
):
    decoded, most_ahead, done = [], [], 0
    for module, name in [(_pending, "decode_image"), (_stream, "read_image")]:
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, real=real: (decoded.append(1), real(*a))[1]
        )
    real_pass = ForwardPass._one_pass

    def one_pass(self, name, images):
        nonlocal done
        time.sleep(0.01)  # Let the threads run as far as they may.
        most_ahead.append(len(decoded) - done)
        done += len(images)
        return real_pass(self, name, images)

    monkeypatch.setattr(ForwardPass, "_one_pass", one_pass)
    small(
        teachers=[CONVOLUTION],
        store=store if through_a_store else None,
        batch_size=4,
        n_jobs=2,
    ).fit_transform(paths)
    assert len(decoded) == 40
    assert 4 <= max(most_ahead) <= 4 + 2 * 4


def test_what_is_learnt_about_files_is_written_in_portions(
    store, paths, settled, monkeypatch
):
    """Both where all is computed, and where all is found under another name."""
    monkeypatch.setattr(_stored, "LEARNT_ROWS", 8)
    sizes = []
    write = type(store.files).write

    def recording(folder, keys, *arguments):
        if folder is store.files:
            sizes.append(len(keys))
        return write(folder, keys, *arguments)

    monkeypatch.setattr(type(store.files), "write", recording)
    extract_to_store(paths, [CONVOLUTION], store, device="cpu", batch_size=4)
    assert sum(sizes) == 40
    assert max(sizes) <= 8 + 3 * 4
    sizes.clear()
    moved = [path.rename(path.with_name(f"moved-{path.name}")) for path in paths]
    extraction = extract_to_store(
        moved, [CONVOLUTION], store, device="cpu", batch_size=4
    )
    assert extraction.n_computed == 0
    assert sum(sizes) == 40
    assert max(sizes) <= 8 + 3 * 4


def test_a_run_that_finds_everything_shows_how_far_it_is(store, paths):
    class Bar:
        n, steps = 0, 0

        def update(self, n):
            self.n += n
            self.steps += n > 0

    extract_to_store(paths, [CONVOLUTION], store, device="cpu")
    options = ExtractionOptions(device="cpu", batch_size=4)
    bar = Bar()
    _stored.StoreRun(paths, [CONVOLUTION], store, options).run(bar)
    assert bar.n == 40
    assert bar.steps > 10


def test_counts_are_of_images_even_if_some_are_computed_twice(store, many, monkeypatch):
    gathered = _readback._gathered
    rounds = iter([True, False])

    def damaged_at_first(*arguments):
        features, found = gathered(*arguments)
        if next(rounds):
            found[3] = False
            _drop_everything(store)
        return features, found

    def _drop_everything(store):
        for entry in store.info().teachers:
            shutil.rmtree(store.path / "teachers" / entry.fingerprint)

    monkeypatch.setattr(_readback, "_gathered", damaged_at_first)
    transformer = small(store=store)
    transformer.fit_transform(many[:10])
    assert transformer.n_images_computed_ == 10
    assert transformer.n_images_cached_ == 0


# --- as an estimator, and as functions ---------------------------------------------


def test_a_transformer_with_a_store_can_be_cloned_and_pickled(store, many):
    for given in (store, str(store.path), store.path):
        transformer = small(store=given)
        copies = [clone(transformer), pickle.loads(pickle.dumps(transformer))]
        for copy in copies:
            assert copy.store == given
        np.testing.assert_array_equal(
            copies[0].fit_transform(many[:3]), copies[1].fit_transform(many[:3])
        )


def test_a_dim_left_open_is_learnt_from_the_store(store, tiles, builds):
    spec = tiny_vit(dim=None)
    small(store=store, teachers=[spec]).fit_transform(tiles)
    builds.clear()
    unload_teachers()
    transformer = small(store=store, teachers=[spec])
    transformer.fit_transform(tiles)
    assert transformer.teacher_dims_ == (24,)
    assert builds == []


def test_extraction_and_reading_are_functions_too(store, paths):
    extraction = extract_to_store(paths, [VIT, CONVOLUTION], store, device="cpu")
    assert isinstance(extraction, StoredExtraction)
    assert extraction.digests.shape == (40, 32)
    assert (extraction.n_computed, extraction.n_found) == (40, 0)
    features = read_features(extraction.digests, [CONVOLUTION, VIT], str(store.path))
    assert features.teacher_blocks.names == ("tiny-convolution", "tiny-vit")
    assert_rounded(features[:, 10:], small(teachers=[VIT]).fit_transform(paths))


def test_the_first_step_of_an_empty_store_is_named(store):
    digests = np.ones((2, 32), dtype=np.uint8)
    with pytest.raises(FeatureStoreError, match=r"lacks the features of 2 of 2"):
        read_features(digests, [VIT], store)
    with pytest.raises(FeatureStoreError, match=r"holds nothing of teacher 'open'"):
        read_features(digests, [tiny_vit("open", dim=None)], store)


def test_digests_of_unreadable_images_are_refused_with_the_way_out(store, tiles):
    extraction = extract_to_store(
        [*tiles, b""], [VIT], store, device="cpu", on_error="nan"
    )
    assert not extraction.digests[6].any()
    with pytest.raises(FeatureStoreError, match=r"1 of 7 digests.*extraction\.errors"):
        read_features(extraction.digests, [VIT], store)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("n_threads", 0),
        ("on_error", "rasie"),
        ("precision", "fp16"),
        ("preprocessing", "PIL"),
        ("channels_last", "yes"),
        ("compile", 3),
        ("task_size", 0),
    ],
)
def test_an_option_that_cannot_be_is_named(store, tiles, option, value):
    with pytest.raises(ValueError, match=rf"'{option}' parameter.*{value}"):
        extract_to_store(tiles, [VIT], store, **{"device": "cpu", option: value})
    if option in ("batch_size", "n_threads", "on_error", "precision", "preprocessing"):
        teachers = {"tiny-vit": load_teacher(VIT, "cpu")}
        with pytest.raises(ValueError, match=rf"'{option}' parameter.*{value}"):
            extract_features(tiles, teachers, **{option: value})


def test_a_device_that_is_not_here_is_refused_before_any_work(store, tiles):
    with pytest.raises(DeviceError, match="'abacus'"):
        extract_to_store(tiles, [VIT], store, device="abacus")
    assert not store.path.exists()


def test_missing_rows_are_counted(store, many):
    extraction = extract_to_store(many[:3], [VIT], store, device="cpu")
    digests = np.vstack([extraction.digests, np.ones((2, 32), dtype=np.uint8)])
    with pytest.raises(FeatureStoreError, match=r"2 of 5 images.*position 3"):
        read_features(digests, [VIT], store)


@pytest.mark.parametrize("progress", [True, False])
def test_a_progress_bar_counts_found_images_too(store, many, capsys, progress):
    small(store=store).fit_transform(many[:100])
    small(store=store, progress=progress, batch_size=16).fit_transform(many)
    shown = capsys.readouterr()
    assert ("/200" in shown.err) == progress
    assert shown.out == ""


def test_a_folder_full_of_other_things_is_not_made_a_store(tmp_path, tiles):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(FeatureStoreMismatchError, match=r"thesis\.txt"):
        small(store=tmp_path).fit_transform(tiles)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
