"""random_state alone decides what a fit gives, and a fit leaves no trace."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.fusion.students import equal_states, fast_student, state_of

CONFIGURATIONS = [
    {},
    {"early_stopping": True, "dropout": 0.5},
    {"projection": "mlp", "distillation_target": "trained"},
]


@pytest.mark.parametrize("changes", CONFIGURATIONS)
def test_one_seed_gives_one_model_bit_for_bit_and_another_another(
    changes, teacher_features
):
    X, y, groups = teacher_features
    first, again, other = (
        state_of(fast_student(random_state=seed, **changes).fit(X, y, groups=groups))
        for seed in (3, 3, 4)
    )
    assert equal_states(first, again)
    assert not equal_states(first, other)


def test_refitting_starts_the_stream_anew(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(early_stopping=True).fit(X, y)
    first = state_of(student)
    assert equal_states(first, state_of(student.fit(X, y)))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_global_generators_are_left_alone(method, teacher_features):
    X, y, _ = teacher_features
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    student = fast_student(dropout=0.5)
    getattr(student, method)(X, y)
    student.predict(X)
    pickle.loads(pickle.dumps(student))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_training_on_the_cpu_seeds_no_other_device(teacher_features, monkeypatch):
    X, y, _ = teacher_features
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(0)
    assert seeded == [0]
    fast_student().fit(X, y)
    assert seeded == [0]


def test_the_global_generator_of_torch_has_no_say(teacher_features):
    X, y, _ = teacher_features
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(state_of(fast_student().fit(X, y)))
    assert equal_states(*states)


def test_no_random_state_follows_the_global_seed_of_numpy(teacher_features):
    X, y, _ = teacher_features

    def fitted(seed):
        np.random.seed(seed)  # noqa: NPY002 - what random_state=None follows
        return state_of(fast_student(random_state=None).fit(X, y))

    assert equal_states(fitted(1), fitted(1))
    assert not equal_states(fitted(1), fitted(2))
    assert not equal_states(
        *(state_of(fast_student(random_state=None).fit(X, y)) for _ in range(2))
    )


def test_a_random_state_instance_is_drawn_from(teacher_features):
    X, y, _ = teacher_features
    generator = np.random.RandomState(0)
    from_instance = state_of(fast_student(random_state=generator).fit(X, y))
    assert equal_states(from_instance, state_of(fast_student().fit(X, y)))
    drawn_on = state_of(fast_student(random_state=generator).fit(X, y))
    assert not equal_states(from_instance, drawn_on)


def test_students_fitted_in_threads_do_not_disturb_each_other(teacher_features):
    X, y, _ = teacher_features
    alone = fast_student(random_state=0).fit(X, y).predict_proba(X)
    state = torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        students = list(
            pool.map(lambda seed: fast_student(random_state=seed).fit(X, y), [0, 1, 0])
        )
    assert np.array_equal(students[0].predict_proba(X), alone)
    assert np.array_equal(students[2].predict_proba(X), alone)
    assert not np.array_equal(students[1].predict_proba(X), alone)
    assert torch.equal(torch.get_rng_state(), state)
