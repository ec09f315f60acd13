"""Networks of published teachers that are no timm model, built from timm's parts.

The code is our own; the order of operations and the names of parameters follow the
public source that each class names. ``__fingerprint__`` is the identity of a network in
a teacher's fingerprint: raise its number whenever the vector changes.
"""

import re

import torch
from torch import nn
from torch.nn import functional

__all__ = ["CTransPath", "Conch", "ConchV15", "ConvStem", "Keep", "ResNet50Layer3"]

State = dict[str, torch.Tensor]


class Conch(nn.Module):
    """Image tower of CONCH: ViT-B/16 at 448 pixels and attention pooling.

    Parameters
    ----------
    dim : int, default=512
        Length of the vector.
    n_heads : int, default=8
        Heads of the pooling.
    **trunk : object
        Changes to the arguments of timm's model, for tests.

    Notes
    -----
    The vector is the one its authors recommend for linear probes: before the projection
    into the space that images share with texts, not normalised.

    References
    ----------
    .. [1] Lu et al. (2024). A visual-language foundation model for computational
       pathology. Nature Medicine 30, 863-874. Source of the facts:
       https://github.com/mahmoodlab/CONCH.
    """

    __fingerprint__ = "skshazam.conch/1"

    def __init__(self, dim: int = 512, n_heads: int = 8, **trunk):
        super().__init__()
        self.trunk = _vision_transformer(
            "vit_base_patch16_224", {"img_size": 448, **trunk}
        )
        self.attn_pool_contrast = _AttentionPool(dim, self.trunk.num_features, n_heads)
        self.ln_contrast = nn.LayerNorm(dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, dim) of images (n, 3, height, width)."""
        tokens = self.trunk.forward_features(images)
        return self.ln_contrast(self.attn_pool_contrast(tokens))

    def adapt_checkpoint(self, state: State) -> State:
        """Leave out the text towers, the captioning head and the projection."""
        return _tower_of(
            state, "visual.", ("trunk.", "attn_pool_contrast.", "ln_contrast.")
        )


class _AttentionPool(nn.Module):
    """One learned query attends to all tokens (n, n_tokens, context_dim)."""

    def __init__(self, dim: int, context_dim: int, n_heads: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, dim).normal_())
        self.ln_q = nn.LayerNorm(dim)
        self.ln_k = nn.LayerNorm(context_dim)
        self.attn = nn.MultiheadAttention(
            dim, n_heads, kdim=context_dim, vdim=context_dim, batch_first=True
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the pooled vectors (n, dim)."""
        context = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, context, context, need_weights=False)[0][:, 0]


class ConchV15(nn.Module):
    """Image tower of CONCH v1.5: ViT-L/16 at 448 pixels and attention pooling.

    Parameters
    ----------
    dim : int, default=768
        Length of the vector.
    n_heads : int, default=8
        Heads of the pooling.
    **trunk : object
        Changes to the arguments of timm's model, for tests.

    References
    ----------
    .. [1] Ding et al. (2025). A multimodal whole-slide foundation model for pathology.
       Nature Medicine. Source of the facts: https://huggingface.co/MahmoodLab/conchv1_5.
    """

    __fingerprint__ = "skshazam.conch-v1.5/1"

    def __init__(self, dim: int = 768, n_heads: int = 8, **trunk):
        super().__init__()
        self.trunk = _vision_transformer(
            "vit_large_patch16_224", {"img_size": 448, "init_values": 1.0, **trunk}
        )
        self.attn_pool_contrast = _PlainAttentionPool(
            dim, self.trunk.num_features, n_heads
        )
        self.ln_contrast = nn.LayerNorm(dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, dim) of images (n, 3, height, width)."""
        tokens = self.trunk.forward_features(images)
        return self.ln_contrast(self.attn_pool_contrast(tokens))

    def adapt_checkpoint(self, state: State) -> State:
        """Leave out what lies beside the image tower, if anything does."""
        return _tower_of(
            state, "visual.", ("trunk.", "attn_pool_contrast.", "ln_contrast.")
        )


class _PlainAttentionPool(nn.Module):
    """The same with projections that have no biases."""

    def __init__(self, dim: int, context_dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Parameter(torch.empty(1, dim).normal_())
        self.ln_q = nn.LayerNorm(dim)
        self.ln_k = nn.LayerNorm(context_dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the pooled vectors (n, dim)."""
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), -1, -1)
        key, value = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        heads = [
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for part in (query, key, value)
        ]  # (n, n_heads, n_tokens, dim / n_heads)
        pooled = functional.scaled_dot_product_attention(*heads)
        return self.to_out(pooled.transpose(1, 2).flatten(2))[:, 0]


