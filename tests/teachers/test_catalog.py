"""The rows of the catalogue: facts typed in again, networks built without weights."""

import copy
import dataclasses
import pickle

import pytest
import torch

from skshazam.exceptions import MissingDependencyError
from skshazam.teachers import get_teacher, list_teachers, load_teacher
from skshazam.teachers._catalog import CATALOG
from skshazam.teachers._loading import _build
from skshazam.teachers._pooling import pooled_features

HANDCRAFTED = {"stain": 27, "texture": 38, "frequency": 23}

# From the model cards and the checkpoints' own shapes: length of the vector, pooling,
# width, tokens before the patches, length of the position table, blocks, rows of the
# first matrix of a perceptron, whether there is LayerScale, millions of weights.
TRANSFORMERS = {
    "uni": (1024, "model", 1024, 1, 197, 24, 4096, True, 303.35),
    "phikon-v2": (1024, "model", 1024, 1, 197, 24, 4096, True, 303.35),
    "virchow": (2560, "cls+mean", 1280, 1, 257, 32, 6832, True, 631.23),
    "virchow-cls": (1280, "cls", 1280, 1, 257, 32, 6832, True, 631.23),
    "gigapath": (1536, "model", 1536, 1, 197, 40, 8192, True, 1134.95),
    "uni2-h": (1536, "model", 1536, 9, 256, 24, 8192, True, 681.39),
    "virchow2": (2560, "cls+mean", 1280, 5, 261, 32, 6832, True, 631.24),
    "virchow2-cls": (1280, "cls", 1280, 5, 261, 32, 6832, True, 631.24),
    "h-optimus-0": (1536, "model", 1536, 5, 256, 40, 8192, True, 1134.77),
    "h-optimus-1": (1536, "model", 1536, 5, 256, 40, 8192, True, 1134.77),
    "h0-mini": (768, "cls", 768, 5, 256, 12, 4096, True, 85.74),
    "h0-mini-cls-mean": (1536, "cls+mean", 768, 5, 256, 12, 4096, True, 85.74),
    "phikon": (768, "model", 768, 1, 197, 12, 3072, False, 85.80),
    "gpfm": (1024, "model", 1024, 1, 257, 24, 4096, True, 303.23),
    "midnight": (3072, "cls+mean", 1536, 1, 257, 40, 8192, True, 1134.77),
    "midnight-cls": (1536, "cls", 1536, 1, 257, 40, 8192, True, 1134.77),
    "hibou-b": (768, "model", 768, 5, 256, 12, 4096, True, 85.74),
    "hibou-l": (1024, "model", 1024, 5, 256, 24, 5472, True, 303.66),
    "musk": (1024, "model", 1024, 1, 577, 24, 4096, False, 303.94),
    "openmidnight": (1536, "model", 1536, 5, 256, 40, 8192, True, 1134.77),
    "openpath": (1536, "model", 1536, 5, 256, 40, 8192, True, 1134.77),
    "mstar": (1024, "model", 1024, 1, 197, 24, 4096, True, 303.35),
    "pathorchestra": (1024, "model", 1024, 1, 197, 24, 4096, True, 303.35),
    "kaiko-vits8": (384, "model", 384, 1, 785, 12, 1536, False, 21.67),
    "kaiko-vits16": (384, "model", 384, 1, 197, 12, 1536, False, 21.67),
    "kaiko-vitb8": (768, "model", 768, 1, 785, 12, 3072, False, 85.81),
    "kaiko-vitb16": (768, "model", 768, 1, 197, 12, 3072, False, 85.80),
    "kaiko-vitl14": (1024, "model", 1024, 5, 1369, 24, 4096, True, 304.37),
    "lunit-vits8": (384, "model", 384, 1, 785, 12, 1536, False, 21.67),
    "lunit-vits16": (384, "model", 384, 1, 197, 12, 1536, False, 21.67),
    "sp22m": (384, "model", 384, 1, 197, 12, 1536, False, 21.67),
    "hipt": (384, "model", 384, 1, 197, 12, 1536, False, 21.67),
    "dinov2-vitl14": (1024, "model", 1024, 1, 257, 24, 4096, True, 303.23),
}
# Other networks: length of the vector, millions of weights.
OTHERS = {
    "conch": (512, 87.57),
    "conch-v1.5": (768, 306.71),
    "ctranspath": (768, 27.52),
    "keep": (768, 304.73),
    "lunit-rn50-bt": (2048, 23.56),
    "lunit-rn50-mocov2": (2048, 23.56),
    "lunit-rn50-swav": (2048, 23.56),
    "retccl": (2048, 23.56),
    "resnet50": (2048, 23.56),
    "resnet50-layer3": (1024, 8.57),
}
# What needs a package that skshazam does not use, or a configuration from the Hub.
UNBUILT = {
    "gigapath-flash": 384,
    "genbio-pathfm": 4608,
    "plip": 512,
    "quiltnet": 512,
    "biomedclip": 512,
    "prost40m": 384,
}

