"""ShardFolder: what is stored comes back, whatever dies, fills up or decays."""

import errno
import os
import pickle
import resource
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skshazam.exceptions import FeatureStoreError, FeatureStoreMismatchError
from skshazam.storage import ShardFolder, ShardReport
from skshazam.storage import _durable_file as durable_file
from skshazam.storage import _shard_set as shard_set
from skshazam.storage._shard_file import ShardFile
from skshazam.storage._shard_merging import merge_shards
from tests.store_processes import (
    BATCH,
    WIDTH,
    KillRecord,
    check_rows,
    end_of,
    fill,
    fork,
    kill_while_filling,
    make_keys,
    open_folder,
    read_pipe,
    rows_of,
)

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 warns of forks beside threads; these children end by os._exit.
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


@pytest.fixture
def keys():
    return make_keys(1000)


@pytest.fixture
def folder(tmp_path):
    return open_folder(tmp_path / "rows")


def shards_of(folder):
    return sorted(folder.folder.glob("*.safetensors"))


def write_in_batches(folder, keys, n=50):
    for start in range(0, len(keys), n):
        folder.write(keys[start : start + n], rows_of(keys[start : start + n]))


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def test_what_was_written_is_read_in_the_order_asked_for(folder, keys):
    write_in_batches(folder, keys[:900])
    asked = np.random.default_rng(0).integers(0, 1000, 5000)
    rows, found = folder.read(keys[asked])
    np.testing.assert_array_equal(found, asked < 900)
    np.testing.assert_array_equal(folder.has(keys[asked]), asked < 900)
    assert rows.dtype == np.float16
    expected = np.where((asked < 900)[:, None], rows_of(keys[asked]), 0)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 32, 1280])
def test_every_width_and_dtype_comes_back_bit_for_bit(tmp_path, keys, dtype, width):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 255, (100, width)).astype(dtype)
    ShardFolder(tmp_path, None, dtype).write(keys[:100], rows)
    reader = ShardFolder(tmp_path, None, dtype)
    read, found = reader.read(keys[:100])
    assert reader.width == width
    assert found.all()
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, rows)


def test_a_large_read_is_that_of_small_reads(folder):
    keys = make_keys(10_000)
    write_in_batches(folder, keys, 3000)
    order = np.random.default_rng(0).permutation(len(keys))
    rows, found = folder.read(keys[order])
    assert found.all()
    np.testing.assert_array_equal(rows, rows_of(keys[order]))


def test_a_new_folder_holds_nothing_and_asking_makes_no_folder(tmp_path, keys):
    folder = ShardFolder(tmp_path / "none", None, "float16")
    folder.refresh()
    assert not folder.has(keys).any()
    rows, found = folder.read(keys)
    assert rows.shape == (1000, 0) and not found.any()
    assert folder.write(keys[:0], np.zeros((0, WIDTH))) is None
    assert folder.report() == ShardReport(rows=0, shards=0, bytes=0)
    assert folder.compact().shards == 0
    assert not (tmp_path / "none").exists()


def test_keys_that_begin_alike_are_told_apart(folder, keys):
    alike = keys.copy()
    alike[:, :8] = 7
    write_in_batches(folder, alike[:300], 30)
    folder.close()
    rows, found = folder.read(alike)
    np.testing.assert_array_equal(found, np.arange(1000) < 300)
    np.testing.assert_array_equal(rows[:300], rows_of(alike[:300]))
    np.testing.assert_array_equal(folder.has(alike), np.arange(1000) < 300)


def test_equal_keys_in_many_shards_are_harmless_and_compacting_drops_them(
    tmp_path, keys
):
    for _ in range(5):
        open_folder(tmp_path).write(keys, rows_of(keys))
    folder = open_folder(tmp_path)
    assert folder.report().rows == 5000
    assert check_rows(tmp_path, keys).all()
    assert folder.compact().rows == 1000
    assert check_rows(tmp_path, keys).all()


