"""The rows of the catalogue: facts typed in again, networks built without weights."""

import dataclasses

import pytest
import torch

from skshazam.teachers import get_teacher, list_teachers, load_teacher
from skshazam.teachers._loading import _create_timm_model

HANDCRAFTED = {"stain": 27, "texture": 38, "frequency": 23}
DOWNLOADED = ["gigapath", "phikon-v2", "uni", "virchow", "virchow-cls"]

# From the model cards and the checkpoints' own shapes: width, vector, pooling, position
# embeddings, first and second matrix of a block's perceptron, blocks, millions of
# weights.
NETWORKS = {
    "uni": (1024, 1024, "model", 197, (4096, 1024), (1024, 4096), 24, 303.35),
    "phikon-v2": (1024, 1024, "model", 197, (4096, 1024), (1024, 4096), 24, 303.35),
    "virchow": (1280, 2560, "cls+mean", 257, (6832, 1280), (1280, 3416), 32, 631.23),
    "virchow-cls": (1280, 1280, "cls", 257, (6832, 1280), (1280, 3416), 32, 631.23),
    "gigapath": (1536, 1536, "model", 197, (8192, 1536), (1536, 4096), 40, 1134.95),
}
# Shorter side before the crop, filter, dtype, gate.
PREPROCESSING = {
    "uni": (None, "bilinear", "float16", True),
    "phikon-v2": (None, "bicubic", "float32", False),
    "virchow": (None, "bicubic", "float16", True),
    "virchow-cls": (None, "bicubic", "float16", True),
    "gigapath": (256, "bicubic", "float16", True),
}


def test_the_catalogue_holds_these_teachers():
    assert {*DOWNLOADED, *HANDCRAFTED} <= set(list_teachers())
    assert set(NETWORKS) == set(PREPROCESSING) == set(DOWNLOADED)


@pytest.mark.parametrize("name", [*DOWNLOADED, *HANDCRAFTED])
def test_every_row_says_where_it_is_from_and_under_which_licence(name):
    spec = get_teacher(name)
    assert spec.licence
    assert spec.source
    assert spec.dim
    if name in DOWNLOADED:
        assert spec.source.startswith("https://")
        owner_and_repository = spec.source.removeprefix("https://huggingface.co/")
        assert spec.weights.startswith(f"hf-hub:{owner_and_repository}/")


@pytest.fixture(scope="module")
def built():
    """Return a function that builds a row's network on the meta device, once."""
    networks = {}

    def build(name):
        spec = get_teacher(name)
        key = (spec.architecture, spec.architecture_kwargs)
        if key not in networks:
            with torch.device("meta"):
                networks[key] = _create_timm_model(
                    dataclasses.replace(spec, weights="random")
                )
        return networks[key]

    return build


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_of_a_row_has_the_published_shape(built, name):
    width, dim, pooling, n_positions, fc1, fc2, depth, millions = NETWORKS[name]
    spec, network = get_teacher(name), built(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert network.num_features == width
    assert network.num_prefix_tokens == 1
    assert len(network.blocks) == depth
    assert shapes["pos_embed"] == (1, n_positions, width)
    assert shapes["blocks.0.mlp.fc1.weight"] == fc1
    assert shapes["blocks.0.mlp.fc2.weight"] == fc2
    assert shapes["blocks.0.ls1.gamma"] == (width,)
    assert not any(key.startswith("head") for key in shapes)
    n_weights = sum(value.numel() for value in network.state_dict().values())
    assert n_weights / 1e6 == pytest.approx(millions, abs=0.1)
    assert (spec.dim, spec.pooling) == (dim, pooling)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_of_a_row_returns_what_its_pooling_takes(built, name):
    width, dim, pooling, n_positions, *_ = NETWORKS[name]
    spec, network = get_teacher(name), built(name)
    images = torch.empty(2, 3, *spec.input_size, device="meta")
    if pooling == "model":
        assert network(images).shape == (2, dim)
    else:
        assert network.forward_features(images).shape == (2, n_positions, width)
        assert dim == width * len(pooling.split("+"))


@pytest.mark.parametrize("name", PREPROCESSING)
def test_the_preprocessing_of_a_row_is_the_published_one(name):
    spec = get_teacher(name)
    facts = (spec.resize, spec.interpolation, spec.dtype, spec.gated)
    assert facts == PREPROCESSING[name]
    assert (spec.input_size, spec.crop) == ((224, 224), True)
    assert spec.mean == (0.485, 0.456, 0.406)
    assert spec.std == (0.229, 0.224, 0.225)


def test_virchow_differs_from_its_class_token_variant_in_pooling_alone():
    variant = dataclasses.replace(
        get_teacher("virchow-cls"), name="virchow", dim=2560, pooling="cls+mean"
    )
    assert variant == get_teacher("virchow")


@pytest.mark.parametrize(("name", "dim"), HANDCRAFTED.items())
def test_the_handcrafted_rows_load_without_weights(name, dim):
    spec = get_teacher(name)
    assert spec.weights is None
    assert spec.dim == load_teacher(spec, "cpu").dim == dim
    assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))