# Colour statistics, as the cards give them.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
GENBIO = ((0.697, 0.575, 0.728), (0.188, 0.240, 0.187))
LUNIT = (
    (0.70322989, 0.53606487, 0.66096631),
    (0.21716536, 0.26081574, 0.20723464),
)

ND = "CC-BY-NC-ND-4.0"

# Pixels, shorter side before the crop, filter, colours, dtype, gate, licence.
PREPROCESSING = {
    "uni": (224, None, "bilinear", IMAGENET, "float16", True, ND),
    "phikon-v2": (224, None, "bicubic", IMAGENET, "float32", False, "Owkin"),
    "virchow": (224, None, "bicubic", IMAGENET, "float16", True, "Apache-2.0"),
    "virchow-cls": (224, None, "bicubic", IMAGENET, "float16", True, "Apache-2.0"),
    "gigapath": (
        *(224, 256, "bicubic", IMAGENET, "float16", True),
        "Apache-2.0; its card: deployment out of scope",
    ),
    "uni2-h": (224, None, "bilinear", IMAGENET, "bfloat16", True, ND),
    "virchow2": (224, None, "bicubic", IMAGENET, "float16", True, ND),
    "virchow2-cls": (224, None, "bicubic", IMAGENET, "float16", True, ND),
    "h-optimus-0": (224, None, "bicubic", OPTIMUS, "float16", True, "Apache-2.0"),
    "h-optimus-1": (224, None, "bicubic", OPTIMUS, "float16", True, ND),
    "h0-mini": (224, None, "bicubic", OPTIMUS, "float16", True, ND),
    "h0-mini-cls-mean": (224, None, "bicubic", OPTIMUS, "float16", True, ND),
    "phikon": (224, None, "bilinear", IMAGENET, "float32", False, "Owkin"),
    "gpfm": (224, None, "bicubic", IMAGENET, "float16", False, "MIT"),
    "midnight": (224, None, "bilinear", HALF, "float32", False, "MIT"),
    "midnight-cls": (224, None, "bilinear", HALF, "float32", False, "MIT"),
    "hibou-b": (224, None, "bicubic", HIBOU, "float32", True, "Apache-2.0"),
    "hibou-l": (224, None, "bicubic", HIBOU, "float32", True, "Apache-2.0"),
    "conch": (448, None, "bicubic", CLIP, "float32", True, ND),
    "conch-v1.5": (448, None, "bilinear", IMAGENET, "float16", True, ND),
    "ctranspath": (224, None, "bilinear", IMAGENET, "float32", False, "GPL-3.0"),
    "musk": (384, None, "bicubic", HALF, "float16", True, ND),
    "openmidnight": (224, None, "bilinear", IMAGENET, "float16", True, "Apache-2.0"),
    "openpath": (224, None, "bicubic", IMAGENET, "float32", False, "Apache-2.0"),
    "keep": (224, None, "bicubic", IMAGENET, "float16", False, "MIT"),
    "mstar": (224, None, "bilinear", IMAGENET, "float32", True, ND),
    "pathorchestra": (224, None, "bilinear", IMAGENET, "float32", True, ND),
    **{
        f"kaiko-{size}": (224, None, "bilinear", HALF, "float32", False, "Kaiko")
        for size in ("vits8", "vits16", "vitb8", "vitb16", "vitl14")
    },
    "lunit-vits8": (224, None, "bicubic", LUNIT, "float32", False, "Lunit"),
    "lunit-vits16": (224, None, "bicubic", LUNIT, "float32", False, "Lunit"),
    **{
        f"lunit-rn50-{method}": (
            *(224, None, "bicubic", IMAGENET, "float32", False),
            "Lunit",
        )
        for method in ("bt", "mocov2", "swav")
    },
    "prost40m": (224, None, "bicubic", IMAGENET, "float32", False, "unknown"),
    "sp22m": (224, None, "bicubic", IMAGENET, "float32", False, "CC-BY-NC-SA-4.0"),
    "hipt": (256, None, "bicubic", HALF, "float32", False, "Apache-2.0 with Commons"),
    "retccl": (256, None, "bicubic", IMAGENET, "float32", False, "GPL-3.0"),
    "gigapath-flash": (
        *(224, 256, "bicubic", IMAGENET, "float16", True),
        "Apache-2.0 with terms",
    ),
    "genbio-pathfm": (224, None, "bicubic", GENBIO, "bfloat16", False, "GenBio"),
    "plip": (224, None, "bicubic", CLIP, "float32", False, "MIT"),
    "quiltnet": (224, None, "bicubic", CLIP, "float32", False, "MIT"),
    "biomedclip": (224, None, "bicubic", CLIP, "float32", False, "MIT"),
    "dinov2-vitl14": (224, None, "bicubic", IMAGENET, "float32", False, "Apache-2.0"),
    "resnet50": (224, None, "bilinear", IMAGENET, "float32", False, "BSD-3"),
    "resnet50-layer3": (224, None, "bilinear", IMAGENET, "float32", False, "BSD-3"),
}
SQUASHED = {"phikon", "genbio-pathfm"}

