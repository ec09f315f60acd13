"""FeatureStore: folders that say what they are, and are never mixed or mistaken."""

import copy
import errno
import json
import os
import pickle
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skshazam import TeacherFeatureTransformer
from skshazam.exceptions import FeatureStoreError, FeatureStoreMismatchError
from skshazam.features import FeatureStore
from skshazam.storage import ShardFolder, ShardReport, _durable_file
from skshazam.storage._open_folders import OPEN_FOLDERS, OpenFolders
from skshazam.storage._shard_set import ShardSet
from tests.store_processes import end_of, fork, make_keys, read_pipe

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 warns of forks beside threads; these children end by os._exit.
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

MARKER = "skshazam-store.json"
KEYS = make_keys(40)
ROWS = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def in_another_process(function):
    process, pipe = fork(lambda pipe: function())
    read_pipe(pipe)
    assert end_of(process) == 0


def fill(store, fingerprint="abc", keys=KEYS, rows=ROWS, **facts):
    store.describe(fingerprint, {"name": "uni", "dim": rows.shape[1], **facts})
    for start in range(0, len(keys), 10):
        store.rows(fingerprint).write(
            keys[start : start + 10], rows[start : start + 10]
        )


def test_a_store_is_its_path_and_dtype(tmp_path):
    store = FeatureStore(tmp_path)
    assert store == FeatureStore(str(tmp_path)) == FeatureStore.of(tmp_path)
    assert FeatureStore.of(store) is store
    assert hash(store) == hash(FeatureStore(tmp_path))
    assert store != FeatureStore(tmp_path, dtype="float32")
    assert store != FeatureStore(tmp_path / "other")
    assert store != str(tmp_path)
    for each in (store, FeatureStore("a", dtype="float32")):
        assert eval(repr(each)) == each
    assert FeatureStore("~/x").path == Path.home() / "x"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy, copy.copy])
def test_a_copy_holds_no_rows(store, copied):
    fill(store)
    store.rows("abc").read(KEYS)
    result = copied(store)
    if isinstance(result, bytes):
        assert len(result) < 500
        result = pickle.loads(result)
    assert result == store
    assert not result._folders
    assert result.rows("abc").read(KEYS)[1].all()


@pytest.mark.parametrize(
    "again",
    [
        lambda store: FeatureStore(store.path),
        lambda store: FeatureStore(os.path.relpath(store.path)),
        lambda store: pickle.loads(pickle.dumps(store)),
        copy.deepcopy,
        lambda store: clone(TeacherFeatureTransformer(store=store)).store,
    ],
)
def test_stores_of_one_path_read_a_shard_once_in_a_process(store, again, monkeypatch):
    fill(store)
    store.files.write(KEYS, KEYS)
    opened = []
    admit = ShardSet._admit

    def record(self, names, **kwargs):
        opened.extend(names)
        admit(self, names, **kwargs)

    monkeypatch.setattr(ShardSet, "_admit", record)
    for _ in range(3):
        other = again(store)
        assert other.rows("abc").has(KEYS).all() and other.files.has(KEYS).all()
    assert opened == []
    float32 = FeatureStore(store.path, dtype="float32")
    assert float32.rows("abc") is not store.rows("abc")


def test_a_store_opened_again_sees_what_other_processes_wrote(store):
    fill(store, keys=KEYS[:20], rows=ROWS[:20])
    in_another_process(lambda: fill(FeatureStore(store.path)))
    assert not store.rows("abc").has(KEYS).all()
    assert FeatureStore(store.path).rows("abc").has(KEYS).all()


def test_a_store_that_was_deleted_and_made_anew_begins_anew(store):
    fill(store, commit="aaa")
    shutil.rmtree(store.path)
    again = FeatureStore(store.path)
    assert not again.rows("abc", 4).has(KEYS).any()
    fill(again, rows=ROWS[:, :4], commit="bbb")
    assert FeatureStore(store.path).rows("abc", 4).read(KEYS)[1].all()
    assert FeatureStore(store.path).info().teachers[0].commit == "bbb"


