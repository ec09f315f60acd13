"""ForwardPass: shared uploads, lazy loading, and less at once when memory runs out."""

import weakref

import numpy as np
import pytest
import torch

from skshazam.exceptions import TeacherMemoryError, TeacherOutputError
from skshazam.features._forward import ForwardPass, Work
from tests.tiny_teachers import tiny_convolution

GPU = torch.device("cuda")


class Means:
    """A teacher that returns the mean colours; asks for memory as it is told to."""

    def __init__(self, n_fitting=1000, device="cpu"):
        self.spec = tiny_convolution()
        self.device = torch.device(device)
        self.n_fitting = n_fitting
        self.batches = []
        self.methods = []

    def __call__(self, images, dtype, preprocessing):
        self.batches.append(images)
        self.methods.append(preprocessing)
        if len(images) > self.n_fitting:
            raise torch.OutOfMemoryError("pretended")
        return torch.tensor([image.mean((0, 1)).tolist() for image in images])

    @property
    def sizes(self):
        return [len(batch) for batch in self.batches]


def work_of(images, **rows):
    return Work(list(range(len(images))), images, rows)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(8)]


def means_of(images):
    return np.float32([image.mean((0, 1)) for image in images])


def forward_pass(teachers, precision="auto", preprocessing="fast"):
    return ForwardPass(
        teachers.__getitem__, precision=precision, preprocessing=preprocessing
    )


def test_each_teacher_sees_the_rows_it_lacks(images):
    teachers = {"a": Means(), "b": Means(), "c": Means()}
    work = work_of(images, a=[0, 1, 5], b=[], c=[7])
    [outcome] = forward_pass(teachers).run([work])
    features = outcome.features
    assert outcome.work.rows == {"a": [0, 1, 5], "c": [7]}
    assert outcome.work.positions == work.positions
    assert outcome.faults == {}
    assert set(features) == {"a", "c"}
    np.testing.assert_allclose(features["a"], means_of(images)[[0, 1, 5]])
    np.testing.assert_allclose(features["c"], means_of(images)[[7]])
    assert features["a"].dtype == np.float32
    assert work.n_lacking == 4


def test_teachers_that_see_the_same_images_share_an_upload(images):
    a, b, c = (Means() for _ in range(3))
    rows = list(range(8))
    work = work_of(images, a=rows, b=list(rows), c=rows[:4])
    list(forward_pass({"a": a, "b": b, "c": c}).run([work]))
    assert a.batches[0] is b.batches[0]
    assert c.batches[0] is not a.batches[0]


def test_a_teacher_is_loaded_when_it_is_first_needed_and_once(images):
    loaded = []
    forward = ForwardPass(
        lambda name: (loaded.append(name), Means())[1],
        precision="auto",
        preprocessing="fast",
    )
    batches = [work_of(images, a=[0], b=[]), work_of(images, a=[1], b=[1])]
    outcomes = forward.run(batches)
    next(outcomes)
    assert loaded == ["a"]
    next(outcomes)
    assert loaded == ["a", "b"]


def test_the_way_of_preprocessing_reaches_the_teacher(images):
    teacher = Means()
    list(
        forward_pass({"a": teacher}, preprocessing="pil").run([work_of(images, a=[0])])
    )
    assert teacher.methods == ["pil"]


@pytest.mark.parametrize(
    ("n_fitting", "sizes"), [(4, [8, 4, 4]), (3, [8, 4] + 4 * [2])]
)
def test_fewer_images_go_at_once_when_memory_runs_out(images, caplog, n_fitting, sizes):
    teacher = Means(n_fitting)
    work = work_of(images, a=list(range(8)))
    [outcome] = forward_pass({"a": teacher}).run([work])
    np.testing.assert_allclose(outcome.features["a"], means_of(images))
    assert teacher.sizes == sizes
    assert "ran out of memory with 8 images; going on with 4" in caplog.text


def test_what_fits_is_remembered_for_that_teacher_alone(images):
    small, large = Means(n_fitting=2), Means()
    forward = forward_pass({"a": small, "b": large})
    everything = list(range(8))
    list(forward.run([work_of(images, a=everything, b=everything)] * 2))
    assert small.sizes == [8, 4] + 8 * [2]
    assert large.sizes == [8, 8]


def test_a_batch_that_fits_shares_its_upload_after_memory_ran_out(images):
    small, large = Means(n_fitting=4), Means()
    forward = forward_pass({"a": small, "b": large})
    few = [0, 1, 2]
    works = [work_of(images, a=list(range(8)), b=[]), work_of(images, a=few, b=few)]
    list(forward.run(works))
    assert small.batches[-1] is large.batches[-1]


