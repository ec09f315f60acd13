"""Teachers of a few thousand weights with the contract of real ones."""

from functools import partial

import torch
from torch import nn

from skshazam import TeacherSpec

TINY_VIT = {
    "img_size": 32,
    "patch_size": 16,
    "embed_dim": 24,
    "depth": 1,
    "num_heads": 2,
}


class TinyConvolution(nn.Module):
    """A bring-your-own network: one convolution, averaged over the image."""

    def __init__(self, dim):
        super().__init__()
        self.convolution = nn.Conv2d(3, dim, kernel_size=3, stride=2)

    def forward(self, images):
        return self.convolution(images).relu().mean(dim=(2, 3))


class TinyTokens(nn.Module):
    """A bring-your-own network that returns one class token, then patch tokens."""

    num_prefix_tokens = 1

    def forward(self, images):
        patches = nn.functional.avg_pool2d(images, 8).flatten(2).transpose(1, 2)
        return torch.cat([patches.amax(dim=1, keepdim=True), patches], dim=1)


def tiny_vit(name="tiny-vit", **changes):
    """Return the spec of a one-layer ViT with random weights, dim 24."""
    facts = {
        "architecture": "vit_tiny_patch16_224",
        "architecture_kwargs": TINY_VIT,
        "weights": "random",
        "dim": 24,
        "size": 32,
    }
    return TeacherSpec(name, **{**facts, **changes})


def tiny_convolution(name="tiny-convolution", dim=10, **changes):
    """Return the spec of a bring-your-own module."""
    facts = {"build": partial(TinyConvolution, dim), "dim": dim, "size": 24}
    return TeacherSpec(name, **{**facts, **changes})