def test_a_relative_path_is_one_of_the_working_directory(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        store = FeatureStore("store")
        assert not store.rows("abc").has(KEYS).any()
        fill(store)
    assert (tmp_path / "here" / "store" / MARKER).exists()
    assert (tmp_path / "there" / "store" / MARKER).exists()


def test_opened_rows_stay_where_they_are_when_the_directory_changes(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = FeatureStore("store").rows("abc")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    rows.write(KEYS, ROWS)
    assert (tmp_path / "store" / MARKER).exists()
    assert not list((tmp_path / "there").iterdir())


def test_a_process_keeps_the_folders_of_few_stores(tmp_path):
    opened = OpenFolders()
    made = [
        opened.folder(str(n), f"{n}/rows", lambda: ShardFolder("rows", None, "float16"))
        for n in (0, 1, 2, 0, 3, 4, 0, 1)
    ]
    assert made[0] is made[3] is made[6]
    assert made[1] is not made[7]


def test_a_forked_child_opens_folders_of_its_own(store):
    fill(store)

    def child():
        assert FeatureStore(store.path).rows("abc") is not store._folders[path]
        assert FeatureStore(store.path).rows("abc").read(KEYS)[1].all()

    [path] = store._folders
    in_another_process(child)


def test_threads_are_given_one_object(store, monkeypatch):
    fill(store)
    OPEN_FOLDERS.clear()
    make = ShardFolder.__init__

    def slowly(self, *args, **kwargs):
        time.sleep(0.05)
        make(self, *args, **kwargs)

    monkeypatch.setattr(ShardFolder, "__init__", slowly)
    fresh = FeatureStore(store.path)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(fresh.rows, ["abc"] * 4))
    assert len(set(map(id, folders))) == 1


def test_a_clone_of_a_transformer_keeps_its_store(store):
    transformer = TeacherFeatureTransformer(store=store)
    assert clone(transformer).store == store


@pytest.mark.parametrize("dtype", ["float64", np.float16, None, "f2"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(FeatureStoreMismatchError, match="float16"):
        FeatureStore("store", dtype=dtype)


def test_asking_an_absent_store_touches_no_file(store):
    assert not store.rows("abc").has(KEYS).any()
    assert not store.files.has(KEYS).any()
    assert store.teachers() == {}
    for visit in (FeatureStore.info, FeatureStore.verify, FeatureStore.compact):
        info = visit(store)
        assert info.teachers == () and info.files == ShardReport(0, 0, 0)
    store.close()
    assert not store.path.exists()


def test_the_layout_is_the_documented_one(store):
    fill(store)
    store.files.write(KEYS, KEYS[::-1])
    store.close()
    files = [path for path in store.path.rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(store.path).parent) for path in files) == [
        ".",
        "files",
        "teachers/abc",
        "teachers/abc/float16",
    ]
    assert {path.name for path in files if path.suffix == ".json"} == {
        MARKER,
        "teacher.json",
    }
    assert sum(path.suffix == ".safetensors" for path in files) == 2
    assert json.loads((store.path / MARKER).read_text()) == {"format": 1}


def test_each_dtype_has_its_own_rows(tmp_path):
    half, full = (FeatureStore(tmp_path, dtype=d) for d in ("float16", "float32"))
    fill(half, rows=ROWS)
    assert not full.rows("abc").has(KEYS).any()
    fill(full, rows=ROWS + 1)
    np.testing.assert_array_equal(full.rows("abc").read(KEYS)[0], ROWS + 1)
    np.testing.assert_array_equal(half.rows("abc").read(KEYS)[0], ROWS.astype("f2"))
    assert [t.dtype for t in half.info().teachers] == ["float16", "float32"]


def test_the_index_of_files_holds_digests(store):
    store.files.write(KEYS, KEYS[::-1])
    found, known = FeatureStore(store.path).files.read(KEYS)
    assert known.all()
    np.testing.assert_array_equal(found, KEYS[::-1])


def test_the_same_folder_object_is_given_each_time(store):
    assert store.rows("abc") is store.rows("abc", 6)
    assert store.files is store.files
    assert store.rows("abc") is not store.rows("abd")


def test_a_teacher_of_another_length_is_refused(store):
    fill(store)
    with pytest.raises(FeatureStoreMismatchError, match=r"7 numbers.*vectors of 6"):
        store.rows("abc", 7)
    OPEN_FOLDERS.clear()
    with pytest.raises(FeatureStoreMismatchError, match="vectors of 6"):
        FeatureStore(store.path).rows("abc", 7).has(KEYS)
    assert FeatureStore(store.path).rows("abc").width == 6


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "a\0"])
def test_a_fingerprint_never_leaves_the_store(store, name):
    with pytest.raises(FeatureStoreMismatchError, match="cannot name a folder"):
        store.rows(name)


# What a folder is


@pytest.mark.parametrize("use", ["write", "files", "describe", "check_writable"])
def test_a_folder_of_something_else_is_not_made_a_store(store, use):
    store.path.mkdir()
    (store.path / "thesis.docx").touch()
    uses = {
        "write": lambda: store.rows("abc").write(KEYS, ROWS),
        "files": lambda: store.files.write(KEYS, KEYS),
        "describe": lambda: store.describe("abc", {}),
        "check_writable": store.check_writable,
    }
    with pytest.raises(FeatureStoreMismatchError, match=r"thesis\.docx.*not a store"):
        uses[use]()
    assert [path.name for path in store.path.iterdir()] == ["thesis.docx"]


