"""skshazam store: info, verify, compact, export, import."""

import json

import h5py
import numpy as np
import pytest

from skshazam.exchange import load_slide_features, read_feature_file
from skshazam.features import FeatureStore


@pytest.fixture
def filled(run, folder, tmp_path):
    """A store with two teachers' features of the folder's six tiles."""
    store = tmp_path / "store"
    result = run("extract", folder, "--teachers", "stain,texture", "--store", store)
    assert result.exit_code == 0, result.output
    return store


def shard_of(store, dtype="float16"):
    return sorted(store.glob(f"teachers/*/{dtype}/*.safetensors"))[0]


def test_info_says_what_is_stored(run, filled):
    result = run("store", "info", filled)
    assert result.exit_code == 0
    assert "stain" in result.output and "texture" in result.output
    found = json.loads(run("store", "info", filled, "--json").output)
    assert [(t["name"], t["rows"]) for t in found["teachers"]] == [
        ("stain", 6),
        ("texture", 6),
    ]
    assert found["damaged"] == []


def test_verify_finds_damage_and_exits_with_3(run, filled, folder):
    assert run("store", "verify", filled).exit_code == 0
    shard = shard_of(filled)
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    result = run("store", "verify", filled)
    assert result.exit_code == 3
    assert "Damaged, or not of this teacher:" in result.output
    assert "Run `skshazam extract` again" in result.output
    found = run("store", "verify", filled, "--json")
    assert found.exit_code == 3
    assert len(json.loads(found.output)["damaged"]) == 1
    again = run("extract", folder, "--teachers", "stain,texture", "--store", filled)
    assert again.exit_code == 0
    rows = json.loads(run("store", "info", filled, "--json").output)["teachers"]
    assert [teacher["rows"] for teacher in rows] == [6, 6]


def test_compact_merges_files_and_keeps_rows(run, random_tiles, tmp_path):
    tiles, store = random_tiles(6), tmp_path / "store"
    for i in range(1, 4):
        run("extract", tiles, "--teachers", "stain", "--store", store, f"--shard={i}/3")
    before = json.loads(run("store", "info", store, "--json").output)["teachers"]
    result = run("store", "compact", store, "--json")
    assert result.exit_code == 0
    after = json.loads(result.output)["teachers"]
    assert (before[0]["shards"], before[0]["rows"]) == (3, 6)
    assert (after[0]["shards"], after[0]["rows"]) == (1, 6)


@pytest.mark.parametrize("command", ["info", "verify", "compact"])
def test_a_folder_that_is_no_store_is_refused(run, command, folder, tmp_path):
    result = run("store", command, folder)
    assert result.exit_code == 1
    assert "is not a feature store" in result.output
    assert run("store", command, tmp_path / "absent").exit_code == 2


MADE_SO = ("--precision", "auto", "--preprocessing", "fast")


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".pt"])
def test_what_is_exported_can_be_imported(run, filled, folder, tmp_path, suffix):
    out, other = tmp_path / f"stain{suffix}", tmp_path / "other"
    result = run("store", "export", filled, folder, out, "--teacher", "stain")
    assert result.exit_code == 0, result.output
    assert "6 rows of stain in 1 file" in result.output
    file = read_feature_file(out)
    assert file.features.shape == (6, 27)
    again = run("store", "export", filled, folder, out, "--teacher", "stain")
    assert again.exit_code == 1 and "--overwrite" in again.output
    options = ("--teacher", "stain", "--overwrite")
    assert run("store", "export", filled, folder, out, *options).exit_code == 0
    result = run("store", "import", other, out, "--teacher", "stain", *MADE_SO)
    assert result.exit_code == 0, result.output
    assert "6 rows of stain imported, 0 were stored already." in result.output
    extracted = run("extract", folder, "--teachers", "stain", "--store", other)
    assert "0 computed, 6 found" in extracted.output


def test_slides_of_a_csv_file_become_a_folder(run, filled, folder, tmp_path):
    csv = folder / "tiles.csv"
    csv.write_text("path,slide,x,y\na.PNG,S1,0,0\nb.png,S2,0,0\nd.png,S1,256,0\n")
    for teacher in ("stain", "texture"):
        out = tmp_path / "slides" / teacher
        result = run("store", "export", filled, csv, out, "--teacher", teacher)
        assert result.exit_code == 0, result.output
        assert "3 rows" in result.output and "2 files" in result.output
    bunch = load_slide_features(
        {name: tmp_path / "slides" / name for name in ("stain", "texture")}
    )
    assert bunch.slides.tolist() == ["S1", "S1", "S2"]
    assert bunch.coords.tolist() == [[0, 0], [256, 0], [0, 0]]
    with h5py.File(tmp_path / "slides" / "stain" / "S1.h5") as file:
        assert file["coords"].attrs["teacher"] == b"stain"
    other = tmp_path / "other"
    result = run(
        *("store", "import", other, tmp_path / "slides" / "stain"),
        *("--teacher", "stain", *MADE_SO),
    )
    assert "3 rows of stain imported" in result.output


def test_a_folder_to_export_to_needs_slides(run, filled, folder, tmp_path):
    result = run("store", "export", filled, folder, tmp_path / "x", "--teacher=stain")
    assert result.exit_code == 2
    assert "path,slide,x,y" in " ".join(result.output.split())


def test_foreign_features_need_images_and_can_be_checked(run, folder, filled, tmp_path):
    out, foreign = tmp_path / "ours.npz", tmp_path / "foreign.npz"
    run("store", "export", filled, folder, out, "--teacher", "stain")
    features = read_feature_file(out).features
    np.savez(foreign, features=features)
    other = tmp_path / "other"
    command = ("store", "import", other, foreign, "--teacher", "stain", *MADE_SO)
    refused = run(*command)
    assert refused.exit_code == 1
    assert "--images" in refused.output
    result = run(*command, "--images", folder, "--check", 6)
    assert result.exit_code == 0, result.output
    assert "6 rows were computed again, and agree." in result.output
    np.savez(foreign, features=features[::-1])
    swapped = run(*command, "--images", folder, "--check", 6)
    assert swapped.exit_code == 1
    assert "Nothing was imported" in swapped.output


def test_import_asks_how_features_were_made(run, tmp_path):
    np.savez(tmp_path / "a.npz", features=np.ones((1, 27)))
    for missing in ("--precision", "--preprocessing"):
        options = [
            o
            for pair in zip(MADE_SO[::2], MADE_SO[1::2], strict=True)
            if pair[0] != missing
            for o in pair
        ]
        result = run(
            *("store", "import", tmp_path / "s", tmp_path / "a.npz"),
            *("--teacher", "stain", *options),
        )
        assert result.exit_code == 2
        assert missing in result.output
    assert not FeatureStore(tmp_path / "s").path.exists()
