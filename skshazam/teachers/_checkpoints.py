"""Key remaps from other checkpoint layouts to timm's.

Pure functions on state dicts; reading files is the business of ``_weights``. A layout
is recognised by its own keys; what is not recognised is returned as it is, so that the
strict load refuses it.
"""

import math
import re

import torch
from torch.nn import functional

__all__ = ["CHECKPOINT_VERSION", "to_timm_layout"]

# Part of every fingerprint: raise it whenever a checkpoint that loaded before gives
# other weights, here or in ``_weights``.
CHECKPOINT_VERSION = 1

State = dict[str, torch.Tensor]

# What training code and wrappers put in front of a network's own names. Not "student.":
# the published network is the teacher.
_WRAPPERS = (
    "module|model|teacher|backbone|encoder|visual|vit|dinov2|dinov2_with_registers"
)
_ANCHOR = re.compile(
    rf"((?:(?:{_WRAPPERS})\.)*)"
    r"(embeddings\.cls_token|beit3\.vision_embed\.cls_token|cls_token)"
)
# Beside the network, under its wrapper or another's: heads and the student.
_BESIDE = re.compile(
    rf"(?:(?:{_WRAPPERS})\.)*(?:student|head|dino_head|ibot_head|classifier)\..+"
)

# transformers' ViTModel, Dinov2Model and Dinov2WithRegistersModel, in the files of
# versions 4 and 5 and in the memory of version 5.
_LAYER = r"(?:encoder\.layer|layers)\.(\d+)\."
_TRANSFORMERS = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.patch_embeddings\.projection\.(.+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(.+)", r"norm.\1"),
    (
        _LAYER + r"attention\.attention\.(q|k|v)(?:uery|ey|alue)\.(.+)",
        r"blocks.\1.attn.\2.\3",
    ),
    (_LAYER + r"attention\.([qkv])_proj\.(.+)", r"blocks.\1.attn.\2.\3"),
    (_LAYER + r"attention\.(?:output\.dense|o_proj)\.(.+)", r"blocks.\1.attn.proj.\2"),
    (_LAYER + r"layernorm_before\.(.+)", r"blocks.\1.norm1.\2"),
    (_LAYER + r"layernorm_after\.(.+)", r"blocks.\1.norm2.\2"),
    (_LAYER + r"intermediate\.dense\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (_LAYER + r"output\.dense\.(.+)", r"blocks.\1.mlp.fc2.\2"),
    (_LAYER + r"(norm[12]\..+)", r"blocks.\1.\2"),
    (_LAYER + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (_LAYER + r"mlp\.(fc[12]\..+)", r"blocks.\1.mlp.\2"),
    (_LAYER + r"mlp\.(gate|up)_proj\.(.+)", r"blocks.\1.mlp.\2.\3"),
    (_LAYER + r"mlp\.weights_in\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (_LAYER + r"mlp\.(?:weights_out|down_proj)\.(.+)", r"blocks.\1.mlp.fc2.\2"),
)
_TRANSFORMERS_LEFT_OUT = r"embeddings\.mask_token|pooler\..+|classifier\..+"

# facebookresearch/dinov2, whole or with its blocks in chunks (blocks.<chunk>.<block>).
_DINOV2 = (
    (r"register_tokens", "reg_token"),
    (r"blocks\.(?:\d+\.)?(\d+)\.mlp\.w12\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (r"blocks\.(?:\d+\.)?(\d+)\.mlp\.w3\.(.+)", r"blocks.\1.mlp.fc2.\2"),
    (r"blocks\.\d+\.(\d+)\.(.+)", r"blocks.\1.\2"),
)
_DINOV2_LEFT_OUT = r"mask_token"
_DINOV2_OWN = re.compile(
    r"mask_token|register_tokens|blocks\.\d+\.mlp\.w12\..+|blocks\.\d+\.\d+\..+"
)

# torchscale's BEiT-3 of two branches: A sees images, B texts.
_BEIT3_LAYER = r"beit3\.encoder\.layers\.(\d+)\."
_BEIT3 = (
    (r"beit3\.vision_embed\.cls_token", "cls_token"),
    (r"beit3\.vision_embed\.proj\.(.+)", r"patch_embed.proj.\1"),
    (r"beit3\.encoder\.embed_positions\.A\.weight", "pos_embed"),
    (r"beit3\.encoder\.layer_norm\.(?:A\.)?(.+)", r"norm.\1"),
    (
        _BEIT3_LAYER + r"self_attn\.([qkv])_proj\.(?:A\.)?(.+)",
        r"blocks.\1.attn.\2.\3",
    ),
    (
        _BEIT3_LAYER + r"self_attn\.out_proj\.(?:A\.)?(.+)",
        r"blocks.\1.attn.proj.\2",
    ),
    (
        _BEIT3_LAYER + r"self_attn\.inner_attn_ln\.(?:A\.)?(.+)",
        r"blocks.\1.attn.norm.\2",
    ),
    (_BEIT3_LAYER + r"self_attn_layer_norm\.(?:A\.)?(.+)", r"blocks.\1.norm1.\2"),
    (_BEIT3_LAYER + r"final_layer_norm\.(?:A\.)?(.+)", r"blocks.\1.norm2.\2"),
    (_BEIT3_LAYER + r"ffn\.(?:A\.)?(fc[12]\..+)", r"blocks.\1.mlp.\2"),
    (_BEIT3_LAYER + r"ffn\.(?:A\.)?ffn_layernorm\.(.+)", r"blocks.\1.mlp.norm.\2"),
)
_BEIT3_LEFT_OUT = (
    r"beit3\.(?:.+\.)?B\..+|beit3\.text_embed\..+|beit3\.vision_embed\.mask_token"
    r"|(?:vision|language)_head\..+|logit_scale"
)

# Parts that timm keeps in one matrix, in its order.
_JOINED = {
    "attn.qkv": ("attn.q", "attn.k", "attn.v"),
    "mlp.fc1": ("mlp.gate", "mlp.up"),
}


def to_timm_layout(state: State, grid: tuple[int, int] | None = None) -> State:
    """Bring a vision transformer's checkpoint to timm's names.

    Parameters
    ----------
    state : dict of str to Tensor
        Any state dict: timm's, with or without the wrappers of training code in front
        of its keys; that of transformers' ViT, DINOv2 and DINOv2 with registers; of
        facebookresearch/dinov2; of BEiT-3.
    grid : tuple of (int, int), default=None
        Rows and columns of patches that the network is built for. Position embeddings
        of transformers and facebookresearch/dinov2 of another size are brought to it
        as transformers does when it runs. None leaves them alone.

    Returns
    -------
    state : dict of str to Tensor
        The same tensors under timm's names: query, key and value concatenated, the
        class token's position added to the class token where registers have none, text
        towers and training heads left out. A state dict of another layout is returned
        as it is, and so is timm's own.
    """
    found = {match[1]: match[2] for match in map(_ANCHOR.fullmatch, state) if match}
    if len(found) != 1:
        return state
    ((prefix, anchor),) = found.items()
    own = _without_prefix(state, prefix)
    if anchor == "embeddings.cls_token":
        renamed = _renamed(own, _TRANSFORMERS, _TRANSFORMERS_LEFT_OUT)
    elif anchor == "beit3.vision_embed.cls_token":
        return _as_beit3(_renamed(own, _BEIT3, _BEIT3_LEFT_OUT))
    elif "patch_embed.proj.weight" not in own:
        return state
    elif any(map(_DINOV2_OWN.fullmatch, own)):
        renamed = _renamed(own, _DINOV2, _DINOV2_LEFT_OUT)
    else:
        return own if prefix else state
    return _with_positions(_joined(renamed), grid)


def _without_prefix(state: State, prefix: str) -> State:
    """Return the network's own keys without their prefix, and all unexplained ones."""
    if not prefix:
        return state
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) or not _BESIDE.fullmatch(key)
    }


def _renamed(state: State, rules: tuple[tuple[str, str], ...], left_out: str) -> State:
    """Return a state under the names that the first fitting rules give."""
    renamed = {}
    for key, value in state.items():
        if re.fullmatch(left_out, key):
            continue
        matches = ((re.fullmatch(pattern, key), new) for pattern, new in rules)
        name = next((match.expand(new) for match, new in matches if match), key)
        # Two keys of one name: the second keeps its own, for the strict load to refuse.
        renamed[key if name in renamed else name] = value
    return renamed


def _joined(state: State) -> State:
    """Return a state with the parts that timm keeps in one matrix put together."""
    joined = dict(state)
    for whole, parts in _JOINED.items():
        pattern = rf"(blocks\.\d+)\.(?:{'|'.join(parts)})\.(weight|bias)"
        matches = filter(None, (re.fullmatch(pattern, key) for key in state))
        for block, kind in dict.fromkeys(match.groups() for match in matches):
            names = [f"{block}.{part}.{kind}" for part in parts]
            found = [joined[name] for name in names if name in joined]
            # One part missing makes the whole too short, which the strict load reports.
            if _can_be_concatenated(found):
                joined[f"{block}.{whole}.{kind}"] = torch.cat(found)
                joined = {k: v for k, v in joined.items() if k not in names}
    return joined


def _can_be_concatenated(tensors: list[torch.Tensor]) -> bool:
    rows = {value.shape[1:] for value in tensors if value.ndim}
    return len(rows) == 1 and all(value.ndim for value in tensors)


def _as_beit3(state: State) -> State:
    """Return BEiT-3's image branch; its position table starts two rows late."""
    state = _joined(state)
    positions = state.get("pos_embed")
    if positions is not None and positions.ndim == 2:
        # Rows 0 and 1 stand for padding, a habit of fairseq.
        state["pos_embed"] = positions[2:].unsqueeze(0)
    return state


def _with_positions(state: State, grid: tuple[int, int] | None) -> State:
    """Return a state with position embeddings as timm keeps them, of the grid's size.

    Where there are registers, timm's networks give no position to the class token: its
    position becomes part of the token, and the table starts with the first patch.
    """
    positions, token = state.get("pos_embed"), state.get("cls_token")
    if not _are_of_one_class_token(positions, token):
        return state
    on_class_token, on_patches = positions[:, :1], positions[:, 1:]
    has_registers = "reg_token" in state
    if grid is not None and on_patches.is_floating_point():
        # What transformers does at run time: it smooths only where there are registers.
        # facebookresearch/dinov2 without registers scales by (side + 0.1) / old side
        # instead (its interpolate_offset), which is not done here.
        on_patches = _resampled(on_patches, grid, antialias=has_registers)
    if has_registers:
        return {**state, "cls_token": token + on_class_token, "pos_embed": on_patches}
    return {**state, "pos_embed": torch.cat([on_class_token, on_patches], dim=1)}


def _are_of_one_class_token(positions, token) -> bool:
    """Return whether the shapes are (1, 1 + n_patches, dim) and (1, 1, dim)."""
    if positions is None or token is None or positions.ndim != 3:
        return False
    one, n_positions, dim = positions.shape
    return one == 1 and n_positions > 1 and token.shape == (1, 1, dim)


def _resampled(
    positions: torch.Tensor, grid: tuple[int, int], *, antialias: bool
) -> torch.Tensor:
    """Return the positions (1, n, dim) of a square grid on another grid."""
    _, n_patches, dim = positions.shape
    side = math.isqrt(n_patches)
    if side * side != n_patches or (side, side) == tuple(grid):
        return positions
    table = positions.float().reshape(1, side, side, dim).permute(0, 3, 1, 2)
    table = functional.interpolate(
        table, size=grid, mode="bicubic", align_corners=False, antialias=antialias
    )
    return table.flatten(2).transpose(1, 2).to(positions.dtype)