PUBLISHED = [name for name in CATALOG if name not in HANDCRAFTED]


def test_the_tables_of_this_file_cover_the_catalogue():
    assert {*TRANSFORMERS, *OTHERS, *UNBUILT} == set(PUBLISHED)
    assert set(PREPROCESSING) == set(PUBLISHED)
    assert set(list_teachers()) >= {*PUBLISHED, *HANDCRAFTED}


def test_the_papers_four_teachers_come_first():
    without_variants = [name for name in CATALOG if name != "virchow-cls"]
    assert without_variants[:4] == ["uni", "phikon-v2", "virchow", "gigapath"]


@pytest.mark.parametrize("name", CATALOG)
def test_every_row_says_where_it_is_from_and_under_which_licence(name):
    spec = get_teacher(name)
    assert name == spec.name == name.lower()
    assert spec.licence
    assert spec.source
    assert spec.dim
    if name in PUBLISHED:
        assert spec.source.startswith("https://")


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_are_from_the_repository_that_the_row_names(name):
    spec = get_teacher(name)
    repository = spec.source.removeprefix("https://huggingface.co/")
    if spec.weights is not None:
        assert spec.weights.startswith(f"hf-hub:{repository}/")
        assert spec.weights.endswith((".safetensors", ".bin", ".pth", ".pt"))
    else:
        # Else weights would be timm's own, or none at all.
        assert spec.requires or spec.architecture == f"hf-hub:{repository}"


@pytest.mark.parametrize("name", CATALOG)
def test_every_row_survives_pickling(name):
    spec = get_teacher(name)
    restored = pickle.loads(pickle.dumps(spec))
    assert restored == spec
    assert restored.fingerprint() == spec.fingerprint()


def test_no_two_rows_are_the_same_teacher():
    assert len({spec.fingerprint() for spec in CATALOG.values()}) == len(CATALOG)


@pytest.mark.parametrize("name", [n for n, spec in CATALOG.items() if spec.build])
def test_the_fingerprint_of_our_own_networks_is_declared(name):
    # Bytecode would tie it to a version of Python, and of skshazam.
    spec = get_teacher(name)
    assert vars(spec.build)["__fingerprint__"] == f"skshazam.{name}/1"


