"""skshazam extract: which images, which features, what is said at the end."""

import csv
import json
import os
import re
import signal
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skshazam import TeacherFeatureTransformer
from skshazam.cli import _extract
from skshazam.cli._parameters import SHARD
from skshazam.features import FeatureStore, extract_to_store, read_features
from skshazam.features._stored import StoreRun
from skshazam.teachers import unregister_teacher

TEACHERS = "stain,texture"


@pytest.fixture
def extract(run, tmp_path):
    """Run `skshazam extract` into one store with two teachers."""

    def extract(tiles, *options, teachers=TEACHERS):
        return run(
            "extract",
            tiles,
            "--teachers",
            teachers,
            "--store",
            tmp_path / "store",
            *options,
        )

    return extract


@pytest.fixture
def seen(monkeypatch):
    """Record the images that are handed to the extraction."""
    calls = []

    def record(images, *arguments, **options):
        calls.append(list(images))
        return extract_to_store(images, *arguments, **options)

    monkeypatch.setattr("skshazam.features.extract_to_store", record)
    return calls


def test_the_store_holds_what_the_transformer_gives(extract, folder, tmp_path):
    result = extract(folder)
    assert result.exit_code == 0, result.output
    assert "6 images: 6 computed, 0 found in the store, 0 unreadable." in result.output
    paths = sorted(map(str, [*folder.rglob("[!.]*.[pP][nN][gG]"), folder / "c.tif"]))
    transformer = TeacherFeatureTransformer(
        TEACHERS.split(","), store=tmp_path / "store"
    )
    features = transformer.fit_transform(paths)
    assert transformer.n_images_computed_ == 0
    fresh = TeacherFeatureTransformer(TEACHERS.split(",")).fit_transform(paths)
    np.testing.assert_allclose(features, fresh, rtol=1e-3, atol=1e-3)


def test_a_second_run_computes_nothing_and_a_new_teacher_only_itself(extract, folder):
    extract(folder)
    assert "0 computed, 6 found" in extract(folder).output
    summary = json.loads(extract(folder, "--json", teachers="stain,frequency").output)
    assert summary["computed"] == 6
    assert "0 computed, 6 found" in extract(folder, teachers="frequency").output


def test_a_csv_file_gives_the_images(extract, folder, tmp_path):
    with (tmp_path / "tiles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["path"], ["tiles/a.PNG"], [folder / "S1, [ä]/1.png"]])
    summary = json.loads(extract(tmp_path / "tiles.csv", "--json").output)
    assert summary == {
        "store": str(tmp_path / "store"),
        "images": 2,
        "computed": 2,
        "found": 0,
        "unreadable": [],
    }


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(1, 40))
def test_shards_are_disjoint_and_together_complete(n_images, n_shards):
    images = list(range(n_images))
    parts = [
        images[part - 1 :: total]
        for part, total in (
            SHARD.convert(f"{i}/{n_shards}", None, None) for i in range(1, n_shards + 1)
        )
    ]
    assert sorted(chain(*parts)) == images
    sizes = list(map(len, parts))
    assert max(sizes) - min(sizes) <= 1


def test_the_shards_of_a_run_are_disjoint_and_complete(extract, random_tiles, seen):
    tiles = random_tiles(11)
    for i in range(1, 5):
        assert extract(tiles, "--shard", f"{i}/4").exit_code == 0
    assert sorted(chain(*seen)) == sorted(map(str, tiles.iterdir()))
    assert [len(images) for images in seen] == [3, 3, 3, 2]
    assert "0 computed, 11 found" in extract(tiles).output


def test_a_shard_without_images_is_no_error(extract, random_tiles):
    result = extract(random_tiles(2), "--shard", "3/3")
    assert result.exit_code == 0
    assert "0 images: 0 computed" in result.output


def test_a_shard_without_images_is_json_and_an_empty_list_of_errors(
    extract, random_tiles, tmp_path
):
    out = tmp_path / "errors.csv"
    result = extract(random_tiles(2), "--shard", "3/3", "--json", "--errors-out", out)
    assert json.loads(result.output)["images"] == 0
    assert out.read_text().split() == ["path,error"]


@pytest.mark.parametrize(
    ("shard", "said"),
    [
        ("0/4", "counts from 1 to n.*--array=1-4"),
        ("5/4", "counts from 1 to n"),
        ("1/0", "counts from 1 to n"),
        ("3", "expected i/n"),
        ("a/b", "expected i/n"),
        ("-1/4", "expected i/n"),
        ("1/4/2", "expected i/n"),
        ("/100", "expected i/n"),
    ],
)
def test_a_wrong_shard_is_wrong_usage(extract, folder, shard, said):
    result = extract(folder, f"--shard={shard}")
    assert result.exit_code == 2
    assert re.search(f"(?s){said}", result.output)