def test_other_processes_rows_are_seen_after_refresh(tmp_path, folder, keys):
    assert not folder.has(keys).any()
    write_in_batches(open_folder(folder.folder), keys)
    assert not folder.has(keys).any()
    folder.refresh()
    assert folder.has(keys).all()


def test_a_search_that_meets_a_removal_finds_the_row_in_its_new_place(
    folder, keys, monkeypatch
):
    folder.write(keys, rows_of(keys))
    searching, removed, answered = (threading.Event() for _ in range(3))
    answers = []
    attempt, drop = folder._set.attempt, folder._set.index.drop

    def slow_attempt(*args):
        # The search has chosen its shard; now that is merged away under it.
        if not searching.is_set():
            searching.set()
            removed.wait(5)
        return attempt(*args)

    def slow_drop(number):
        removed.set()
        answered.wait(0.5)
        drop(number)

    def search():
        answers.append(folder.has(keys).all())
        answered.set()

    monkeypatch.setattr(folder._set, "attempt", slow_attempt)
    monkeypatch.setattr(folder._set.index, "drop", slow_drop)
    thread = threading.Thread(target=search)
    thread.start()
    assert searching.wait(5)
    folder._set.store(keys, rows_of(keys).astype(np.float16), {})
    folder._set.remove(0)
    thread.join()
    assert answers == [True]


def test_what_replaces_a_vanished_shard_is_known_before_that_is_forgotten(
    folder, keys, monkeypatch
):
    write_in_batches(folder, keys, 500)
    open_folder(folder.folder).compact()
    part = keys[:500]  # of one shard, so that no other makes the search wait
    answers, threads = [], []
    admit = folder._set._admit

    def slow_admit(*args, **kwargs):
        if not threads:
            search = threading.Thread(
                target=lambda: answers.append(folder.has(part).all())
            )
            threads.append(search)
            search.start()
            search.join(0.2)
        admit(*args, **kwargs)

    monkeypatch.setattr(folder._set, "_admit", slow_admit)
    assert folder.read(part)[1].all()
    threads[0].join()
    assert answers == [True]


def test_a_listing_that_a_merge_runs_into_is_made_again(folder, keys, monkeypatch):
    folder.write(keys, rows_of(keys))
    os.utime(folder.folder, ns=(0, 0))
    listdir, torn = os.listdir, iter([1, 2])

    def list_during_merges(path):
        if merge := next(torn, 0):
            os.utime(path, ns=(merge, merge))
            return []
        return listdir(path)

    monkeypatch.setattr(shard_set.os, "listdir", list_during_merges)
    assert open_folder(folder.folder).has(keys).all()


def test_a_folder_of_many_shards_leaves_files_for_others(folder, keys):
    writer = open_folder(folder.folder, merge_every=1000)
    write_in_batches(writer, keys[:400], 2)

    def child(pipe):
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))
        assert folder.read(keys)[1].sum() == 400

    process, pipe = fork(child)
    read_pipe(pipe)
    assert end_of(process) == 0


def test_a_folder_that_was_deleted_and_made_anew_begins_anew(tmp_path, keys):
    path = tmp_path / "rows"
    folder = ShardFolder(path, None, "float16")
    folder.write(keys, rows_of(keys), {"commit": "aaa"})
    shutil.rmtree(path)
    folder.refresh()
    assert (folder.width, folder.commit) == (None, None)
    folder.write(keys, rows_of(keys)[:, :5], {"commit": "bbb"})
    assert folder.read(keys)[0].shape == (1000, 5)
    shutil.rmtree(path)
    ShardFolder(path, None, "float16").write(keys, rows_of(keys), {"commit": "ccc"})
    folder.refresh()
    assert (folder.width, folder.commit) == (WIDTH, "ccc")
    np.testing.assert_array_equal(folder.read(keys)[0], rows_of(keys))


def test_a_folder_that_was_deleted_can_be_written_at_once(folder, keys):
    folder.write(keys[:10], rows_of(keys[:10]))
    shutil.rmtree(folder.folder)
    folder.write(keys, rows_of(keys))
    assert check_rows(folder.folder, keys).all()


