"""Checkpoints of DINOv2's and BEiT-3's own code, and in wrappers of training code."""

import argparse
import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from skshazam.exceptions import CheckpointMismatchError
from skshazam.teachers import load_teacher
from skshazam.teachers._checkpoints import to_timm_layout
from tests.teachers import reference_networks
from tests.tiny_teachers import tiny_vit

WIDTH, PATCH, GRID, HIDDEN = 24, 8, 4, 32
SIDE = PATCH * GRID
SIZES = {"n_heads": 2, "patch": PATCH, "depth": 2}
VIT = {
    "img_size": SIDE,
    "patch_size": PATCH,
    "embed_dim": WIDTH,
    "depth": 2,
    "num_heads": 2,
}
SCALED = {**VIT, "init_values": 1e-5}
SWIGLU = {
    "mlp_ratio": 2 * HIDDEN / WIDTH + 1e-4,
    "mlp_layer": "timm.layers.SwiGLUPacked",
    "act_layer": "torch.nn.SiLU",
}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True}
BEIT3 = {
    **VIT,
    "scale_attn_norm": True,
    "scale_mlp_norm": True,
    "norm_layer": {"partial": "torch.nn.LayerNorm", "eps": 1e-5},
}


def random_tensors(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        key: 0.3 * torch.randn(shape, generator=generator) + ("norm" in key)
        for key, shape in shapes.items()
    }


def layers(*names_and_shapes):
    """Return the shapes of linear layers and norms: (name, out[, in])."""
    shapes = {}
    for name, *shape in names_and_shapes:
        shapes[f"{name}.weight"] = tuple(shape)
        shapes[f"{name}.bias"] = tuple(shape[:1])
    return shapes


def dinov2_checkpoint(*, swiglu=False, registers=False, mask_token=True, grid=GRID):
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + grid**2, WIDTH),
        **layers(("patch_embed.proj", WIDTH, 3, PATCH, PATCH), ("norm", WIDTH)),
    }
    if mask_token:
        shapes["mask_token"] = (1, WIDTH)
    if registers:
        shapes["register_tokens"] = (1, 4, WIDTH)
    for block in range(2):
        name = f"blocks.{block}"
        shapes |= layers(
            (f"{name}.norm1", WIDTH),
            (f"{name}.norm2", WIDTH),
            (f"{name}.attn.qkv", 3 * WIDTH, WIDTH),
            (f"{name}.attn.proj", WIDTH, WIDTH),
        )
        shapes[f"{name}.ls1.gamma"] = shapes[f"{name}.ls2.gamma"] = (WIDTH,)
        first, second = ("w12", "w3") if swiglu else ("fc1", "fc2")
        inner = HIDDEN if swiglu else 4 * WIDTH
        shapes |= layers(
            (f"{name}.mlp.{first}", (2 if swiglu else 1) * inner, WIDTH),
            (f"{name}.mlp.{second}", WIDTH, inner),
        )
    return random_tensors(shapes)


def beit3_checkpoint():
    shapes = {
        "beit3.text_embed.weight": (9, WIDTH),
        "beit3.vision_embed.cls_token": (1, 1, WIDTH),
        "beit3.vision_embed.mask_token": (1, 1, WIDTH),
        "beit3.encoder.embed_positions.A.weight": (2 + 1 + GRID**2, WIDTH),
        "beit3.encoder.embed_positions.B.weight": (7, WIDTH),
        "vision_head.weight": (WIDTH, WIDTH),
        "language_head.weight": (WIDTH, WIDTH),
        "logit_scale": (),
        **layers(("beit3.vision_embed.proj", WIDTH, 3, PATCH, PATCH)),
    }
    for branch in "AB":
        for layer in range(2):
            name = f"beit3.encoder.layers.{layer}"
            shapes |= layers(
                *(
                    (f"{name}.self_attn.{role}_proj.{branch}", WIDTH, WIDTH)
                    for role in ("q", "k", "v", "out")
                ),
                (f"{name}.self_attn.inner_attn_ln.{branch}", WIDTH),
                (f"{name}.self_attn_layer_norm.{branch}", WIDTH),
                (f"{name}.final_layer_norm.{branch}", WIDTH),
                (f"{name}.ffn.{branch}.fc1", 4 * WIDTH, WIDTH),
                (f"{name}.ffn.{branch}.fc2", WIDTH, 4 * WIDTH),
                (f"{name}.ffn.{branch}.ffn_layernorm", 4 * WIDTH),
            )
        shapes |= layers((f"beit3.encoder.layer_norm.{branch}", WIDTH))
    return random_tensors(shapes)


def module_with(state, arguments, folder):
    torch.save(state, folder / "published.bin")
    spec = tiny_vit(
        architecture_kwargs=arguments, weights=folder / "published.bin", size=SIDE
    )
    return load_teacher(spec, "cpu").module