class Keep(nn.Module):
    """Image tower of KEEP: ViT-L/16, two linear layers, vectors of length one.

    Parameters
    ----------
    dim : int, default=768
        Length of the vector.
    **trunk : object
        Changes to the arguments of timm's model, for tests.

    References
    ----------
    .. [1] Zhou et al. (2026). A knowledge-enhanced pathology vision-language foundation
       model for cancer diagnosis. Cancer Cell. Source of the facts:
       https://huggingface.co/Astaxanthin/KEEP.
    """

    __fingerprint__ = "skshazam.keep/1"

    def __init__(self, dim: int = 768, **trunk):
        super().__init__()
        self.visual = _vision_transformer(
            "vit_large_patch16_224",
            {"init_values": 1e-5, "global_pool": "token", **trunk},
        )
        self.visual_head = nn.Sequential(
            nn.Linear(self.visual.num_features, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, dim) of images (n, 3, height, width)."""
        return functional.normalize(self.visual_head(self.visual(images)), dim=-1)

    def adapt_checkpoint(self, state: State) -> State:
        """Leave out the text tower; its LayerScale has a name of its own."""
        state = _tower_of(state, "", ("visual.", "visual_head."))
        pattern = r"(visual\.blocks\.\d+\.ls[12])\.weight"
        return {
            re.sub(f"^{pattern}$", r"\1.gamma", key): value
            for key, value in state.items()
        }


class CTransPath(nn.Module):
    """CTransPath: Swin-T whose patches come out of a small convolutional stem.

    Parameters
    ----------
    **network : object
        Changes to the arguments of timm's model, for tests.

    References
    ----------
    .. [1] Wang et al. (2022). Transformer-based unsupervised contrastive learning for
       histopathological image classification. Medical Image Analysis 81, 102559.
    """

    __fingerprint__ = "skshazam.ctranspath/1"

    def __init__(self, **network):
        import timm

        super().__init__()
        self.network = timm.create_model(
            "swin_tiny_patch4_window7_224",
            **{"num_classes": 0, "embed_layer": ConvStem, **network},
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, dim) of images (n, 3, height, width)."""
        return self.network(images)

    def adapt_checkpoint(self, state: State) -> State:
        """Undo the old timm's naming: a stage's merging was part of the stage before.

        What can be computed, the masks and indices of the windows, is left out, and so
        is the classifier. A state dict of this module is returned as it is.
        """
        if _is_own(state):
            return state
        is_old = any(key.startswith("layers.0.downsample.") for key in state)
        left_out = r"head\..+|.+\.attn_mask|.+\.relative_position_index"
        return {
            f"network.{_in_next_stage(key) if is_old else key}": value
            for key, value in state.items()
            if not re.fullmatch(left_out, key)
        }


class ConvStem(nn.Module):
    """From images (n, 3, h, w) to patches of 4 x 4 pixels (n, h / 4, w / 4, dim).

    Parameters
    ----------
    img_size : int or tuple of (int, int), default=224
        Height and width of the images.
    patch_size : int, default=4
        Must be 4: two convolutions of stride 2.
    in_chans : int, default=3
        Channels of the images.
    embed_dim : int, default=96
        Channels of the patches, a multiple of 8.
    norm_layer : callable, default=None
        Makes the normalisation of the patches.
    **ignored : object
        What timm gives to every kind of patch embedding and this one does not need.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer=None,
        **ignored,
    ):
        super().__init__()
        self.patch_size = (patch_size, patch_size)
        sides = (img_size,) * 2 if isinstance(img_size, int) else tuple(img_size)
        self.grid_size = tuple(side // patch_size for side in sides)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        narrow, wide = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, narrow, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.Conv2d(wide, embed_dim, 1),
        )
        self.norm = norm_layer(embed_dim) if norm_layer else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the patches, channels last, as timm's Swin wants them."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class ResNet50Layer3(nn.Module):
    """ResNet-50 up to its third stage, averaged over the image: CLAM's features.

    References
    ----------
    .. [1] Lu et al. (2021). Data-efficient and weakly supervised computational
       pathology on whole-slide images. Nature Biomedical Engineering 5, 555-570.
    """

    __fingerprint__ = "skshazam.resnet50-layer3/1"

    def __init__(self):
        import timm

        super().__init__()
        self.network = timm.create_model("resnet50", num_classes=0)
        self.network.layer4 = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the vectors (n, 1024) of images (n, 3, height, width)."""
        return self.network(images)

    def adapt_checkpoint(self, state: State) -> State:
        """Leave out the fourth stage and the classifier, if it is not our own state."""
        if _is_own(state):
            return state
        return {
            f"network.{key}": value
            for key, value in state.items()
            if not key.startswith(("layer4.", "fc."))
        }


def _vision_transformer(architecture: str, arguments: dict) -> nn.Module:
    """Return timm's vision transformer without classifier, all tokens by default."""
    import timm

    return timm.create_model(
        architecture, **{"num_classes": 0, "global_pool": "", **arguments}
    )


def _tower_of(state: State, prefix: str, parts: tuple[str, ...]) -> State:
    """Return the named parts of a tower, which may lie under a prefix."""
    if not any(key.startswith(prefix) for key in state):
        prefix = ""
    own = {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    return {key: value for key, value in own.items() if key.startswith(parts)}


def _is_own(state: State) -> bool:
    """Return whether a state dict is of a module that keeps timm's in ``network``."""
    return bool(state) and all(key.startswith("network.") for key in state)


def _in_next_stage(key: str) -> str:
    """Return ``layers.1.downsample...`` for ``layers.0.downsample...``."""
    return re.sub(
        r"^layers\.(\d+)\.downsample\.",
        lambda match: f"layers.{int(match[1]) + 1}.downsample.",
        key,
    )