def test_unreadable_images_are_counted_named_and_listed(extract, broken, tmp_path):
    out = tmp_path / "errors.csv"
    result = extract(broken, "--errors-out", out)
    assert result.exit_code == 3
    assert "8 images: 6 computed, 0 found in the store, 2 unreadable." in result.output
    assert str(out) in result.output
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [
        str(broken / "broken.png"),
        str(broken / "empty.jpg"),
    ]
    assert all(row["error"] for row in rows)
    again = extract(broken, "--json")
    assert again.exit_code == 3
    assert [e["path"] for e in json.loads(again.output)["unreadable"]] == [
        row["path"] for row in rows
    ]
    # A list of an earlier run does not stay when the images are readable.
    for row in rows:
        os.unlink(row["path"])  # noqa: PTH108
    assert extract(broken, "--errors-out", out).exit_code == 0
    assert out.read_text().split() == ["path,error"]


def test_missing_images_are_listed_and_count_in_a_dry_run(extract, folder, tmp_path):
    (tmp_path / "tiles.csv").write_text("path\ntiles/absent.png\ntiles/b.png\n")
    plan = json.loads(extract(tmp_path / "tiles.csv", "--dry-run", "--json").output)
    assert plan["to_compute"] == 1
    (missing,) = plan["unreadable"]
    assert missing["path"] == str(tmp_path / "tiles/absent.png")
    text = extract(tmp_path / "tiles.csv", "--dry-run").output
    assert "1 cannot be read:\n  Image 0 of 2: No file at" in text
    result = extract(tmp_path / "tiles.csv")
    assert result.exit_code == 3
    assert "1 computed, 0 found in the store, 1 unreadable." in result.output


def test_a_file_name_that_is_no_text_is_listed_byte_for_byte(extract, folder, tmp_path):
    name = os.fsencode(folder / "x") + b"\xff.png"
    with open(name, "wb"):  # noqa: PTH123
        pass
    result = extract(folder, "--errors-out", tmp_path / "errors.csv")
    assert result.exit_code == 3, result.output
    assert b"\n" + name in (tmp_path / "errors.csv").read_bytes().replace(b"\r", b"")


def test_only_the_first_unreadable_images_are_shown(extract, folder):
    for i in range(9):
        (folder / f"broken{i}.png").write_bytes(b"no image")
    output = extract(folder).output
    assert output.count("Cannot decode") == _extract.N_SHOWN
    assert "... and 4 more" in output
    assert "--errors-out" in output


def test_on_error_raise_ends_with_the_first(extract, broken):
    result = extract(broken, "--on-error", "raise", "--no-progress")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: Image ")


def test_an_errors_file_that_cannot_be_written_is_said_before_the_work(
    extract, folder, tmp_path, seen
):
    result = extract(folder, "--errors-out", tmp_path / "absent" / "errors.csv")
    assert result.exit_code == 1
    assert "absent" in result.output
    assert not seen


def test_a_dry_run_counts_and_changes_nothing(extract, broken, tmp_path, builds):
    result = extract(broken, "--dry-run", "--json")
    assert result.exit_code == 0
    plan = json.loads(result.output)
    assert (plan["images"], plan["to_compute"]) == (8, 8)
    assert plan["stored"] == {"stain": 0, "texture": 0}
    assert [entry["path"] for entry in plan["unreadable"]] == []
    assert not (tmp_path / "store").exists()
    extract(broken / "S1, [ä]", teachers="stain")
    builds.clear()
    plan = json.loads(extract(broken, "--dry-run", "--json").output)
    assert plan["stored"] == {"stain": 2, "texture": 0}
    plan = json.loads(extract(broken, "--dry-run", "--json", teachers="stain").output)
    assert plan["to_compute"] == 6
    assert not builds
    assert "would be" in extract(broken, "--dry-run").output


