"""Sum, Concat and MoE by hand, their symmetries, and a gate without effect."""

import numpy as np
import pytest
import torch

from skshazam.networks import ConcatNetwork, MoENetwork, ShazamNetwork, SumNetwork
from tests.networks.numpy_reference import (
    as_array,
    layer_norm,
    linear,
    mlp,
    randomised,
    softmax,
)

DIMS = (3, 5, 4)
TOKEN_DIM = 6
NETWORKS = {
    "sum": SumNetwork,
    "concat": ConcatNetwork,
    "moe": MoENetwork,
    "moe, released": lambda *args, **kwargs: MoENetwork(
        *args, gate="before_norm", **kwargs
    ),
}


def make(name, dims=DIMS, **changes):
    facts = {"n_classes": 3, "token_dim": TOKEN_DIM}
    return randomised(NETWORKS[name](dims, **{**facts, **changes})).eval()


def features(n_rows=7, dims=DIMS):
    return torch.randn(n_rows, sum(dims), dtype=torch.float64)


def tokens_of(network, inputs):
    """Equation 1."""
    stops = np.cumsum(network.projection.teacher_dims)[:-1]
    blocks = np.split(as_array(inputs), stops, axis=1)
    return np.stack(
        [
            linear(block, layer)
            for block, layer in zip(blocks, network.projection.maps, strict=True)
        ],
        axis=1,
    )


def side_by_side(tokens):
    return np.concatenate(list(np.swapaxes(tokens, 0, 1)), axis=1)


def expert_weights_of(network, tokens):
    return softmax(linear(side_by_side(tokens), network.gate))


def fused_by_sum(network, tokens):
    return tokens.sum(axis=1) / tokens.shape[1]


def fused_by_concat(network, tokens):
    first, _, norm = network.mixing
    return layer_norm(np.maximum(linear(side_by_side(tokens), first), 0), norm)


def fused_by_moe(network, tokens):
    weights = expert_weights_of(network, tokens)
    normed = layer_norm(tokens, network.norm)
    return np.einsum("bn,bnd->bd", weights, normed)


def fused_by_released_moe(network, tokens):
    weights = expert_weights_of(network, tokens)
    return layer_norm(weights[:, :, None] * tokens, network.norm).mean(axis=1)


BY_HAND = {
    "sum": fused_by_sum,
    "concat": fused_by_concat,
    "moe": fused_by_moe,
    "moe, released": fused_by_released_moe,
}