def test_a_single_image_that_does_not_fit_is_an_error_with_remedies(images):
    forward = forward_pass({"big": Means(n_fitting=0)})
    with pytest.raises(TeacherMemoryError, match=r"'big'.*single image.*unload_teach"):
        list(forward.run([work_of(images, big=[0, 1])]))


def test_other_errors_of_a_teacher_are_not_taken_for_lack_of_memory(images):
    class Broken(Means):
        def __call__(self, *arguments):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(forward_pass({"a": Broken()}).run([work_of(images, a=[0])]))


class Spoiling(Means):
    """Gives `value` for the second image it sees, and means for the others."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def __call__(self, images, *arguments):
        features = super().__call__(images, *arguments)
        features[1, 2] = self.value
        return features


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_a_fault_of_their_image(images, value):
    forward = forward_pass({"a": Spoiling(value), "b": Means()}, "bfloat16")
    work = work_of(images, a=[3, 5, 7], b=[0, 5])
    [outcome] = forward.run([work])
    assert list(outcome.faults) == [5]
    assert isinstance(outcome.faults[5], TeacherOutputError)
    assert "'a' computes values that are not finite, in torch.bfloat16" in str(
        outcome.faults[5]
    )
    # The image is taken from every teacher, and no other image is.
    assert outcome.work.rows == {"a": [3, 7], "b": [0]}
    np.testing.assert_allclose(outcome.features["a"], means_of(images)[[3, 7]])
    np.testing.assert_allclose(outcome.features["b"], means_of(images)[[0]])
    assert outcome.work.n_lacking == 3


def test_what_the_store_cannot_hold_is_a_fault_with_a_remedy(images):
    teachers = {"loud": Spoiling(70_000.0)}
    work = work_of(images, loud=[0, 1])
    [outcome] = forward_pass(teachers).run([work])
    assert outcome.faults == {}
    forward = ForwardPass(
        teachers.__getitem__,
        precision="auto",
        preprocessing="fast",
        kept_as="float16",
    )
    [outcome] = forward.run([work])
    assert list(outcome.faults) == [1]
    assert "'loud' gives 70000" in str(outcome.faults[1])
    assert "FeatureStore(path, dtype='float32')" in str(outcome.faults[1])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_in_flight_come_before_the_error_that_ends_the_next(images, device):
    def batches():
        yield work_of(images, a=[0])
        raise TeacherOutputError("no more")

    teacher = Means(device=device)  # says so, and computes here
    stream = forward_pass({"a": teacher}, "float32").run(batches())
    assert next(stream).work.rows == {"a": [0]}
    with pytest.raises(TeacherOutputError, match="no more"):
        next(stream)


def test_what_took_the_memory_is_let_go_before_the_next_try(images):
    references, alive = [], []

    class Activations:
        pass

    class Greedy(Means):
        def __call__(self, batch, *arguments):
            alive.append(sum(reference() is not None for reference in references))
            activations = Activations()
            references.append(weakref.ref(activations))
            return super().__call__(batch, *arguments)

    work = work_of(images, a=list(range(8)))
    list(forward_pass({"a": Greedy(n_fitting=2)}).run([work]))
    assert len(alive) == 6
    assert set(alive) == {0}


def test_on_a_cpu_nothing_waits_behind_the_batch_that_was_computed(images):
    taken = []

    def batches():
        for i in range(3):
            taken.append(i)
            yield work_of(images, a=[i])

    outcomes = forward_pass({"a": Means()}).run(batches())
    next(outcomes)
    assert taken == [0]


def test_on_a_gpu_one_batch_computes_while_another_is_handed_over(images):
    taken = []

    def batches():
        for i in range(3):
            taken.append(i)
            yield work_of(images, a=[i])

    teacher = Means(device="cuda")  # says so, and computes here
    outcomes = list(forward_pass({"a": teacher}, "float32").run(batches()))
    assert [outcome.work.rows["a"] for outcome in outcomes] == [[0], [1], [2]]
    taken.clear()
    stream = forward_pass({"a": teacher}, "float32").run(batches())
    next(stream)
    assert taken == [0, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_real_lack_of_gpu_memory_halves_the_batch(images):
    class Greedy(Means):
        def __call__(self, batch, *arguments):
            share = torch.cuda.mem_get_info()[1] // 5
            hold = [torch.empty(share, dtype=torch.uint8, device=GPU) for _ in batch]
            del hold
            return super().__call__(batch, *arguments).to(GPU)

    teacher = Greedy(device="cuda")
    work = work_of(images, a=list(range(8)))
    [outcome] = forward_pass({"a": teacher}).run([work])
    np.testing.assert_allclose(outcome.features["a"], means_of(images))
    assert max(teacher.sizes) <= 4