def test_an_empty_folder_or_a_fresh_mount_may_become_a_store(store):
    (store.path / "lost+found").mkdir(parents=True)
    (store.path / ".snapshot").mkdir()
    store.check_writable()
    assert (store.path / MARKER).exists()


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        store = FeatureStore(path)
        assert store.teachers() == {}
        with pytest.raises(FeatureStoreError, match=str(path)) as caught:
            store.check_writable()
        assert "cannot be at" in str(caught.value)
        assert "run again" not in str(caught.value)


def test_a_path_that_no_folder_can_have_is_refused(tmp_path):
    for name in ("x" * 300, "loop/store"):
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(FeatureStoreError, match="cannot be at") as caught:
            FeatureStore(tmp_path / name).check_writable()
        assert "mkdir -p" in str(caught.value)
        assert "What is stored" not in str(caught.value)


@pytest.mark.parametrize("content", ['{"format": 2}', '{"format": 99, "x": 1}'])
def test_a_store_of_a_later_version_is_refused(store, content):
    fill(store)
    (store.path / MARKER).write_text(content)
    later = FeatureStore(store.path)
    for use in (later.teachers, later.info, later.check_writable):
        with pytest.raises(FeatureStoreMismatchError, match="pip install -U"):
            use()
    with pytest.raises(FeatureStoreMismatchError, match="pip install -U"):
        later.rows("abc")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(content=st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_a_damaged_marker_is_a_typed_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "marker"
    path.mkdir(exist_ok=True)
    (path / MARKER).write_bytes(content)
    with pytest.raises(FeatureStoreError, match=MARKER):
        FeatureStore(path).rows("abc")


def test_many_may_make_the_store_at_once(tmp_path):
    errors = []

    def make():
        try:
            FeatureStore(tmp_path / "s").rows("abc").write(KEYS, ROWS)
        except Exception as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert FeatureStore(tmp_path / "s").info().teachers[0].rows == 240


def test_a_marker_that_another_process_made_meanwhile_stands(store, monkeypatch):
    marker = store.path / MARKER
    check = FeatureStore._check_format

    def check_too_early(self):
        is_store = check(self)
        if not is_store and self.path.is_dir():
            marker.write_text('{"format": 1, "by": "another"}')
        return is_store

    monkeypatch.setattr(FeatureStore, "_check_format", check_too_early)
    store.check_writable()
    assert json.loads(marker.read_text()) == {"format": 1, "by": "another"}


def test_compacting_sweeps_up_what_killed_processes_left(store):
    fill(store)
    store.check_writable()
    folders = [store.path, store.path / "teachers" / "abc"]
    old = [folder / name for folder in folders for name in (".a.probe", ".b.1.tmp")]
    for path in old:
        path.touch()
        os.utime(path, (time.time() - 2e5, time.time() - 2e5))
        path.with_name(f".new{path.name}").touch()
    mine = store.path / "notes.tmp"
    mine.touch()
    os.utime(mine, (0, 0))
    store.compact()
    assert not any(path.exists() for path in old)
    assert all(path.with_name(f".new{path.name}").exists() for path in old)
    assert mine.exists()


def test_compacting_what_is_no_store_sweeps_nothing(tmp_path):
    path = tmp_path / ".a.tmp"
    path.touch()
    os.utime(path, (0, 0))
    FeatureStore(tmp_path).compact()
    assert path.exists()


def test_an_interrupted_probe_is_removed(store, monkeypatch):
    store.check_writable()

    def interrupt(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(_durable_file, "sync_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.check_writable()
    assert [path.name for path in store.path.iterdir()] == [MARKER]


def test_check_writable_leaves_nothing_but_the_store(store):
    store.check_writable()
    store.check_writable()
    assert [path.name for path in store.path.iterdir()] == [MARKER]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "bytes are free"),
        (errno.EROFS, "store=None"),
        (errno.EACCES, "store=None"),
        (errno.EIO, "Check the disk"),
    ],
)
def test_check_writable_says_what_is_wrong(store, monkeypatch, code, words):
    store.check_writable()

    def refuse(self, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FeatureStoreError, match=words) as caught:
        store.check_writable()
    assert isinstance(caught.value, OSError)


# What a teacher is


