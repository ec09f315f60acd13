"""Networks that timm has not: they load what was published and compute the same."""

import dataclasses
import functools
import pickle

import pytest
import torch

from skshazam import TeacherSpec
from skshazam.exceptions import CheckpointMismatchError, TeacherSpecError
from skshazam.teachers import get_teacher, load_teacher
from skshazam.teachers._architectures import (
    Conch,
    ConchV15,
    CTransPath,
    Keep,
    ResNet50Layer3,
)
from tests.teachers import reference_networks
from tests.tiny_teachers import TINY_VIT, tiny_vit

SIDE = 32
VIT = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
SWIN = {
    "img_size": 56,
    "embed_dim": 16,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 7,
}


def randomised(network, seed=0):
    """Return a state dict of a network's shapes in which no two tensors are alike."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        noise = 0.3 * torch.randn(value.shape, generator=generator)
        is_factor = value.ndim == 1 and key.endswith((".weight", ".running_var"))
        state[key] = 1 + noise.abs() if is_factor else noise
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
    return state


def conch_checkpoint():
    state = randomised(Conch(dim=16, n_heads=4, **VIT))
    beside = {
        "visual.proj_contrast": torch.zeros(16, 16),
        "visual.attn_pool_caption.query": torch.zeros(5, 24),
        "visual.ln_caption.weight": torch.zeros(24),
        "text.token_embedding.weight": torch.zeros(9, 16),
        "text_decoder.resblocks.0.ln_1.weight": torch.zeros(16),
        "logit_scale": torch.tensor(1.0),
    }
    return {**{f"visual.{key}": value for key, value in state.items()}, **beside}


def conch_v15_checkpoint():
    return randomised(ConchV15(dim=16, n_heads=4, **VIT))


def keep_checkpoint():
    beside = {
        "text.embeddings.word_embeddings.weight": torch.zeros(9, 16),
        "logit_scale": torch.tensor(1.0),
    }
    state = randomised(Keep(dim=16, **VIT))
    return {
        **{key.replace(".gamma", ".weight"): value for key, value in state.items()},
        **beside,
    }


def ctranspath_checkpoint():
    state = randomised(CTransPath(**SWIN))
    old = {
        key.removeprefix("network.").replace("layers.1.down", "layers.0.down"): value
        for key, value in state.items()
    }
    beside = {
        "layers.0.blocks.1.attn_mask": torch.zeros(4, 49, 49),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49),
        "head.weight": torch.zeros(5, 32),
        "head.bias": torch.zeros(5),
    }
    return {**old, **beside}


VIT_SIZES = {"n_heads": 2, "patch": 8, "depth": 2}

# Our network, its checkpoint as published, pixels, and the same network again.
TOWERS = {
    "conch": (
        functools.partial(Conch, dim=16, n_heads=4, **VIT),
        conch_checkpoint,
        SIDE,
        functools.partial(reference_networks.conch, pool_heads=4, **VIT_SIZES),
    ),
    "conch-v1.5": (
        functools.partial(ConchV15, dim=16, n_heads=4, **VIT),
        conch_v15_checkpoint,
        SIDE,
        functools.partial(reference_networks.conch_v15, pool_heads=4, **VIT_SIZES),
    ),
    "keep": (
        functools.partial(Keep, dim=16, **VIT),
        keep_checkpoint,
        SIDE,
        functools.partial(reference_networks.keep, **VIT_SIZES),
    ),
    "ctranspath": (
        functools.partial(CTransPath, **SWIN),
        ctranspath_checkpoint,
        56,
        functools.partial(
            reference_networks.ctranspath, n_heads=(2, 4), depths=(2, 2), window=7
        ),
    ),
}


@pytest.fixture(params=TOWERS)
def tower(request):
    """Return a tower's name, how to build it, a checkpoint, pixels, the reference."""
    build, checkpoint, pixels, reference = TOWERS[request.param]
    return request.param, build, checkpoint(), pixels, reference


def loaded(build, state, folder, pixels):
    torch.save(state, folder / "published.bin")
    spec = TeacherSpec(
        "tower", build=build, weights=folder / "published.bin", size=pixels
    )
    return load_teacher(spec, "cpu")


@torch.inference_mode()
def test_a_published_checkpoint_gives_the_published_vector(tower, tmp_path):
    _, build, state, pixels, reference = tower
    # Of two tints, or the mean over the patches would hardly tell them apart.
    images = torch.randn(2, 3, pixels, pixels) + 3 * torch.randn(2, 3, 1, 1)
    expected = reference(state, images)
    vectors = loaded(build, state, tmp_path, pixels).module(images)
    assert expected.std() > 0.05
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)
    # Measured: at most 9.6e-7.
    torch.testing.assert_close(vectors, expected, rtol=0, atol=5e-6)


@torch.inference_mode()
def test_half_precision_moves_a_vector_by_little(tower, tmp_path):
    _, build, state, pixels, _ = tower
    module = loaded(build, state, tmp_path, pixels).module
    images = torch.randn(2, 3, pixels, pixels)
    exact = module(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = module(images)
    similarity = torch.nn.functional.cosine_similarity(exact, rounded.float())
    assert similarity.min() > 0.99
    assert not torch.equal(exact, rounded.float())


def test_every_tensor_of_the_tower_is_read_from_the_file(tower, tmp_path):
    _, build, state, pixels, _ = tower
    module = loaded(build, state, tmp_path, pixels).module
    adapted = module.adapt_checkpoint(state)
    assert set(adapted) == set(module.state_dict())
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, adapted[key], rtol=0, atol=0)


