"""Equations 5 to 7 by hand, their gradients, and what the student is pulled to."""

from functools import partial

import numpy as np
import pytest
import torch

from skshazam.networks import (
    DistillationTargets,
    cosine_distillation,
    huber_distillation,
)
from tests.networks import numpy_reference
from tests.networks.numpy_reference import as_array

LOSSES = {
    "cosine": cosine_distillation,
    "norm": partial(huber_distillation, form="norm"),
    "elementwise": partial(huber_distillation, form="elementwise"),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def student_and_teachers(scale=1.0):
    fused = scale * torch.randn(6, 5, dtype=torch.float64)
    return fused, scale * torch.randn(6, 3, 5, dtype=torch.float64)


def test_cosine_is_equation_5():
    fused, tokens = student_and_teachers()
    expected = [
        numpy_reference.cosine(student, teachers)
        for student, teachers in zip(as_array(fused), as_array(tokens), strict=True)
    ]
    actual = cosine_distillation(fused, tokens, reduction="none")
    np.testing.assert_allclose(as_array(actual), expected, atol=1e-10)


@pytest.mark.parametrize("form", ["norm", "elementwise"])
@pytest.mark.parametrize("delta", [0.3, 1.0, 2.5])
def test_huber_is_equations_6_and_7(form, delta):
    fused, tokens = student_and_teachers()
    tokens[:2] = fused[:2, None] + 0.05 * tokens[:2]  # both branches of equation 7
    expected = [
        numpy_reference.huber_distillation(student, teachers, delta, form)
        for student, teachers in zip(as_array(fused), as_array(tokens), strict=True)
    ]
    actual = huber_distillation(fused, tokens, delta, form, reduction="none")
    np.testing.assert_allclose(as_array(actual), expected, atol=1e-10)


def test_the_scalar_is_the_batch_mean(loss):
    fused, tokens = student_and_teachers()
    per_sample = loss(fused, tokens, reduction="none")
    assert per_sample.shape == (6,)
    torch.testing.assert_close(loss(fused, tokens), per_sample.sum() / 6)


def test_the_loss_sums_over_teachers(loss):
    fused, tokens = student_and_teachers()
    alone = sum(loss(fused, tokens[:, i : i + 1]) for i in range(3))
    torch.testing.assert_close(loss(fused, tokens), alone)


def test_a_student_equal_to_its_teachers_has_no_loss(loss):
    fused, _ = student_and_teachers()
    tokens = fused[:, None].repeat(1, 3, 1)
    assert loss(fused, tokens).item() == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_gradients_are_right(loss, scale):
    fused, tokens = student_and_teachers(scale)
    assert torch.autograd.gradcheck(
        loss, (fused.requires_grad_(), tokens.requires_grad_())
    )


def test_gradients_are_right_where_the_student_equals_its_teachers(loss):
    fused, _ = student_and_teachers()
    tokens = fused[:, None].repeat(1, 3, 1).requires_grad_()
    fused.requires_grad_()
    assert torch.autograd.gradcheck(loss, (fused, tokens))
    for gradient in torch.autograd.grad(loss(fused, tokens), (fused, tokens)):
        np.testing.assert_allclose(as_array(gradient), 0, atol=1e-12)


def test_gradients_are_finite_at_zero_vectors(loss):
    fused = torch.zeros(2, 5, requires_grad=True)
    tokens = torch.zeros(2, 3, 5, requires_grad=True)
    for gradient in torch.autograd.grad(loss(fused, tokens), (fused, tokens)):
        assert torch.isfinite(gradient).all()


def test_cosine_ignores_length_and_lies_between_0_and_2_per_teacher():
    fused, tokens = student_and_teachers()
    torch.testing.assert_close(
        cosine_distillation(7 * fused, 0.2 * tokens),
        cosine_distillation(fused, tokens),
    )
    opposite = -fused[:, None].repeat(1, 3, 1)
    assert cosine_distillation(fused, opposite).item() == pytest.approx(6)


# E[norm] is close to s sqrt(128); the mean over components is the Gaussian integral of
# equation 7 at delta = 1: 25.4 and 21.5, the 20 to 25 of the docstring.
@pytest.mark.parametrize(("deviation", "expected"), [(1.0, 25.4), (2**0.5, 21.5)])
def test_norm_form_is_20_to_25_times_the_elementwise_form_at_128_components(
    deviation, expected
):
    fused, tokens = torch.zeros(2000, 128), deviation * torch.randn(2000, 1, 128)
    ratio = LOSSES["norm"](fused, tokens) / LOSSES["elementwise"](fused, tokens)
    assert ratio.item() == pytest.approx(expected, abs=0.2)


GRADIENT_REACHES = {
    "token": {"tokens"},
    "token_detached": set(),
    "frozen": {"features"},
    "trained": {"features", "maps"},
}


@pytest.mark.parametrize(("kind", "reached"), GRADIENT_REACHES.items())
def test_gradients_flow_through_targets_only_as_their_kind_says(kind, reached):
    targets = DistillationTargets((3, 4), 5, kind)
    features = torch.randn(2, 7, requires_grad=True)
    tokens = torch.randn(2, 2, 5, requires_grad=True)
    chosen = targets(features, tokens)
    if chosen.requires_grad:
        chosen.sum().backward()
    gradients = {
        "tokens": tokens.grad,
        "features": features.grad,
        "maps": next((p.grad for p in targets.parameters()), None),
    }
    assert {name for name, grad in gradients.items() if grad is not None} == reached


@pytest.mark.parametrize("kind", ["token", "token_detached"])
def test_token_targets_are_the_tokens(kind):
    tokens = torch.randn(2, 2, 5)
    targets = DistillationTargets((3, 4), 5, kind)(torch.randn(2, 7), tokens)
    assert torch.equal(targets, tokens)


@pytest.mark.parametrize("kind", ["frozen", "trained"])
def test_mapped_targets_are_one_linear_map_per_teacher(kind):
    module = numpy_reference.randomised(DistillationTargets((3, 4), 5, kind))
    features = torch.randn(2, 7, dtype=torch.float64)
    blocks = np.split(as_array(features), [3], axis=1)
    expected = [
        numpy_reference.linear(block, layer)
        for block, layer in zip(blocks, module.maps.maps, strict=True)
    ]
    np.testing.assert_allclose(
        as_array(module(features, torch.zeros(2, 2, 5))),
        np.stack(expected, 1),
        atol=1e-10,
    )


def test_a_zero_vector_has_no_direction_and_the_cosine_of_a_right_angle():
    fused = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    tokens = torch.tensor([[[3.0, 1.0]], [[0.0, 0.0]]])
    distances = cosine_distillation(fused, tokens, reduction="none")
    assert distances.tolist() == [1.0, 1.0]


def test_unknown_words_are_refused():
    fused, tokens = student_and_teachers()
    with pytest.raises(ValueError, match="form='huge'; expected one of"):
        huber_distillation(fused, tokens, form="huge")
    with pytest.raises(ValueError, match="reduction='sum'; expected one of"):
        cosine_distillation(fused, tokens, reduction="sum")
