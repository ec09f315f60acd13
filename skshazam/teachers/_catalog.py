"""The table of published teachers: one row each, facts and their sources, no code."""

from dataclasses import replace

from skshazam.teachers._handcrafted import HANDCRAFTED
from skshazam.teachers._spec import TeacherSpec

__all__ = ["CATALOG"]

_SWIGLU = {"mlp_layer": "timm.layers.SwiGLUPacked", "act_layer": "torch.nn.SiLU"}

_UNI = TeacherSpec(
    "uni",
    architecture="vit_large_patch16_224",
    architecture_kwargs={"init_values": 1e-5, "dynamic_img_size": True},
    weights="hf-hub:MahmoodLab/UNI/pytorch_model.bin",
    dim=1024,
    interpolation="bilinear",
    dtype="float16",
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/MahmoodLab/UNI",
)

_PHIKON_V2 = TeacherSpec(
    "phikon-v2",
    # The checkpoint is in transformers' Dinov2 layout: LayerScale, patch 16.
    architecture="vit_large_patch16_224",
    architecture_kwargs={"init_values": 1.0},
    weights="hf-hub:owkin/phikon-v2/model.safetensors",
    dim=1024,
    licence="Owkin non-commercial",
    source="https://huggingface.co/owkin/phikon-v2",
)

_VIRCHOW = TeacherSpec(
    "virchow",
    architecture="vit_huge_patch14_224",
    architecture_kwargs={
        "init_values": 1e-5,
        "mlp_ratio": 5.3375,
        "global_pool": "",
        "dynamic_img_size": True,
        **_SWIGLU,
    },
    weights="hf-hub:paige-ai/Virchow/pytorch_model.bin",
    dim=2560,
    pooling="cls+mean",
    dtype="float16",
    licence="Apache-2.0",
    gated=True,
    source="https://huggingface.co/paige-ai/Virchow",
)

# The vector that the paper's released code used: the class token alone.
_VIRCHOW_CLS = replace(_VIRCHOW, name="virchow-cls", dim=1280, pooling="cls")

_GIGAPATH = TeacherSpec(
    "gigapath",
    # The architecture's name says patch 14; the published weights are of patch 16.
    architecture="vit_giant_patch14_dinov2",
    architecture_kwargs={
        "img_size": 224,
        "patch_size": 16,
        "embed_dim": 1536,
        "depth": 40,
        "num_heads": 24,
        "mlp_ratio": 5.33334,
        "dynamic_img_size": True,
    },
    weights="hf-hub:prov-gigapath/prov-gigapath/pytorch_model.bin",
    dim=1536,
    resize=256,
    dtype="float16",
    licence="Apache-2.0",
    gated=True,
    source="https://huggingface.co/prov-gigapath/prov-gigapath",
)

_HANDCRAFTED_SPECS = tuple(
    TeacherSpec(
        name,
        build=descriptor,
        dim=descriptor.dim,
        size=96,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        licence="BSD-3-Clause",
        source="classical definitions: see skshazam.teachers._handcrafted",
    )
    for name, descriptor in HANDCRAFTED.items()
)

CATALOG: dict[str, TeacherSpec] = {
    spec.name: spec
    for spec in (
        _UNI,
        _PHIKON_V2,
        _VIRCHOW,
        _VIRCHOW_CLS,
        _GIGAPATH,
        *_HANDCRAFTED_SPECS,
    )
}