def test_options_reach_the_extraction(extract, folder, monkeypatch, tmp_path):
    given = {}

    def record(images, teachers, store, **options):
        given.update(options, teachers=teachers, store=store)
        return extract_to_store(images, ["stain"], store, on_error="nan")

    monkeypatch.setattr("skshazam.features.extract_to_store", record)
    weights = tmp_path / "uni=1.bin"
    weights.touch()
    result = extract(
        folder,
        *("--weights", f"uni={weights}", "--device", "cpu", "--precision", "float16"),
        *("--preprocessing", "pil", "--batch-size", 3, "--threads", 2),
        *("--dtype", "float32", "--on-error", "raise", "--progress"),
        *("--channels-last", "--compile"),
        teachers="uni, virchow@main",
    )
    assert result.exit_code == 0, result.output
    assert given == {
        "teachers": ("uni", "virchow@main"),
        "store": FeatureStore(tmp_path / "store", dtype="float32"),
        "weights": {"uni": str(weights)},
        "device": "cpu",
        "precision": "float16",
        "preprocessing": "pil",
        "batch_size": 3,
        "n_threads": 2,
        "on_error": "raise",
        "progress": True,
        "channels_last": True,
        "compile": True,
    }


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--teachers", "uni,,"], 2, "expected names"),
        (["--teachers", "stian"], 1, "Did you mean 'stain'"),
        (["--teachers", "stain,stain"], 1, "Two teachers"),
        (["--weights", "uni"], 2, "expected uni=/models"),
        (["--weights", "uni=/absent"], 2, "there is nothing at '/absent'"),
        (["--weights", "uni=/", "--weights", "uni=/"], 2, "twice"),
        (["--weights", "uni=/"], 1, "not among the teachers"),
        (["--batch-size", "0"], 2, "x>=1"),
    ],
)
def test_wrong_options_are_named(extract, folder, options, code, said):
    result = extract(folder, *options)
    assert result.exit_code == code
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_folder_that_is_no_store_is_not_filled(run, folder):
    result = run("extract", folder, "--teachers", "stain", "--store", folder)
    assert result.exit_code == 1
    assert "is not a store" in result.output


def test_ctrl_c_keeps_what_was_computed(extract, random_tiles, monkeypatch, tmp_path):
    tiles, keep, calls = random_tiles(12), StoreRun._keep, []

    def interrupted(self, outcome):
        keep(self, outcome)
        calls.append(outcome)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StoreRun, "_keep", interrupted)
        result = extract(tiles, "--batch-size", 4)
    assert result.exit_code == 130
    assert "Interrupted. What was computed is stored" in result.output
    assert "4 computed, 8 found" in extract(tiles).output
    digests = extract_to_store(
        sorted(map(str, tiles.iterdir())), ["stain"], tmp_path / "store"
    ).digests
    assert np.isfinite(read_features(digests, ["stain"], tmp_path / "store")).all()


MINE = """
import torch
from skshazam import TeacherSpec
from skshazam.teachers import register_teacher

class Colours(torch.nn.Module):
    def forward(self, images):
        return images.mean(dim=(2, 3))

register_teacher(TeacherSpec("mine", build=Colours, dim=3))
"""


def test_a_file_may_register_teachers_of_ones_own(extract, folder, tmp_path):
    (tmp_path / "my_teachers.py").write_text(MINE)
    try:
        result = extract(
            folder, "--import", tmp_path / "my_teachers.py", "--teachers", "mine,stain"
        )
        assert result.exit_code == 0, result.output
        facts = FeatureStore(tmp_path / "store").teachers().values()
        assert {entry["name"] for entry in facts} == {"mine", "stain"}
    finally:
        unregister_teacher("mine")


@pytest.mark.parametrize(
    ("content", "said"), [("1 / 0", "ZeroDivisionError"), (None, "No such file")]
)
def test_a_file_that_cannot_be_imported_is_named(
    extract, folder, tmp_path, content, said
):
    if content:
        (tmp_path / "bad.py").write_text(content)
    result = extract(folder, "--import", tmp_path / "bad.py")
    assert result.exit_code == 2
    assert "bad.py" in result.output
    assert said in result.output


def test_an_unknown_teacher_is_told_how_to_name_its_own(extract, folder):
    result = extract(folder, "--teachers", "mine2")
    assert result.exit_code == 1
    assert "--import FILE.py" in result.output


def test_a_device_that_is_not_here_is_a_message(extract, folder):
    result = extract(folder, "--device", "abacus")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: --device abacus")


def test_a_dry_run_that_meets_unreadable_images_exits_as_the_real_one(extract, folder):
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    assert extract(folder, "--dry-run").exit_code == 3


def test_progress_is_shown_unless_json_is(extract, folder):
    assert "images:" in extract(folder).stderr
    assert "images:" not in extract(folder, "--json").stderr
    assert "images:" not in extract(folder, "--no-progress").stderr


def test_what_is_no_python_file_is_not_imported(extract, folder):
    result = extract(folder, "--import", "my_teachers")
    assert result.exit_code == 2
    assert "'my_teachers': expected a .py file" in result.output
