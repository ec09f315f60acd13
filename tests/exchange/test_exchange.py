"""Between a store and files: rows keep their identity, and foreign ones need one."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from skshazam.exceptions import (
    FeatureFileError,
    FeatureStoreError,
    FeatureStoreMismatchError,
    ImageReadError,
)
from skshazam.exchange import (
    FeatureFile,
    FeatureImport,
    export_features,
    import_features,
    load_slide_features,
    read_feature_file,
    write_feature_file,
)
from skshazam.features import (
    FeatureStore,
    extract_features,
    extract_to_store,
    read_features,
)
from skshazam.teachers import load_teacher
from tests.tiny_teachers import tiny_convolution, tiny_vit

TEACHER = tiny_convolution()
MADE_SO = {"precision": "auto", "preprocessing": "fast"}


@pytest.fixture
def paths(tmp_path, tiles):
    """Six tiles on disk; the last is a copy of the first under another name."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    found = []
    for i, tile in enumerate([*tiles[:5], tiles[0]]):
        found.append(folder / f"tile, [ä] {i}.png")
        Image.fromarray(tile).save(found[-1])
    return found


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store", dtype="float32")


@pytest.fixture
def features(paths):
    """Return what the teacher gives for the tiles."""
    teachers = {TEACHER.name: load_teacher(TEACHER, "cpu")}
    return np.asarray(extract_features(paths, teachers).features)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".pt"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_exported_is_imported_bit_for_bit(tmp_path, paths, suffix, dtype):
    store = FeatureStore(tmp_path / "store", dtype=dtype)
    digests = extract_to_store(paths, [TEACHER], store).digests
    (path,) = export_features(store, paths, TEACHER, tmp_path / f"all{suffix}")
    file = read_feature_file(path)
    assert file.features.dtype == dtype
    assert file.paths == tuple(map(str, paths))
    np.testing.assert_array_equal(file.digests, digests)
    other = FeatureStore(tmp_path / "other", dtype=dtype)
    assert import_features(other, path, TEACHER, **MADE_SO) == FeatureImport(5, 1)
    np.testing.assert_array_equal(
        read_features(digests, [TEACHER], other),
        read_features(digests, [TEACHER], store),
    )
    again = import_features(other, path, TEACHER, **MADE_SO)
    assert again == FeatureImport(0, 6)


def test_nothing_is_computed_for_what_was_imported(tmp_path, paths, store, builds):
    extract_to_store(paths, [TEACHER], store)
    (path,) = export_features(store, paths, TEACHER, tmp_path / "all.h5")
    other = FeatureStore(tmp_path / "other")
    import_features(other, path, TEACHER, **MADE_SO)
    builds.clear()
    extraction = extract_to_store(paths, [TEACHER], other)
    assert extraction.n_found == 6 and extraction.n_computed == 0
    assert not builds


def test_other_settings_do_not_find_what_was_imported(tmp_path, paths, store, features):
    np.savez(tmp_path / "a.npz", features=features)
    import_features(
        store,
        tmp_path / "a.npz",
        TEACHER,
        images=paths,
        precision="auto",
        preprocessing="pil",
    )
    assert extract_to_store(paths, [TEACHER], store).n_computed > 0
    digests = extract_to_store(paths, [TEACHER], store, preprocessing="pil")
    assert digests.n_computed == 0


def test_slides_become_one_file_each_that_other_programs_read(tmp_path, paths, store):
    extract_to_store(paths, [TEACHER, tiny_vit()], store)
    slides = ["S2", "S1", "S2", "S1", "S2", "S2"]
    coords = np.arange(12).reshape(6, 2)
    folders = {}
    for teacher in (TEACHER, tiny_vit()):
        folders[teacher.name] = tmp_path / teacher.name
        written = export_features(
            store, paths, teacher, folders[teacher.name], slides=slides, coords=coords
        )
        assert [path.name for path in written] == ["S2.h5", "S1.h5"]
    with h5py.File(folders[TEACHER.name] / "S1.h5") as file:
        np.testing.assert_array_equal(file["coords"], coords[[1, 3]])
        assert file["features"].shape == (2, 10)
    bunch = load_slide_features(folders)
    digests = extract_to_store(paths, [TEACHER, tiny_vit()], store).digests
    expected = read_features(digests, [TEACHER, tiny_vit()], store)
    np.testing.assert_array_equal(bunch.features, expected[[1, 3, 0, 2, 4, 5]])
    np.testing.assert_array_equal(bunch.coords, coords[[1, 3, 0, 2, 4, 5]])
    # A folder of such files can be imported as a whole.
    other = FeatureStore(tmp_path / "other")
    counts = import_features(other, folders[TEACHER.name], TEACHER, **MADE_SO)
    assert counts == FeatureImport(5, 1)