def test_adapting_leaves_the_checkpoint_as_it_is(tower):
    _, build, state, _, _ = tower
    keys = list(state)
    build().adapt_checkpoint(state)
    assert list(state) == keys


def test_a_tower_without_one_of_its_tensors_is_refused(tower, tmp_path):
    name, build, state, pixels, _ = tower
    gone = "patch_embed.proj.6.bias" if name == "ctranspath" else "blocks.1.norm2.bias"
    (key,) = [key for key in state if key.endswith(gone)]
    del state[key]
    with pytest.raises(CheckpointMismatchError, match="1 key missing from the file"):
        loaded(build, state, tmp_path, pixels)


def test_a_tower_saved_as_we_name_it_loads_too(tower, tmp_path):
    # What torch.save(teacher.module.state_dict()) gives.
    _, build, _, pixels, _ = tower
    state = randomised(build())
    module = loaded(build, state, tmp_path, pixels).module
    for key, value in module.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_the_third_stage_of_a_resnet_is_loaded_as_it_was_saved():
    state = ResNet50Layer3().state_dict()
    assert ResNet50Layer3().adapt_checkpoint(state) == state


def test_another_models_checkpoint_is_refused(tower, tmp_path):
    _, build, _, pixels, _ = tower
    with pytest.raises(CheckpointMismatchError, match="missing from the file"):
        loaded(build, {"conv1.weight": torch.zeros(3)}, tmp_path, pixels)


def test_keeps_vectors_have_length_one(tmp_path):
    build, checkpoint, pixels, _ = TOWERS["keep"]
    module = loaded(build, checkpoint(), tmp_path, pixels).module
    lengths = module(torch.randn(3, 3, pixels, pixels)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(3))


@torch.inference_mode()
def test_the_third_stage_of_a_resnet_is_what_timm_itself_gives():
    import timm

    whole = timm.create_model("resnet50", num_classes=7).eval()
    stages = timm.create_model("resnet50", features_only=True, out_indices=[3]).eval()
    stages.load_state_dict(whole.state_dict(), strict=False)
    ours = ResNet50Layer3().eval()
    ours.load_state_dict(ours.adapt_checkpoint(whole.state_dict()))
    images = torch.randn(2, 3, 64, 64)
    expected = stages(images)[0].mean((2, 3))
    assert expected.shape == (2, 1024)
    torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-6)


CHANGED_IDENTITY = """
class Tower:
    __fingerprint__ = "{identity}"

    def __call__(self):
        return {body}
"""


def fingerprint_of_class(identity, body):
    namespace = {"__name__": "__main__"}
    exec(CHANGED_IDENTITY.format(identity=identity, body=body), namespace)
    return TeacherSpec("tower", build=namespace["Tower"]).fingerprint()


def test_a_declared_identity_counts_instead_of_the_code():
    first = fingerprint_of_class("tower/1", "1")
    assert fingerprint_of_class("tower/1", "2 + 2") == first
    assert fingerprint_of_class("tower/2", "1") != first


def test_a_subclass_does_not_inherit_the_identity():
    class Other(Keep):
        def forward(self, images):
            return super().forward(images) * 2

    spec = get_teacher("keep")
    other = dataclasses.replace(spec, build=Other)
    assert other.fingerprint() != spec.fingerprint()


def test_arguments_count_beside_the_identity():
    spec = get_teacher("conch")
    narrow = dataclasses.replace(spec, build=functools.partial(Conch, dim=256))
    narrower = dataclasses.replace(spec, build=functools.partial(Conch, dim=128))
    fingerprints = {s.fingerprint() for s in (spec, narrow, narrower)}
    assert len(fingerprints) == 3


def test_functions_may_declare_an_identity_too():
    def build():
        return Keep()

    def rebuild():
        return Keep(dim=4)

    build.__fingerprint__ = rebuild.__fingerprint__ = "keep/9"
    first, second = (TeacherSpec("k", build=b).fingerprint() for b in (build, rebuild))
    assert first == second


def test_an_identity_that_is_no_text_is_ignored():
    class Odd:
        __fingerprint__ = 3

        def __call__(self):
            return 1

    class Odder:
        __fingerprint__ = 3

        def __call__(self):
            return 2

    first, second = (TeacherSpec("k", build=b).fingerprint() for b in (Odd, Odder))
    assert first != second


def test_arguments_are_bound_beforehand_as_plain_data():
    eps = {"partial": "torch.nn.LayerNorm", "eps": 0.25}
    spec = tiny_vit(architecture_kwargs={**TINY_VIT, "norm_layer": eps})
    module = load_teacher(pickle.loads(pickle.dumps(spec)), "cpu").module
    assert module.blocks[0].norm1.eps == module.norm.eps == 0.25
    assert spec.fingerprint() != tiny_vit().fingerprint()


@pytest.mark.parametrize("target", ["torch.nn.NoSuchNorm", "LayerNorm", 3, None])
def test_arguments_can_only_be_bound_to_what_can_be_called(target):
    bound = {"partial": target, "eps": 0.25}
    spec = tiny_vit(architecture_kwargs={**TINY_VIT, "norm_layer": bound})
    with pytest.raises(TeacherSpecError, match=r"tiny-vit.*architecture_kwargs"):
        load_teacher(spec, "cpu")