def test_the_first_description_stands_and_gaps_are_filled(store):
    store.describe("abc", {"name": "uni", "dim": None, "commit": None, "size": 224})
    store.describe("abc", {"name": "mine", "dim": 6, "commit": "a1", "licence": "MIT"})
    facts = {"name": "uni", "dim": 6, "commit": "a1", "size": 224, "licence": "MIT"}
    assert store.teachers() == {"abc": facts}
    store.describe("abc", {"commit": None})
    assert FeatureStore(store.path).teachers() == {"abc": facts}


def test_describing_again_writes_nothing(store):
    store.describe("abc", {"name": "uni", "dim": 6})
    path = store.path / "teachers" / "abc" / "teacher.json"
    before = path.stat()
    store.describe("abc", {"name": "uni", "dim": 6})
    assert path.stat().st_ino == before.st_ino


def test_other_weights_under_one_name_are_refused(store):
    store.describe("abc", {"name": "uni", "commit": "aaa"})
    with pytest.raises(FeatureStoreMismatchError, match=r"aaa.*bbb.*'uni@aaa'"):
        store.describe("abc", {"name": "uni", "commit": "bbb"})
    store.describe("abc", {"name": "uni", "commit": "aaa", "dim": 6})
    with pytest.raises(FeatureStoreMismatchError, match=r"dim=6.*7"):
        store.describe("abc", {"name": "uni", "dim": 7})
    assert store.teachers()["abc"] == {"name": "uni", "commit": "aaa", "dim": 6}


def test_the_second_of_two_first_descriptions_is_compared(store, monkeypatch):
    rival = FeatureStore(store.path)
    rival.check_writable()
    link = os.link

    def late(*args):
        monkeypatch.setattr(os, "link", link)
        rival.describe("abc", {"name": "uni", "commit": "aaa"})
        return link(*args)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(FeatureStoreMismatchError, match=r"aaa.*bbb"):
        store.describe("abc", {"name": "uni", "commit": "bbb"})


def test_a_file_system_without_hard_links_will_do(store, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    fill(store)
    assert store.teachers() == {"abc": {"name": "uni", "dim": 6}}
    assert store.rows("abc").read(KEYS)[1].all()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b"[" * 100_000])
def test_a_damaged_description_is_written_anew(store, caplog, content):
    fill(store)
    (store.path / "teachers" / "abc" / "teacher.json").write_bytes(content)
    assert store.teachers() == {"abc": {}}
    assert store.info().teachers[0].name == ""
    store.describe("abc", {"name": "uni", "dim": 6})
    assert store.teachers() == {"abc": {"name": "uni", "dim": 6}}
    assert "not readable" in caplog.text


# The whole store


def test_info_counts_rows_shards_bytes_and_damage(store):
    fill(store, "abc")
    fill(store, "abd", rows=ROWS[:, :4], name="phikon")
    store.files.write(KEYS, KEYS)
    shards = sorted((store.path / "teachers/abc/float16").iterdir())
    shards[0].write_bytes(b"damaged")
    OPEN_FOLDERS.clear()
    info = FeatureStore(store.path).info()
    assert [(t.name, t.fingerprint, t.dim) for t in info.teachers] == [
        ("phikon", "abd", 4),
        ("uni", "abc", 6),
    ]
    assert [(t.rows, t.shards) for t in info.teachers] == [(40, 4), (30, 3)]
    assert info.teachers[1].bytes == sum(p.stat().st_size for p in shards[1:])
    assert (info.files.rows, info.files.shards) == (40, 1)
    assert info.damaged == info.teachers[1].damaged == (f"{shards[0]}.damaged",)


