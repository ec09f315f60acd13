"""FineTunedTeacherClassifier: what is trained, how, and that nobody else notices."""

import copy
import inspect
import io
import math
import pickle
import pickletools
import threading
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils import estimator_checks, get_tags
from skorch.exceptions import DeviceWarning
from torch import nn
from torch.nn import functional

from skshazam import TeacherFeatureTransformer, TeacherSpec
from skshazam.exceptions import (
    FineTuningError,
    ImageCollectionError,
    ImageReadError,
    TeacherMemoryError,
    TeacherOutputError,
    UnknownTeacherError,
)
from skshazam.fusion import FineTunedTeacherClassifier
from skshazam.fusion import _fine_tuning as loop
from skshazam.teachers import load_teacher
from tests.tiny_teachers import TinyConvolution, TinyTokens, tiny_convolution, tiny_vit

FAST = {
    "backbone_lr": 1e-3,
    "head_lr": 1e-2,
    "max_epochs": 3,
    "batch_size": 8,
    "device": "cpu",
    "random_state": 0,
}
VIT, CONVOLUTION = tiny_vit(), tiny_convolution()


def fast(teacher=CONVOLUTION, **changes):
    return FineTunedTeacherClassifier(teacher, **{**FAST, **changes})


def labelled_tiles(n_images=30):
    """Return stripes of three orientations in any colour, labels, and patients."""
    rng = np.random.default_rng(0)
    kinds = np.arange(n_images) % 3
    waves = 100 * np.sin(np.arange(32) * 1.5)
    patterns = [
        waves[:, None] + 0 * waves,
        waves + 0 * waves[:, None],
        np.zeros((32, 32)),
    ]
    tiles = [
        patterns[kind][..., None] + rng.normal(120, 15, (32, 32, 3)) for kind in kinds
    ]
    labels = np.array(["across", "down", "flat"])[kinds]
    return np.clip(tiles, 0, 255).astype(np.uint8), labels, np.arange(n_images) // 6


TILES, LABELS, PATIENTS = labelled_tiles()
CODES = np.unique(LABELS, return_inverse=True)[1]


