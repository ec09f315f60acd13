"""Mamba: the recurrence by hand, another implementation, and what it may look at."""

import numpy as np
import pytest
import torch

from skshazam.networks import MambaBlock, MambaNetwork
from skshazam.networks._mamba import selective_scan
from tests.networks.numpy_reference import as_array, linear, mlp, randomised

DIMS = (3, 5, 4)


def make(dims=DIMS, **changes):
    facts = {"n_classes": 3, "token_dim": 6, "depth": 2, "state_dim": 4}
    return randomised(MambaNetwork(dims, **{**facts, **changes})).eval()


def features(n_rows=7, dims=DIMS):
    return torch.randn(n_rows, sum(dims), dtype=torch.float64)


def tokens_like(n_rows=3, n_tokens=5, token_dim=6):
    return torch.randn(n_rows, n_tokens, token_dim, dtype=torch.float64)


def silu(values):
    return values / (1 + np.exp(-values))


def softplus(values):
    return np.log1p(np.exp(values))


def rms_norm(inputs, layer):
    mean_square = (inputs**2).mean(axis=-1, keepdims=True)
    return inputs / np.sqrt(mean_square + 1e-5) * as_array(layer.weight)


def block_of_one_sample(tokens, block):
    """Mamba's layer on tokens of shape (N, D): one channel, token and state a time."""
    projected = linear(rms_norm(tokens, block.norm), block.input_projection)
    n_channels = projected.shape[1] // 2
    signal, gate = projected[:, :n_channels], projected[:, n_channels:]
    kernel = as_array(block.convolution.weight)[:, 0]  # the last tap is the present
    width = kernel.shape[1]
    convolved = np.tile(as_array(block.convolution.bias), (len(tokens), 1))
    for now in range(len(tokens)):
        for back in range(min(width, now + 1)):
            convolved[now] += kernel[:, width - 1 - back] * signal[now - back]
    signal = silu(convolved)

    selected = linear(signal, block.selection)
    n_states = block.log_rates.shape[1]
    rank = selected.shape[1] - 2 * n_states
    steps = softplus(linear(selected[:, :rank], block.step))
    written = selected[:, rank : rank + n_states]
    read = selected[:, rank + n_states :]
    rates = np.exp(as_array(block.log_rates))
    outputs = np.zeros_like(signal)
    for channel in range(n_channels):
        state = np.zeros(n_states)
        for now in range(len(tokens)):
            step, value = steps[now, channel], signal[now, channel]
            for s in range(n_states):
                kept = np.exp(-step * rates[channel, s])
                state[s] = kept * state[s] + step * written[now, s] * value
            skipped = as_array(block.skip)[channel] * value
            outputs[now, channel] = read[now] @ state + skipped
    return tokens + linear(outputs * silu(gate), block.output_projection)


@pytest.mark.parametrize("n_tokens", [1, 3, 8])
def test_a_block_is_the_recurrence_by_hand(n_tokens):
    block = randomised(MambaBlock(6, 4))
    tokens = tokens_like(n_tokens=n_tokens)
    expected = [block_of_one_sample(sample, block) for sample in as_array(tokens)]
    np.testing.assert_allclose(as_array(block(tokens)), expected, atol=1e-10)


@pytest.mark.parametrize("dims", [DIMS, (4,)], ids=["3", "1"])
def test_forward_is_blocks_norm_mean_and_classifier(dims):
    network, inputs = make(dims, standardize=False), features(dims=dims)
    output = network(inputs)
    tokens = as_array(output.tokens)
    for block in network.blocks:
        tokens = np.stack([block_of_one_sample(sample, block) for sample in tokens])
    fused = rms_norm(tokens, network.norm).mean(axis=1)
    np.testing.assert_allclose(as_array(output.fused), fused, atol=1e-10)
    np.testing.assert_allclose(
        as_array(output.logits), mlp(fused, network.classifier), atol=1e-10
    )


# transformers' names for the parts of a block.
MIXER = {
    "in_proj.weight": "input_projection.weight",
    "conv1d.weight": "convolution.weight",
    "conv1d.bias": "convolution.bias",
    "x_proj.weight": "selection.weight",
    "dt_proj.weight": "step.weight",
    "dt_proj.bias": "step.bias",
    "A_log": "log_rates",
    "D": "skip",
    "out_proj.weight": "output_projection.weight",
}


def in_transformers_layout(network):
    state = {"embeddings.weight": torch.zeros(2, 32), "norm_f.weight": None}
    state["norm_f.weight"] = network.norm.weight
    for i, block in enumerate(network.blocks):
        parts = block.state_dict()
        state[f"layers.{i}.norm.weight"] = parts["norm.weight"]
        for theirs, ours in MIXER.items():
            state[f"layers.{i}.mixer.{theirs}"] = parts[ours]
    return state