def test_foreign_rows_take_their_identity_from_the_images(
    tmp_path, paths, store, features
):
    torch.save(torch.from_numpy(features), tmp_path / "clam.pt")
    with pytest.raises(FeatureFileError, match=r"(?s)clam\.pt.*images=.*load_slide"):
        import_features(store, tmp_path / "clam.pt", TEACHER, **MADE_SO)
    assert not store.path.exists()
    counts = import_features(
        store, tmp_path / "clam.pt", TEACHER, images=paths, check=3, **MADE_SO
    )
    assert counts == FeatureImport(5, 1, 3)
    extraction = extract_to_store(paths[::-1], [TEACHER], store)
    assert extraction.n_computed == 0
    found = read_features(extraction.digests, [TEACHER], store)
    np.testing.assert_array_equal(found, features[::-1])


def test_the_shard_and_the_store_say_where_rows_are_from(
    tmp_path, paths, store, features
):
    np.savez(tmp_path / "theirs.npz", features=features)
    import_features(store, tmp_path / "theirs.npz", TEACHER, images=paths, **MADE_SO)
    shards = list(store.path.glob("teachers/*/float32/*.safetensors"))
    assert any(b"imported from theirs.npz" in path.read_bytes() for path in shards)
    (facts,) = store.teachers().values()
    assert (facts["name"], facts["dim"]) == (TEACHER.name, 10)


def test_images_in_another_order_are_noticed_where_possible(
    tmp_path, paths, store, features
):
    path = tmp_path / "a.npz"
    swapped = [paths[1], paths[0], *paths[2:]]
    # By the names of the files,
    np.savez(path, features=features, paths=[f"/elsewhere/{p.name}" for p in paths])
    with pytest.raises(FeatureFileError, match=r"a\.npz.*row 0 is of '/elsewhere/"):
        import_features(store, path, TEACHER, images=swapped, **MADE_SO)
    import_features(store, path, TEACHER, images=paths, **MADE_SO)
    # by their content,
    (ours,) = export_features(store, paths, TEACHER, tmp_path / "ours.npz")
    arrays = [np.asarray(Image.open(p)) for p in paths]
    with pytest.raises(FeatureFileError, match=r"row 0 is of another content"):
        import_features(store, ours, TEACHER, images=arrays, **MADE_SO)
    # or by computing some again.
    np.savez(path, features=features)
    with pytest.raises(FeatureStoreMismatchError, match=r"2 of 6 rows differ.*cosine"):
        import_features(store, path, TEACHER, images=swapped, check=6, **MADE_SO)


@pytest.mark.parametrize("change", [lambda rows: rows * 1.02, lambda rows: -rows])
def test_rows_of_another_length_or_direction_are_not_imported(
    tmp_path, paths, store, features, change
):
    np.savez(tmp_path / "a.npz", features=change(features))
    with pytest.raises(FeatureStoreMismatchError, match="1 of 1 rows differ"):
        import_features(
            store, tmp_path / "a.npz", TEACHER, images=paths, check=1, **MADE_SO
        )
    assert not store.path.exists()
    with pytest.raises(FeatureFileError, match="check=1"):
        import_features(store, tmp_path / "a.npz", TEACHER, check=1, **MADE_SO)


def test_a_wrong_dim_names_both(tmp_path, paths, store, features):
    np.savez(tmp_path / "a.npz", features=features[:, :9])
    for check in (0, 1):
        with pytest.raises(FeatureStoreMismatchError, match=r"9 numbers .* has 10"):
            import_features(
                store, tmp_path / "a.npz", TEACHER, images=paths, check=check, **MADE_SO
            )
    assert not store.path.exists()


