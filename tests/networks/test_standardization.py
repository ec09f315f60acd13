"""Standardization against scikit-learn's StandardScaler."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from skshazam.networks import Standardization


def columns_of_all_scales():
    rng = np.random.default_rng(0)
    features = rng.normal([0, 5, -1e3, 0, 0], [1, 1e-3, 1e3, 0, 0], (50, 5))
    features[:, 4] = 4.0
    return features


def fitted(features):
    module = Standardization(features.shape[1]).double()
    module.set_statistics(features.mean(axis=0), features.std(axis=0))
    return module


def test_z_scores_equal_those_of_scikit_learn_constant_columns_too():
    features = columns_of_all_scales()
    new = features[:7] + 0.5
    np.testing.assert_allclose(
        fitted(features)(torch.from_numpy(new)).numpy(),
        StandardScaler().fit(features).transform(new),
        rtol=1e-10,
    )


def test_a_constant_column_is_centred_and_stays_finite():
    module = Standardization(2)
    module.set_statistics([3.0, 0.0], [0.0, 2.0])
    assert module(torch.tensor([[3.5, 4.0]])).tolist() == [[0.5, 2.0]]


def test_features_pass_unchanged_before_statistics_are_known():
    features = torch.randn(4, 3)
    assert torch.equal(Standardization(3)(features), features)


def test_statistics_are_saved_and_not_trained():
    module = Standardization(3)
    assert list(module.parameters()) == []
    assert set(module.state_dict()) == {"mean", "scale"}


def test_a_scale_that_vanishes_in_single_precision_is_that_of_a_constant():
    module = Standardization(2)
    module.set_statistics(np.zeros(2), np.array([1e-50, 2.0]))
    assert module.scale.tolist() == [1.0, 2.0]
