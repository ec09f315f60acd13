"""Checkpoints of transformers' own models give transformers' own features."""

import re

import pytest
import torch

from skshazam.teachers import load_teacher
from skshazam.teachers._checkpoints import to_timm_layout
from tests.tiny_teachers import tiny_vit

transformers = pytest.importorskip("transformers")

WIDTH, PATCH, HIDDEN = 24, 14, 64
SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": PATCH,
}
TIMM = {"embed_dim": WIDTH, "depth": 2, "num_heads": 2, "patch_size": PATCH}
SCALED = {"init_values": 1.0}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True}
# transformers' rule: two thirds of four times the width, rounded up to 8. timm rounds
# down, hence the small addition.
SWIGLU = {
    "mlp_ratio": 2 * HIDDEN / WIDTH + 1e-4,
    "mlp_layer": "timm.layers.SwiGLUPacked",
    "act_layer": "torch.nn.SiLU",
}
EPS = {"norm_layer": {"partial": "torch.nn.LayerNorm", "eps": 1e-12}}

# Model, its further sizes, timm's further arguments, pixels trained at and run at.
CASES = {
    "ViT": ("ViT", {"intermediate_size": 4 * WIDTH}, EPS, 42, 42),
    "DINOv2": ("Dinov2", {}, SCALED, 42, 42),
    "DINOv2, SwiGLU": (
        *("Dinov2", {"use_swiglu_ffn": True}),
        *({**SCALED, **SWIGLU}, 42, 42),
    ),
    "registers": ("Dinov2WithRegisters", {}, {**SCALED, **REGISTERS}, 42, 42),
    "registers, SwiGLU": (
        *("Dinov2WithRegisters", {"use_swiglu_ffn": True}),
        *({**SCALED, **REGISTERS, **SWIGLU}, 42, 42),
    ),
    "DINOv2, 518 run at 224": ("Dinov2", {}, SCALED, 518, 224),
    "registers, 518 run at 224": (
        *("Dinov2WithRegisters", {}),
        *({**SCALED, **REGISTERS}, 518, 224),
    ),
    "DINOv2, 42 run at 70": ("Dinov2", {}, SCALED, 42, 70),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    """Return a model of transformers with random weights and the spec for timm."""
    family, sizes, arguments, trained, run = request.param
    config = getattr(transformers, f"{family}Config")(
        **SIZES, **sizes, image_size=trained
    )
    model = getattr(transformers, f"{family}Model")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    kwargs = {**TIMM, "img_size": run, **arguments}
    spec = tiny_vit(architecture_kwargs=kwargs, size=run, dim=WIDTH)
    return model, spec


NAMES_OF_VERSION_4 = (
    (r"^layers\.", "encoder.layer."),
    (r"attention\.q_proj", "attention.attention.query"),
    (r"attention\.k_proj", "attention.attention.key"),
    (r"attention\.v_proj", "attention.attention.value"),
    (r"attention\.o_proj", "attention.output.dense"),
    (r"mlp\.down_proj", "mlp.weights_out"),
)


def in_names_of_version_4(state):
    """Return a state under the names that files have had since transformers 4."""
    renamed = {}
    for key, value in state.items():
        for new, old in NAMES_OF_VERSION_4:
            key = re.sub(new, old, key)
        renamed[key] = value
    for key in [key for key in renamed if ".mlp.gate_proj." in key]:
        parts = (renamed.pop(key), renamed.pop(key.replace("gate_proj", "up_proj")))
        renamed[key.replace("gate_proj", "weights_in")] = torch.cat(parts)
    # A ViT's perceptron had names of its own.
    if "encoder.layer.0.layernorm_before.weight" in renamed:
        for new, old in (
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            renamed = {k.replace(new, old): v for k, v in renamed.items()}
    return renamed


@torch.inference_mode()
def difference(module, model, pixels):
    images = torch.randn(
        2, 3, pixels, pixels, generator=torch.Generator().manual_seed(1)
    )
    expected = model(images).last_hidden_state
    assert expected.std() > 0.1
    return (module.forward_features(images) - expected).abs().max().item()


def module_with(spec, state, tmp_path):
    torch.save(state, tmp_path / "model.bin")
    return load_teacher(
        tiny_vit(
            architecture_kwargs=spec.architecture_kwargs,
            size=spec.size,
            weights=tmp_path / "model.bin",
        ),
        "cpu",
    ).module


@pytest.mark.parametrize("names", ["of this version", "of version 4"])
def test_all_tokens_equal_those_of_transformers(case, names, tmp_path):
    # Measured: 0.0 in every case, with transformers 5.24.
    model, spec = case
    state = model.state_dict()
    if names == "of version 4":
        state = in_names_of_version_4(state)
        assert not any("_proj" in key for key in state)
    module = module_with(spec, state, tmp_path)
    assert difference(module, model, spec.size) <= 1e-6


def test_a_smaller_epsilon_is_not_a_detail(tmp_path):
    config = transformers.ViTConfig(**SIZES, intermediate_size=4 * WIDTH, image_size=42)
    model = transformers.ViTModel(config).eval()
    assert config.layer_norm_eps == 1e-12
    # Faint tokens: the first normalisation divides by little more than epsilon.
    for name, parameter in model.named_parameters():
        is_faint = name.startswith("embeddings.")
        torch.nn.init.normal_(parameter, std=1e-3 if is_faint else 0.3)
    differences = [
        difference_of_vit(model, arguments, tmp_path) for arguments in (EPS, {})
    ]
    assert differences[0] <= 1e-6
    assert differences[1] > 1e-4


def difference_of_vit(model, arguments, tmp_path):
    spec = tiny_vit(architecture_kwargs={**TIMM, "img_size": 42, **arguments}, size=42)
    return difference(module_with(spec, model.state_dict(), tmp_path), model, 42)


def test_resizing_positions_at_every_call_is_not_the_same(tmp_path):
    # timm smooths where transformers does not: why midnight is built at 224 pixels.
    config = transformers.Dinov2Config(**SIZES, image_size=518)
    model = transformers.Dinov2Model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    baked, dynamic = (
        module_with(
            tiny_vit(architecture_kwargs={**TIMM, **SCALED, **size}, size=224),
            model.state_dict(),
            tmp_path,
        )
        for size in ({"img_size": 224}, {"img_size": 518, "dynamic_img_size": True})
    )
    assert difference(baked, model, 224) <= 1e-6
    assert difference(dynamic, model, 224) > 1e-2


def test_without_a_grid_positions_are_left_alone():
    config = transformers.Dinov2Config(**SIZES, image_size=518)
    state = transformers.Dinov2Model(config).state_dict()
    assert to_timm_layout(state)["pos_embed"].shape == (1, 1370, WIDTH)
    assert to_timm_layout(state, (16, 20))["pos_embed"].shape == (1, 321, WIDTH)