def in_chunks(state):
    """Return the blocks as blocks.<chunk>.<block>, one block a chunk."""
    return {
        f"blocks.{key.split('.')[1]}.{key.removeprefix('blocks.')}"
        if key.startswith("blocks.")
        else key: value
        for key, value in state.items()
    }


DINOV2 = {
    "MLP": ({}, SCALED),
    "MLP without mask token": ({"mask_token": False}, SCALED),
    "SwiGLU": ({"swiglu": True}, {**SCALED, **SWIGLU}),
    "SwiGLU without mask token": (
        {"swiglu": True, "mask_token": False},
        {**SCALED, **SWIGLU},
    ),
    "registers": ({"registers": True}, {**SCALED, **REGISTERS}),
    "registers, SwiGLU, no mask token": (
        {"registers": True, "swiglu": True, "mask_token": False},
        {**SCALED, **REGISTERS, **SWIGLU},
    ),
}
NAMINGS = {"whole": dict, "in chunks": in_chunks}


@pytest.mark.parametrize("naming", NAMINGS.values(), ids=NAMINGS)
@pytest.mark.parametrize(("options", "arguments"), DINOV2.values(), ids=DINOV2)
@torch.inference_mode()
def test_dinov2s_own_checkpoints_give_dinov2s_tokens(
    options, arguments, naming, tmp_path
):
    state = naming(dinov2_checkpoint(**options))
    images = torch.randn(2, 3, SIDE, SIDE)
    expected = reference_networks.dinov2(state, images, **SIZES)
    tokens = module_with(state, arguments, tmp_path).forward_features(images)
    assert expected.std() > 0.3
    # Measured: at most 3.3e-6, on values of about 1.
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_registers_have_no_positions_and_the_class_token_keeps_its_own(tmp_path):
    state = dinov2_checkpoint(registers=True)
    module = module_with(state, {**SCALED, **REGISTERS}, tmp_path)
    assert torch.equal(module.cls_token, state["cls_token"] + state["pos_embed"][:, :1])
    assert torch.equal(module.pos_embed, state["pos_embed"][:, 1:])
    assert torch.equal(module.reg_token, state["register_tokens"])


@pytest.mark.parametrize("registers", [True, False])
def test_positions_of_another_grid_are_resized_once_as_transformers_does(
    registers, tmp_path
):
    state = dinov2_checkpoint(registers=registers, grid=9)
    arguments = {**SCALED, **(REGISTERS if registers else {})}
    module = module_with(state, arguments, tmp_path)
    table = state["pos_embed"][:, 1:].reshape(1, 9, 9, WIDTH).permute(0, 3, 1, 2)
    # transformers smooths where there are registers, and only there. DINOv2's own code
    # without registers scales by another factor, which is not claimed.
    expected = functional.interpolate(
        table, size=(GRID, GRID), mode="bicubic", antialias=registers
    )
    on_patches = module.pos_embed[:, -(GRID**2) :]
    torch.testing.assert_close(on_patches, expected.flatten(2).mT, rtol=0, atol=1e-6)


def test_timms_own_positions_are_never_resized(tmp_path):
    state = to_timm_layout(dinov2_checkpoint(mask_token=False, grid=9))
    with pytest.raises(CheckpointMismatchError, match="pos_embed"):
        module_with(state, SCALED, tmp_path)


@torch.inference_mode()
def test_registers_of_virchow2s_kind_keep_their_positions(tmp_path):
    # Positions for class token and registers too: timm's own naming, no table to split.
    arguments = {**SCALED, "reg_tokens": 4}
    state = to_timm_layout(dinov2_checkpoint())
    state["reg_token"] = torch.randn(1, 4, WIDTH)
    state["pos_embed"] = torch.randn(1, 5 + GRID**2, WIDTH)
    module = module_with(state, arguments, tmp_path)
    assert torch.equal(module.pos_embed, state["pos_embed"])
    assert torch.equal(module.cls_token, state["cls_token"])


@torch.inference_mode()
def test_beit3s_image_branch_gives_beit3s_tokens(tmp_path):
    state = beit3_checkpoint()
    images = torch.randn(2, 3, SIDE, SIDE)
    expected = reference_networks.beit3(state, images, **SIZES)
    tokens = module_with(state, BEIT3, tmp_path).forward_features(images)
    assert expected.std() > 0.3
    # Measured: 9.6e-7, on values of about 1.
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def with_heads(state):
    """Return a state beside which the heads of self-distillation lie."""
    heads = ("dino_head.mlp.0.weight", "ibot_head.last_layer.weight")
    return {**state, **{head: torch.zeros(2, 2) for head in heads}}


