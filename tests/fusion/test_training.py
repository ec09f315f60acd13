"""What training minimises, and what each parameter and weight does to it."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import LRScheduler
from torch.nn import functional

from skshazam import ShazamClassifier
from skshazam.networks import ShazamNetwork
from tests.fusion.students import (
    FAST,
    Interrupt,
    Spy,
    equal_states,
    fast_student,
    seeded_like,
    state_of,
)
from tests.networks import numpy_reference


def trained_by_hand(X, codes, *, n_epochs, batch_size):
    """Return the network of plain cross-entropy training, seeded as fit seeds."""
    inputs = torch.tensor(np.asarray(X))
    torch.manual_seed(seeded_like(0))
    network = ShazamNetwork(
        (8, 12, 16), 3, token_dim=8, depth=1, distillation_target="frozen", dropout=0.2
    )
    columns = np.asarray(X, dtype=np.float64)
    network.standardization.set_statistics(columns.mean(axis=0), columns.std(axis=0))
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad],
        lr=1e-2,
        weight_decay=1e-3,
        fused=True,
    )
    network.train()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(codes)).split(batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(
                network(inputs[rows]).logits, codes[rows], reduction="none"
            ).mean().backward()
            optimizer.step()
    return network


def test_without_distillation_training_is_plain_cross_entropy_bit_for_bit(
    teacher_features,
):
    X, y, _ = teacher_features
    student = fast_student(
        distillation_weight=0, batch_size=50, lr_schedule="constant"
    ).fit(X, y)
    codes = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    expected = trained_by_hand(X, codes, n_epochs=4, batch_size=50).state_dict()
    assert equal_states(
        state_of(student), {name: value.numpy() for name, value in expected.items()}
    )


def loss_by_hand(network, X, codes, weights, *, weight, delta, form):
    """Return equation 9 in numpy, averaged with weights of mean 1."""
    with torch.no_grad():
        output = network.eval()(torch.tensor(np.asarray(X)))
    logits, fused, targets = (
        numpy_reference.as_array(part)
        for part in (output.logits, output.fused, output.targets)
    )
    probabilities = numpy_reference.softmax(logits)
    losses = [
        -np.log(probabilities[i, code])
        + weight
        * (
            numpy_reference.cosine(fused[i], targets[i])
            + numpy_reference.huber_distillation(fused[i], targets[i], delta, form)
        )
        for i, code in enumerate(codes)
    ]
    return np.average(losses, weights=weights)


@pytest.mark.parametrize("form", ["norm", "elementwise"])
@pytest.mark.parametrize("target", ["frozen", "token", "token_detached", "trained"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_first_loss_is_equation_9(form, target, weighted, teacher_features):
    X, y, _ = teacher_features
    codes = np.unique(y, return_inverse=True)[1]
    weights = 0.5 + codes if weighted else None
    spy = Spy()
    student = fast_student(
        huber=form,
        huber_delta=0.7,
        distillation_weight=0.3,
        distillation_target=target,
        dropout=0.0,
        batch_size=120,
        max_epochs=1,
        callbacks=[spy],
    ).fit(X, y, sample_weight=weights)
    expected = loss_by_hand(
        spy.start, X, codes, weights, weight=0.3, delta=0.7, form=form
    )
    assert student.history_[0, "train_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("target", "moves"), [("frozen", False), ("trained", True)])
def test_frozen_maps_never_change_and_trained_ones_do(target, moves, teacher_features):
    X, y, _ = teacher_features
    spy = Spy()
    student = fast_student(distillation_target=target, callbacks=[spy]).fit(X, y)
    start = {name: value.numpy() for name, value in spy.start.state_dict().items()}
    end = state_of(student)
    maps = [name for name in end if name.startswith("targets.")]
    assert len(maps) == 6
    assert [not np.array_equal(start[name], end[name]) for name in maps] == 6 * [moves]


def test_columns_are_standardised_with_the_statistics_of_the_training_rows(
    teacher_features,
):
    X, y, groups = teacher_features
    X = np.asarray(X).copy()
    X[:, 5] = 1.7
    spy = Spy()
    student = fast_student(
        teacher_dims=(8, 12, 16), early_stopping=True, callbacks=[spy]
    ).fit(X, y, groups=groups)
    scaler = StandardScaler().fit(X[~spy.held_out].astype(np.float64))
    buffers = student.module_.standardization
    np.testing.assert_allclose(buffers.mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(buffers.scale, scaler.scale_, rtol=1e-6)
    assert buffers.scale[5] == 1


# Each changes the run of the base beside it.
CHANGES = {
    "teacher_dims": {"teacher_dims": (20, 16)},
    "token_dim": {"token_dim": 12},
    "depth": {"depth": 2},
    "distillation_weight": {"distillation_weight": 0.1},
    "huber_delta": {"huber_delta": 0.1},
    "huber": {"huber": "norm"},
    "distillation_target": {"distillation_target": "token"},
    "projection": {"projection": "mlp"},
    "block": {"block": "plain"},
    "standardize": {"standardize": False},
    "dropout": {"dropout": 0.4},
    "n_members": {"n_members": 2},
    "lr": {"lr": 1e-3},
    "weight_decay": {"weight_decay": 0.1},
    "lr_schedule": {"lr_schedule": "constant"},
    "batch_size": {"batch_size": 32},
    "max_epochs": {"max_epochs": 5},
    "early_stopping": {"early_stopping": True},
    "validation_fraction": {"validation_fraction": 0.4},
    "patience": {"patience": 1},
    "class_weight": {"class_weight": {"class-0": 3, "class-1": 1, "class-2": 1}},
    "warm_start": {"warm_start": True},
    "callbacks": {"callbacks": [LRScheduler(policy="StepLR", step_size=1)]},
    "device": {"device": "no-such-device"},
    "random_state": {"random_state": 1},
    "verbose": {"verbose": 1},
}
BASES = {
    "validation_fraction": {"early_stopping": True},
    "patience": {"early_stopping": True, "max_epochs": 30, "lr": 0.1},
}


def outcome(X, y, capsys, **changes):
    """Return all that two fits in a row and a prediction show to the outside."""
    student = fast_student(**{"teacher_dims": (8, 12, 16), **changes})
    try:
        probabilities = student.fit(X, y).fit(X, y).predict_proba(X)
    except ValueError as error:
        return str(error)
    losses = student.history_[:, "train_loss"]
    return probabilities.tobytes(), losses, len(capsys.readouterr().out)


def test_the_table_of_changes_names_every_parameter():
    assert CHANGES.keys() == inspect.signature(ShazamClassifier).parameters.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_something(name, teacher_features, capsys):
    X, y, _ = teacher_features
    X, base = np.asarray(X), BASES.get(name, {})
    unchanged = outcome(X, y, capsys, **base)
    assert unchanged == outcome(X, y, capsys, **base)
    assert unchanged != outcome(X, y, capsys, **{**base, **CHANGES[name]})


INVALID = {
    "teacher_dims": "abc",
    "token_dim": 0,
    "depth": -1,
    "distillation_weight": -0.1,
    "huber_delta": 0.0,
    "huber": "squared",
    "distillation_target": "tokens",
    "projection": "quadratic",
    "block": "mamba",
    "standardize": "yes",
    "dropout": 1.0,
    "n_members": 0,
    "lr": 0.0,
    "weight_decay": -1.0,
    "lr_schedule": "linear",
    "batch_size": 0,
    "max_epochs": "all",
    "early_stopping": 3.5,
    "validation_fraction": 1.0,
    "patience": 0,
    "class_weight": "unbalanced",
    "warm_start": None,
    "callbacks": "disable",
    "device": "gpu",
    "random_state": "seed",
    "verbose": "loud",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_value_outside_its_range_is_refused_by_fit_and_named(name, teacher_features):
    X, y, _ = teacher_features
    with pytest.raises(ValueError, match=rf"{name}\W"):
        fast_student(**{name: INVALID[name]}).fit(X, y)


def test_rows_of_weight_0_are_as_good_as_removed(teacher_features):
    X, y, groups = teacher_features
    kept = np.random.default_rng(1).random(120) < 0.7
    weights = kept.astype(float)
    for changes in ({}, {"early_stopping": True, "class_weight": "balanced"}):
        weighted = fast_student(**changes).fit(X, y, weights, groups=groups)
        removed = fast_student(**changes).fit(X[kept], y[kept], groups=groups[kept])
        assert equal_states(state_of(weighted), state_of(removed))


def test_a_class_of_weight_0_is_no_class(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y, sample_weight=y != "class-1")
    assert student.classes_.tolist() == ["class-0", "class-2"]


def test_only_the_ratio_of_weights_matters(teacher_features):
    X, y, _ = teacher_features
    weights = np.random.default_rng(1).integers(1, 5, 120)
    runs = [
        fast_student().fit(X, y, sample_weight=factor * weights).predict_proba(X)
        for factor in (1, 7)
    ]
    np.testing.assert_allclose(*runs, rtol=1e-4)
    assert not np.allclose(runs[0], fast_student().fit(X, y).predict_proba(X))


def test_a_heavier_class_pulls_predictions_towards_it(teacher_features):
    X, y, _ = teacher_features
    shares = [
        fast_student()
        .fit(X, y, sample_weight=np.where(y == "class-1", factor, 1.0))
        .predict_proba(X)[:, 1]
        .mean()
        for factor in (0.5, 1, 2)
    ]
    assert shares[0] + 0.02 < shares[1] < shares[2] - 0.02


def test_balanced_classes_are_sample_weights_of_inverse_frequency(teacher_features):
    X, y, _ = teacher_features
    rows = np.flatnonzero((y != "class-2") | (np.arange(120) % 4 == 0))
    X, y = X[rows], y[rows]
    labels, counts = np.unique(y, return_counts=True)
    assert len(set(counts)) > 1
    weight_of = dict(zip(labels, len(y) / (3 * counts), strict=True))
    weights = [weight_of[label] for label in y]
    by_class = fast_student(class_weight="balanced").fit(X, y)
    by_sample = fast_student().fit(X, y, sample_weight=weights)
    assert equal_states(state_of(by_class), state_of(by_sample))


def test_class_and_sample_weights_multiply(teacher_features):
    X, y, _ = teacher_features
    weights = np.random.default_rng(1).uniform(0.5, 2, 120)
    class_weight = {"class-0": 4.0, "class-1": 1.0, "class-2": 2.0}
    both = fast_student(class_weight=class_weight).fit(X, y, weights)
    product = weights * [class_weight[label] for label in y]
    assert equal_states(state_of(both), state_of(fast_student().fit(X, y, product)))


@pytest.mark.parametrize(
    "class_weight",
    [
        {"class-0": 0, "class-1": 0, "class-2": 0},
        {"class-0": -1, "class-1": 1, "class-2": 1},
        {"clas-0": 2},
    ],
)
def test_senseless_class_weights_are_refused(class_weight, teacher_features):
    X, y, _ = teacher_features
    with pytest.raises(ValueError, match="class_weight"):
        fast_student(class_weight=class_weight).fit(X, y)


@pytest.mark.parametrize("preset", [{}, {"standardize": False, "block": "plain"}])
def test_divergence_is_an_error_that_names_the_learning_rate(preset, teacher_features):
    X, y, _ = teacher_features
    student = fast_student(lr=1e30, max_epochs=30, **preset)
    with pytest.raises(ValueError, match=r"diverged.*Lower lr=1e\+30"):
        student.fit(X, y)
    with pytest.raises(NotFittedError):
        student.predict(X)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupted_training_leaves_a_student_that_predicts(
    epoch, early_stopping, teacher_features
):
    X, y, _ = teacher_features
    student = fast_student(
        max_epochs=50,
        batch_size=32,
        early_stopping=early_stopping,
        callbacks=[Interrupt(epoch)],
    )
    student.fit(X, y)
    assert student.n_iter_ == epoch
    assert student.predict(X).shape == (120,)


def test_a_student_learns_what_its_teachers_show(teacher_features):
    X, y, _ = teacher_features
    student = ShazamClassifier(**{**FAST, "max_epochs": 40})
    assert student.fit(X[:80], y[:80]).score(X[80:], y[80:]) > 0.7


def test_the_users_interrupt_is_not_swallowed(teacher_features, monkeypatch):
    X, y, _ = teacher_features
    student = fast_student(max_epochs=50)
    step = ShazamClassifier.train_step

    def interrupted(self, batch, **fit_params):
        if len(self.history_) == 3:
            raise KeyboardInterrupt
        return step(self, batch, **fit_params)

    monkeypatch.setattr(ShazamClassifier, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        student.fit(X, y)
    with pytest.raises(NotFittedError):
        student.predict(X)
    monkeypatch.undo()
    assert len(student.fit(X, y).history_) == 50


def test_output_that_is_not_finite_is_refused(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y)
    with pytest.raises(ValueError, match=r"not finite.*1e\+38"):
        student.predict(np.full_like(X, 1e38))


def test_missing_patients_are_refused(teacher_features):
    X, y, groups = teacher_features
    for missing in (None, float("nan")):
        patients = groups.astype(object)
        patients[3] = missing
        with pytest.raises(ValueError, match="groups holds missing values"):
            fast_student(early_stopping=True).fit(X, y, groups=patients)


def test_a_diverged_student_is_no_longer_fitted(teacher_features):
    X, y, _ = teacher_features
    student = fast_student().fit(X, y).set_params(lr=1e30)
    with pytest.raises(ValueError, match="diverged"):
        for _ in range(30):
            student.partial_fit(X, y)
    with pytest.raises(NotFittedError):
        student.predict(X)
