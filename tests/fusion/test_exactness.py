"""What ShazamClassifier computes and minimises, against numpy and plain torch loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch.callbacks import Callback
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from skshazam import ShazamClassifier
from skshazam.networks import ShazamNetwork, cosine_distillation, huber_distillation
from tests.fusion.students import (
    FAST,
    equal_states,
    fast_student,
    seeded_like,
    state_of,
)
from tests.networks import numpy_reference
from tests.networks.numpy_reference import as_array, randomised

PROJECTIONS = ("linear", "mlp")
BLOCKS = ("plain", "residual")
TARGETS = ("token", "token_detached", "frozen", "trained")
HUBERS = ("norm", "elementwise")
STANDARDIZE = (False, True)
DIMS, N_CLASSES = (8, 12, 16), 3


def switches(**values):
    """Parametrize over all combinations, with readable names."""
    return pytest.mark.parametrize(
        "switch",
        [
            dict(zip(values, chosen, strict=True))
            for chosen in itertools.product(*values.values())
        ],
        ids=lambda switch: "-".join(map(str, switch.values())),
    )


@pytest.fixture(scope="module")
def data(teacher_features):
    """Features of very different scales, labels and codes of 24 samples."""
    X, y, _ = teacher_features
    X = np.asarray(X)[:24] * np.repeat([0.2, 0.5, 1], DIMS).astype(np.float32) + 0.3
    codes = np.unique(y[:24], return_inverse=True)[1]
    assert len(set(codes)) == N_CLASSES
    return X, y[:24], codes


class Watch(Callback):
    """Keep batches in their order, with losses and gradients."""

    def on_train_begin(self, net, **kwargs):
        self.features, self.losses, self.gradients = [], [], []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.gradients.append(
            {n: p.grad.clone() for n, p in named_parameters if p.grad is not None}
        )

    def on_batch_end(self, net, batch, training, loss, **kwargs):
        if training:
            self.features.append(np.asarray(batch[0]["features"]))
            self.losses.append(loss.item())


# Too small to change a weight of float32: every step sees the network of the start.
STANDING = {
    "lr": 1e-30,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "max_epochs": 1,
}


# ------------------------------------------------------------------ equations 1 to 9


@switches(
    projection=PROJECTIONS, block=BLOCKS, standardize=STANDARDIZE, depth=(0, 1, 3)
)
def test_prediction_is_equations_1_to_4_and_the_classifier(switch, data):
    X, y, _ = data
    student = fast_student(teacher_dims=DIMS, **switch).fit(X, y)
    network = student.module_
    logits, fused, _, weights = numpy_reference.student(network, X.astype(float))
    np.testing.assert_allclose(
        student.predict_proba(X), numpy_reference.softmax(logits), atol=2e-5
    )
    np.testing.assert_allclose(student.transform(X), fused, rtol=1e-3, atol=1e-4)
    assert student.transform(X).shape == (24, FAST["token_dim"])
    attention = student.attention(X)
    assert attention.shape == (24, switch["depth"], 3, 3)
    for layer, expected in enumerate(weights):
        # Scores of plain blocks reach hundreds here, of which float32 keeps 5 digits.
        np.testing.assert_allclose(attention[:, layer], expected, atol=2e-3)


@switches(
    projection=PROJECTIONS,
    block=BLOCKS,
    standardize=STANDARDIZE,
    distillation_target=TARGETS,
    huber=HUBERS,
)
def test_the_loss_of_every_sample_is_equation_9(switch, data):
    X, y, codes = (part[:10] for part in data)
    watch = Watch()
    student = fast_student(
        teacher_dims=DIMS,
        dropout=0.0,
        batch_size=1,
        distillation_weight=0.3,
        huber_delta=0.7,
        callbacks=[watch],
        **STANDING,
        **switch,
    ).fit(X, y)
    seen = np.concatenate(watch.features)
    rows = [int(np.flatnonzero((one == X).all(axis=1))[0]) for one in seen]
    assert sorted(rows) == list(range(10))
    *outputs, _ = numpy_reference.student(student.module_, seen.astype(float))
    expected = numpy_reference.objective(
        *outputs, codes[rows], weight=0.3, delta=0.7, form=switch["huber"]
    )
    np.testing.assert_allclose(watch.losses, expected, rtol=2e-4)


def objective(network, features, codes, *, weight, delta, form):
    """Return equation 9 from the public functions, one value a sample."""
    output = network(features)
    cross_entropy = functional.cross_entropy(output.logits, codes, reduction="none")
    targets = output.targets
    cosine = cosine_distillation(output.fused, targets, reduction="none")
    huber = huber_distillation(output.fused, targets, delta, form, reduction="none")
    return cross_entropy + weight * (cosine + huber)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    dims=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    n_classes=st.integers(2, 7),
    token_dim=st.integers(2, 9),
    depth=st.integers(0, 6),
    n_rows=st.integers(1, 5),
    weight=st.floats(0, 10),
    delta=st.floats(0.01, 20),
    projection=st.sampled_from(PROJECTIONS),
    block=st.sampled_from(BLOCKS),
    standardize=st.booleans(),
    target=st.sampled_from(TARGETS),
    form=st.sampled_from(HUBERS),
    seed=st.integers(0, 2**16),
)
def test_any_network_and_its_loss_are_the_equations(
    dims,
    n_classes,
    token_dim,
    depth,
    n_rows,
    weight,
    delta,
    target,
    form,
    seed,
    **switch,
):
    torch.manual_seed(seed)
    network = randomised(
        ShazamNetwork(
            dims,
            n_classes,
            token_dim,
            depth,
            distillation_target=target,
            dropout=0.5,
            **switch,
        )
    ).eval()
    features = 2 * torch.randn(n_rows, sum(dims), dtype=torch.float64)
    if switch["standardize"]:
        network.standardization.set_statistics(
            torch.randn(sum(dims)), torch.rand(sum(dims)) + 0.5
        )
    codes = torch.randint(n_classes, (n_rows,))
    settings = {"weight": weight, "delta": delta, "form": form}
    logits, fused, targets, weights = numpy_reference.student(
        network, as_array(features)
    )
    output = network(features)
    for actual, expected in (
        (output.logits, logits),
        (output.fused, fused),
        (output.targets, targets),
    ):
        np.testing.assert_allclose(as_array(actual), expected, rtol=1e-8, atol=1e-8)
    assert len(output.attention) == len(weights) == depth
    np.testing.assert_allclose(
        as_array(objective(network, features, codes, **settings)),
        numpy_reference.objective(logits, fused, targets, codes.numpy(), **settings),
        rtol=1e-7,
        atol=1e-8,
    )


# ------------------------------------------------------------------------ gradients


@switches(
    projection=PROJECTIONS,
    block=BLOCKS,
    distillation_target=TARGETS,
    huber=HUBERS,
)
def test_gradients_of_the_complete_loss_are_right(switch):
    torch.manual_seed(0)
    form = switch["huber"]
    facts = {name: value for name, value in switch.items() if name != "huber"}
    network = randomised(ShazamNetwork((2, 3), 3, 3, 2, **facts))
    features = torch.randn(4, 5, dtype=torch.float64)
    network.standardization.set_statistics(torch.randn(5), torch.rand(5) + 0.5)
    codes = torch.tensor([0, 2, 1, 1])
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    detached = switch["distillation_target"] == "token_detached"
    # Finite differences know nothing of a detached target: they see it held fixed.
    fixed = network(features).targets.detach()

    def loss(*values):
        state = dict(zip(trained, values, strict=True))
        output = functional_call(network, state, (features,))
        targets = fixed if detached else output.targets
        cosine = cosine_distillation(output.fused, targets)
        huber = huber_distillation(output.fused, targets, 0.7, form)
        return functional.cross_entropy(output.logits, codes) + 0.3 * (cosine + huber)

    assert torch.autograd.gradcheck(loss, tuple(trained.values()), fast_mode=True)
    if detached:
        expected = torch.autograd.grad(loss(*trained.values()), trained.values())
        actual = objective(network, features, codes, weight=0.3, delta=0.7, form=form)
        for one, other in zip(
            torch.autograd.grad(actual.mean(), trained.values()), expected, strict=True
        ):
            torch.testing.assert_close(one, other)


@switches(distillation_target=TARGETS, huber=HUBERS, block=BLOCKS)
def test_the_estimator_steps_along_the_gradient_of_equation_9(switch, data):
    X, y, codes = data
    watch = Watch()
    student = fast_student(
        teacher_dims=DIMS,
        dropout=0.0,
        batch_size=24,
        distillation_weight=0.3,
        huber_delta=0.7,
        callbacks=[watch],
        **STANDING,
        **switch,
    ).fit(X, y, sample_weight=1.0 + codes)
    network = student.module_.double()
    weights = torch.from_numpy((1.0 + codes) / (1.0 + codes).mean())
    losses = objective(
        network,
        torch.from_numpy(X).double(),
        torch.from_numpy(codes),
        weight=0.3,
        delta=0.7,
        form=switch["huber"],
    )
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    expected = torch.autograd.grad((weights * losses).mean(), trained.values())
    (actual,) = watch.gradients
    assert actual.keys() == trained.keys()
    for (name, _), gradient in zip(trained.items(), expected, strict=True):
        torch.testing.assert_close(
            actual[name].double(), gradient, rtol=1e-3, atol=1e-5, msg=name
        )


# -------------------------------------------------------------------------- presets

# UNI, Phikon-v2, Virchow and GigaPath, six classes, as in the paper.
PAPER_DIMS, D, K, C = (1024, 1024, 1280, 1536), 128, 5, 6


def affine(n_in, n_out):
    return n_in * n_out + n_out


NORM = 2 * D
CLASSIFIER = affine(D, D) + NORM + affine(D, C)
EQUATION_1 = sum(affine(dim, D) for dim in PAPER_DIMS)
N_PARAMETERS = {
    # Equations 2-3: three square matrices a layer, no bias.
    "paper": (EQUATION_1 + K * 3 * D * D + CLASSIFIER, 0),
    # Two linear layers with norms a teacher; query, key, value and output with biases
    # and a norm a layer; one frozen map a teacher.
    "released": (
        EQUATION_1
        + len(PAPER_DIMS) * (NORM + affine(D, D) + NORM)
        + K * (4 * affine(D, D) + NORM)
        + CLASSIFIER,
        EQUATION_1,
    ),
}


@pytest.fixture(scope="module", params=["paper", "released"])
def preset(request):
    """A preset's name and a student of it, fitted for a moment at the paper's size."""
    X = np.random.default_rng(0).normal(size=(12, sum(PAPER_DIMS)))
    student = ShazamClassifier.from_preset(
        request.param,
        teacher_dims=PAPER_DIMS,
        max_epochs=1,
        device="cpu",
        random_state=0,
    )
    return request.param, student.fit(X, np.arange(12) % C)


def test_presets_have_the_parameters_that_their_sources_describe(preset):
    name, student = preset
    counts = [0, 0]
    for parameter in student.module_.parameters():
        counts[not parameter.requires_grad] += parameter.numel()
    assert tuple(counts) == N_PARAMETERS[name]
    # The same numbers added up by hand.
    assert tuple(counts) == {"paper": (886406, 0), "released": (1040262, 623104)}[name]


def test_presets_train_all_but_the_frozen_maps(preset):
    _, student = preset
    network = student.module_
    fixed = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert fixed == {
        n for n, _ in network.named_parameters() if n.startswith("targets.")
    }
    groups = student.optimizer_.param_groups
    in_optimizer = {id(p) for group in groups for p in group["params"]}
    assert in_optimizer == {id(p) for p in network.parameters() if p.requires_grad}


def test_presets_have_the_layers_that_their_sources_describe(preset):
    name, student = preset
    network = student.module_
    assert isinstance(network.standardization, nn.Identity)
    assert len(network.attention.layers) == K
    kinds = [type(part) for part in network.projection.maps[0].modules()][1:]
    twice = 2 * [nn.Linear, nn.LayerNorm, nn.ReLU]
    assert kinds == {"paper": [], "released": twice}[name]
    layer = network.attention.layers[0]
    assert (layer.query.bias is None) == (name == "paper")
    assert [
        type(part) for part in network.classifier if type(part) is not nn.Dropout
    ] == [
        nn.Linear,
        nn.ReLU,
        nn.LayerNorm,
        nn.Linear,
    ]
    assert all(part.p == 0 for part in network.modules() if type(part) is nn.Dropout)


def test_presets_share_what_the_paper_states():
    for name in N_PARAMETERS:
        student = ShazamClassifier.from_preset(name)
        assert student.token_dim == D
        assert student.depth == K
        assert student.distillation_weight == 0.5
        assert student.huber_delta == 1.0
        assert (student.batch_size, student.max_epochs) == (64, 100)
        assert (student.lr, student.weight_decay) == (1e-3, 1e-3)
        assert (student.lr_schedule, student.n_members) == ("constant", 1)
        assert not student.early_stopping
        assert student.class_weight is None


# ----------------------------------------------------------------------- properties


@switches(
    projection=PROJECTIONS, block=BLOCKS, distillation_target=TARGETS, huber=HUBERS
)
def test_teachers_permuted_with_their_maps_change_neither_logits_nor_loss(switch):
    torch.manual_seed(0)
    form = switch.pop("huber")
    dims, order = (3, 5, 4, 5), [2, 3, 0, 1]
    original = randomised(ShazamNetwork(dims, 3, 6, 2, **switch)).eval()
    permuted = randomised(
        ShazamNetwork([dims[i] for i in order], 3, 6, 2, **switch)
    ).eval()
    for part in ("attention", "classifier"):
        permuted.get_submodule(part).load_state_dict(
            original.get_submodule(part).state_dict()
        )
    maps = ["projection"]
    maps += ["targets.maps"] * (switch["distillation_target"] in ("frozen", "trained"))
    for name, (new, old) in itertools.product(maps, enumerate(order)):
        permuted.get_submodule(name).maps[new].load_state_dict(
            original.get_submodule(name).maps[old].state_dict()
        )
    features = torch.randn(7, sum(dims), dtype=torch.float64)
    mean, scale = torch.randn(sum(dims)), torch.rand(sum(dims)) + 0.5

    def reordered(columns):
        blocks = columns.split(dims, dim=-1)
        return torch.cat([blocks[i] for i in order], dim=-1)

    original.standardization.set_statistics(mean, scale)
    permuted.standardization.set_statistics(reordered(mean), reordered(scale))
    inputs = reordered(features)
    torch.testing.assert_close(permuted(inputs).logits, original(features).logits)
    codes = torch.randint(3, (7,))
    settings = {"weight": 0.5, "delta": 1.0, "form": form}
    torch.testing.assert_close(
        objective(permuted, inputs, codes, **settings),
        objective(original, features, codes, **settings),
    )


def rate_of(step, n_steps, schedule):
    if schedule == "constant":
        return 1.0
    rising = math.ceil(n_steps / 20)
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / (n_steps - rising))) / 2


def trained_by_hand(student, X, codes, schedule, **facts):
    """Return the weights of plain cross-entropy training, seeded as fit seeds."""
    inputs, codes = torch.from_numpy(X), torch.from_numpy(codes)
    torch.manual_seed(seeded_like(0))
    network = ShazamNetwork(DIMS, N_CLASSES, token_dim=8, depth=1, dropout=0.2, **facts)
    if facts["standardize"]:
        columns = X.astype(np.float64)
        network.standardization.set_statistics(
            columns.mean(axis=0), columns.std(axis=0)
        )
    flags = {"fused": student.optimizer_.defaults["fused"]}
    optimizer = type(student.optimizer_)(
        [p for p in network.parameters() if p.requires_grad],
        lr=1e-2,
        weight_decay=1e-3,
        **flags,
    )
    network.train()
    step, n_steps = 0, 4 * 3
    for _ in range(4):
        for rows in torch.randperm(24).split(10):
            optimizer.zero_grad()
            logits = network(inputs[rows]).logits
            functional.cross_entropy(
                logits, codes[rows], reduction="none"
            ).mean().backward()
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * rate_of(step, n_steps, schedule)
            optimizer.step()
            step += 1
    return {name: value.numpy() for name, value in network.state_dict().items()}


@switches(
    schedule=("constant", "cosine"),
    distillation_target=TARGETS,
    block=BLOCKS,
    standardize=STANDARDIZE,
)
def test_lambda_0_is_plain_cross_entropy_bit_for_bit(switch, data):
    X, y, codes = data
    schedule = switch.pop("schedule")
    student = fast_student(
        teacher_dims=DIMS,
        distillation_weight=0,
        dropout=0.2,
        batch_size=10,
        lr_schedule=schedule,
        **switch,
    ).fit(X, y)
    expected = trained_by_hand(student, X, codes, schedule, **switch)
    assert equal_states(state_of(student), expected)


@switches(huber=HUBERS, distillation_weight=(0.5, 50.0))
def test_a_student_that_is_its_teacher_has_the_loss_of_cross_entropy_alone(
    switch, data
):
    X, y, codes = data
    # One teacher, no attention, no dropout: the fused vector is the token.
    changes = {"teacher_dims": (36,), "depth": 0, "dropout": 0.0, "batch_size": 24}
    changes |= {"distillation_target": "token"}
    student = fast_student(**changes, **STANDING, **switch).fit(X, y)
    logits, *_ = numpy_reference.student(student.module_, X.astype(float))
    chosen = numpy_reference.softmax(logits)[np.arange(24), codes]
    loss = student.history_[0, "train_loss"]
    assert loss == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
    frozen = fast_student(**{**changes, "distillation_target": "frozen"}, **STANDING)
    assert frozen.set_params(**switch).fit(X, y).history_[0, "train_loss"] > loss + 0.1


def test_one_teacher_without_attention_is_an_mlp(data):
    X, y, _ = data
    student = fast_student(teacher_dims=(36,), depth=0).fit(X, y)
    network = student.module_
    columns = X.astype(float)
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    token = numpy_reference.linear(columns, network.projection.maps[0])
    logits = numpy_reference.mlp(token, network.classifier)
    np.testing.assert_allclose(
        student.predict_proba(X), numpy_reference.softmax(logits), atol=1e-5
    )


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_zeroes_tokens_and_hidden_units_of_its_share(share, data):
    X, y, _ = data
    seen = {"attention": [], "classifier.4": []}

    class Listen(Callback):
        def on_train_begin(self, net, **kwargs):
            for name, inputs in seen.items():
                net.module_.get_submodule(name).register_forward_pre_hook(
                    lambda module, args, inputs=inputs: (
                        inputs.append(args[0].detach()) if module.training else None
                    )
                )

    fast_student(
        teacher_dims=DIMS,
        dropout=share,
        token_dim=64,
        max_epochs=2,
        callbacks=[Listen()],
    ).fit(X, y)
    for inputs in seen.values():
        zeroed = (torch.cat([part.flatten() for part in inputs]) == 0).double().mean()
        assert zeroed.item() == pytest.approx(share, abs=0.04)