@pytest.mark.parametrize("dims", [DIMS, (4,), (2,) * 8], ids=["3", "1", "8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_forward_is_the_formula(name, dims):
    network, inputs = make(name, dims, standardize=False), features(dims=dims)
    output = network(inputs)
    tokens = tokens_of(network, inputs)
    fused = BY_HAND[name](network, tokens)
    assert fused.shape == (7, TOKEN_DIM)
    np.testing.assert_allclose(as_array(output.tokens), tokens, atol=1e-10)
    np.testing.assert_allclose(as_array(output.fused), fused, atol=1e-10)
    np.testing.assert_allclose(
        as_array(output.logits), mlp(fused, network.classifier), atol=1e-10
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_finite_differences(name):
    network, inputs = make(name, (2, 3), token_dim=3), features(2, (2, 3))
    parameters = dict(network.named_parameters())

    def logits(inputs, *values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(network, named, (inputs,)).logits

    arguments = [inputs, *(p.detach() for p in parameters.values())]
    assert torch.autograd.gradcheck(logits, [a.requires_grad_() for a in arguments])


def permuted_copy(original, name, order):
    """Return the network of reordered teachers that computes the same."""
    network = make(name, [DIMS[i] for i in order], standardize=False)
    state = original.state_dict()
    for new, old in enumerate(order):
        for part in ("weight", "bias"):
            state[f"projection.maps.{new}.{part}"] = original.state_dict()[
                f"projection.maps.{old}.{part}"
            ]
    if name == "concat":
        state["mixing.0.weight"] = with_permuted_inputs(
            original.mixing[0].weight, order
        )
    if name.startswith("moe"):
        state["gate.weight"] = with_permuted_inputs(original.gate.weight, order)[order]
        state["gate.bias"] = original.gate.bias[order]
    network.load_state_dict(state)
    return network


def with_permuted_inputs(weight, order):
    """Return a map of the tokens side by side that knows their new places."""
    by_teacher = weight.detach().unflatten(1, (-1, TOKEN_DIM))
    return by_teacher[:, order].flatten(start_dim=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_teachers_with_their_maps_does_not_matter(name):
    original, order = make(name, standardize=False), [2, 0, 1]
    inputs = features()
    blocks = inputs.split(DIMS, dim=1)
    expected = original(inputs)
    actual = permuted_copy(original, name, order)(
        torch.cat([blocks[i] for i in order], dim=1)
    )
    torch.testing.assert_close(actual.logits, expected.logits)
    torch.testing.assert_close(actual.fused, expected.fused)
    if name.startswith("moe"):
        torch.testing.assert_close(
            actual.expert_weights, expected.expert_weights[:, order]
        )


def test_sum_is_shazam_without_attention():
    rival = make("sum")
    student = ShazamNetwork(DIMS, 3, TOKEN_DIM, 0).double().eval()
    student.load_state_dict(rival.state_dict())
    inputs = features()
    assert torch.equal(student(inputs).logits, rival(inputs).logits)
    assert torch.equal(student(inputs).fused, rival(inputs).fused)


def test_a_mixture_of_one_teacher_is_its_normalised_token():
    network, inputs = make("moe", (5,), standardize=False), features(dims=(5,))
    output = network(inputs)
    assert (output.expert_weights == 1).all()
    np.testing.assert_allclose(
        as_array(output.fused),
        layer_norm(tokens_of(network, inputs)[:, 0], network.norm),
        atol=1e-10,
    )


def test_expert_weights_are_shares():
    weights = as_array(make("moe")(features()).expert_weights)
    assert weights.shape == (7, 3)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)


def test_concat_is_not_linear_in_the_tokens_unlike_sum():
    inputs = features()
    zero, one, two = torch.zeros_like(inputs), inputs, 2 * inputs

    def bends(name):
        network = make(name, standardize=False)
        fused = [network(x).fused for x in (zero, one, two)]
        return not torch.allclose(fused[2] - fused[1], fused[1] - fused[0])

    assert not bends("sum")
    assert bends("concat")


def with_gate_at(name, weights, network=None):
    """Return a mixture whose gate is the same for every sample."""
    network = network or make(name, standardize=False)
    with torch.no_grad():
        network.gate.weight.zero_()
        network.gate.bias.copy_(torch.tensor(weights).log())
    return network


def test_after_the_norm_the_gate_decides_who_is_heard():
    network = with_gate_at("moe", [1 - 2e-12, 1e-12, 1e-12])
    inputs = features()
    alone = layer_norm(tokens_of(network, inputs)[:, 0], network.norm)
    np.testing.assert_allclose(as_array(network(inputs).fused), alone, atol=1e-9)


def test_equal_weights_make_both_gates_the_same():
    after = with_gate_at("moe", [1 / 3] * 3)
    before = make("moe, released", standardize=False)
    before.load_state_dict(after.state_dict())
    inputs = features()
    torch.testing.assert_close(
        after(inputs).fused, before(inputs).fused, rtol=0, atol=1e-4
    )


def released_token(weight):
    """Return LN(g T) at initialisation, of a thousand standardised features."""
    torch.manual_seed(0)
    network = MoENetwork((256,), 2, 128, gate="before_norm", standardize=False).double()
    tokens = network.projection(torch.randn(1000, 256, dtype=torch.float64))
    return network.norm(weight * tokens)


def relative_change(first, second):
    return ((first - second).norm() / second.norm()).item()


@pytest.mark.parametrize(
    ("weight", "reference", "change"),
    [(0.5, 0.2, 0.00033), (0.05, 0.5, 0.006), (0.02, 0.5, 0.036), (0.01, 0.5, 0.125)],
)
def test_before_the_norm_a_weight_changes_next_to_nothing(weight, reference, change):
    measured = relative_change(released_token(weight), released_token(reference))
    assert measured == pytest.approx(change, rel=0.08)


def test_before_the_norm_only_a_weight_near_0_silences_a_teacher():
    assert relative_change(released_token(0.00316), released_token(1.0)) == (
        pytest.approx(0.5, abs=0.02)
    )


@pytest.mark.parametrize(
    ("name", "least", "most"), [("moe", 0.5, 1), ("moe, released", 0, 1e-3)]
)
def test_halving_a_teacher_is_heard_after_the_norm_alone(name, least, most):
    torch.manual_seed(1)
    network = NETWORKS[name]((64, 64), 2, 64, standardize=False).double().eval()
    inputs = features(50, (64, 64))
    fused = [
        with_gate_at(name, g, network)(inputs).fused for g in ([0.8, 0.2], [0.4, 0.6])
    ]
    assert least < relative_change(fused[1], fused[0]) < most


@pytest.mark.parametrize("name", NETWORKS)
def test_standardisation_comes_before_everything_else(name):
    plain, standardised = make(name, standardize=False), make(name)
    standardised.load_state_dict(plain.state_dict(), strict=False)
    mean, scale = np.arange(12.0), np.linspace(0.5, 4, 12)
    standardised.standardization.set_statistics(mean, scale)
    inputs = features()
    torch.testing.assert_close(
        standardised(inputs).logits,
        plain((inputs - torch.from_numpy(mean)) / torch.from_numpy(scale)).logits,
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_acts_only_in_training(name):
    dropping, keeping = make(name, dropout=0.5), make(name, dropout=0.0)
    keeping.load_state_dict(dropping.state_dict())
    inputs = features()
    assert torch.equal(dropping(inputs).logits, keeping(inputs).logits)
    dropping.train()
    outputs = [dropping(inputs) for _ in range(2)]
    assert not torch.equal(outputs[0].fused, outputs[1].fused)
    assert torch.equal(outputs[0].tokens, outputs[1].tokens)


@pytest.mark.parametrize("name", NETWORKS)
def test_widths_are_as_asked(name):
    network = NETWORKS[name](DIMS, 5, token_dim=9)
    output = network(torch.randn(2, 12))
    assert output.logits.shape == (2, 5)
    assert output.fused.shape == (2, 9)
    assert output.tokens.shape == (2, 3, 9)


def test_an_unknown_gate_is_refused():
    with pytest.raises(ValueError, match=r"gate='between'.*after_norm"):
        MoENetwork(DIMS, 3, gate="between")