@pytest.fixture(scope="module")
def built():
    """Return a function that builds a row's network on the meta device, once."""
    networks = {}

    def build(name):
        spec = get_teacher(name)
        key = (spec.architecture, spec.architecture_kwargs, spec.build)
        if key not in networks:
            with torch.device("meta"):
                networks[key] = _build(dataclasses.replace(spec, weights="random"))[0]
        return networks[key]

    return build


def millions_of(network):
    return sum(value.numel() for value in network.state_dict().values()) / 1e6


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_has_the_published_shape(built, name):
    dim, pooling, width, n_prefix, n_positions, depth, fc1, scaled, millions = (
        TRANSFORMERS[name]
    )
    spec, network = get_teacher(name), built(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert (spec.dim, spec.pooling) == (dim, pooling)
    assert (network.num_features, network.num_prefix_tokens) == (width, n_prefix)
    assert shapes["pos_embed"] == (1, n_positions, width)
    assert len(network.blocks) == depth
    assert shapes["blocks.0.mlp.fc1.weight"] == (fc1, width)
    assert ("blocks.0.ls1.gamma" in shapes) == scaled
    assert not any(key.startswith("head") for key in shapes)
    assert millions_of(network) == pytest.approx(millions, abs=0.02)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_returns_what_its_pooling_takes(built, name):
    dim, pooling, width, n_prefix, *_ = TRANSFORMERS[name]
    spec, network = get_teacher(name), built(name)
    images = torch.empty(2, 3, *spec.input_size, device="meta")
    patch = network.patch_embed.patch_size[0]
    n_tokens = n_prefix + (spec.input_size[0] // patch) ** 2
    # The first block stands for all, each of which keeps the shape.
    shallow = copy.copy(network)
    shallow._modules = {**network._modules, "blocks": network.blocks[:1]}
    assert shallow.forward_features(images).shape == (2, n_tokens, width)
    if pooling == "model":
        assert shallow(images).shape == (2, dim)
    else:
        assert dim == width * len(pooling.split("+"))


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_has_the_published_size(built, name):
    dim, millions = OTHERS[name]
    spec, network = get_teacher(name), built(name)
    images = torch.empty(2, 3, *spec.input_size, device="meta")
    assert network(images).shape == (2, dim)
    assert (spec.dim, spec.pooling) == (dim, "model")
    assert millions_of(network) == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("name", PREPROCESSING)
def test_the_preprocessing_of_a_row_is_the_published_one(name):
    pixels, resize, interpolation, colours, dtype, gated, licence = PREPROCESSING[name]
    spec = get_teacher(name)
    assert spec.input_size == (pixels, pixels)
    assert (spec.resize, spec.interpolation) == (resize, interpolation)
    assert spec.crop is (name not in SQUASHED)
    assert (spec.mean, spec.std) == colours
    assert (spec.dtype, spec.gated) == (dtype, gated)
    assert spec.licence.startswith(licence)


@pytest.mark.parametrize("name", UNBUILT)
def test_a_row_that_cannot_be_built_here_has_its_length(name):
    assert get_teacher(name).dim == UNBUILT[name]


@pytest.mark.parametrize("name", [n for n, spec in CATALOG.items() if spec.requires])
def test_a_row_that_needs_more_says_so_before_anything_is_fetched(name):
    with pytest.raises(MissingDependencyError) as caught:
        load_teacher(get_teacher(name), "cpu")
    message = str(caught.value)
    assert name in message
    assert get_teacher(name).requires in message
    has_network = name == "hipt" or name.startswith("lunit-rn50")
    assert ("weights={" if has_network else "build=function") in message


def test_a_row_that_needs_a_package_takes_the_users_own_network():
    spec = dataclasses.replace(
        get_teacher("plip"), build=FiveHundredTwelve, requires=None
    )
    assert load_teacher(spec, "cpu").dim == 512


class FiveHundredTwelve(torch.nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :512]


DOUBTS = {
    "uni": ("dtype",),
    "phikon-v2": ("interpolation",),
    "phikon": ("crop",),
    "gpfm": ("licence",),
    "gigapath": ("resize",),
    "gigapath-flash": ("architecture", "resize"),
    "midnight": ("dtype",),
    "midnight-cls": ("dtype",),
    "hibou-b": ("dtype",),
    "h-optimus-0": ("interpolation",),
    "mstar": ("mean", "std"),
    "kaiko-vitl14": ("weights", "mean", "std"),
    "lunit-vits16": ("mean", "std"),
    "lunit-rn50-bt": ("mean", "std", "names in the checkpoint"),
    "prost40m": ("architecture",),
    "conch": ("attention pooling",),
    **dict.fromkeys(("virchow", "virchow-cls", "virchow2", "virchow2-cls"), ("crop",)),
}


def test_unverified_facts_are_named_by_field_where_they_are_one():
    # These are known to be in doubt; see the comments beside the rows.
    for name, doubts in DOUBTS.items():
        assert set(doubts) <= set(get_teacher(name).unverified), name
    assert get_teacher("musk").unverified == ("names in the checkpoint",)


@pytest.mark.parametrize("name", CATALOG)
def test_what_is_unverified_is_a_field_or_a_phrase(name):
    fields = {field.name for field in dataclasses.fields(get_teacher(name))}
    for fact in get_teacher(name).unverified:
        assert fact in fields or " " in fact


VARIANTS = {
    "virchow-cls": ("virchow", 2560, "cls+mean"),
    "virchow2-cls": ("virchow2", 2560, "cls+mean"),
    "midnight-cls": ("midnight", 3072, "cls+mean"),
    "h0-mini-cls-mean": ("h0-mini", 768, "cls"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_its_card_in_pooling_alone(name):
    card, dim, pooling = VARIANTS[name]
    changed = dataclasses.replace(
        get_teacher(name), name=card, dim=dim, pooling=pooling
    )
    assert changed == get_teacher(card)


@pytest.mark.parametrize(("name", "dim"), HANDCRAFTED.items())
def test_the_handcrafted_rows_load_without_weights(name, dim):
    spec = get_teacher(name)
    assert spec.weights is None
    assert spec.dim == load_teacher(spec, "cpu").dim == dim
    assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))


# One of each kind of pooling, registers and positions, one block deep, run for real.
SHALLOW = [
    "uni2-h",
    "virchow2",
    "h0-mini-cls-mean",
    "midnight",
    "hibou-b",
    "kaiko-vits16",
    "kaiko-vitl14",
    "dinov2-vitl14",
    "musk",
    "hipt",
]


def shallow_of(name):
    """Return a row one block deep and narrow, with random weights."""
    spec = get_teacher(name)
    narrow = {"embed_dim": 48, "num_heads": 2, "depth": 1}
    return dataclasses.replace(
        spec,
        architecture_kwargs={**spec.architecture_kwargs, **narrow},
        weights="random",
        dim=48 * (2 if spec.pooling == "cls+mean" else 1),
    )


@pytest.mark.parametrize(
    "name", [n for n, row in TRANSFORMERS.items() if row[1] != "model"]
)
@torch.inference_mode()
def test_registers_are_left_out_of_the_vector_of_a_row(name):
    n_prefix = TRANSFORMERS[name][3]
    spec = shallow_of(name)
    module = load_teacher(spec, "cpu").module
    images = torch.randn(2, 3, *spec.input_size)
    tokens = module.forward_features(images)
    parts = {"cls": tokens[:, 0], "mean": tokens[:, n_prefix:].mean(1)}
    expected = torch.cat([parts[part] for part in spec.pooling.split("+")], 1)
    found = pooled_features(module, images, spec)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    # The registers, taken as patches, would be seen.
    others = tokens[:, 1:].mean(1)
    assert n_prefix == 1 or (others - parts["mean"]).abs().max() > 1e-4


@pytest.mark.parametrize("name", SHALLOW)
def test_a_shallow_network_gives_the_vector_that_the_row_promises(name, tiles):
    shallow = shallow_of(name)
    features = load_teacher(shallow, "cpu")(tiles)
    assert features.shape == (len(tiles), shallow.dim)
    assert features.std(dim=0).max() > 0
