"""The student's layers in numpy, written from the equations, in float64."""

import numpy as np
import torch


def as_array(tensor):
    return tensor.detach().double().numpy()


def randomised(module):
    """Return ``module`` in float64 with every parameter drawn anew, norms too."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    return module.double()


def linear(inputs, layer):
    outputs = inputs @ as_array(layer.weight).T
    return outputs if layer.bias is None else outputs + as_array(layer.bias)


def layer_norm(inputs, layer):
    mean = inputs.mean(axis=-1, keepdims=True)
    variance = inputs.var(axis=-1, keepdims=True)
    return (inputs - mean) / np.sqrt(variance + 1e-5) * as_array(
        layer.weight
    ) + as_array(layer.bias)


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def mlp(inputs, layers):
    """Linear, ReLU, LayerNorm, linear: the classifier of the released code."""
    first, _, norm, _, last = layers
    return linear(layer_norm(np.maximum(linear(inputs, first), 0), norm), last)


def cosine(student, teachers):
    """Equation 5 for one sample."""
    return sum(
        1 - student @ teacher / (np.linalg.norm(student) * np.linalg.norm(teacher))
        for teacher in teachers
    )


def huber(difference, delta):
    """Equation 7 for a norm, or for one component."""
    size = np.linalg.norm(difference)
    return size**2 / 2 if size <= delta else delta * size - delta**2 / 2


def huber_distillation(student, teachers, delta, form):
    """Equation 6 for one sample, or its elementwise mean."""
    if form == "norm":
        return sum(huber(student - teacher, delta) for teacher in teachers)
    return sum(
        np.mean([huber(component, delta) for component in student - teacher])
        for teacher in teachers
    )
