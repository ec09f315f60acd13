"""Blocks describe columns; TeacherFeatures carries them through whole rows only."""

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import _safe_indexing, resample, shuffle

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.exceptions import FeatureBlockError

N = 6
SQUARE = TeacherBlocks(("uni", "stain"), (2, 4))
ROWS = np.array([4, 1, 1])
MASK = np.array([True, False, True, True, False, False])

names = st.lists(
    st.from_regex(r"[A-Za-z0-9]{1,4}([._-][A-Za-z0-9]{1,3}){0,2}", fullmatch=True),
    min_size=1,
    max_size=5,
    unique=True,
)
quick = settings(derandomize=True, deadline=None, max_examples=50)


@pytest.fixture
def columns():
    """A square matrix whose entries are the numbers of their columns."""
    return TeacherFeatures(np.tile(np.arange(N, dtype=np.float32), (N, 1)), SQUARE)


def blocks_of(array):
    return getattr(array, "teacher_blocks", None)


@quick
@given(dims=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_slices_cover_all_columns_in_order_without_overlap(dims):
    blocks = TeacherBlocks.from_dims(dims)
    covered = [i for part in blocks.slices for i in range(part.start, part.stop)]
    assert covered == list(range(blocks.n_features))
    assert [part.stop - part.start for part in blocks.slices] == dims
    assert blocks.n_features == sum(dims)


def test_split_gives_each_teacher_its_columns_as_views():
    matrix = np.arange(12.0).reshape(2, 6)
    parts = SQUARE.split(matrix)
    np.testing.assert_array_equal(parts["uni"], [[0, 1], [6, 7]])
    np.testing.assert_array_equal(parts["stain"], [[2, 3, 4, 5], [8, 9, 10, 11]])
    assert all(np.shares_memory(part, matrix) for part in parts.values())


@quick
@given(names=names, data=st.data())
def test_feature_names_tell_the_blocks_back(names, data):
    dims = data.draw(
        st.lists(st.integers(1, 4), min_size=len(names), max_size=len(names))
    )
    blocks = TeacherBlocks(tuple(names), tuple(dims))
    feature_names = blocks.get_feature_names()
    assert len(set(feature_names)) == len(feature_names) == blocks.n_features
    assert TeacherBlocks.from_feature_names(feature_names) == blocks
    assert TeacherBlocks.from_feature_names(pd.Index(feature_names)) == blocks


def test_feature_names_are_teacher_and_column():
    assert list(TeacherBlocks(("a", "b-1"), (1, 2)).get_feature_names()) == [
        "a__0",
        "b-1__0",
        "b-1__1",
    ]


def test_the_last_separator_of_a_name_counts():
    blocks = TeacherBlocks.from_feature_names(["a__b__0", "a__b__1", "a__0"])
    assert blocks == TeacherBlocks(("a__b", "a"), (2, 1))


@pytest.mark.parametrize(
    "feature_names", [["age", "uni__0"], ["__0"], ["uni_0"], [0, 1], []]
)
def test_columns_without_a_teacher_prefix_describe_no_blocks(feature_names):
    assert TeacherBlocks.from_feature_names(feature_names) is None


def test_columns_of_one_teacher_apart_are_refused_by_name():
    with pytest.raises(FeatureBlockError, match="'uni' are not side by side"):
        TeacherBlocks.from_feature_names(["uni__0", "stain__0", "uni__1"])


@pytest.mark.parametrize(
    ("names", "dims", "named"),
    [
        ((), (), r"teacher_dims=\(\)"),
        (("a",), (0,), r"\(0,\)"),
        (("a", "b"), (3, -1), r"\(3, -1\)"),
        (("a", "a"), (1, 1), r"\('a', 'a'\)"),
        (("a",), (1, 2), r"\('a',\)"),
        (("a", "b"), (2.5, 1), "2.5"),
    ],
)
def test_impossible_blocks_are_refused_and_shown(names, dims, named):
    with pytest.raises(FeatureBlockError, match=named):
        TeacherBlocks(names, dims)


def test_blocks_are_values():
    blocks = TeacherBlocks(["a", "b"], np.array([2, 3]))
    same = TeacherBlocks(("a", "b"), (2, 3))
    assert blocks == same
    assert hash(blocks) == hash(same)
    assert pickle.loads(pickle.dumps(blocks)) == same
    assert blocks != TeacherBlocks(("b", "a"), (2, 3))
    assert blocks.to_dict() == {"a": 2, "b": 3}
    assert TeacherBlocks.from_dims([2, 3]).names == ("teacher0", "teacher1")


@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 7), (1, 2, 6)])
def test_a_matrix_of_another_width_takes_no_blocks(shape):
    with pytest.raises(FeatureBlockError, match="6 columns"):
        TeacherFeatures(np.zeros(shape), SQUARE)


