"""extract_to_store on executors: the same rows, whoever dies on the way."""

import pickle
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from skshazam.exceptions import (
    ExtractionInterruptedError,
    FeatureStoreError,
    FeatureStoreMismatchError,
    GatedTeacherError,
    ImageReadError,
    OfflineTeacherError,
    TeacherMemoryError,
    TeacherSpecError,
    UnknownTeacherError,
)
from skshazam.features import FeatureStore, _tasks, extract_to_store, read_features
from skshazam.features._tasks import ExtractionTask, run_task
from tests.tiny_teachers import tiny_convolution, tiny_vit

TEACHERS = [tiny_vit(), tiny_convolution()]


class WorkerDiedError(Exception):
    """What a scheduler raises for a task whose worker went away."""


class Unreliable(Executor):
    """Run tasks at once, but lose those whose number is in `lost`, once each."""

    def __init__(self, lost=(), error=WorkerDiedError):
        self.lost = set(lost)
        self.error = error
        self.calls = []

    def submit(self, function, /, task, round_):
        self.calls.append((task.first, round_))
        future = Future()
        if task.first in self.lost:
            self.lost.remove(task.first)
            future.set_exception(self.error("worker went away"))
            return future
        try:
            # Through pickle, as between processes.
            future.set_result(function(pickle.loads(pickle.dumps(task)), round_))
        except Exception as error:  # noqa: BLE001 - what an executor does
            future.set_exception(error)
        return future


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def paths(tmp_path, tiles):
    for i in range(30):
        tile = np.roll(tiles[i % 6], (i, i // 6), axis=(0, 1))
        Image.fromarray(tile).save(tmp_path / f"{i:03}.png")
    return sorted(tmp_path.glob("*.png"))


@pytest.fixture
def expected(paths, tmp_path):
    reference = FeatureStore(tmp_path / "reference")
    extraction = extract_to_store(paths, TEACHERS, reference, device="cpu")
    return read_features(extraction.digests, TEACHERS, reference)


def run(paths, store, executor, **options):
    return extract_to_store(
        paths,
        TEACHERS,
        store,
        device="cpu",
        executor=executor,
        **{"task_size": 4, **options},
    )


def assert_complete(extraction, store, expected):
    features = read_features(extraction.digests, TEACHERS, store)
    np.testing.assert_allclose(features, expected, rtol=2**-10, atol=1e-5)
    assert {entry.rows for entry in store.info().teachers} == {len(expected)}


def test_tasks_together_are_the_whole(paths, store, expected):
    executor = Unreliable()
    extraction = run(paths, store, executor)
    assert_complete(extraction, store, expected)
    assert sorted(executor.calls) == [(first, 0) for first in range(0, 30, 4)]
    assert (extraction.n_computed, extraction.n_found) == (30, 0)


def test_a_real_pool_of_threads_gives_the_same(paths, store, expected):
    with ThreadPoolExecutor(3) as pool:
        assert_complete(run(paths, store, pool), store, expected)


def test_a_task_whose_worker_died_is_tried_again(paths, store, expected, caplog):
    executor = Unreliable(lost=[4, 28])
    assert_complete(run(paths, store, executor), store, expected)
    assert executor.calls[-2:] == [(4, 1), (28, 1)]
    assert len(executor.calls) == 10
    assert "worker went away" in caplog.text


def test_workers_that_always_die_end_the_run_and_keep_the_rest(paths, store, expected):
    class Deadly(Unreliable):
        def submit(self, function, /, task, round_):
            self.lost |= {8}
            return super().submit(function, task, round_)

    executor = Deadly()
    with pytest.raises(
        ExtractionInterruptedError,
        match=r"1 of 8 tasks did.*WorkerDiedError.*went away.*same call again",
    ):
        run(paths, store, executor)
    assert [call for call in executor.calls if call[0] == 8] == [(8, 0), (8, 1), (8, 2)]
    extraction = run(paths, store, Unreliable())
    assert (extraction.n_computed, extraction.n_found) == (4, 26)
    assert_complete(extraction, store, expected)


@pytest.mark.parametrize(
    ("error", "is_tried_again"),
    [
        (FeatureStoreError, True),
        (OfflineTeacherError, True),
        (TeacherMemoryError, True),
        (FeatureStoreMismatchError, False),
        (GatedTeacherError, False),
        (TeacherSpecError, False),
    ],
)
def test_what_may_pass_is_tried_again_and_nothing_else(
    paths, store, error, is_tried_again
):
    executor = Unreliable(lost=[4], error=error)
    if is_tried_again:
        extraction = run(paths, store, executor)
        assert extraction.n_computed == 30
        assert executor.calls[-1] == (4, 1)
    else:
        with pytest.raises(error, match="worker went away"):
            run(paths, store, executor)
        assert {round_ for _, round_ in executor.calls} == {0}


def test_a_broken_pool_is_not_tried_again(paths, store):
    executor = Unreliable(lost=range(0, 30, 4), error=BrokenExecutor)
    with pytest.raises(ExtractionInterruptedError, match="8 of 8 tasks"):
        run(paths, store, executor)
    assert {round_ for _, round_ in executor.calls} == {0}


def test_a_pool_that_takes_no_tasks_says_so(paths, store):
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ExtractionInterruptedError, match="after shutdown"):
        run(paths, store, pool)


def test_an_unreadable_image_is_not_taken_for_a_dead_worker(paths, store):
    paths[17].write_bytes(b"no image")
    executor = Unreliable()
    with pytest.raises(ImageReadError, match="Image 17 of 30"):
        run(paths, store, executor)
    assert {round_ for _, round_ in executor.calls} == {0}


def test_unreadable_images_keep_their_positions(paths, store):
    for position in (5, 17):
        paths[position].write_bytes(b"no image")
    paths[29].unlink()
    extraction = run(paths, store, Unreliable(), on_error="nan")
    assert sorted(extraction.errors) == [5, 17, 29]
    assert "Image 29 of 30" in str(extraction.errors[29])
    assert extraction.n_computed == 27
    assert not extraction.digests[[5, 17, 29]].any()


def test_missing_files_are_named_before_anything_is_handed_out(paths, store):
    executor = Unreliable()
    with pytest.raises(ImageReadError, match="1 of 31 files are missing"):
        run([*paths, "missing.png"], store, executor)
    assert executor.calls == []


def test_an_unknown_teacher_is_refused_before_anything_is_handed_out(paths, store):
    executor = Unreliable()
    with pytest.raises(UnknownTeacherError):
        extract_to_store(paths, ["uni3"], store, executor=executor)
    assert executor.calls == []


def test_a_task_may_run_twice(paths, store):
    task = ExtractionTask(
        paths[:6], 0, 30, tuple(TEACHERS), store, _tasks.ExtractionOptions(device="cpu")
    )
    first, second = run_task(task), run_task(task)
    assert (first.n_computed, second.n_computed) == (6, 0)
    np.testing.assert_array_equal(first.digests, second.digests)


def test_no_more_than_a_window_of_tasks_waits(paths, store, monkeypatch):
    monkeypatch.setattr(_tasks, "MAX_WAITING", 2)
    waiting, most = set(), []

    class Slow(ThreadPoolExecutor):
        def submit(self, function, /, *arguments):
            future = super().submit(function, *arguments)
            waiting.add(future)
            most.append(sum(not f.done() for f in waiting))
            return future

    with Slow(1) as pool:
        run(paths, store, pool)
    assert 1 <= max(most) <= 2
    assert len(waiting) == 8


def test_progress_moves_with_the_tasks(paths, store, capsys):
    run(paths, store, Unreliable(), progress=True)
    assert "/30" in capsys.readouterr().err


def test_tasks_left_over_are_cancelled_when_the_run_ends(paths, store):
    paths[0].write_bytes(b"no image")
    futures = []

    class Recording(ThreadPoolExecutor):
        def submit(self, function, /, *arguments):
            futures.append(super().submit(function, *arguments))
            return futures[-1]

    with Recording(1) as pool, pytest.raises(ImageReadError, match="Image 0 of 30"):
        run(paths, store, pool)
    assert len(futures) == 8
    assert any(future.cancelled() for future in futures)