# Weights behind the rows


def commits_of(folder):
    return [ShardFile(path).metadata.get("commit") for path in shards_of(folder)]


@pytest.mark.parametrize("merge", ["own", "close", "compact"])
def test_a_merged_shard_remembers_the_commit(tmp_path, keys, merge):
    folder = open_folder(tmp_path, merge_every=4 if merge == "own" else 32)
    for start in range(0, 200, 50):
        part = keys[start : start + 50]
        folder.write(part, rows_of(part), {"commit": "aaa", "torch": "2"})
    if merge != "own":
        getattr(folder, merge)()
    assert commits_of(folder) == ["aaa"]
    assert open_folder(tmp_path).commit == "aaa"


def test_shards_with_and_without_a_commit_are_merged_apart(tmp_path, keys):
    folder = open_folder(tmp_path, merge_every=2)
    for start in range(0, 400, 50):
        part = keys[start : start + 50]
        folder.write(part, rows_of(part), {"commit": "aaa"} if start % 100 else {})
    folder.close()
    for _ in range(2):
        assert folder.compact().rows == 400
        assert sorted(map(str, commits_of(folder))) == ["None", "aaa"]
    assert check_rows(tmp_path, keys).sum() == 400


def test_a_rescued_row_remembers_the_commit(folder, keys):
    folder.write(keys, rows_of(keys), {"commit": "aaa"})
    flip(shards_of(folder)[0], 100_000)
    folder.verify()
    assert commits_of(folder) == ["aaa"]


def test_rows_of_two_commits_are_neither_written_nor_read_as_one(tmp_path, keys):
    folders = [open_folder(tmp_path / name) for name in "ab"]
    for folder, commit in zip(folders, ("aaa", "bbb"), strict=True):
        folder.write(keys, rows_of(keys), {"commit": commit})
    with pytest.raises(FeatureStoreMismatchError, match=r"aaa.*bbb"):
        folders[0].write(keys, rows_of(keys), {"commit": "bbb"})
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    for use in (ShardFolder.refresh, ShardFolder.compact, ShardFolder.verify):
        for reader in (folders[0], open_folder(tmp_path / "a")):
            with pytest.raises(FeatureStoreMismatchError) as caught:
                use(reader)
            assert all(word in str(caught.value) for word in ("aaa", "bbb", "grep -l"))
    assert len(shards_of(folders[0])) == 2
    # The remedy of the message.
    command = str(caught.value).split("`")[1]
    listed = subprocess.run(command, shell=True, capture_output=True, text=True)
    [stranger] = listed.stdout.split()
    Path(stranger).unlink()
    assert check_rows(tmp_path / "a", keys).all()


def test_rows_stay_readable_while_another_process_compacts(folder, keys):
    write_in_batches(folder, keys)
    stale = open_folder(folder.folder)
    assert stale.read(keys[:1])[1].all()
    open_folder(folder.folder).compact()
    assert len(shards_of(folder)) == 1
    assert stale.has(keys).all()
    for reader in (folder, stale):
        rows, found = reader.read(keys)
        assert found.all()
        np.testing.assert_array_equal(rows, rows_of(keys))


def test_a_pickle_holds_the_path_and_no_rows(folder, keys):
    write_in_batches(folder, keys)
    folder.read(keys)
    content = pickle.dumps(folder)
    assert len(content) < 1000
    copy = pickle.loads(content)
    assert (copy.folder, copy.width, copy.dtype) == (folder.folder, WIDTH, np.float16)
    assert copy.read(keys)[1].all()