def test_wrapping_neither_copies_nor_changes_the_array():
    matrix = np.zeros((3, 6), dtype=np.float32)
    features = TeacherFeatures(matrix, SQUARE)
    assert np.shares_memory(features, matrix)
    assert features.dtype == np.float32
    assert type(matrix) is np.ndarray


KEEPING = {
    "slice": lambda X: X[1:4],
    "reversed rows": lambda X: X[::-1],
    "everything": lambda X: X[:],
    "ellipsis": lambda X: X[...],
    "list": lambda X: X[[4, 1, 1]],
    "fancy": lambda X: X[ROWS],
    "mask": lambda X: X[MASK],
    "mask as a list": lambda X: X[MASK.tolist()],
    "no row": lambda X: X[[]],
    "rows, all columns": lambda X: X[ROWS, :],
    "rows, ellipsis": lambda X: X[MASK, ...],
    "twice": lambda X: X[1:][::-1],
    "take": lambda X: X.take(ROWS, axis=0),
    "np.take": lambda X: np.take(X, ROWS, axis=0),
    "copy": lambda X: X.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "deepcopy inside a dict": lambda X: copy.deepcopy({"X": X})["X"],
    "float64": lambda X: X.astype(np.float64),
    "astype without copy": lambda X: X.astype(X.dtype, copy=False),
    "pickle": lambda X: pickle.loads(pickle.dumps(X)),
    "pickle of rows": lambda X: pickle.loads(pickle.dumps(X[ROWS])),
    "safe indexing, rows": lambda X: _safe_indexing(X, ROWS),
    "safe indexing, mask": lambda X: _safe_indexing(X, MASK),
    "safe indexing, slice": lambda X: _safe_indexing(X, slice(1, 3)),
    "train": lambda X: train_test_split(X, random_state=0)[0],
    "test": lambda X: train_test_split(X, random_state=0)[1],
    "fold": lambda X: X[next(KFold(3).split(X))[0]],
    "shuffle": lambda X: shuffle(X, random_state=0),
    "bootstrap": lambda X: resample(X, random_state=0),
}

