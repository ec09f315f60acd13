"""Every pooling against timm's own tokens, taken apart by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from skshazam import TeacherSpec
from skshazam.exceptions import TeacherOutputError
from skshazam.teachers import load_teacher
from skshazam.teachers._pooling import pooled_features
from tests.tiny_teachers import TINY_VIT, TinyTokens, tiny_convolution, tiny_vit

CPU = torch.device("cpu")
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))

NO_CLASS_TOKEN = {**TINY_VIT, "class_token": False, "global_pool": "avg"}
REGISTERS = {**TINY_VIT, "patch_size": 8}
MIXER = {"img_size": 32}
SWIN = {
    "img_size": 32,
    "patch_size": 4,
    "window_size": 2,
    "embed_dim": 8,
    "depths": (1, 1),
    "num_heads": (1, 1),
}

# architecture, its arguments, tokens in front of the patches, patches
TOKENS = {
    "class token": ("vit_tiny_patch16_224", TINY_VIT, 1, 4),
    "four registers": ("vit_small_patch14_reg4_dinov2", REGISTERS, 5, 16),
}
WITHOUT_CLASS_TOKEN = {
    "no class token": ("vit_tiny_patch16_224", NO_CLASS_TOKEN, 4),
    "registers alone": (
        "vit_tiny_patch16_224",
        {**NO_CLASS_TOKEN, "reg_tokens": 2},
        4,
    ),
    "mixer": ("mixer_s16_224", MIXER, 4),
}
MAPS = {
    "residual network": ("test_resnet", {}, (2, 3)),
    "mobile network": ("test_efficientnet", {}, (2, 3)),
    "shifted windows": ("swin_tiny_patch4_window7_224", SWIN, (1, 2)),
}


def teacher(architecture, arguments, pooling):
    return load_teacher(
        tiny_vit(
            architecture=architecture,
            architecture_kwargs=arguments,
            pooling=pooling,
            dim=None,
        ),
        "cpu",
    )


def tokens_of(module):
    """Return a network's tokens of IMAGES as an array."""
    with torch.inference_mode():
        return module.forward_features(IMAGES).numpy()


def pooled(loaded):
    with torch.inference_mode():
        return pooled_features(loaded.module, IMAGES, loaded.spec).numpy()


@pytest.mark.parametrize(
    ("architecture", "arguments", "n_prefix", "n_patches"), TOKENS.values(), ids=TOKENS
)
def test_tokens_are_pooled_as_the_name_says(
    architecture, arguments, n_prefix, n_patches
):
    tokens = tokens_of(teacher(architecture, arguments, "cls").module)
    assert tokens.shape == (3, n_prefix + n_patches, 24)
    class_token = tokens[:, 0]
    mean = tokens[:, n_prefix:].mean(axis=1)
    expected = {
        "cls": class_token,
        "mean": mean,
        "cls+mean": np.hstack([class_token, mean]),
    }
    for pooling, values in expected.items():
        loaded = teacher(architecture, arguments, pooling)
        assert loaded.dim == values.shape[1]
        np.testing.assert_allclose(pooled(loaded), values, atol=1e-6)
    assert np.abs(class_token - mean).max() > 0.1


@pytest.mark.parametrize(
    ("architecture", "arguments", "n_patches"),
    WITHOUT_CLASS_TOKEN.values(),
    ids=WITHOUT_CLASS_TOKEN,
)
def test_without_a_class_token_the_mean_takes_every_patch(
    architecture, arguments, n_patches
):
    loaded = teacher(architecture, arguments, "mean")
    patches = tokens_of(loaded.module)[:, -n_patches:]
    np.testing.assert_allclose(pooled(loaded), patches.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "cls+mean"])
@pytest.mark.parametrize(
    ("architecture", "arguments", "n_patches"),
    WITHOUT_CLASS_TOKEN.values(),
    ids=WITHOUT_CLASS_TOKEN,
)
def test_a_class_token_that_does_not_exist_is_refused(
    architecture, arguments, n_patches, pooling
):
    with pytest.raises(TeacherOutputError, match="class token"):
        teacher(architecture, arguments, pooling)


@pytest.mark.parametrize(("architecture", "arguments", "axes"), MAPS.values(), ids=MAPS)
def test_a_feature_map_is_averaged_over_its_positions(architecture, arguments, axes):
    loaded = teacher(architecture, arguments, "mean")
    positions = tokens_of(loaded.module)
    assert positions.ndim == 4
    assert loaded.dim == loaded.module.num_features
    np.testing.assert_allclose(pooled(loaded), positions.mean(axis=axes), atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "cls+mean"])
def test_a_feature_map_has_no_class_token(pooling):
    with pytest.raises(TeacherOutputError, match="3 axes"):
        teacher("test_resnet", {}, pooling)


def test_model_pooling_is_the_output_without_the_classifier():
    for architecture, arguments in [
        ("vit_tiny_patch16_224", TINY_VIT),
        ("test_resnet", {}),
    ]:
        loaded = teacher(architecture, arguments, "model")
        with torch.inference_mode():
            expected = loaded.module.forward_head(
                loaded.module.forward_features(IMAGES), pre_logits=True
            )
        np.testing.assert_allclose(pooled(loaded), expected.numpy(), atol=1e-6)


class Registers(TinyTokens):
    """The first two tokens are no patches."""

    num_prefix_tokens = 2


class Undeclared(nn.Module):
    """Tokens without a word about how many are in front."""

    def forward(self, images):
        return TinyTokens()(images)


@pytest.mark.parametrize(
    ("build", "n_prefix"), [(TinyTokens, 1), (Registers, 2), (Undeclared, 1)]
)
def test_tokens_of_a_module_of_ones_own_are_pooled_too(build, n_prefix):
    tokens = build()(IMAGES).numpy()
    expected = np.hstack([tokens[:, 0], tokens[:, n_prefix:].mean(axis=1)])
    loaded = load_teacher(
        tiny_convolution(build=build, pooling="cls+mean", dim=6), "cpu"
    )
    np.testing.assert_allclose(pooled(loaded), expected, atol=1e-6)


class Returns(nn.Module):
    """A network that returns whatever it was made with, a row an image."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, images):
        n = len(images)
        return {
            "vector": images.mean((2, 3)),
            "tokens": images.flatten(2).transpose(1, 2),
            "map": images,
            "scalars": images.mean((1, 2, 3)),
            "list": [images],
            "dict": {"features": images},
            "five axes": images.view(n, 3, 2, -1, images.shape[-1]),
        }[self.kind]


@pytest.mark.parametrize(
    ("kind", "pooling", "named"),
    [
        ("tokens", "model", "(1, 1024, 3)"),
        ("map", "model", "(1, 3, 32, 32)"),
        ("scalars", "model", "(1,)"),
        ("list", "model", "list"),
        ("dict", "mean", "dict"),
        ("vector", "cls", "(1, 3)"),
        ("vector", "mean", "(1, 3)"),
        ("map", "cls", "(1, 3, 32, 32)"),
        ("map", "cls+mean", "(1, 3, 32, 32)"),
        ("five axes", "mean", "(1, 3, 2, 16, 32)"),
    ],
)
def test_an_output_that_the_pooling_cannot_take_is_shown(kind, pooling, named):
    spec = TeacherSpec("odd", build=lambda: Returns(kind), pooling=pooling, size=32)
    with pytest.raises(TeacherOutputError) as caught:
        load_teacher(spec, "cpu")
    message = str(caught.value)
    assert "'odd'" in message
    assert named in message
    assert f"pooling={pooling!r}" in message
