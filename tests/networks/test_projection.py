"""Equation 1: each teacher's block through a map of its own."""

import numpy as np
import pytest
import torch

from skshazam.networks import TeacherProjection
from tests.networks.numpy_reference import as_array, layer_norm, linear, randomised

DIMS = (4, 7, 4)  # two of one width, which must not share a map


def blocks_of(features):
    return np.split(as_array(features), np.cumsum(DIMS)[:-1], axis=1)


def test_linear_tokens_are_equation_1():
    projection = randomised(TeacherProjection(DIMS, 5))
    features = torch.randn(4, 15, dtype=torch.float64)
    expected = [
        linear(block, layer)
        for block, layer in zip(blocks_of(features), projection.maps, strict=True)
    ]
    tokens = projection(features)
    assert tokens.shape == (4, 3, 5)
    np.testing.assert_allclose(as_array(tokens), np.stack(expected, 1), atol=1e-10)


def test_mlp_tokens_are_twice_linear_norm_relu():
    projection = randomised(TeacherProjection(DIMS, 5, "mlp"))
    features = torch.randn(4, 15, dtype=torch.float64)
    expected = []
    for hidden, (lin1, norm1, _, lin2, norm2, _) in zip(
        blocks_of(features), projection.maps, strict=True
    ):
        hidden = np.maximum(layer_norm(linear(hidden, lin1), norm1), 0)
        expected.append(np.maximum(layer_norm(linear(hidden, lin2), norm2), 0))
    np.testing.assert_allclose(
        as_array(projection(features)), np.stack(expected, 1), atol=1e-10
    )


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("teacher", range(3))
def test_a_token_depends_on_its_own_block_alone(kind, teacher):
    projection = TeacherProjection(DIMS, 5, kind).double()
    features = torch.randn(4, 15, dtype=torch.float64)
    changed = features.clone()
    start = sum(DIMS[:teacher])
    changed[:, start : start + DIMS[teacher]] += 1
    moved = (projection(features) != projection(changed)).any(dim=2).any(dim=0)
    assert moved.tolist() == [other == teacher for other in range(3)]