def test_a_forked_child_reads_and_writes_with_its_parents_folder(folder, keys):
    # One short of being merged.
    write_in_batches(folder, keys[:62], 2)
    before = shards_of(folder)
    assert len(before) == folder.merge_every - 1

    def child(pipe):
        rows, found = folder.read(keys)
        np.testing.assert_array_equal(rows[found], rows_of(keys[found]))
        write_in_batches(folder, keys[62:68], 2)
        folder.close()

    process, pipe = fork(child)
    read_pipe(pipe)
    assert end_of(process) == 0
    # The child merges its own shards and not its parent's.
    assert set(before) < set(shards_of(folder))
    folder.refresh()
    assert check_rows(folder.folder, keys[:68]).all()


def test_threads_may_share_a_folder(folder, keys):
    errors = []

    def work(part):
        try:
            write_in_batches(folder, part, 25)
            rows, found = folder.read(part)
            assert found.all()
            np.testing.assert_array_equal(rows, rows_of(part))
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(keys[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert check_rows(folder.folder, keys).all()


def test_many_tiny_batches_leave_few_files(tmp_path):
    keys = make_keys(400)
    folder = open_folder(tmp_path, merge_every=4)
    write_in_batches(folder, keys, 2)
    # Fewer than four of each size: 2, 8, 32 and 128 rows.
    assert len(shards_of(folder)) <= 4 * 3
    assert folder.read(keys)[1].all()
    folder.close()
    assert len(shards_of(folder)) == 1
    assert check_rows(tmp_path, keys).all()


def test_others_small_shards_are_merged_only_when_asked(tmp_path, keys):
    write_in_batches(open_folder(tmp_path), keys[:500])
    others = shards_of(open_folder(tmp_path))
    folder = open_folder(tmp_path, merge_every=4)
    write_in_batches(folder, keys[500:])
    folder.close()
    assert len(others) == 10
    assert set(others) < set(shards_of(folder))
    assert len(shards_of(folder)) == 11


def test_compacting_keeps_full_shards_and_bounds_new_ones(tmp_path, keys):
    folder = open_folder(tmp_path)
    folder.write(keys[:200], rows_of(keys[:200]))
    [large] = shards_of(folder)
    write_in_batches(folder, keys[200:], 30)
    folder.compact(rows_per_shard=300)
    sizes = sorted(shard.n_rows for shard in folder._set.shards.values())
    assert sizes == [200, 200, 300, 300]
    assert large in shards_of(folder)
    again = shards_of(folder)
    folder.compact(rows_per_shard=300)
    assert shards_of(folder) == again
    assert check_rows(tmp_path, keys).all()


def test_old_temporaries_are_removed_and_new_ones_kept(tmp_path, keys):
    old, new = tmp_path / ".a.safetensors.1.tmp", tmp_path / ".b.safetensors.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half a shard")
    os.utime(old, (time.time() - 2e5, time.time() - 2e5))
    open_folder(tmp_path).write(keys, rows_of(keys))
    assert not old.exists() and new.exists()


# What cannot be stored


def test_float16_rounds_to_nearest_even(tmp_path, keys):
    folder = ShardFolder(tmp_path, None, "float16")
    folder.write(keys[:1], np.float32([[1 + 2**-11, 1 + 3 * 2**-11, 65519.0, 1e-8]]))
    assert folder.read(keys[:1])[0].tolist() == [[1.0, 1 + 2**-9, 65504.0, 0.0]]


@pytest.mark.parametrize(
    ("value", "words"), [(65520.0, "dtype='float32'"), (np.nan, "NaN"), (np.inf, "NaN")]
)
def test_a_number_that_float16_cannot_hold_is_refused(folder, keys, value, words):
    rows = rows_of(keys)
    rows[3, 5] = value
    with pytest.raises(FeatureStoreMismatchError, match=words):
        folder.write(keys, rows)
    assert not folder.folder.exists()


@pytest.mark.parametrize(
    ("bad_keys", "bad_rows"),
    [
        (np.zeros((2, 31), np.uint8), np.zeros((2, WIDTH), np.float16)),
        (np.zeros((2, 32), np.int64), np.zeros((2, WIDTH), np.float16)),
        (np.zeros(32, np.uint8), np.zeros((1, WIDTH), np.float16)),
        (np.zeros((2, 32), np.uint8), np.zeros((3, WIDTH), np.float16)),
        (np.zeros((2, 32), np.uint8), np.zeros((2, WIDTH + 1), np.float16)),
        (np.zeros((2, 32), np.uint8), np.zeros((2, 0), np.float16)),
        (np.zeros((2, 32), np.uint8), np.zeros(WIDTH, np.float16)),
        (np.zeros((2, 32), np.uint8), np.zeros((2, WIDTH), np.int32)),
        (np.zeros((2, 32), np.uint8), np.zeros((2, WIDTH), complex)),
    ],
)
def test_keys_and_rows_of_a_wrong_kind_are_refused(folder, bad_keys, bad_rows):
    with pytest.raises(FeatureStoreMismatchError, match=r"shape|dtype|numbers"):
        folder.write(bad_keys, bad_rows)


@pytest.mark.parametrize(
    ("width", "dtype"), [(WIDTH, "float32"), (WIDTH + 1, "float16")]
)
def test_shards_of_another_kind_are_neither_mixed_nor_touched(
    tmp_path, keys, width, dtype
):
    ShardFolder(tmp_path, None, dtype).write(keys, np.zeros((1000, width), dtype))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for use in (ShardFolder.refresh, ShardFolder.compact, ShardFolder.verify):
        with pytest.raises(FeatureStoreMismatchError, match="another store"):
            use(open_folder(tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


# Damage


def test_a_damaged_row_is_never_returned_and_the_others_stay(folder, keys, caplog):
    folder.write(keys, rows_of(keys))
    [shard] = shards_of(folder)
    # Somewhere in the rows: they are the last, and the largest, of the three tensors.
    flip(shard, shard.stat().st_size // 2)
    rows, found = folder.read(keys)
    assert found.sum() == 999
    np.testing.assert_array_equal(rows[found], rows_of(keys[found]))
    assert f"{shard.name!r}"[1:-1] in caplog.text and "set aside" in caplog.text
    assert folder.report().damaged == (f"{shard}.damaged",)
    np.testing.assert_array_equal(folder.has(keys), found)
    lost = keys[~found]
    folder.write(lost, rows_of(lost))
    assert check_rows(folder.folder, keys).all()


def test_verify_finds_what_nobody_has_read(folder, keys):
    write_in_batches(folder, keys, 250)
    assert folder.verify() == folder.report()
    assert not folder.verify().damaged
    for shard in shards_of(folder)[:2]:
        flip(shard, shard.stat().st_size // 2)
    report = open_folder(folder.folder).verify()
    assert (report.rows, report.shards, len(report.damaged)) == (998, 4, 2)
    assert check_rows(folder.folder, keys).sum() == 998


def test_compacting_a_damaged_shard_loses_no_intact_row(folder, keys):
    write_in_batches(folder, keys, 250)
    shard = shards_of(folder)[1]
    flip(shard, shard.stat().st_size // 2)
    report = open_folder(folder.folder).compact()
    assert len(report.damaged) == 1
    assert check_rows(folder.folder, keys).sum() == 999


def test_a_damaged_copy_is_replaced_by_an_intact_one(tmp_path, keys):
    for _ in range(2):
        open_folder(tmp_path).write(keys, rows_of(keys))
    flip(sorted(tmp_path.iterdir())[0], 100_000)
    assert check_rows(tmp_path, keys).all()


def test_damage_in_a_folder_that_cannot_be_written_is_remembered(
    folder, keys, monkeypatch
):
    write_in_batches(folder, keys, 500)
    shard = shards_of(folder)[0]
    flip(shard, shard.stat().st_size // 2)

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    reader = open_folder(folder.folder)
    rows, found = reader.read(keys)
    assert found.sum() == 999
    np.testing.assert_array_equal(rows[found], rows_of(keys[found]))
    reader.refresh()
    np.testing.assert_array_equal(reader.has(keys), found)
    report = reader.verify()
    assert (report.rows, report.shards, report.damaged) == (999, 2, (str(shard),))
    assert shard.exists()
    monkeypatch.undo()
    report = reader.verify()
    assert (report.rows, report.damaged) == (999, (f"{shard}.damaged",))
    assert check_rows(folder.folder, keys).sum() == 999


@pytest.mark.parametrize("use", ["read", "verify", "compact"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_damage_met_on_a_full_disk_costs_the_damaged_row_alone(
    folder, keys, monkeypatch, caplog, code, use
):
    folder.write(keys, rows_of(keys))
    [shard] = shards_of(folder)
    flip(shard, shard.stat().st_size // 2)

    def refuse(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable_file.os, "fsync", refuse)
    reader = open_folder(folder.folder)
    uses = {
        "read": lambda: reader.read(keys),
        "verify": reader.verify,
        "compact": lambda: merge_shards(reader._set, [0], 1000),
    }
    reader.refresh()
    uses[use]()
    assert shard.exists()
    assert "stays where it is; this process ignores 1 of its 1000 rows" in caplog.text
    assert "set aside" not in caplog.text
    for each in (reader, open_folder(folder.folder)):
        rows, found = each.read(keys)
        assert found.sum() == 999
        np.testing.assert_array_equal(each.has(keys), found)
        np.testing.assert_array_equal(rows[found], rows_of(keys[found]))
    monkeypatch.undo()
    lost = keys[~found]
    reader.write(lost, rows_of(lost))
    assert check_rows(folder.folder, keys).all()


def test_a_disk_that_fails_amid_a_rescue_is_an_error_and_no_damage(
    folder, keys, monkeypatch
):
    folder.write(keys, rows_of(keys))
    [shard] = shards_of(folder)
    flip(shard, shard.stat().st_size // 2)
    chunks = shard_set.chunks

    def fail(file):
        yield next(chunks(file))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(shard_set, "chunks", fail)
    with pytest.raises(FeatureStoreError, match="Check the disk"):
        folder.read(keys)
    monkeypatch.undo()
    assert shards_of(folder) == [shard]
    assert check_rows(folder.folder, keys).sum() == 999


def test_a_lost_write_of_zeros_is_damage(folder, keys):
    folder.write(keys[:10], rows_of(keys[:10]))
    [shard] = shards_of(folder)
    content = shard.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    shard.write_bytes(content[:header] + bytes(len(content) - header))
    reader = open_folder(folder.folder)
    assert not reader.read(np.zeros((1, 32), np.uint8))[1].any()
    assert reader.verify().rows == 0


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_failing_disk_is_an_error_and_no_damage(folder, keys, monkeypatch, code):
    folder.write(keys, rows_of(keys))

    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", fail)
    for use in (open_folder(folder.folder).has, folder.has, folder.read):
        with pytest.raises(
            FeatureStoreError, match=r"What is stored is kept.*1\.|Check"
        ):
            use(keys)
    monkeypatch.undo()
    assert check_rows(folder.folder, keys).all()
    assert not folder.report().damaged


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_damage_to_a_file_makes_a_wrong_row(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz")
    keys = make_keys(20)
    folder = open_folder(path)
    folder.write(keys[:10], rows_of(keys[:10]))
    folder.write(keys[10:], rows_of(keys[10:]))
    shard = shards_of(folder)[0]
    content = bytearray(shard.read_bytes())
    kind = data.draw(st.sampled_from(["flips", "cut", "append", "noise", "zeros"]))
    place = st.integers(0, len(content) - 1)
    if kind == "flips":
        for position in data.draw(st.lists(place, min_size=1, max_size=5)):
            content[position] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[data.draw(place) :]
    elif kind == "append":
        content += data.draw(st.binary(min_size=1, max_size=40))
    else:
        start = data.draw(place)
        n = data.draw(st.integers(1, 600))
        noise = bytes(n) if kind == "zeros" else data.draw(st.binary(max_size=n))
        content[start : start + len(noise)] = noise
    shard.write_bytes(content)
    reader = open_folder(path)
    try:
        rows, found = reader.read(keys)
        reader.verify()
        verified_rows, verified = reader.read(keys)
    except FeatureStoreError:
        # A header can be damaged into one of another kind: refused, not touched.
        assert shard.read_bytes() == content
        return
    np.testing.assert_array_equal(rows[found], rows_of(keys[found]))
    np.testing.assert_array_equal(verified_rows[verified], rows_of(keys[verified]))
    # The other shard was not touched.
    assert min(found.sum(), verified.sum()) >= 10


# Kills, full disks, many processes


def test_killed_writers_lose_nothing_and_repeat_only_the_batch_in_flight(tmp_path):
    rng = np.random.default_rng(0)
    record = KillRecord(tmp_path / "rows", make_keys(60 * BATCH))
    n_kills = 0
    for _ in range(8):
        said, finished = kill_while_filling(record.path, record.keys, rng, 0.04)
        record.check(said)
        n_kills += not finished
    assert n_kills
    assert record.n_again <= n_kills


def test_four_writers_of_overlapping_keys_agree(tmp_path):
    keys = make_keys(50 * BATCH)
    rng = np.random.default_rng(0)
    children = [fork(fill, tmp_path, keys, rng.permutation(50)) for _ in range(4)]
    said = [read_pipe(pipe) for _, pipe in children]
    assert [end_of(child) for child, _ in children] == [0] * 4
    assert check_rows(tmp_path, keys).all()
    assert len({batch for words in said for _, batch in words}) == 50
    assert open_folder(tmp_path).compact().rows == len(keys)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_typed_error_that_leaves_no_half_shard(
    folder, keys, monkeypatch, code
):
    folder.write(keys[:500], rows_of(keys[:500]))

    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable_file.os, "fsync", full)
    with pytest.raises(FeatureStoreError, match=r"bytes are free.*run again") as caught:
        folder.write(keys[500:], rows_of(keys[500:]))
    assert str(folder.folder) in str(caught.value)
    monkeypatch.undo()
    assert [path.suffix for path in folder.folder.iterdir()] == [".safetensors"]
    folder.write(keys[500:], rows_of(keys[500:]))
    assert check_rows(folder.folder, keys).all()


def test_a_file_size_limit_is_a_full_disk(tmp_path, keys):
    def child(pipe):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        folder = open_folder(tmp_path)
        folder.write(keys[:10], rows_of(keys[:10]))
        with pytest.raises(FeatureStoreError, match="No room"):
            folder.write(keys[10:], rows_of(keys[10:]))

    process, pipe = fork(child)
    read_pipe(pipe)
    assert end_of(process) == 0
    assert check_rows(tmp_path, keys).sum() == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_a_merge_without_room_does_not_fail_the_write(
    tmp_path, keys, monkeypatch, caplog
):
    folder = open_folder(tmp_path, merge_every=3)
    write_in_batches(folder, keys[:20], 10)
    calls = []
    sync = os.fsync

    def full_after_two(descriptor):
        # A write synchronises the file and the folder; the merge comes after.
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(durable_file.os, "fsync", full_after_two)
    folder.write(keys[20:30], rows_of(keys[20:30]))
    assert "Small shards stay as they are" in caplog.text
    assert check_rows(tmp_path, keys[:30]).all()


def test_a_read_only_folder_is_read_and_refuses_to_be_written(
    folder, keys, monkeypatch
):
    folder.write(keys[:10], rows_of(keys[:10]))

    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    reader = open_folder(folder.folder)
    with pytest.raises(FeatureStoreError, match=r"Read-only.*store=None"):
        reader.write(keys[10:], rows_of(keys[10:]))
    assert reader.read(keys[:10])[1].all()


def test_an_interrupted_write_leaves_nothing(folder, keys, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(durable_file.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write(keys, rows_of(keys))
    assert list(folder.folder.iterdir()) == []