def test_a_file_that_says_it_is_of_another_teacher_is_refused(tmp_path, paths, store):
    extract_to_store(paths, [TEACHER], store)
    (path,) = export_features(store, paths, TEACHER, tmp_path / "all.h5")
    another = tiny_convolution("another", mean=(0.1, 0.2, 0.3))
    with pytest.raises(FeatureFileError, match=r"='tiny-convolution'.*'another'"):
        import_features(store, path, another, **MADE_SO)
    with pytest.raises(FeatureFileError, match="preprocessing='fast'"):
        import_features(store, path, TEACHER, precision="auto", preprocessing="pil")


def test_counts_have_to_agree(tmp_path, paths, store, features):
    np.savez(tmp_path / "a.npz", features=features)
    with pytest.raises(FeatureFileError, match="6 rows for 5 images"):
        import_features(store, tmp_path / "a.npz", TEACHER, images=paths[:5], **MADE_SO)
    extract_to_store(paths, [TEACHER], store)
    for wrong in ({"coords": [[1, 2]]}, {"slides": ["S1"]}):
        with pytest.raises(FeatureFileError, match="6 images; expected"):
            export_features(store, paths, TEACHER, tmp_path / "a.h5", **wrong)


def test_a_folder_needs_files_and_cannot_take_images(tmp_path, paths, store):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeatureFileError, match=r"holds no \.h5"):
        import_features(store, tmp_path / "empty", TEACHER, **MADE_SO)
    write_feature_file(tmp_path / "empty" / "a.npz", FeatureFile(np.ones((1, 10))))
    with pytest.raises(FeatureFileError, match="file by file"):
        import_features(store, tmp_path / "empty", TEACHER, images=paths, **MADE_SO)


def test_an_export_is_complete_or_refused(tmp_path, paths, store):
    with pytest.raises(FeatureStoreError, match=r"lacks .*6 of 6 images in float32"):
        export_features(store, paths, TEACHER, tmp_path / "a.h5")
    extract_to_store(paths[:4], [TEACHER], store)
    with pytest.raises(FeatureStoreError, match="1 of 6 images"):
        export_features(store, paths, TEACHER, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    (tmp_path / "a.h5").write_bytes(b"somebody's")
    with pytest.raises(FeatureFileError, match="it is kept"):
        export_features(store, paths[:4], TEACHER, tmp_path / "a.h5")
    export_features(store, paths[:4], TEACHER, tmp_path / "a.h5", overwrite=True)
    with pytest.raises(ImageReadError, match="Image 1 of 2"):
        export_features(store, [paths[0], "absent.png"], TEACHER, tmp_path / "b.h5")


@pytest.mark.parametrize("slide", ["../escaped", "a/b", "..", ".hidden", "", "a\\b"])
def test_a_slide_cannot_name_a_file_elsewhere(tmp_path, paths, store, slide):
    extract_to_store(paths, [TEACHER], store)
    with pytest.raises(FeatureFileError, match=r"slides\[0\]"):
        export_features(store, paths, TEACHER, tmp_path / "out", slides=[slide] * 6)
    assert not (tmp_path / "out").exists()


def test_images_that_are_no_files_are_exported_without_paths(tmp_path, tiles, store):
    extract_to_store(tiles, [TEACHER], store)
    (path,) = export_features(store, tiles, TEACHER, tmp_path / "a.npz")
    assert read_feature_file(path).paths is None
    other = FeatureStore(tmp_path / "other")
    counts = import_features(other, path, TEACHER, images=tiles, check=2, **MADE_SO)
    assert counts == FeatureImport(6, 0, 2)


@pytest.mark.parametrize("wrong", [{"precision": "int8"}, {"preprocessing": "slow"}])
def test_unknown_settings_are_named(tmp_path, store, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        import_features(store, Path("a.npz"), TEACHER, **{**MADE_SO, **wrong})


def test_float16_overflow_is_refused_with_the_way_out(tmp_path, paths, features):
    np.savez(tmp_path / "a.npz", features=features + 1e5)
    with pytest.raises(FeatureStoreMismatchError, match="dtype='float32'"):
        import_features(
            tmp_path / "store", tmp_path / "a.npz", TEACHER, images=paths, **MADE_SO
        )
