"""Rows of the catalogue: pathology encoders trained with DINO, iBOT or by contrast.

No code: facts, and where they are from. A fact that sources disagree on follows the
model card, but for Lunit's statistics, and is named in ``unverified``.
"""

from dataclasses import replace

from skshazam.teachers._architectures import CTransPath
from skshazam.teachers._catalog_dinov2 import HALF
from skshazam.teachers._spec import TeacherSpec

PHIKON = TeacherSpec(
    "phikon",
    # In transformers' ViT layout, whose LayerNorm adds 1e-12 where timm's adds 1e-6:
    # that alone moves features by 1e-4.
    architecture="vit_base_patch16_224",
    architecture_kwargs={
        "norm_layer": {"partial": "torch.nn.LayerNorm", "eps": 1e-12},
    },
    weights="hf-hub:owkin/phikon/model.safetensors",
    dim=768,
    crop=False,
    interpolation="bilinear",
    licence="Owkin non-commercial",
    source="https://huggingface.co/owkin/phikon",
    # Its processor squashes, TRIDENT keeps the aspect ratio.
    unverified=("eps of the LayerNorm", "crop"),
)

CTRANSPATH = TeacherSpec(
    "ctranspath",
    # The weights of its authors; a copy that CHIEF fine-tuned goes by the same name and
    # gives other vectors.
    build=CTransPath,
    weights=(
        "hf-hub:1aurent/swin_tiny_patch4_window7_224.CTransPath/model.safetensors"
    ),
    dim=768,
    interpolation="bilinear",
    licence="GPL-3.0",
    source="https://huggingface.co/1aurent/swin_tiny_patch4_window7_224.CTransPath",
    unverified=("names in the checkpoint", "interpolation"),
)

_KAIKO_VITS8 = TeacherSpec(
    "kaiko-vits8",
    architecture="vit_small_patch8_224",
    architecture_kwargs={"img_size": 224, "dynamic_img_size": True},
    weights=(
        "hf-hub:1aurent/vit_small_patch8_224."
        "kaiko_ai_towards_large_pathology_fms/model.safetensors"
    ),
    dim=384,
    interpolation="bilinear",
    mean=HALF,
    std=HALF,
    licence="Kaiko non-commercial",
    source=(
        "https://huggingface.co/1aurent/vit_small_patch8_224."
        "kaiko_ai_towards_large_pathology_fms"
    ),
    unverified=("interpolation",),
)


def _kaiko(name: str, architecture: str, dim: int) -> TeacherSpec:
    """Return the row of one more of the family, which differ in their network."""
    first = _KAIKO_VITS8
    return replace(
        first,
        name=name,
        architecture=architecture,
        weights=first.weights.replace(first.architecture, architecture),
        source=first.source.replace(first.architecture, architecture),
        dim=dim,
    )


KAIKO_VITS = (
    _KAIKO_VITS8,
    _kaiko("kaiko-vits16", "vit_small_patch16_224", 384),
    _kaiko("kaiko-vitb8", "vit_base_patch8_224", 768),
    _kaiko("kaiko-vitb16", "vit_base_patch16_224", 768),
)

LUNIT_VITS8 = TeacherSpec(
    "lunit-vits8",
    architecture="vit_small_patch8_224",
    architecture_kwargs={"dynamic_img_size": True},
    weights="hf-hub:1aurent/vit_small_patch8_224.lunit_dino/model.safetensors",
    dim=384,
    # The statistics it was trained with, as its authors' and eva's code have them. The
    # configurations of the copies on the Hub give ImageNet's for patch 8 and 0.5 for
    # patch 16, which are the defaults of timm's architectures.
    mean=(0.70322989, 0.53606487, 0.66096631),
    std=(0.21716536, 0.26081574, 0.20723464),
    licence="Lunit non-commercial",
    source="https://huggingface.co/1aurent/vit_small_patch8_224.lunit_dino",
    unverified=("mean", "std", "interpolation"),
)

LUNIT_VITS16 = replace(
    LUNIT_VITS8,
    name="lunit-vits16",
    architecture="vit_small_patch16_224",
    weights="hf-hub:1aurent/vit_small_patch16_224.lunit_dino/model.safetensors",
    source="https://huggingface.co/1aurent/vit_small_patch16_224.lunit_dino",
)


def _lunit_resnet50(method: str) -> TeacherSpec:
    """Return the row of a ResNet-50, of which the authors' own file is needed.

    The copies on the Hub differ in the statistics of their batch normalisation.
    """
    return TeacherSpec(
        f"lunit-rn50-{method}",
        architecture="resnet50",
        dim=2048,
        # eva's code has LUNIT_VITS8's for the family; others run it with ImageNet's.
        licence="Lunit non-commercial",
        source="https://github.com/lunit-io/benchmark-ssl-pathology",
        requires=(
            f"the file {method}_rn50_ep200.torch of "
            "https://github.com/lunit-io/benchmark-ssl-pathology/releases"
        ),
        unverified=("mean", "std", "interpolation", "names in the checkpoint"),
    )


LUNIT_RN50S = tuple(_lunit_resnet50(method) for method in ("bt", "mocov2", "swav"))

SP22M = TeacherSpec(
    "sp22m",
    architecture="vit_small_patch16_224",
    weights="hf-hub:MountSinaiCompPath/SP22M/pytorch_model.bin",
    dim=384,
    licence="CC-BY-NC-SA-4.0",
    source="https://huggingface.co/MountSinaiCompPath/SP22M",
    unverified=("interpolation",),
)

HIPT = TeacherSpec(
    "hipt",
    architecture="vit_small_patch16_224",
    # Trained on crops of 224 pixels and run on tiles of 256.
    architecture_kwargs={"dynamic_img_size": True},
    dim=384,
    size=256,
    mean=HALF,
    std=HALF,
    licence="Apache-2.0 with Commons Clause",
    source="https://github.com/mahmoodlab/HIPT",
    requires="the file vit256_small_dino.pth of https://github.com/mahmoodlab/HIPT",
    unverified=("interpolation", "size of the position embeddings"),
)

RETCCL = TeacherSpec(
    "retccl",
    architecture="resnet50",
    weights="hf-hub:jamesdolezal/RetCCL/retccl.pth",
    dim=2048,
    size=256,
    licence="GPL-3.0",
    source="https://huggingface.co/jamesdolezal/RetCCL",
    unverified=("interpolation",),
)
