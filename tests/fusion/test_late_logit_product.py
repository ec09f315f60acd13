"""The product of experts: its formula, its optimum, and when it helps."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB

from skshazam._blocks import TeacherBlocks, TeacherFeatures
from skshazam.datasets import make_teacher_features
from skshazam.fusion import AveragedTeachersClassifier, LogitProductClassifier


class Said(ClassifierMixin, BaseEstimator):
    """Take the features for logits: what a teacher says is known beforehand."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        X = np.asarray(X, float)
        if X.shape[1] == 1:
            return np.column_stack([expit(-X[:, 0]), expit(X[:, 0])])
        return softmax(X, axis=1)


def said(seed, n_samples=90, n_teachers=3, n_classes=3):
    """Return logits of teachers that are differently good, and labels."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(n_classes, size=n_samples)
    skill = rng.uniform(0, 3, size=n_teachers)
    logits = rng.normal(scale=2, size=(n_samples, n_teachers, n_classes))
    logits += skill[:, None] * np.eye(n_classes)[codes][:, None]
    blocks = TeacherBlocks.from_dims((n_classes,) * n_teachers)
    return TeacherFeatures(logits.reshape(n_samples, -1), blocks), codes


def product_by_hand(X, coefficients, n_classes=3):
    """Return weights and fused probabilities, sample by sample, teacher by teacher."""
    n_teachers = len(coefficients)
    all_weights, fused = [], []
    for row in np.asarray(X, float):
        said_by = [softmax(block) for block in row.reshape(n_teachers, n_classes)]
        weights = []
        for i, p in enumerate(said_by):
            others = np.mean([q for j, q in enumerate(said_by) if j != i], axis=0)
            sure = 1 + (p * np.log(p.clip(1e-3))).sum() / np.log(n_classes)
            agreed = p @ others
            description = np.array([sure, 1 - sure, agreed, 1 - agreed]) / 2
            weights.append(description @ coefficients[i])
        powers = [p.clip(1e-3) ** w for p, w in zip(said_by, weights, strict=True)]
        product = np.prod(powers, axis=0)
        all_weights.append(weights)
        fused.append(product / product.sum())
    return np.array(all_weights), np.array(fused)


def penalised_loss(X, codes, coefficients, alpha):
    _, fused = product_by_hand(X, coefficients)
    pull = ((coefficients - 1 / len(coefficients)) ** 2).sum()
    return -np.log(fused[np.arange(len(codes)), codes]).sum() + alpha / 2 * pull


def test_it_is_the_formula():
    X, codes = said(seed=0)
    late = LogitProductClassifier(Said(), alpha=1.0).fit(X, codes)
    weights, fused = product_by_hand(X, late.coef_)
    np.testing.assert_allclose(late.teacher_weights(X), weights, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(late.predict_proba(X), fused, rtol=1e-5, atol=1e-9)
    assert (late.coef_ >= 0).all()
    assert np.ptp(late.teacher_weights(X), axis=0).min() > 0.05


@pytest.mark.parametrize("alpha", [0.0, 1.0, 30.0])
def test_no_other_weights_are_better_on_the_training_objective(alpha):
    X, codes = said(seed=1)
    late = LogitProductClassifier(Said(), alpha=alpha).fit(X, codes)
    least = penalised_loss(X, codes, late.coef_, alpha)
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(8):
            moved = late.coef_ + size * rng.normal(size=late.coef_.shape)
            other = penalised_loss(X, codes, moved.clip(0), alpha)
            assert other > least - 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_without_pull_it_is_no_worse_than_the_best_teacher_where_it_learnt(seed):
    X, codes = said(seed)
    late = LogitProductClassifier(Said(), alpha=0.0).fit(X, codes)
    alone = [
        log_loss(codes, softmax(np.asarray(block, float), axis=1))
        for block in X.teacher_blocks.split(X).values()
    ]
    assert log_loss(codes, late.predict_proba(X)) <= min(alone) + 1e-9


def test_a_teacher_that_is_always_wrong_is_silent_and_not_turned_round():
    X, codes = said(seed=0)
    X[:, 3:6] = -5 * np.eye(3)[codes]
    late = LogitProductClassifier(Said(), alpha=0.0).fit(X, codes)
    assert (late.coef_ >= 0).all()
    np.testing.assert_allclose(late.teacher_weights(X)[:, 1], 0, atol=1e-6)


def test_weights_count_where_it_learns_whom_to_trust():
    X, codes = said(seed=3)
    X[:45, :3], X[45:, 3:6] = 0, 0  # one is silent on the first half, one on the second
    first = (np.arange(90) < 45) + 1e-6
    late = LogitProductClassifier(Said(), alpha=1.0)
    trust = [
        late.fit(X, codes, sample_weight=weight).coef_.sum(axis=1)
        for weight in (first, first[::-1])
    ]
    np.testing.assert_allclose(trust[0][0], 4 / 3, atol=1e-3)
    np.testing.assert_allclose(trust[1][1], 4 / 3, atol=1e-3)


def test_with_all_pull_it_is_the_average_of_logits(teacher_features):
    X, y, groups = teacher_features
    late = LogitProductClassifier(alpha=1e12, cv=2).fit(X, y, groups=groups)
    average = AveragedTeachersClassifier(average="logits").fit(X, y)
    np.testing.assert_allclose(late.predict_proba(X), average.predict_proba(X))


def test_swapping_teachers_swaps_their_weights():
    X, codes = said(seed=2)
    swapped = np.roll(X, 3, axis=1)
    late = LogitProductClassifier(Said(), teacher_dims=(3, 3, 3))
    weights = late.fit(X, codes).teacher_weights(X)
    again = late.fit(swapped, codes).teacher_weights(swapped)
    np.testing.assert_allclose(np.roll(weights, 1, axis=1), again, atol=1e-4)


def test_nothing_is_random(teacher_features):
    X, y, groups = teacher_features
    fits = [
        LogitProductClassifier(GaussianNB(), cv=3).fit(X, y, groups=groups).coef_
        for _ in range(2)
    ]
    assert np.array_equal(*fits)


def test_a_single_teacher_stays_itself_or_is_tempered(teacher_features):
    X, y, _ = teacher_features
    alone = LogitProductClassifier(teacher_dims=(8,), cv=2).fit(np.asarray(X[:, :8]), y)
    assert alone.teacher_weights(np.asarray(X[:, :8])).shape == (120, 1)
    plain = alone.estimators_[0].predict(np.asarray(X[:, :8]))
    assert (alone.predict(np.asarray(X[:, :8])) == plain).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_teacher_that_is_noise_counts_little_and_does_no_harm(seed):
    X, y, groups = make_teacher_features(240, n_groups=24, random_state=seed)
    noise = np.random.default_rng(seed).normal(size=(240, 60))
    blocks = TeacherBlocks(("one", "two", "noise"), (8, 12, 60))
    X = TeacherFeatures(np.hstack([X[:, :20], noise]), blocks)
    train = np.isin(groups, np.unique(groups)[:16])
    late = LogitProductClassifier().fit(X[train], y[train], groups=groups[train])
    weights = late.teacher_weights(X[~train]).mean(axis=0)
    assert weights[2] < weights[:2].min() / 2
    for average in ("probabilities", "logits"):
        rival = AveragedTeachersClassifier(average=average).fit(X[train], y[train])
        score = rival.score(X[~train], y[~train])
        assert late.score(X[~train], y[~train]) > score - 0.02


def test_trust_depends_on_the_sample():
    """The first teacher is right when moderately sure, and guesses when very sure."""
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=600)
    side = 2 * codes - 1.0
    guessing = rng.random(600) < 0.5
    first = np.where(guessing, 6 * rng.choice([-1, 1], size=600), 1.0 * side)
    second = np.where(rng.random(600) < 0.8, 0.7, -0.7) * side
    blocks = TeacherBlocks.from_dims((1, 1))
    X = TeacherFeatures(np.column_stack([first, second]), blocks)
    late = LogitProductClassifier(Said()).fit(X[:300], codes[:300])
    weights = late.teacher_weights(X[300:])[:, 0] / late.teacher_weights(X[300:])[:, 1]
    assert weights[guessing[300:]].max() < weights[~guessing[300:]].min()
    average = AveragedTeachersClassifier(Said(), average="logits").fit(X, codes)
    scores = [
        *(((column > 0) == codes)[300:].mean() for column in (first, second)),
        average.score(X[300:], codes[300:]),
    ]
    assert late.score(X[300:], codes[300:]) > max(scores) + 0.05