def arrays_of(module):
    return {n: t.detach().clone().numpy() for n, t in module.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


class Observed(nn.Module):
    """A network that remembers how it was run."""

    seen = None

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, kernel_size=8, stride=8)
        self.norm = nn.BatchNorm2d(6)
        self.fixed = nn.Parameter(torch.ones(6), requires_grad=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        hidden = self.convolution(images)
        if Observed.seen is not None:
            Observed.seen.append((self.training, hidden.dtype, images.detach().clone()))
        hidden = self.dropout(self.norm(hidden).relu().mean(dim=(2, 3)))
        return hidden * self.fixed


@pytest.fixture
def seen(monkeypatch):
    """Record (training, dtype, input) of every pass through an Observed network."""
    passes = []
    monkeypatch.setattr(Observed, "seen", passes)
    return passes


OBSERVED = TeacherSpec("observed", build=Observed, size=32)


# ------------------------------------------------------------------ what is trained


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("teacher", [VIT, CONVOLUTION], ids=lambda spec: spec.name)
def test_the_loss_falls_and_the_labels_are_learnt(teacher, head):
    classifier = fast(teacher, max_epochs=15, head=head, backbone_lr=5e-3)
    classifier.fit(TILES, LABELS)
    losses = [entry["train_loss"] for entry in classifier.history_]
    assert losses[-1] < 0.6 * losses[0]
    assert classifier.score(TILES, LABELS) > 0.9


@pytest.mark.parametrize("teacher", [VIT, CONVOLUTION], ids=lambda spec: spec.name)
def test_the_backbone_moves_unless_its_learning_rate_is_0(teacher):
    original = arrays_of(load_teacher(teacher, "cpu").module)
    still = fast(teacher, backbone_lr=0).fit(TILES, LABELS)
    assert equal(arrays_of(still.module_.backbone), original)
    moved = arrays_of(fast(teacher).fit(TILES, LABELS).module_.backbone)
    assert all(not np.array_equal(moved[name], original[name]) for name in moved)


@pytest.mark.parametrize("preprocessing", ["fast", "pil"])
@pytest.mark.parametrize(
    "teacher",
    [
        VIT,
        tiny_vit("tokens", pooling="cls+mean", dim=48),
        TeacherSpec("patches", build=TinyTokens, pooling="mean", size=(24, 16)),
    ],
    ids=lambda spec: spec.name,
)
def test_an_untrained_backbone_gives_the_features_of_the_transformer(
    teacher, preprocessing, tiles
):
    changes = {"preprocessing": preprocessing, "batch_size": 4, "device": "cpu"}
    classifier = fast(teacher, backbone_lr=0, **changes).fit(tiles, [0, 1, 0, 1, 0, 1])
    frozen = TeacherFeatureTransformer([teacher], **changes).fit(tiles)
    features = classifier.transform(tiles)
    np.testing.assert_array_equal(features, frozen.transform(tiles))
    assert features.teacher_blocks == frozen.teacher_blocks_
    names = classifier.get_feature_names_out()
    assert names.tolist() == frozen.get_feature_names_out().tolist()


def test_training_sees_the_tensors_that_the_frozen_teacher_sees(seen, tiles):
    TeacherFeatureTransformer([OBSERVED], device="cpu").fit(tiles).transform(tiles)
    *_, (_, _, frozen) = seen
    seen.clear()
    fast(OBSERVED, max_epochs=1, batch_size=6).fit(tiles, [0, 1, 0, 1, 0, 1])
    *_, (_, _, shuffled) = seen
    order = [int(np.argmin([(f - s).abs().sum() for f in frozen])) for s in shuffled]
    assert sorted(order) == list(range(6))
    assert torch.equal(frozen[order], shuffled)


def by_hand(*, n_epochs, schedule, weights=None):
    """Return the network and head of a loop written here, seeded as fit seeds."""
    seed = np.random.RandomState(0).randint(2**31 - 1, size=2).tolist()[0]
    torch.manual_seed(0)
    backbone = TinyConvolution(10)
    pixels = (
        torch.from_numpy(TILES[:, 4:28, 4:28]).permute(0, 3, 1, 2).contiguous().float()
    )
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * 255
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * 255
    pixels = (pixels - mean) / std
    torch.manual_seed(seed)
    head = nn.Linear(10, 3)
    codes = torch.from_numpy(CODES)
    optimizer = torch.optim.AdamW(
        [{"params": backbone.parameters()}, {"params": head.parameters()}],
        weight_decay=1e-3,
    )
    n_steps, step = n_epochs * math.ceil(30 / 8), 0
    for _ in range(n_epochs):
        for rows in torch.randperm(30).split(8):
            losses = functional.cross_entropy(
                head(backbone(pixels[rows])), codes[rows], reduction="none"
            )
            optimizer.zero_grad()
            (losses if weights is None else losses * weights[rows]).mean().backward()
            factor = 1.0
            if schedule == "cosine":  # 1 of 12 steps rises
                factor = 0.5 + 0.5 * math.cos(
                    math.pi * max(step - 1, 0) / (n_steps - 1)
                )
            for group, rate in zip(optimizer.param_groups, (1e-3, 1e-2), strict=True):
                group["lr"] = factor * rate
            optimizer.step()
            step += 1
    return backbone, head


# No resizing: 32 x 32 is cropped to 24 x 24.
CROPPED = tiny_convolution("cropped", resize=32)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_training_is_the_loop_written_by_hand_bit_for_bit(schedule, weighted):
    weights = np.random.default_rng(1).uniform(0.5, 2, 30) if weighted else None
    classifier = fast(CROPPED, lr_schedule=schedule)
    classifier.fit(TILES, LABELS, sample_weight=weights)
    if weighted:
        weights = torch.from_numpy(weights / weights.mean()).float()
    backbone, head = by_hand(n_epochs=3, schedule=schedule, weights=weights)
    assert equal(arrays_of(classifier.module_.backbone), arrays_of(backbone))
    assert equal(arrays_of(classifier.module_.head), arrays_of(head))


def test_a_learning_rate_of_0_is_a_linear_probe_on_frozen_features():
    classifier = fast(VIT, backbone_lr=0, lr_schedule="constant").fit(TILES, LABELS)
    frozen = TeacherFeatureTransformer([VIT], device="cpu").fit_transform(TILES)
    features, codes = torch.tensor(np.asarray(frozen)), torch.from_numpy(CODES)
    torch.manual_seed(np.random.RandomState(0).randint(2**31 - 1, size=2).tolist()[0])
    head = nn.Linear(24, 3)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-3)
    for _ in range(3):
        for rows in torch.randperm(30).split(8):
            optimizer.zero_grad()
            functional.cross_entropy(head(features[rows]), codes[rows]).backward()
            optimizer.step()
    torch.testing.assert_close(
        classifier.module_.head.weight, head.weight.detach(), atol=1e-5, rtol=1e-4
    )


def test_the_loaded_teacher_stays_frozen_and_as_it_is():
    teacher = load_teacher(CONVOLUTION, "cpu")
    before = arrays_of(teacher.module)
    classifier = fast().fit(TILES, LABELS)
    assert load_teacher(CONVOLUTION, "cpu") is teacher
    assert equal(arrays_of(teacher.module), before)
    assert not any(p.requires_grad for p in teacher.module.parameters())
    assert not teacher.module.training
    assert classifier.module_.backbone is not teacher.module


