"""The table of all teachers by name: the published ones, controls, and descriptors."""

from skshazam.teachers._architectures import ResNet50Layer3
from skshazam.teachers._catalog_dinov2 import (
    GENBIO_PATHFM,
    GIGAPATH,
    GIGAPATH_FLASH,
    GPFM,
    H0_MINI,
    H0_MINI_CLS_MEAN,
    H_OPTIMUS_0,
    H_OPTIMUS_1,
    HIBOU_B,
    HIBOU_L,
    KAIKO_VITL14,
    MIDNIGHT,
    MIDNIGHT_CLS,
    OPENMIDNIGHT,
    OPENPATH,
    PATHORCHESTRA,
    PHIKON_V2,
    PROST40M,
    UNI,
    UNI2_H,
    VIRCHOW,
    VIRCHOW2,
    VIRCHOW2_CLS,
    VIRCHOW_CLS,
)
from skshazam.teachers._catalog_earlier import (
    CTRANSPATH,
    HIPT,
    KAIKO_VITS,
    LUNIT_RN50S,
    LUNIT_VITS8,
    LUNIT_VITS16,
    PHIKON,
    RETCCL,
    SP22M,
)
from skshazam.teachers._catalog_language import (
    BIOMEDCLIP,
    CONCH,
    CONCH_V15,
    KEEP,
    MSTAR,
    MUSK,
    PLIP,
    QUILTNET,
)
from skshazam.teachers._handcrafted import HANDCRAFTED
from skshazam.teachers._spec import TeacherSpec

__all__ = ["CATALOG"]

# Networks trained on everyday photographs: what pathology teachers have to beat.
_CONTROLS = (
    TeacherSpec(
        "dinov2-vitl14",
        # With its tag timm's rules for its own weights hold: their position embeddings,
        # of 518 pixels, are resized once, smoothed.
        architecture="vit_large_patch14_dinov2.lvd142m",
        architecture_kwargs={"img_size": 224, "dynamic_img_size": True},
        weights="hf-hub:timm/vit_large_patch14_dinov2.lvd142m/model.safetensors",
        dim=1024,
        licence="Apache-2.0",
        source="https://huggingface.co/timm/vit_large_patch14_dinov2.lvd142m",
    ),
    TeacherSpec(
        "resnet50",
        architecture="resnet50",
        weights="hf-hub:timm/resnet50.tv_in1k/model.safetensors",
        dim=2048,
        interpolation="bilinear",
        licence="BSD-3-Clause",
        source="https://huggingface.co/timm/resnet50.tv_in1k",
    ),
    TeacherSpec(
        "resnet50-layer3",
        build=ResNet50Layer3,
        weights="hf-hub:timm/resnet50.tv_in1k/model.safetensors",
        dim=1024,
        interpolation="bilinear",
        licence="BSD-3-Clause",
        source="https://huggingface.co/timm/resnet50.tv_in1k",
    ),
)

_DESCRIPTORS = tuple(
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

# The paper's four first; where one encoder has two rows, the shorter name first.
CATALOG: dict[str, TeacherSpec] = {
    spec.name: spec
    for spec in (
        UNI,
        PHIKON_V2,
        VIRCHOW,
        VIRCHOW_CLS,
        GIGAPATH,
        UNI2_H,
        VIRCHOW2,
        VIRCHOW2_CLS,
        H_OPTIMUS_0,
        H_OPTIMUS_1,
        H0_MINI,
        H0_MINI_CLS_MEAN,
        PHIKON,
        GPFM,
        MIDNIGHT,
        MIDNIGHT_CLS,
        HIBOU_B,
        HIBOU_L,
        CONCH,
        CONCH_V15,
        CTRANSPATH,
        MUSK,
        OPENMIDNIGHT,
        KEEP,
        MSTAR,
        PATHORCHESTRA,
        *KAIKO_VITS,
        KAIKO_VITL14,
        LUNIT_VITS8,
        LUNIT_VITS16,
        *LUNIT_RN50S,
        PROST40M,
        OPENPATH,
        SP22M,
        RETCCL,
        HIPT,
        GIGAPATH_FLASH,
        GENBIO_PATHFM,
        PLIP,
        QUILTNET,
        BIOMEDCLIP,
        *_CONTROLS,
        *_DESCRIPTORS,
    )
}