def test_blocks_are_those_of_transformers():
    # In float32 the largest difference was 1.3e-6 over five draws, of values up to 2.9.
    pytest.importorskip("transformers")
    from transformers.models.mamba import MambaConfig, MambaModel

    network = make(token_dim=32, state_dim=5).float()
    theirs = MambaModel(
        MambaConfig(
            vocab_size=2,
            hidden_size=32,
            state_size=5,
            num_hidden_layers=2,
            use_cache=False,
        )
    ).eval()
    theirs.load_state_dict(in_transformers_layout(network))
    tokens = tokens_like(token_dim=32).float()
    with torch.no_grad():
        expected = theirs(inputs_embeds=tokens).last_hidden_state
        actual = network.norm(network.blocks(tokens))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    network, inputs = make((2, 3), token_dim=2, state_dim=2), features(2, (2, 3))
    parameters = dict(network.named_parameters())

    def logits(inputs, *values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(network, named, (inputs,)).logits

    arguments = [inputs, *(p.detach() for p in parameters.values())]
    assert torch.autograd.gradcheck(logits, [a.requires_grad_() for a in arguments])


def scan_arguments(n_tokens=4, n_channels=3, n_states=2, n_rows=2):
    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    return {
        "inputs": draw(n_rows, n_tokens, n_channels),
        "steps": draw(n_rows, n_tokens, n_channels).exp(),
        "decay": -draw(n_channels, n_states).exp(),
        "input_weights": draw(n_rows, n_tokens, n_states),
        "output_weights": draw(n_rows, n_tokens, n_states),
        "skip": draw(n_channels),
    }


def test_gradients_of_the_scan_are_those_of_finite_differences():
    arguments = [value.requires_grad_() for value in scan_arguments().values()]
    assert torch.autograd.gradcheck(selective_scan, arguments)


def test_a_step_of_zero_passes_a_token_by():
    arguments = scan_arguments()
    arguments["steps"][:, 1] = 0
    kept = [0, 2, 3]
    shorter = {
        name: value[:, kept] if value.ndim == 3 else value
        for name, value in arguments.items()
    }
    torch.testing.assert_close(
        selective_scan(**arguments)[:, kept], selective_scan(**shorter)
    )


def test_a_large_step_forgets_what_came_before():
    arguments = scan_arguments()
    arguments["steps"][:, 2] = 1e4
    later = {
        name: value[:, 2:] if value.ndim == 3 else value
        for name, value in arguments.items()
    }
    torch.testing.assert_close(
        selective_scan(**arguments)[:, 2:], selective_scan(**later)
    )


def test_a_token_sees_itself_and_those_before_it():
    block = randomised(MambaBlock(6, 4))
    tokens = tokens_like()
    changed = tokens.clone()
    changed[:, 2] += 1
    moved = (block(changed) != block(tokens)).any(dim=2).all(dim=0)
    assert moved.tolist() == [False, False, True, True, True]


def test_the_order_of_teachers_matters():
    network, order = make((4, 4, 4), standardize=False), [2, 0, 1]
    permuted = make((4, 4, 4), standardize=False)
    permuted.load_state_dict(network.state_dict())
    for new, old in enumerate(order):
        permuted.projection.maps[new].load_state_dict(
            network.projection.maps[old].state_dict()
        )
    inputs = features(dims=(4, 4, 4))
    moved = torch.cat([inputs.split(4, dim=1)[i] for i in order], dim=1)
    torch.testing.assert_close(permuted(moved).tokens, network(inputs).tokens[:, order])
    assert not torch.allclose(permuted(moved).fused, network(inputs).fused, atol=1e-3)


def test_first_steps_lie_between_a_thousandth_and_a_tenth():
    block = MambaBlock(256)
    steps = torch.nn.functional.softplus(block.step.bias)
    assert steps.min() > 0.99e-3
    assert steps.max() < 1.01e-1
    # Log-uniform: half of them below the geometric mean.
    assert (steps < 1e-2).double().mean().item() == pytest.approx(0.5, abs=0.08)
    assert block.step.weight.abs().max() <= 0.25


def test_rates_start_as_1_2_3_in_every_channel():
    rates = MambaBlock(4, 3).log_rates.exp()
    torch.testing.assert_close(rates, torch.tensor([1.0, 2.0, 3.0]).expand(8, 3))


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"state_dim": 7}, 3 * (2 * 32 + 32)),  # columns of selection, and of A
        ({"conv_width": 6}, 2 * 32),
        ({"expansion": 3}, 16 * (2 * 16 + 4 + 1 + 9 + 1 + 1 + 4 + 1 + 16)),
    ],
)
def test_sizes_of_a_block_are_as_asked(changes, more):
    base = MambaBlock(16, 4)
    other = MambaBlock(16, **{"state_dim": 4, **changes})
    assert n_parameters(other) - n_parameters(base) == more
    tokens = torch.randn(2, 3, 16)
    assert other(tokens).shape == tokens.shape


def test_depth_is_the_number_of_blocks():
    network = make(depth=3)
    assert n_parameters(network) - n_parameters(make(depth=2)) == n_parameters(
        MambaBlock(6, 4)
    )
    assert network(features()).logits.shape == (7, 3)


def test_without_blocks_it_is_the_mean_of_normalised_tokens():
    network, inputs = make(depth=0), features()
    output = network(inputs)
    expected = rms_norm(as_array(output.tokens), network.norm).mean(axis=1)
    np.testing.assert_allclose(as_array(output.fused), expected, atol=1e-10)


def test_standardisation_and_dropout_come_before_the_blocks():
    dropping, keeping = make(dropout=0.5), make(standardize=False)
    keeping.load_state_dict(dropping.state_dict(), strict=False)
    mean, scale = np.arange(12.0), np.linspace(0.5, 4, 12)
    dropping.standardization.set_statistics(mean, scale)
    inputs = features()
    torch.testing.assert_close(
        dropping(inputs).logits,
        keeping((inputs - torch.from_numpy(mean)) / torch.from_numpy(scale)).logits,
    )
    dropping.train()
    outputs = [dropping(inputs) for _ in range(2)]
    assert not torch.equal(outputs[0].fused, outputs[1].fused)
    assert torch.equal(outputs[0].tokens, outputs[1].tokens)