def test_a_module_of_the_users_own_is_not_trained_in_place():
    module = TinyConvolution(10)
    before = arrays_of(module)
    fast(TeacherSpec("mine", build=lambda: module, size=24)).fit(TILES, LABELS)
    assert equal(arrays_of(module), before)


def test_dropout_acts_in_training_and_only_there(seen):
    classifier = fast(OBSERVED, max_epochs=1).fit(TILES, LABELS)
    assert {training for training, _, _ in seen[1:]} == {True}
    seen.clear()
    first, second = (classifier.predict_proba(TILES) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert {training for training, _, _ in seen} == {False}
    seen.clear()
    fast(OBSERVED, backbone_lr=0, max_epochs=1).fit(TILES, LABELS)
    assert {training for training, _, _ in seen} == {False}


def test_batch_normalisation_keeps_its_statistics_and_trains_its_weights():
    original = arrays_of(load_teacher(OBSERVED, "cpu").module)
    trained = arrays_of(
        fast(OBSERVED, batch_size=29).fit(TILES, LABELS).module_.backbone
    )
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        np.testing.assert_array_equal(trained[name], original[name])
    assert not np.array_equal(trained["norm.weight"], original["norm.weight"])


def test_what_the_authors_fixed_stays_fixed():
    trained = fast(OBSERVED).fit(TILES, LABELS).module_.backbone
    assert (trained.fixed == 1).all()


def test_a_local_checkpoint_is_where_training_starts(tmp_path):
    torch.manual_seed(5)
    torch.save(TinyConvolution(10).state_dict(), tmp_path / "weights.pt")
    started = fast(weights=tmp_path / "weights.pt", backbone_lr=0).fit(TILES, LABELS)
    expected = torch.load(tmp_path / "weights.pt")
    assert equal(
        arrays_of(started.module_.backbone),
        {name: value.numpy() for name, value in expected.items()},
    )
    assert started.teacher_.weights == str(tmp_path / "weights.pt")


# -------------------------------------------------------------- precision and memory


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_autocast_is_for_the_teacher_and_weights_stay_float32(precision, seen):
    classifier = fast(OBSERVED, precision=precision, max_epochs=2).fit(TILES, LABELS)
    expected = {getattr(torch, precision)}
    assert {dtype for _, dtype, _ in seen[1:]} == expected  # after the dry pass
    seen.clear()
    assert classifier.predict_proba(TILES).dtype == np.float32
    assert {dtype for _, dtype, _ in seen} == expected
    network = classifier.module_
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert classifier.history_[1]["train_loss"] < classifier.history_[0]["train_loss"]


def test_precision_auto_is_float32_on_a_cpu(seen):
    spec = TeacherSpec("observed", build=Observed, size=32, dtype="bfloat16")
    fast(spec, max_epochs=1).fit(TILES, LABELS)
    assert {dtype for _, dtype, _ in seen} == {torch.float32}


def test_bfloat16_learns_what_float32_learns():
    runs = [
        fast(VIT, precision=precision, max_epochs=6).fit(TILES, LABELS)
        for precision in ("float32", "bfloat16")
    ]
    losses = [run.history_[-1]["train_loss"] for run in runs]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize(
    ("precision", "scaled"), [("float16", True), ("float32", False)]
)
def test_the_loss_is_scaled_for_float16_alone(precision, scaled, monkeypatch):
    scales = []
    step = loop.FineTuning._check_gradients
    monkeypatch.setattr(
        loop.FineTuning,
        "_check_gradients",
        lambda self: (scales.append(self.scaler.get_scale()), step(self))[1],
    )
    fast(precision=precision).fit(TILES, LABELS)
    assert (scales[0] > 1) == scaled


class CountedBlock(nn.Module):
    """Stand in for a block and count the passes through it."""

    def __init__(self, block):
        super().__init__()
        self.block = block
        self.n_passes = 0

    def forward(self, *args, **kwargs):
        self.n_passes += 1
        return self.block(*args, **kwargs)


@pytest.mark.parametrize(("checkpointing", "n_passes"), [(False, 1), (True, 2)])
def test_gradient_checkpointing_runs_blocks_twice(checkpointing, n_passes, monkeypatch):
    counted = []
    train = loop.FineTuning._train_epoch

    def counting(self, batches):
        blocks = self.network.backbone.blocks
        blocks[0] = block = CountedBlock(blocks[0])
        counted.append(block)
        return train(self, batches)

    monkeypatch.setattr(loop.FineTuning, "_train_epoch", counting)
    fast(VIT, gradient_checkpointing=checkpointing, max_epochs=1, batch_size=30).fit(
        TILES, LABELS
    )
    assert counted[0].n_passes == n_passes


def test_gradient_checkpointing_changes_no_gradient():
    runs = [
        fast(VIT, gradient_checkpointing=value).fit(TILES, LABELS)
        for value in (False, True)
    ]
    assert equal(*(arrays_of(run.module_) for run in runs))


class Wrapped(nn.Module):
    """A network around one of timm's, like several of the catalogue."""

    def __init__(self):
        super().__init__()
        self.trunk = load_teacher(VIT, "cpu").module.requires_grad_(True)

    def forward(self, images):
        return self.trunk(images)


def test_gradient_checkpointing_reaches_the_network_inside():
    spec = TeacherSpec("wrapped", build=Wrapped, size=32)
    plain, checkpointed = (
        fast(spec, gradient_checkpointing=value).fit(TILES, LABELS)
        for value in (False, True)
    )
    assert checkpointed.module_.backbone.trunk.grad_checkpointing
    assert not plain.module_.backbone.trunk.grad_checkpointing
    assert equal(arrays_of(plain.module_), arrays_of(checkpointed.module_))


class Refusing(TinyConvolution):
    """Like timm's networks that have the method and refuse it."""

    def set_grad_checkpointing(self, enable=True):
        raise AssertionError("gradient checkpointing not supported")


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (TinyConvolution, "no method"),
        (Refusing, "gradient checkpointing not supported"),
    ],
)
def test_a_network_without_gradient_checkpointing_is_refused(build, reason):
    spec = TeacherSpec("plain", build=partial(build, 10), size=24)
    with pytest.raises(FineTuningError, match=rf"'plain'.*{reason}.*batch_size"):
        fast(spec, gradient_checkpointing=True).fit(TILES, LABELS)