# How the files on the Hub and in releases hold their networks.
WRAPPERS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "encoder.": functools.partial(under, "encoder."),
    "module.": functools.partial(under, "module."),
    "teacher and student": lambda state: {
        "teacher": under("module.backbone.", state)
        | {"module.head.mlp.0.weight": torch.zeros(2, 2)},
        "student": under("module.backbone.", random_tensors({"cls_token": (1, 1, 4)})),
        "epoch": 90,
    },
    "teacher, heads": lambda state: {"teacher": with_heads(under("backbone.", state))},
    "teacher., flat": lambda state: {
        **under("teacher.backbone.", state),
        **under("teacher.", with_heads({})),
        **under("student.backbone.", random_tensors({"cls_token": (1, 1, WIDTH)})),
    },
    "arguments beside": lambda state: {
        "teacher": under("module.backbone.", state),
        "args": argparse.Namespace(arch="vit_small", lr=[1e-3], seed=None),
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("layout", ["timm", "dinov2", "dinov2 in chunks"])
def test_a_network_is_found_in_its_wrapper(layout, wrapper, tmp_path):
    own = dinov2_checkpoint()
    plain = to_timm_layout(own)
    state = {"timm": plain, "dinov2": own, "dinov2 in chunks": in_chunks(own)}[layout]
    module = module_with(wrapper(state), SCALED, tmp_path)
    for key, value in module.state_dict().items():
        assert torch.equal(value, plain[key]), key


REFUSED = {
    "the student alone": lambda state: under("student.backbone.", state),
    "two networks": lambda state: {
        **under("backbone.", state),
        **under("encoder.", state),
    },
    "an unknown wrapper": functools.partial(under, "net.trunk."),
    "a stranger beside it": lambda state: {
        **under("backbone.", state),
        "decoder.weight": torch.zeros(2),
    },
    "a block in two chunks": lambda state: {
        **in_chunks(state),
        "blocks.7.1.norm1.weight": torch.zeros(WIDTH),
    },
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_its_keys(change, tmp_path):
    with pytest.raises(CheckpointMismatchError, match="unknown to the architecture"):
        module_with(change(dinov2_checkpoint()), SCALED, tmp_path)


def test_a_checkpoint_that_would_run_code_is_refused_still(tmp_path):
    from skshazam.exceptions import TeacherLoadingError

    with pytest.raises(TeacherLoadingError, match="could run code"):
        module_with({"teacher": {}, "args": functools.partial(print)}, VIT, tmp_path)


KEYS = sorted({*dinov2_checkpoint(swiglu=True, registers=True), *beit3_checkpoint()})
WORDS = st.sampled_from(
    [
        *KEYS,
        *in_chunks(dinov2_checkpoint()),
        "embeddings.cls_token",
        "embeddings.position_embeddings",
        "embeddings.register_tokens",
        *(f"layers.0.attention.{role}_proj.weight" for role in "qkv"),
        "layers.0.mlp.gate_proj.bias",
        "layers.0.mlp.up_proj.bias",
        "encoder.layer.0.attention.attention.query.weight",
        "classifier.weight",
    ]
)
PREFIXES = st.sampled_from(["", "", "model.", "teacher.backbone.", "vit.", "student."])
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.int64])
TENSORS = st.builds(torch.zeros, SHAPES, dtype=DTYPES)
STATES = st.dictionaries(
    st.one_of(st.builds("{}{}".format, PREFIXES, WORDS), st.text(max_size=9)),
    TENSORS,
    max_size=12,
)
GRIDS = st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(state=STATES, grid=GRIDS)
def test_no_state_dict_makes_the_remap_fail_or_grow(state, grid):
    before = {key: (id(value), value.shape) for key, value in state.items()}
    remapped = to_timm_layout(state, grid)
    assert {key: (id(value), value.shape) for key, value in state.items()} == before
    assert len(remapped) <= len(state)
    assert all(isinstance(value, torch.Tensor) for value in remapped.values())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    options=st.sampled_from([options for options, _ in DINOV2.values()]),
    naming=st.sampled_from(list(NAMINGS.values())),
    data=st.data(),
)
def test_a_damaged_checkpoint_is_remapped_or_left_but_never_fails(
    options, naming, data
):
    state = naming(dinov2_checkpoint(**options))
    for key in data.draw(st.lists(st.sampled_from(sorted(state)), max_size=3)):
        damaged = data.draw(st.none() | TENSORS)
        state.pop(key, None)
        if damaged is not None:
            state[key] = damaged
    remapped = to_timm_layout(state, (GRID, GRID))
    unchanged = {id(value) for value in remapped.values()}
    lost = {key for key, value in state.items() if id(value) not in unchanged}
    assert lost <= {"mask_token", "pos_embed", "cls_token"}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    side=st.integers(1, 8),
    grid=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    registers=st.booleans(),
)
def test_positions_that_are_all_alike_stay_so_on_any_grid(side, grid, registers):
    state = dinov2_checkpoint(registers=registers, grid=side)
    state["pos_embed"] = state["pos_embed"][:, :1].expand(-1, 1 + side**2, -1)
    positions = to_timm_layout(state, grid)["pos_embed"]
    assert positions.shape[1] == math.prod(grid) + (not registers)
    expected = state["pos_embed"][:, :1].expand_as(positions)
    torch.testing.assert_close(positions, expected, rtol=0, atol=1e-5)
