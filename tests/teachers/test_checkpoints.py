"""Checkpoints in transformers' layout become timm's: same network, same output."""

import pytest
import torch

from skshazam.exceptions import CheckpointMismatchError
from skshazam.teachers import load_teacher
from skshazam.teachers._checkpoints import to_timm_layout
from tests.tiny_teachers import TINY_VIT, tiny_vit

PLAIN = {**TINY_VIT, "depth": 2}
SCALED = {**PLAIN, "init_values": 1e-5}
SWIGLU = {
    **SCALED,
    "mlp_layer": "timm.layers.SwiGLUPacked",
    "act_layer": "torch.nn.SiLU",
}

# What transformers calls the parts of a block, by timm's names.
VIT = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
DINOV2 = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
DINOV2_SWIGLU = {**DINOV2, "mlp.fc1": "mlp.weights_in", "mlp.fc2": "mlp.weights_out"}
TOP = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
DINOV2_EXTRAS = {"embeddings.mask_token": (1, 24)}
VIT_EXTRAS = {"pooler.dense.weight": (24, 24), "pooler.dense.bias": (24,)}
CLASSIFIER = {"classifier.weight": (5, 24), "classifier.bias": (5,)}

# timm's arguments, names of a block's parts, key prefix, tensors that no feature needs.
LAYOUTS = {
    "ViTModel": (PLAIN, VIT, "", VIT_EXTRAS),
    "ViTForImageClassification": (PLAIN, VIT, "vit.", CLASSIFIER),
    "Dinov2Model": (SCALED, DINOV2, "", DINOV2_EXTRAS),
    "Dinov2ForImageClassification": (SCALED, DINOV2, "dinov2.", CLASSIFIER),
    "Dinov2Model, SwiGLU": (SWIGLU, DINOV2_SWIGLU, "", DINOV2_EXTRAS),
    "wrapped": (SCALED, DINOV2, "model.", DINOV2_EXTRAS),
}


def random_state(arguments, seed=0):
    """Return timm's state dict with every tensor random, so that no two are alike."""
    generator = torch.Generator().manual_seed(seed)
    state = load_teacher(tiny_vit(architecture_kwargs=arguments), "cpu").module
    return {
        key: 0.5 * torch.randn(value.shape, generator=generator)
        for key, value in state.state_dict().items()
    }


def in_transformers_layout(state, parts, prefix):
    """Return the same tensors under the names that transformers gives them."""
    renamed = {}
    for key, value in state.items():
        if key in TOP:
            renamed[prefix + TOP[key]] = value
            continue
        _, block, name = key.split(".", 2)
        start = f"{prefix}encoder.layer.{block}."
        if name.startswith("attn.qkv."):
            kind = name.rpartition(".")[2]
            roles = zip(("query", "key", "value"), value.chunk(3), strict=True)
            for role, part in roles:
                renamed[f"{start}attention.attention.{role}.{kind}"] = part
        elif name in parts:
            renamed[start + parts[name]] = value
        else:
            part, _, kind = name.rpartition(".")
            renamed[f"{start}{parts[part]}.{kind}"] = value
    return renamed


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def checkpoint(request):
    """Return timm's arguments, timm's state and the same in another layout."""
    arguments, parts, prefix, extras = request.param
    state = random_state(arguments)
    foreign = in_transformers_layout(state, parts, prefix)
    unused = {
        key if key.startswith("classifier") else prefix + key: torch.zeros(shape)
        for key, shape in extras.items()
    }
    return arguments, state, {**foreign, **unused}


def test_the_inverse_in_this_file_leaves_no_name_of_timm(checkpoint):
    _, state, foreign = checkpoint
    assert not set(foreign) & set(state)


def test_every_tensor_comes_back_under_timms_name(checkpoint):
    _, state, foreign = checkpoint
    returned = to_timm_layout(foreign)
    assert set(returned) == set(state)
    for key, value in state.items():
        torch.testing.assert_close(returned[key], value, rtol=0, atol=0)


def test_the_order_of_the_keys_does_not_matter(checkpoint):
    _, state, foreign = checkpoint
    returned = to_timm_layout(dict(reversed(foreign.items())))
    assert all(torch.equal(returned[key], value) for key, value in state.items())


def test_the_input_is_not_changed(checkpoint):
    _, _, foreign = checkpoint
    keys = list(foreign)
    to_timm_layout(foreign)
    assert list(foreign) == keys


def test_both_layouts_load_strictly_and_give_the_same_features(
    checkpoint, tmp_path, tiles
):
    arguments, state, foreign = checkpoint
    torch.save(state, tmp_path / "timm.pt")
    torch.save(foreign, tmp_path / "foreign.pt")
    features = [
        load_teacher(
            tiny_vit(architecture_kwargs=arguments, weights=tmp_path / name), "cpu"
        )(tiles)
        for name in ("timm.pt", "foreign.pt")
    ]
    assert features[0].std() > 0.1
    torch.testing.assert_close(features[0], features[1], rtol=0, atol=0)


def test_timms_own_layout_is_returned_as_it_is():
    state = random_state(PLAIN)
    assert to_timm_layout(state) is state


@pytest.mark.parametrize(
    "keys",
    [
        ["conv1.weight", "layer1.0.conv1.weight"],
        ["model.cls_token", "model.blocks.0.norm1.weight"],
        ["encoder.layer.0.attention.attention.query.weight"],
        [],
    ],
)
def test_other_layouts_are_returned_as_they_are(keys):
    state = {key: torch.zeros(1) for key in keys}
    assert to_timm_layout(state) is state


def test_a_key_that_no_rule_knows_is_kept_and_named_on_loading(tmp_path):
    foreign = in_transformers_layout(random_state(SCALED), DINOV2, "")
    foreign["embeddings.novelty"] = torch.zeros(1)
    assert "embeddings.novelty" in to_timm_layout(foreign)
    torch.save(foreign, tmp_path / "new.pt")
    spec = tiny_vit(architecture_kwargs=SCALED, weights=tmp_path / "new.pt")
    with pytest.raises(CheckpointMismatchError, match=r"unknown.*embeddings\.novelty"):
        load_teacher(spec, "cpu")


@pytest.mark.parametrize("role", ["query", "key", "value"])
def test_a_missing_projection_is_reported_and_not_filled_in(tmp_path, role):
    foreign = in_transformers_layout(random_state(PLAIN), VIT, "")
    del foreign[f"encoder.layer.1.attention.attention.{role}.weight"]
    torch.save(foreign, tmp_path / "partial.pt")
    spec = tiny_vit(architecture_kwargs=PLAIN, weights=tmp_path / "partial.pt")
    with pytest.raises(
        CheckpointMismatchError, match=r"blocks\.1\.attn\.qkv\.weight \(48, 24\)"
    ):
        load_teacher(spec, "cpu")