class Greedy(TinyConvolution):
    def forward(self, images):
        if len(images) > 1:
            raise torch.OutOfMemoryError("no memory left")
        return super().forward(images)


def test_lack_of_memory_says_which_parameters_help():
    spec = TeacherSpec("greedy", build=partial(Greedy, 10), size=24)
    with pytest.raises(TeacherMemoryError, match=r"'greedy'.*batch_size") as caught:
        fast(spec).fit(TILES, LABELS)
    parameters = inspect.signature(FineTunedTeacherClassifier).parameters
    assert {"gradient_checkpointing", "precision", "batch_size"} <= parameters.keys()
    assert "gradient_checkpointing=True" in str(caught.value)
    classifier = fast(spec, batch_size=1).fit(TILES, LABELS)
    with pytest.raises(TeacherMemoryError, match="'greedy'"):
        classifier.set_params(batch_size=2).predict(TILES)


class Watched(list):
    """A collection that counts how often an image was asked for."""

    n_read = 0

    def __getitem__(self, index):
        self.n_read += 1
        return super().__getitem__(index)


def test_images_are_decoded_in_every_epoch_and_one_batch_ahead():
    images = Watched(TILES)
    read_by_step = []

    class Watching(TinyConvolution):
        def forward(self, pixels):
            read_by_step.append(images.n_read)
            return super().forward(pixels)

    spec = TeacherSpec("watching", build=partial(Watching, 10), size=24)
    fast(spec, max_epochs=2, batch_size=5).fit(images, LABELS)
    dry_pass, *read_by_step = read_by_step
    assert dry_pass == 0
    assert images.n_read == 60
    used = [5 * (i + 1) for i in range(12)]
    ahead = [read - u for read, u in zip(read_by_step, used, strict=True)]
    assert min(ahead) == 0 and max(ahead) <= 5


# ----------------------------------------------------------- what each parameter does

CHANGES = {
    "teacher": {"teacher": VIT},
    "weights": {"weights": "nowhere.pt"},
    "head": {"head": "mlp"},
    "backbone_lr": {"backbone_lr": 1e-4},
    "head_lr": {"head_lr": 1e-3},
    "weight_decay": {"weight_decay": 0.5},
    "lr_schedule": {"lr_schedule": "constant"},
    "batch_size": {"batch_size": 16},
    "max_epochs": {"max_epochs": 4},
    "precision": {"precision": "bfloat16"},
    "preprocessing": {"preprocessing": "pil"},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "early_stopping": {"early_stopping": True},
    "validation_fraction": {"validation_fraction": 0.4},
    "patience": {"patience": 1},
    "class_weight": {"class_weight": {"across": 3, "down": 1, "flat": 1}},
    "n_jobs": {"n_jobs": 3},
    "device": {"device": "no-such-device"},
    "random_state": {"random_state": 1},
    "verbose": {"verbose": 1},
}
BASES = {
    "validation_fraction": {"early_stopping": True},
    "patience": {"early_stopping": True, "max_epochs": 12, "head_lr": 3.0},
}


