"""FeatureStore: folders that say what they are, and are never mixed or mistaken."""

import copy
import errno
import json
import os
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skshazam import TeacherFeatureTransformer
from skshazam.exceptions import FeatureStoreError, FeatureStoreMismatchError
from skshazam.features import FeatureStore
from skshazam.storage import ShardReport
from tests.store_processes import make_keys

MARKER = "skshazam-store.json"
KEYS = make_keys(40)
ROWS = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


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
    assert result.rows("abc") is not store.rows("abc")
    assert result.rows("abc").read(KEYS)[1].all()


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
    with pytest.raises(FeatureStoreMismatchError, match="6 float16"):
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
        with pytest.raises(FeatureStoreError, match=str(path)):
            store.check_writable()


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


def test_close_merges_small_shards_and_the_store_lives_on(store):
    fill(store)
    assert store.info().teachers[0].shards == 4
    store.close()
    assert store.info().teachers[0].shards == 1
    assert store.rows("abc").read(KEYS)[1].all()
