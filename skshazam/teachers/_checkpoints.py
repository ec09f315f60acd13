"""Key remaps from other checkpoint layouts to timm's.

Pure functions on state dicts; reading files is the business of ``_loading``.
"""

import re

import torch

__all__ = ["to_timm_layout"]

_QKV = re.compile(
    r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)"
)
_QKV_ORDER = ("query", "key", "value")

# transformers' ViTModel and Dinov2Model, in the order in which a key is tried.
_RENAMES = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(.+)", r"norm.\1"),
    (
        r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(.+)",
        r"blocks.\1.attn.proj.\2",
    ),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.(.+)", r"blocks.\1.norm1.\2"),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.(.+)", r"blocks.\1.norm2.\2"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layer\.(\d+)\.output\.dense\.(.+)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.layer\.(\d+)\.(norm[12]\..+)", r"blocks.\1.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.mlp\.(fc[12]\..+)", r"blocks.\1.mlp.\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.(.+)", r"blocks.\1.mlp.fc2.\2"),
)

# Training leftovers that no feature depends on.
_LEFT_OUT = re.compile(r"embeddings\.mask_token|pooler\..+|classifier\..+")


def to_timm_layout(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the keys of a transformers ViT or DINOv2 checkpoint to timm's.

    Parameters
    ----------
    state : dict of str to Tensor
        Any state dict.

    Returns
    -------
    state : dict of str to Tensor
        The same tensors under timm's names, with query, key and value concatenated. A
        state dict of another layout is returned as it is.
    """
    stripped = {
        re.sub(r"^(vit|dinov2|model)\.", "", key): value for key, value in state.items()
    }
    if "embeddings.cls_token" not in stripped:
        return state
    renamed, parts = {}, {}
    for key, value in stripped.items():
        if _LEFT_OUT.fullmatch(key):
            continue
        match = _QKV.fullmatch(key)
        if match:
            block, role, kind = match.groups()
            parts.setdefault(f"blocks.{block}.attn.qkv.{kind}", {})[role] = value
        else:
            renamed[_renamed(key)] = value
    for key, of_role in parts.items():
        renamed[key] = torch.cat(
            [of_role[role] for role in _QKV_ORDER if role in of_role]
        )
    return renamed


def _renamed(key: str) -> str:
    """Return timm's name for one key, or the key itself if no rule fits."""
    for pattern, replacement in _RENAMES:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(replacement)
    return key