def outcome(capsys, monkeypatch, **changes):
    """Return all that a fit and a prediction show to the outside."""
    n_threads = []
    monkeypatch.setattr(
        "skshazam.fusion._trainable_teacher.map_in_order",
        lambda function, items, n_threads, n_ahead: (
            n_threads_seen.append(n_threads),
            map(function, items),
        )[1],
    )
    n_threads_seen = n_threads
    try:
        classifier = fast(**changes).fit(TILES, LABELS)
    except (ValueError, OSError) as error:
        return str(error)
    probabilities = classifier.predict_proba(TILES).tobytes()
    shown = len(capsys.readouterr().err) > 0
    return probabilities, classifier.history_, shown, set(n_threads)


def test_the_table_of_changes_names_every_parameter():
    parameters = inspect.signature(FineTunedTeacherClassifier).parameters
    assert CHANGES.keys() == parameters.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_every_parameter_changes_something(name, capsys, monkeypatch):
    base = BASES.get(name, {})
    unchanged = outcome(capsys, monkeypatch, **base)
    assert unchanged == outcome(capsys, monkeypatch, **base)
    assert unchanged != outcome(capsys, monkeypatch, **{**base, **CHANGES[name]})


INVALID = {
    "teacher": 3,
    "weights": 5,
    "head": "deep",
    "backbone_lr": -1e-5,
    "head_lr": 0.0,
    "weight_decay": -1.0,
    "lr_schedule": "step",
    "batch_size": 0,
    "max_epochs": "all",
    "precision": "float8",
    "preprocessing": "slow",
    "gradient_checkpointing": "yes",
    "early_stopping": 3.5,
    "validation_fraction": 1.0,
    "patience": 0,
    "class_weight": "unbalanced",
    "n_jobs": 0.5,
    "device": "gpu",
    "random_state": "seed",
    "verbose": "loud",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_value_outside_its_range_is_refused_by_fit_and_named(name):
    with pytest.raises(ValueError, match=rf"{name}\W"):
        fast(**{name: INVALID[name]}).fit(TILES, LABELS)


def test_epochs_auto_are_those_of_the_students(monkeypatch):
    rows_and_sizes = []
    monkeypatch.setattr(
        "skshazam.fusion._fine_tuned.resolve_max_epochs",
        lambda given, *counts: (rows_and_sizes.append((given, *counts)), 2)[1],
    )
    classifier = fast(max_epochs="auto", early_stopping=True).fit(TILES, LABELS)
    assert rows_and_sizes == [("auto", 27, 8)]
    assert classifier.n_iter_ == 2


# -------------------------------------------------------------- labels, weights, groups


def test_every_kind_of_collection_gives_the_same(tmp_path):
    files, encoded = [], []
    for i, tile in enumerate(TILES):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(tile).save(files[-1])
        encoded.append(files[-1].read_bytes())
    column = np.array([str(file) for file in files], dtype=object)[:, None]
    expected = fast(max_epochs=1).fit(TILES, LABELS).predict_proba(TILES)
    opened = [Image.fromarray(tile) for tile in TILES]
    for X in (list(TILES), files, encoded, column, opened):
        classifier = fast(max_epochs=1, n_jobs=2).fit(X, LABELS)
        np.testing.assert_array_equal(classifier.predict_proba(X), expected)


@pytest.mark.parametrize("labels", [LABELS, CODES, CODES * 7 - 3, CODES == 1])
def test_labels_of_any_kind_come_back(labels):
    classifier = fast().fit(TILES, labels)
    assert classifier.classes_.tolist() == sorted(set(labels.tolist()))
    predicted = classifier.predict(TILES)
    assert predicted.dtype == labels.dtype
    probabilities = classifier.predict_proba(TILES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(
        predicted, classifier.classes_[probabilities.argmax(axis=1)]
    )
    np.testing.assert_allclose(
        np.exp(classifier.predict_log_proba(TILES)), probabilities, rtol=1e-6
    )


def test_one_image_is_predicted_as_among_others():
    classifier = fast().fit(TILES, LABELS)
    alone = classifier.predict_proba(TILES[:1])
    assert alone.shape == (1, 3)
    np.testing.assert_allclose(alone, classifier.predict_proba(TILES)[:1], atol=1e-5)


def test_images_of_weight_0_are_as_good_as_removed():
    kept = np.random.default_rng(1).random(30) < 0.7
    weighted = fast().fit(TILES, LABELS, sample_weight=kept.astype(float))
    removed = fast().fit(TILES[kept], LABELS[kept])
    assert equal(arrays_of(weighted.module_), arrays_of(removed.module_))


def test_only_the_ratio_of_weights_matters():
    weights = np.random.default_rng(1).integers(1, 5, 30)
    runs = [fast().fit(TILES, LABELS, factor * weights) for factor in (1, 4)]
    assert equal(*(arrays_of(run.module_) for run in runs))


def test_balanced_classes_are_sample_weights_of_inverse_frequency():
    rows = np.flatnonzero((CODES != 2) | (np.arange(30) < 9))
    X, y = TILES[rows], LABELS[rows]
    labels, counts = np.unique(y, return_counts=True)
    weight_of = dict(zip(labels, len(y) / (3 * counts), strict=True))
    by_class = fast(class_weight="balanced").fit(X, y)
    by_sample = fast().fit(X, y, sample_weight=[weight_of[label] for label in y])
    assert equal(arrays_of(by_class.module_), arrays_of(by_sample.module_))


def test_no_patient_is_trained_on_and_validated_with(monkeypatch):
    passes = []
    batches = FineTunedTeacherClassifier._batches

    def recorded(self, images, rows, device):
        passes.append(set(PATIENTS[rows]))
        return batches(self, images, rows, device)

    monkeypatch.setattr(FineTunedTeacherClassifier, "_batches", recorded)
    classifier = fast(early_stopping=True, max_epochs=2)
    classifier.fit(TILES, LABELS, groups=[f"patient {i}" for i in PATIENTS])
    training, validation = passes[:2]
    assert len(validation) == 1
    assert training | validation == set(PATIENTS)
    assert not training & validation
    assert passes[2:] == [training, validation]


def test_early_stopping_returns_to_the_best_epoch(monkeypatch):
    held_out = []
    loss = loop.FineTuning._mean_loss

    def spied(self, batches):
        batches = list(batches)
        held_out[:] = batches
        return loss(self, batches)

    monkeypatch.setattr(loop.FineTuning, "_mean_loss", spied)
    classifier = fast(
        early_stopping=True,
        validation_fraction=0.3,
        max_epochs=40,
        patience=2,
        head_lr=0.1,
        lr_schedule="constant",
    ).fit(TILES, np.random.default_rng(0).permutation(LABELS))
    losses = [entry["valid_loss"] for entry in classifier.history_]
    best = int(np.argmin(losses))
    assert 2 < classifier.n_iter_ < 40
    assert best == classifier.n_iter_ - 3
    network = classifier.module_
    pixels, codes = (
        torch.cat(parts) for parts in list(zip(*held_out, strict=True))[:2]
    )
    with torch.no_grad():
        expected = functional.cross_entropy(network(pixels)[1], codes)
    assert losses[best] == pytest.approx(expected.item(), rel=1e-5)


# ----------------------------------------------------------------------- randomness


def test_a_seed_gives_one_outcome_and_leaves_the_global_generators_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = fast(OBSERVED).fit(TILES, LABELS)
    assert torch.equal(torch_state, torch.get_rng_state())
    torch.manual_seed(99)
    second = fast(OBSERVED, n_jobs=3).fit(TILES, LABELS)
    assert equal(arrays_of(first.module_), arrays_of(second.module_))
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    other = fast(OBSERVED, random_state=1).fit(TILES, LABELS)
    assert not equal(arrays_of(first.module_), arrays_of(other.module_))


# ------------------------------------------------------------------------- mistakes


def test_an_unreadable_image_is_named_by_its_place():
    X = list(TILES)
    X[17] = b"no image"
    with pytest.raises(ImageReadError, match=r"Image 17 of 30") as caught:
        fast().fit(X, LABELS)
    assert "There is no on_error in fine-tuning" in str(caught.value)
    classifier = fast(max_epochs=1).fit(TILES, LABELS)
    with pytest.raises(ImageReadError, match=r"Image 17 of 30"):
        classifier.predict(X)


def test_missing_files_are_found_before_anything_is_built(builds):
    with pytest.raises(ImageReadError, match=r"2 of 2 files are missing.*no on_error"):
        fast().fit(["nowhere.png", "neither.png"], [0, 1])
    assert builds == []


@pytest.mark.parametrize(
    ("X", "error"),
    [
        (np.zeros((4, 7)), ImageCollectionError),
        ("tile.png", ImageCollectionError),
        ([], ImageCollectionError),
        ([3, 4], ImageCollectionError),
    ],
)
def test_what_is_no_collection_of_images_is_refused(X, error):
    with pytest.raises(error):
        fast().fit(X, [0, 1, 0, 1])
    with pytest.raises(error):
        fast(max_epochs=1).fit(TILES, LABELS).predict(X)


@pytest.mark.parametrize(
    ("y", "changes", "message"),
    [
        (LABELS[:29], {}, "inconsistent"),
        (np.zeros(30), {}, "at least 2 classes.*only 1 class: 0.0"),
        (np.linspace(0, 1, 30), {}, "Unknown label type"),
        (None, {}, "y"),
        (LABELS, {"sample_weight": np.zeros(30)}, "non-zero"),
        (LABELS, {"sample_weight": -np.ones(30)}, "egative"),
        (LABELS, {"sample_weight": np.ones(3)}, "sample_weight"),
        (LABELS, {"groups": np.ones(3)}, "inconsistent"),
        (LABELS, {"groups": [None] * 30}, "groups holds missing values"),
        (LABELS, {"groups": np.full(30, np.nan)}, "groups holds missing values"),
    ],
)
def test_senseless_labels_weights_and_groups_are_refused(y, changes, message):
    with pytest.raises(ValueError, match=message):
        fast().fit(TILES, y, **changes)


class Detached(TinyConvolution):
    def forward(self, images):
        with torch.no_grad():
            return super().forward(images)


def test_a_network_that_no_gradient_reaches_is_refused():
    spec = TeacherSpec("detached", build=partial(Detached, 10), size=24)
    with pytest.raises(FineTuningError, match=r"Detached.*no_grad.*backbone_lr=0"):
        fast(spec).fit(TILES, LABELS)
    assert fast(spec, backbone_lr=0).fit(TILES, LABELS).n_iter_ == 3


def test_a_teacher_without_weights_is_refused_and_can_be_probed():
    with pytest.raises(FineTuningError, match=r"'stain' has no weights.*backbone_lr=0"):
        fast("stain").fit(TILES, LABELS)
    probe = fast("stain", backbone_lr=0).fit(TILES, LABELS)
    assert probe.predict(TILES).shape == (30,)


def test_unknown_teachers_and_wrong_promises_are_told():
    with pytest.raises(UnknownTeacherError, match="uni2-h"):
        fast("uni2").fit(TILES, LABELS)
    with pytest.raises(TeacherOutputError, match=r"\(1, 10\).*promises \(1, 11\)"):
        fast(tiny_convolution(build=partial(TinyConvolution, 10), dim=11)).fit(
            TILES, LABELS
        )


@pytest.mark.parametrize("rate", ["backbone_lr", "head_lr"])
def test_divergence_is_an_error_that_names_the_rates(rate):
    with pytest.raises(FineTuningError, match=rf"diverged.*{rate}=1e\+30"):
        fast(**{rate: 1e30}, max_epochs=10).fit(TILES, LABELS)


def test_a_failed_fit_leaves_nothing_fitted():
    classifier = fast().fit(TILES, LABELS)
    with pytest.raises(FineTuningError):
        classifier.set_params(head_lr=1e30).fit(TILES, LABELS)
    with pytest.raises(NotFittedError):
        classifier.predict(TILES)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform"])
def test_without_fit_nothing_is_loaded_and_the_error_says_so(method, builds):
    with pytest.raises(NotFittedError):
        getattr(fast(), method)(TILES)
    assert not hasattr(fast(), "module_")
    assert builds == []


# --------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_get_params_invariance",
        "check_set_params",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_mixin_order",
    ],
)
def test_the_generic_checks_of_scikit_learn_pass(check):
    getattr(estimator_checks, check)("FineTunedTeacherClassifier", fast())


