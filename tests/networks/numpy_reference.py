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
    first, _, norm, _, last = layers  # the fourth is dropout
    return linear(layer_norm(np.maximum(linear(inputs, first), 0), norm), last)


def cosine(student, teachers):
    """Equation 5 for one sample; a zero vector has no direction: its cosine is 0."""
    lengths = [
        np.linalg.norm(student) * np.linalg.norm(teacher) for teacher in teachers
    ]
    return sum(
        1 - (student @ teacher / length if length else 0.0)
        for teacher, length in zip(teachers, lengths, strict=True)
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


def tokens_of(features, projection):
    """Equation 1, or twice linear, LayerNorm, ReLU: an array (n, N, D)."""
    ends = np.cumsum(projection.teacher_dims)[:-1]
    tokens = []
    for block, layers in zip(
        np.split(features, ends, axis=1), projection.maps, strict=True
    ):
        if hasattr(layers, "weight"):
            tokens.append(linear(block, layers))
            continue
        for lin, norm in ((layers[0], layers[1]), (layers[3], layers[4])):
            block = np.maximum(layer_norm(linear(block, lin), norm), 0)
        tokens.append(block)
    return np.stack(tokens, axis=1)


def attended(tokens, layers):
    """Equations 2-3, layer by layer: tokens (n, N, D), weights (n, K, N, N)."""
    weights = []
    for layer in layers:
        query, key, value = (
            linear(tokens, part) for part in (layer.query, layer.key, layer.value)
        )
        scores = query @ np.swapaxes(key, 1, 2) / np.sqrt(tokens.shape[2])
        weights.append(softmax(scores))
        update = weights[-1] @ value
        if hasattr(layer, "output"):
            update = layer_norm(tokens + linear(update, layer.output), layer.norm)
        tokens = update
    return tokens, weights


def student(network, features):
    """Equations 1-4 and the classifier: logits, fused, targets and attention."""
    if hasattr(network.standardization, "scale"):
        features = (features - as_array(network.standardization.mean)) / as_array(
            network.standardization.scale
        )
    tokens = tokens_of(features, network.projection)
    final, weights = attended(tokens, network.attention.layers)
    fused = final.sum(axis=1) / final.shape[1]
    targets = tokens
    if network.targets.kind in ("frozen", "trained"):
        targets = tokens_of(features, network.targets.maps)
    return mlp(fused, network.classifier), fused, targets, weights


def objective(logits, fused, targets, codes, *, weight, delta, form):
    """Equation 9, one value a sample; cross-entropy is equation 8."""
    chosen = softmax(logits)[np.arange(len(codes)), codes]
    return -np.log(chosen) + weight * np.array(
        [
            cosine(one, of_one) + huber_distillation(one, of_one, delta, form)
            for one, of_one in zip(fused, targets, strict=True)
        ]
    )