def test_verify_and_compact_visit_every_folder(store):
    fill(store, "abc")
    fill(FeatureStore(store.path, dtype="float32"), "abc")
    for start in range(0, 40, 20):
        store.files.write(KEYS[start : start + 20], KEYS[start : start + 20])
    [shard] = list((store.path / "teachers/abc/float32").iterdir())[:1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    fresh = FeatureStore(store.path)
    assert [(t.rows, t.shards) for t in fresh.info().teachers] == [(40, 4), (40, 4)]
    info = fresh.verify()
    assert info.damaged == (f"{shard}.damaged",)
    assert [t.rows for t in info.teachers] == [40, 39]
    info = fresh.compact()
    assert [(t.rows, t.shards) for t in info.teachers] == [(40, 1), (39, 1)]
    assert (info.files.rows, info.files.shards) == (40, 1)


def test_two_stores_are_merged_by_copying(tmp_path):
    first, second = FeatureStore(tmp_path / "a"), FeatureStore(tmp_path / "b")
    fill(first, keys=KEYS[:20], rows=ROWS[:20])
    fill(second, keys=KEYS[20:], rows=ROWS[20:])
    shutil.copytree(second.path, first.path, dirs_exist_ok=True)
    rows, found = FeatureStore(first.path).rows("abc").read(KEYS)
    assert found.all()
    np.testing.assert_array_equal(rows, ROWS.astype(np.float16))


@pytest.mark.parametrize("over", ["a", "b"])
def test_copying_stores_of_two_commits_into_one_is_refused(tmp_path, over):
    for name, part in (("a", slice(0, 20)), ("b", slice(20, 40))):
        each = FeatureStore(tmp_path / name)
        each.describe("abc", {"name": "uni", "commit": name * 3})
        each.rows("abc").write(KEYS[part], ROWS[part], {"commit": name * 3})
    other = "b" if over == "a" else "a"
    shutil.copytree(tmp_path / other, tmp_path / over, dirs_exist_ok=True)
    for _ in range(2):
        with pytest.raises(FeatureStoreMismatchError, match=r"aaa.*bbb|bbb.*aaa"):
            FeatureStore(tmp_path / over).rows("abc").read(KEYS)
        OPEN_FOLDERS.clear()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_description_copied_from_other_weights_is_noticed(store, dtype):
    store.describe("abc", {"name": "uni", "commit": "aaa"})
    rows = FeatureStore(store.path, dtype=dtype)
    rows.rows("abc").write(KEYS, ROWS, {"commit": "aaa"})
    path = store.path / "teachers" / "abc" / "teacher.json"
    path.write_text('{"name": "uni", "commit": "bbb"}')
    with pytest.raises(FeatureStoreMismatchError, match=r"aaa.*bbb"):
        FeatureStore(store.path, dtype=dtype).rows("abc").read(KEYS)


@pytest.mark.parametrize("damage", ["lost", "damaged"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_lost_commit_is_learnt_from_the_rows(store, dtype, damage):
    store.describe("abc", {"name": "uni", "commit": "aaa"})
    rows = FeatureStore(store.path, dtype=dtype).rows("abc")
    rows.write(KEYS, ROWS, {"commit": "aaa"})
    path = store.path / "teachers" / "abc" / "teacher.json"
    path.write_text("{") if damage == "damaged" else path.unlink()
    assert store.info().teachers[0].commit == "aaa"
    with pytest.raises(FeatureStoreMismatchError, match=r"aaa.*bbb"):
        store.describe("abc", {"name": "uni", "commit": "bbb"})
    store.describe("abc", {"name": "uni", "commit": None})
    assert store.teachers()["abc"]["commit"] == "aaa"


def test_close_merges_small_shards_and_the_store_lives_on(store):
    fill(store)
    assert store.info().teachers[0].shards == 4
    store.close()
    assert store.info().teachers[0].shards == 1
    assert store.rows("abc").read(KEYS)[1].all()


@pytest.mark.parametrize("widths", [(4, 4), (4, 6)], ids=["of one width", "of two"])
def test_shards_swapped_between_teachers_are_ignored_and_not_believed(
    tmp_path, widths, caplog
):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (5, 32), dtype=np.uint8)
    store = FeatureStore(tmp_path / "store")
    rows = {
        name: rng.standard_normal((5, width)).astype(np.float16)
        for name, width in zip("ab", widths, strict=True)
    }
    for name in rows:
        store.rows(name).write(keys, rows[name])
    a, b = (next(store.path.glob(f"teachers/{name}/*/*.safe*")) for name in "ab")
    a.rename(b.with_name("moved.safetensors"))
    b.rename(a)
    OPEN_FOLDERS.clear()
    swapped = FeatureStore(store.path)
    for name in rows:
        folder = swapped.rows(name)
        assert not folder.has(keys).any()
        assert folder.report().rows == 0
    assert caplog.text.count("was written for another teacher") == 2
    # The store goes on, and the files are left to whoever moved them.
    swapped.rows("a").write(keys, rows["a"])
    found, is_there = swapped.rows("a").read(keys)
    assert is_there.all()
    np.testing.assert_array_equal(found, rows["a"])
    swapped.compact()
    assert a.exists()
    assert len(swapped.verify().damaged) == 2


def test_an_index_of_files_is_not_taken_for_features(tmp_path):
    store = FeatureStore(tmp_path / "store")
    keys = np.arange(64, dtype=np.uint8).reshape(2, 32)
    shard = store.files.write(keys, keys[::-1])
    (store.path / "teachers" / "a" / "float16").mkdir(parents=True)
    shard.rename(store.path / "teachers" / "a" / "float16" / shard.name)
    OPEN_FOLDERS.clear()
    assert not FeatureStore(store.path).rows("a", 4).has(keys).any()