def test_the_tags_say_that_images_are_no_matrix():
    tags = get_tags(fast())
    assert is_classifier(fast())
    assert tags.target_tags.required
    assert not tags.input_tags.two_d_array
    assert tags.no_validation


def test_a_grid_search_over_learning_rates_splits_by_patient():
    search = GridSearchCV(
        fast(max_epochs=2),
        {"backbone_lr": [0, 1e-2]},
        cv=GroupKFold(2),
        error_score="raise",
    )
    paths = np.empty((30, 1), dtype=object)
    paths[:, 0] = [encoded(tile) for tile in TILES]
    search.fit(paths, LABELS, groups=PATIENTS)
    assert set(search.best_params_) == {"backbone_lr"}
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert search.predict(paths).shape == (30,)


def encoded(tile):
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "png")
    return buffer.getvalue()


def test_cross_validation_in_threads_gives_the_same():
    X = list(TILES)
    alone = cross_val_score(fast(max_epochs=2), X, LABELS, cv=2)
    with joblib.parallel_config("threading", n_jobs=2):
        beside = cross_val_score(fast(max_epochs=2), X, LABELS, cv=2)
    np.testing.assert_array_equal(alone, beside)


def test_a_clone_has_the_parameters_and_no_weights():
    fitted = fast(VIT).fit(TILES, LABELS)
    duplicate = clone(fitted)
    assert duplicate.get_params() == fitted.get_params()
    assert not hasattr(duplicate, "classes_")


