"""Sum, Concat, MoE and Mamba as estimators: one interface, the same training."""

import inspect

import numpy as np
import pytest
import torch
from numpydoc.docscrape import NumpyDocString
from sklearn.exceptions import NotFittedError
from torch.nn import functional

from skshazam import ShazamClassifier, fusion
from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.fusion import (
    ConcatClassifier,
    MambaClassifier,
    MoEClassifier,
    SingleTeacherClassifier,
    SumClassifier,
)
from skshazam.fusion._base import FusionClassifier
from tests.fusion.students import Spy, equal_states, state_of

FAST = {
    "token_dim": 8,
    "n_members": 1,
    "projection": "linear",
    "dropout": 0.2,
    "max_epochs": 4,
    "lr": 1e-2,
    "device": "cpu",
    "random_state": 0,
}
RIVALS = {
    "sum": (SumClassifier, {}),
    "concat": (ConcatClassifier, {}),
    "moe": (MoEClassifier, {}),
    "moe, released": (MoEClassifier, {"gate": "before_norm"}),
    "mamba": (MambaClassifier, {"state_dim": 4}),
    "single": (SingleTeacherClassifier, {"teacher": 2}),
}
STUDENTS = [
    getattr(fusion, name)
    for name in fusion.__all__
    if issubclass(getattr(fusion, name), FusionClassifier)
]


def make(name, **changes):
    rival, own = RIVALS[name]
    return rival(**{**FAST, **own, **changes})


def parameters_of(student):
    return list(inspect.signature(student).parameters.values())


def shared(parameters):
    names = {p.name for p in parameters_of(SumClassifier)}
    return [p for p in parameters if p.name in names]


@pytest.mark.parametrize("student", STUDENTS)
def test_shared_parameters_are_the_same_in_every_student(student):
    expected = parameters_of(SumClassifier)
    assert shared(parameters_of(student)) == expected  # names, order and defaults
    constraints = student._parameter_constraints
    for name in (p.name for p in expected):
        assert constraints[name] is FusionClassifier._parameter_constraints[name], name
    assert set(constraints) == {p.name for p in parameters_of(student)}


@pytest.mark.parametrize("student", STUDENTS)
def test_shared_parameters_are_documented_alike(student):
    documented = NumpyDocString(inspect.getdoc(student))["Parameters"]
    assert (
        shared(documented)
        == NumpyDocString(inspect.getdoc(SumClassifier))["Parameters"]
    )


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_learn_what_the_features_say(name, teacher_features):
    X, y, _ = teacher_features
    rival = make(name, max_epochs=20).fit(X[:90], y[:90])
    assert rival.score(X[90:], y[90:]) > 0.7  # 1/3 by chance


@pytest.mark.parametrize("name", RIVALS)
def test_the_loss_is_the_cross_entropy_alone(name, teacher_features):
    X, y, _ = teacher_features
    spy = Spy()
    rival = make(name, max_epochs=1, batch_size=len(y), dropout=0.0, callbacks=[spy])
    rival.fit(X, y)
    spy.start.standardization.load_state_dict(
        rival.module_.standardization.state_dict()
    )
    with torch.no_grad():
        logits = spy.start(spy.data["features"]).logits
        expected = functional.cross_entropy(logits, spy.codes)
    assert rival.history_[-1]["train_loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", RIVALS)
def test_members_answer_together_and_are_asked_side_by_side(name, teacher_features):
    X, y, _ = teacher_features
    pair = make(name, n_members=2).fit(X, y)
    assert pair.transform(X).shape == (len(y), 16)
    features = pair._validate_features(X)
    with torch.no_grad():
        standardised = pair.module_.standardization(features)
        members = [member(standardised) for member in pair.module_.members]
    probabilities = [member.logits.softmax(dim=1).numpy() for member in members]
    assert not np.allclose(*probabilities, atol=1e-3)
    np.testing.assert_allclose(pair.predict_proba(X), sum(probabilities) / 2, atol=1e-5)


def test_sum_is_shazam_without_attention_and_distillation(teacher_features):
    X, y, _ = teacher_features
    student = ShazamClassifier(
        **FAST, depth=0, distillation_weight=0, distillation_target="token"
    ).fit(X, y)
    assert equal_states(state_of(make("sum").fit(X, y)), state_of(student))


CHANGES = [
    *((name, {"token_dim": 12}) for name in RIVALS),
    *((name, {"projection": "mlp"}) for name in RIVALS),
    *((name, {"standardize": False}) for name in RIVALS),
    *((name, {"dropout": 0.5}) for name in RIVALS),
    ("moe", {"gate": "before_norm"}),
    ("mamba", {"depth": 2}),
    ("mamba", {"state_dim": 5}),
    ("single", {"teacher": 1}),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_every_parameter_of_a_network_changes_what_is_predicted(
    name, change, teacher_features
):
    X, y, _ = teacher_features
    as_it_was = make(name, max_epochs=2).fit(X, y).predict_proba(X)
    changed = make(name, max_epochs=2, **change).fit(X, y).predict_proba(X)
    assert np.abs(changed - as_it_was).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sum", {"token_dim": 0}),
        ("concat", {"dropout": 1.0}),
        ("moe", {"gate": "between"}),
        ("mamba", {"depth": -1}),
        ("mamba", {"state_dim": 0}),
        ("single", {"teacher": -1}),
        ("single", {"cv": 1}),
        ("single", {"scoring": "luck"}),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(name, wrong, teacher_features):
    X, y, _ = teacher_features
    (parameter,) = wrong
    with pytest.raises(ValueError, match=rf"The '{parameter}' parameter of .*must be"):
        make(name, **wrong).fit(X, y)


def one_that_knows(n_rows=120, seed=0):
    """Return features of a teacher that knows the class and of two that do not."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n_rows)
    blocks = [rng.normal(size=(n_rows, 6)) for _ in range(3)]
    blocks[1] += 2 * (2 * y[:, None] - 1)
    X = np.hstack(blocks).astype(np.float32)
    return TeacherFeatures(X, TeacherBlocks(("a", "b", "c"), (6, 6, 6))), y


def test_expert_weights_tell_which_teacher_is_heard():
    X, y = one_that_knows()
    weights = make("moe", max_epochs=30).fit(X, y).expert_weights(X)
    assert weights.shape == (120, 3)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert weights.mean(axis=0)[1] > 0.6


def test_expert_weights_are_the_gate_of_the_network(teacher_features):
    X, y, _ = teacher_features
    rival = make("moe").fit(X, y)
    with torch.no_grad():
        output = rival.module_.eval()(torch.from_numpy(X.copy()))
    np.testing.assert_allclose(
        rival.expert_weights(X), output.expert_weights.numpy(), atol=1e-6
    )


def test_expert_weights_of_members_are_averaged(teacher_features):
    X, y, _ = teacher_features
    pair = make("moe", n_members=2).fit(X, y)
    with torch.no_grad():
        output = pair.module_.eval()(torch.from_numpy(X.copy()))
    each = [member.expert_weights.numpy() for member in output.members]
    assert not np.allclose(*each, atol=1e-3)
    np.testing.assert_allclose(pair.expert_weights(X), sum(each) / 2, atol=1e-6)


def test_expert_weights_need_a_fit(teacher_features):
    with pytest.raises(NotFittedError):
        make("moe").expert_weights(teacher_features[0])
