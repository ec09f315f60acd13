"""Several networks trained side by side, and what becomes of their answers."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skshazam.datasets import make_teacher_features
from skshazam.networks import NetworkEnsemble, ShazamNetwork
from tests.fusion.students import (
    Spy,
    equal_states,
    fast_preset,
    fast_student,
    state_of,
)


@pytest.fixture(scope="module")
def members():
    """Return a fitted student of three members, and its data; never refitted."""
    X, y, _ = make_teacher_features(random_state=0)
    return fast_student(n_members=3).fit(X, y), np.asarray(X)


def of_each(student, X):
    """Return the outputs of the members alone, on features standardised by hand."""
    ensemble = student.module_
    mean, scale = (
        getattr(ensemble.standardization, name).numpy() for name in ("mean", "scale")
    )
    inputs = torch.from_numpy((X - mean) / scale)
    with torch.no_grad():
        return [member.eval()(inputs) for member in ensemble.members]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_probabilities_are_the_mean_of_the_members_probabilities(members):
    student, X = members
    each = np.array([softmax(output.logits.numpy()) for output in of_each(student, X)])
    assert np.abs(each[0] - each[1]).max() > 0.01
    np.testing.assert_allclose(student.predict_proba(X), each.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(
        student.predict(X), student.classes_[each.mean(axis=0).argmax(axis=1)]
    )


def test_fused_vectors_stand_side_by_side(members):
    student, X = members
    expected = np.hstack([output.fused.numpy() for output in of_each(student, X)])
    fused = student.transform(X)
    assert fused.shape == (120, 3 * 8)
    np.testing.assert_allclose(fused, expected, atol=1e-5)
    assert len(student.get_feature_names_out()) == 3 * 8


def test_attention_is_the_mean_of_the_members_attention(members):
    student, X = members
    each = [output.attention[0].numpy() for output in of_each(student, X)]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(
        student.attention(X)[:, 0], np.mean(each, axis=0), atol=1e-6
    )


@pytest.mark.parametrize("target", ["frozen", "token"])
def test_the_loss_is_the_mean_of_the_members_losses(target, teacher_features):
    X, y, _ = teacher_features
    changes = {"distillation_target": target, "dropout": 0.0, "batch_size": 120}
    spy = Spy()
    together = fast_student(n_members=2, callbacks=[spy], **changes).fit(X, y)
    alone = []
    for member in spy.start.members:
        student = fast_student(max_epochs=1, **changes)

        def make_network(member=member, **arguments):
            network = ShazamNetwork(**arguments)
            missing = network.load_state_dict(member.state_dict(), strict=False)
            assert missing.missing_keys == [
                "standardization.mean",
                "standardization.scale",
            ]
            return network

        student._make_network = make_network
        alone.append(student.fit(X, y).history_[0, "train_loss"])
    assert alone[0] != pytest.approx(alone[1], rel=1e-3)
    assert together.history_[0, "train_loss"] == pytest.approx(np.mean(alone), rel=1e-5)


class Start(Callback):
    """Note where a fit starts from, or start from there with one of the members."""

    def __init__(self, noted=None):
        self.noted = noted

    def on_train_begin(self, net, **kwargs):
        if self.noted is None:
            self.members = copy.deepcopy(net.module_.members)
            self.generator = torch.get_rng_state()
        else:
            start = self.noted.members[1].state_dict()
            net.module_.load_state_dict(start, strict=False)
            torch.set_rng_state(self.noted.generator)


def test_a_member_learns_what_it_would_learn_alone(teacher_features):
    """AdamW forgets that the mean of two losses halves their gradients."""
    X, y, _ = teacher_features
    changes = {"dropout": 0.0, "distillation_weight": 0.0, "max_epochs": 10}
    start = Start()
    together = fast_student(n_members=2, callbacks=[start], **changes).fit(X, y)
    alone = fast_student(callbacks=[Start(start)], **changes).fit(X, y)
    found, expected = state_of(together), state_of(alone)
    for name in expected.keys() - {"standardization.mean", "standardization.scale"}:
        member, other = (found[f"members.{i}.{name}"] for i in (1, 0))
        np.testing.assert_allclose(member, expected[name], atol=1e-3, err_msg=name)
        assert "targets" in name or not np.allclose(other, member, atol=1e-2)


def test_one_member_is_no_ensemble(teacher_features):
    X, y, _ = teacher_features
    assert isinstance(fast_student().fit(X, y).module_, ShazamNetwork)
    assert isinstance(fast_student(n_members=2).fit(X, y).module_, NetworkEnsemble)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fast_student(n_members=2),
        lambda: fast_preset("released", n_members=2),
        lambda: fast_student(n_members=2, early_stopping=True),
    ],
    ids=["default", "released", "stopping"],
)
def test_members_are_pickled_and_continue_bit_for_bit(make, teacher_features):
    X, y, _ = teacher_features
    original = make().set_params(warm_start=True).fit(X, y)
    twin = pickle.loads(pickle.dumps(original))
    assert np.array_equal(original.predict_proba(X), twin.predict_proba(X))
    for student in (original, twin):
        student.fit(X, y).partial_fit(X, y)
    assert equal_states(state_of(original), state_of(twin))


def test_the_validation_loss_is_that_of_the_averaged_probabilities(teacher_features):
    X, y, groups = teacher_features
    spy = Spy()
    student = fast_student(
        n_members=2, early_stopping=True, validation_fraction=0.3, callbacks=[spy]
    ).fit(X, y, groups=groups)
    rows = spy.held_out
    best = int(np.argmin(student.history_[:, "valid_loss"]))
    right = student.predict_proba(X[rows])[
        np.arange(rows.sum()), np.searchsorted(student.classes_, y[rows])
    ]
    assert student.history_[best, "valid_loss"] == pytest.approx(
        -np.log(right).mean(), rel=1e-5
    )


def test_the_number_of_members_waits_for_the_next_fit(teacher_features):
    X, y, _ = teacher_features
    student = fast_student(n_members=2).fit(X, y)
    expected = student.predict_proba(X)
    student.set_params(n_members=1)
    twin = pickle.loads(pickle.dumps(student))
    assert np.array_equal(twin.predict_proba(X), expected)
    assert twin.transform(X).shape == (120, 16)
    with pytest.raises(ValueError, match="n_members"):
        twin.partial_fit(X, y)
    assert twin.fit(X, y).transform(X).shape == (120, 8)


def test_an_ensemble_of_networks_without_standardisation_passes_features_on():
    torch.manual_seed(0)
    networks = [ShazamNetwork((3, 4), 2, token_dim=4, standardize=False) for _ in "ab"]
    inputs = torch.randn(5, 7)
    expected = [network(inputs).fused for network in networks]
    output = NetworkEnsemble(networks)(inputs)
    assert torch.equal(output.fused, torch.cat(expected, dim=1))