def test_features_know_their_teacher_and_come_as_a_frame():
    classifier = fast().fit(TILES, LABELS)
    assert classifier.transform(TILES).teacher_blocks.to_dict() == {
        "tiny-convolution": 10
    }
    frame = classifier.set_output(transform="pandas").transform(TILES)
    assert frame.columns.tolist() == [f"tiny-convolution__{i}" for i in range(10)]


# ----------------------------------------------------------------------- persistence


@pytest.mark.parametrize("teacher", [VIT, OBSERVED], ids=lambda spec: spec.name)
def test_a_pickle_predicts_the_same_and_holds_no_torch(teacher, builds):
    classifier = fast(teacher, head="mlp").fit(TILES, LABELS)
    expected = classifier.predict_proba(TILES)
    pickled = pickle.dumps(classifier)
    names = {arg for _, arg, _ in pickletools.genops(pickled) if isinstance(arg, str)}
    assert not [name for name in names if name.split(".")[0] == "torch"]
    loaded = pickle.loads(pickled)
    assert builds == [teacher.name]
    before = torch.get_rng_state()
    np.testing.assert_array_equal(loaded.predict_proba(TILES), expected)
    np.testing.assert_array_equal(loaded.predict_proba(TILES), expected)
    assert torch.equal(before, torch.get_rng_state())
    assert builds == 2 * [teacher.name]
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(loaded)).predict_proba(TILES), expected
    )