DROPPING = {
    "columns": lambda X: X[:, [1, 0, 2, 3, 4, 5]],
    "reversed columns": lambda X: X[:, ::-1],
    "column range": lambda X: X[:, 1:],
    "ellipsis, columns": lambda X: X[..., [5, 4, 3, 2, 1, 0]],
    "rows and columns": lambda X: X[np.ix_(ROWS, range(N)[::-1])],
    "entries": lambda X: X[np.ones((N, N), dtype=bool)],
    "one row": lambda X: X[0],
    "one entry": lambda X: X[0, 0],
    "new axis": lambda X: X[None],
    "new middle axis": lambda X: X[:, None],
    "table of rows": lambda X: X[ROWS.reshape(1, 3)],
    "transpose": lambda X: X.T,
    "rows of a transpose": lambda X: X.T[:3],
    "copy of a transpose": lambda X: X.T.copy(),
    "astype of a transpose": lambda X: X.T.astype(float),
    "pickled transpose": lambda X: pickle.loads(pickle.dumps(X.T)),
    "swapaxes": lambda X: X.swapaxes(0, 1),
    "reshape": lambda X: X.reshape(4, 9),
    "reshape in Fortran order": lambda X: X.reshape(N, N, order="F"),
    "flat": lambda X: X.ravel(),
    "take columns": lambda X: X.take(range(N)[::-1], axis=1),
    "take last axis": lambda X: X.take(range(N)[::-1], axis=-1),
    "take entries": lambda X: X.take([[0, 1], [2, 3]]),
    "np.take columns": lambda X: np.take(X, range(N)[::-1], axis=1),
    "take along axis": lambda X: np.take_along_axis(X, np.argsort(-X, 1), axis=1),
    "compress columns": lambda X: X.compress(MASK, axis=1),
    "safe indexing, columns": lambda X: _safe_indexing(X, [5, 4, 3, 2, 1, 0], axis=1),
    "sum with itself": lambda X: X + X,
    "scaled": lambda X: 2 * X,
    "negative": lambda X: -X,
    "comparison": lambda X: X > 2,
    "matrix product": lambda X: X @ X,
    "column means": lambda X: X.mean(axis=0),
    "stacked below": lambda X: np.concatenate([X, X]),
    "stacked beside": lambda X: np.hstack([X[:, :3], X[:, 3:]]),
    "sorted": lambda X: np.sort(-X, axis=1),
    "rolled": lambda X: np.roll(X, 1, axis=1),
    "rotated": np.rot90,
    "mirrored": np.fliplr,
    "split by columns": lambda X: np.split(X, 2, axis=1)[1],
    "first columns deleted": lambda X: np.delete(X, 0, axis=1),
    "view of another type": lambda X: X.view(np.uint32),
}


@pytest.mark.parametrize("operation", KEEPING.values(), ids=KEEPING)
def test_whole_rows_keep_their_blocks(columns, operation):
    result = operation(columns)
    assert isinstance(result, TeacherFeatures)
    assert blocks_of(result) == SQUARE
    # Column j still holds nothing but what stood in column j.
    np.testing.assert_array_equal(result, np.tile(np.arange(N), (len(result), 1)))


@pytest.mark.parametrize("operation", DROPPING.values(), ids=DROPPING)
def test_anything_but_whole_rows_forgets_the_blocks(columns, operation):
    assert blocks_of(operation(columns)) is None
    assert blocks_of(columns) == SQUARE


@pytest.mark.parametrize("operation", [*KEEPING.values(), *DROPPING.values()])
def test_every_operation_returns_the_values_that_an_ndarray_returns(operation):
    plain = np.random.default_rng(0).normal(size=(N, N)).astype(np.float32)
    result = operation(TeacherFeatures(plain, SQUARE))
    np.testing.assert_array_equal(result, operation(plain))


@quick
@given(rows=st.lists(st.integers(-N, N - 1), max_size=9))
def test_any_choice_of_rows_keeps_values_and_blocks(rows):
    plain = np.arange(N * N, dtype=np.float32).reshape(N, N)
    picked = TeacherFeatures(plain, SQUARE)[np.array(rows, dtype=int)]
    assert blocks_of(picked) == SQUARE
    np.testing.assert_array_equal(picked, plain[np.array(rows, dtype=int)])


def test_forgotten_blocks_do_not_come_back(columns):
    assert blocks_of(columns.T.T) is None
    assert blocks_of((columns + 0)[:3]) is None
    assert blocks_of(columns.T.take(ROWS, axis=0)) is None


def test_a_copy_is_independent_and_a_slice_is_a_view(columns):
    duplicate, rows = columns.copy(), columns[:2]
    columns[0, 0] = 99
    assert duplicate[0, 0] == 0
    assert rows[0, 0] == 99


def test_joblib_files_and_caches_keep_the_blocks(columns, tmp_path):
    joblib.dump(columns, tmp_path / "features.joblib")
    assert blocks_of(joblib.load(tmp_path / "features.joblib")) == SQUARE
    cached = joblib.Memory(tmp_path / "cache", verbose=0).cache(np.flipud)
    computed, loaded = cached(columns), cached(columns)
    assert cached.check_call_in_cache(columns)
    assert blocks_of(computed) == blocks_of(loaded) == SQUARE
