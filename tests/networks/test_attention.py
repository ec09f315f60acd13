"""Equations 2 and 3, alone and with the released code's residual block."""

import numpy as np
import pytest
import torch

from skshazam.networks import SelfAttentionStack
from tests.networks.numpy_reference import (
    as_array,
    layer_norm,
    linear,
    randomised,
    softmax,
)


def make(kind, depth=3, token_dim=6):
    return randomised(SelfAttentionStack(token_dim, depth, kind))


def attention_of(tokens, layer):
    """Return softmax(Q K^T / sqrt D) V and the weights, sample by sample."""
    updated, weights = [], []
    for sample in tokens:
        query, key, value = (
            linear(sample, part) for part in (layer.query, layer.key, layer.value)
        )
        weights.append(softmax(query @ key.T / np.sqrt(sample.shape[1])))
        updated.append(weights[-1] @ value)
    return np.array(updated), np.array(weights)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_layers_are_the_equations_applied_one_after_another(kind):
    stack = make(kind)
    tokens = torch.randn(5, 4, 6, dtype=torch.float64)
    result, weights = stack(tokens)
    expected = as_array(tokens)
    for layer, weights_of_layer in zip(stack.layers, weights, strict=True):
        update, expected_weights = attention_of(expected, layer)
        if kind == "residual":
            update = layer_norm(expected + linear(update, layer.output), layer.norm)
        expected = update
        np.testing.assert_allclose(
            as_array(weights_of_layer), expected_weights, atol=1e-10
        )
    np.testing.assert_allclose(as_array(result), expected, atol=1e-10)


def test_equations_2_and_3_have_no_bias():
    names = {name for name, _ in make("plain", depth=1).named_parameters()}
    assert names == {f"layers.0.{part}.weight" for part in ("query", "key", "value")}


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_rows_of_attention_sum_to_one(kind):
    _, weights = make(kind)(torch.randn(5, 4, 6, dtype=torch.float64))
    for matrix in weights:
        assert (matrix >= 0).all()
        np.testing.assert_allclose(as_array(matrix).sum(axis=2), 1, atol=1e-12)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_permuted_tokens_give_permuted_results(kind):
    stack = make(kind)
    tokens = torch.randn(5, 4, 6, dtype=torch.float64)
    order = [2, 0, 3, 1]
    result, weights = stack(tokens)
    permuted_result, permuted_weights = stack(tokens[:, order])
    torch.testing.assert_close(permuted_result, result[:, order])
    for permuted, original in zip(permuted_weights, weights, strict=True):
        torch.testing.assert_close(permuted, original[:, order][:, :, order])


def test_no_layer_passes_tokens_through():
    tokens = torch.randn(5, 4, 6)
    result, weights = SelfAttentionStack(6, 0)(tokens)
    assert result is tokens
    assert weights == []