def test_a_pickle_needs_no_weights_of_the_teacher(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(TinyConvolution(10).state_dict(), file)
    pickled = pickle.dumps(fast(weights=file).fit(TILES, LABELS))
    file.unlink()
    assert pickle.loads(pickled).predict(TILES).shape == (30,)


def test_copies_and_memory_maps_predict_the_same(tmp_path):
    classifier = fast().fit(TILES, LABELS)
    expected = classifier.predict_proba(TILES)
    joblib.dump(classifier, tmp_path / "classifier.joblib")
    mapped = joblib.load(tmp_path / "classifier.joblib", mmap_mode="r")
    for other in (copy.deepcopy(classifier), mapped):
        np.testing.assert_array_equal(other.predict_proba(TILES), expected)


def test_a_classifier_from_a_missing_device_runs_on_the_cpu():
    classifier = fast().fit(TILES, LABELS)
    expected = classifier.predict_proba(TILES)
    classifier.device = "cuda:9"
    loaded = pickle.loads(pickle.dumps(classifier))
    with pytest.warns(DeviceWarning, match="cuda:9"):
        actual = loaded.predict_proba(TILES)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["auto", "float16", "bfloat16"])
def test_training_on_a_gpu_is_seeded_and_its_pickle_predicts_without_one(
    precision, monkeypatch
):
    before = torch.cuda.get_rng_state()
    changes = {"device": "cuda", "precision": precision, "max_epochs": 10}
    classifier = fast(VIT, **changes).fit(TILES, LABELS)
    assert next(classifier.module_.parameters()).device.type == "cuda"
    assert classifier.score(TILES, LABELS) > 0.9
    assert torch.equal(before, torch.cuda.get_rng_state())
    expected = classifier.predict_proba(TILES)
    pickled = pickle.dumps(classifier)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(DeviceWarning, match="cuda"):
        actual = pickle.loads(pickled).predict_proba(TILES)
    np.testing.assert_allclose(actual, expected, atol=0.05)


def test_a_network_that_cannot_be_built_now_is_not_lost(monkeypatch):
    classifier = fast().fit(TILES, LABELS)
    expected = classifier.predict_proba(TILES)
    loaded = pickle.loads(pickle.dumps(classifier))

    def full(self, *_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "to", full)
        with pytest.raises(TeacherMemoryError, match="batch_size"):
            loaded.predict_proba(TILES)
    again = pickle.loads(pickle.dumps(loaded))
    for kept in (loaded, again):
        np.testing.assert_allclose(kept.predict_proba(TILES), expected, rtol=1e-5)


def test_threads_share_one_rebuilt_network(builds):
    loaded = pickle.loads(pickle.dumps(fast().fit(TILES, LABELS)))
    networks = []
    threads = [
        threading.Thread(target=lambda: networks.append(loaded.module_))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(networks) == 4
    assert len({id(network) for network in networks}) == 1


def test_a_validation_loss_that_is_no_number_is_divergence():
    rates = {"backbone_lr": 1e30, "head_lr": 1e30}
    with pytest.raises(FineTuningError, match="diverged: the validation loss is"):
        fast(**rates, early_stopping=True, max_epochs=1, batch_size=len(TILES)).fit(
            TILES, LABELS
        )


def test_weights_may_be_given_by_name_as_for_the_transformer(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(CONVOLUTION.build().state_dict(), file)
    alone, named = (
        fast(weights=given).fit(TILES, LABELS)
        for given in (file, {CONVOLUTION.name: file})
    )
    assert equal(arrays_of(alone.module_), arrays_of(named.module_))
