"""ShazamNetwork: the equations put together."""

import numpy as np
import pytest
import torch

from skshazam.networks import ShazamNetwork
from tests.networks.numpy_reference import as_array, linear, mlp, randomised, softmax

DIMS = (3, 5, 4)


def make(dims=DIMS, **changes):
    facts = {"n_classes": 3, "token_dim": 6, "depth": 2}
    return randomised(ShazamNetwork(dims, **{**facts, **changes})).eval()


def features(n_rows=7, dims=DIMS):
    return torch.randn(n_rows, sum(dims), dtype=torch.float64)


def test_forward_is_equations_1_to_4_and_the_classifier():
    network, inputs = make(block="plain", standardize=False), features()
    output = network(inputs)
    blocks = np.split(as_array(inputs), np.cumsum(DIMS)[:-1], axis=1)
    tokens = np.stack(
        [
            linear(block, layer)
            for block, layer in zip(blocks, network.projection.maps, strict=True)
        ],
        axis=1,
    )
    np.testing.assert_allclose(as_array(output.tokens), tokens, atol=1e-10)
    for layer in network.attention.layers:
        scores = linear(tokens, layer.query) @ np.swapaxes(
            linear(tokens, layer.key), 1, 2
        )
        tokens = softmax(scores / np.sqrt(6)) @ linear(tokens, layer.value)
    fused = tokens.sum(axis=1) / 3
    np.testing.assert_allclose(as_array(output.fused), fused, atol=1e-10)
    np.testing.assert_allclose(
        as_array(output.logits), mlp(fused, network.classifier), atol=1e-10
    )


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("projection", ["linear", "mlp"])
def test_the_order_of_teachers_with_their_projections_does_not_matter(
    block, projection
):
    changes = {"block": block, "projection": projection, "standardize": False}
    original, order = make(**changes), [2, 0, 1]
    permuted = make([DIMS[i] for i in order], **changes)
    for part in ("attention", "classifier"):
        permuted.get_submodule(part).load_state_dict(
            original.get_submodule(part).state_dict()
        )
    for new, old in enumerate(order):
        permuted.projection.maps[new].load_state_dict(
            original.projection.maps[old].state_dict()
        )
    inputs = features()
    blocks = inputs.split(DIMS, dim=1)
    expected = original(inputs)
    actual = permuted(torch.cat([blocks[i] for i in order], dim=1))
    torch.testing.assert_close(actual.logits, expected.logits)
    torch.testing.assert_close(actual.fused, expected.fused)
    for mine, theirs in zip(actual.attention, expected.attention, strict=True):
        torch.testing.assert_close(mine, theirs[:, order][:, :, order])


def test_one_teacher_without_attention_is_an_mlp():
    network = make((5,), depth=0, standardize=False)
    inputs = features(dims=(5,))
    expected = mlp(
        linear(as_array(inputs), network.projection.maps[0]), network.classifier
    )
    output = network(inputs)
    np.testing.assert_allclose(as_array(output.logits), expected, atol=1e-10)
    assert output.attention == ()


def test_standardisation_comes_before_everything_else():
    plain = make(standardize=False, distillation_target="frozen")
    standardised = make(standardize=True, distillation_target="frozen")
    standardised.load_state_dict(plain.state_dict(), strict=False)
    mean, scale = np.arange(12.0), np.linspace(0.5, 4, 12)
    standardised.standardization.set_statistics(mean, scale)
    inputs = features()
    actual = standardised(inputs)
    expected = plain((inputs - torch.from_numpy(mean)) / torch.from_numpy(scale))
    torch.testing.assert_close(actual.logits, expected.logits)
    torch.testing.assert_close(actual.targets, expected.targets)


def test_the_choice_of_target_does_not_change_how_the_network_starts():
    starts = []
    for target in ("token", "frozen", "trained"):
        torch.manual_seed(3)
        network = ShazamNetwork(DIMS, 3, distillation_target=target)
        starts.append(
            {
                name: tensor
                for name, tensor in network.state_dict().items()
                if not name.startswith("targets.")
            }
        )
    for other in starts[1:]:
        assert other.keys() == starts[0].keys()
        assert all(torch.equal(other[name], starts[0][name]) for name in other)


def test_frozen_targets_are_the_only_parameters_not_trained():
    network = make(distillation_target="frozen")
    fixed = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert fixed == {n for n, _ in network.named_parameters() if "targets" in n}
    assert len(fixed) == 2 * len(DIMS)


def test_dropout_acts_only_in_training():
    dropping, keeping = make(dropout=0.5), make(dropout=0.0)
    keeping.load_state_dict(dropping.state_dict())
    inputs = features()
    assert torch.equal(dropping(inputs).logits, keeping(inputs).logits)
    dropping.train()
    assert not torch.equal(dropping(inputs).logits, dropping(inputs).logits)


def test_dropout_zeroes_its_share_of_token_components_and_scales_the_rest():
    network = make((5,), token_dim=50, depth=0, dropout=0.3).train()
    output = network(features(200, (5,)))
    tokens, fused = output.tokens[:, 0], output.fused
    dropped = fused == 0
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(fused[~dropped], tokens[~dropped] / 0.7)
    assert not (output.targets == 0).any()


def test_dropout_acts_on_the_hidden_units_of_the_classifier():
    network = make(dropout=0.5)
    seen = []
    network.classifier[-1].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    network.train()(features(500))
    assert (seen[0] == 0).double().mean().item() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("switch", ["projection", "block", "distillation_target"])
def test_an_unknown_word_is_refused(switch):
    with pytest.raises(ValueError, match=rf"{switch}='best'; expected one of \["):
        ShazamNetwork(DIMS, 3, **{switch: "best"})
