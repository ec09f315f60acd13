"""Rows of the catalogue: the image towers of models that were trained with texts.

No code: facts, and where they are from. A fact that sources disagree on follows the
model card and is named in ``unverified``.
"""

from skshazam.teachers._architectures import Conch, ConchV15, Keep
from skshazam.teachers._catalog_dinov2 import HALF
from skshazam.teachers._spec import TeacherSpec

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

CONCH = TeacherSpec(
    "conch",
    build=Conch,
    weights="hf-hub:MahmoodLab/conch/pytorch_model.bin",
    dim=512,
    size=448,
    mean=_CLIP_MEAN,
    std=_CLIP_STD,
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/MahmoodLab/conch",
    unverified=("attention pooling",),
)

CONCH_V15 = TeacherSpec(
    "conch-v1.5",
    build=ConchV15,
    weights="hf-hub:MahmoodLab/conchv1_5/pytorch_model_vision.bin",
    dim=768,
    size=448,
    interpolation="bilinear",
    dtype="float16",
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/MahmoodLab/conchv1_5",
)

MUSK = TeacherSpec(
    "musk",
    # The class token of one scale; its authors' ms_aug=True, 2048 numbers, is another.
    architecture="beit3_large_patch16_224",
    architecture_kwargs={"img_size": 384, "global_pool": "token"},
    weights="hf-hub:xiangjx/musk/model.safetensors",
    dim=1024,
    size=384,
    mean=HALF,
    std=HALF,
    dtype="float16",
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/xiangjx/musk",
    unverified=("names in the checkpoint",),
)

KEEP = TeacherSpec(
    "keep",
    build=Keep,
    weights="hf-hub:Astaxanthin/KEEP/model.safetensors",
    dim=768,
    dtype="float16",
    licence="MIT",
    source="https://huggingface.co/Astaxanthin/KEEP",
    unverified=("names in the checkpoint", "dtype"),
)

MSTAR = TeacherSpec(
    "mstar",
    architecture="vit_large_patch16_224",
    architecture_kwargs={"init_values": 1e-5, "dynamic_img_size": True},
    weights="hf-hub:Wangyh/mSTAR/model.safetensors",
    dim=1024,
    interpolation="bilinear",
    # Its configuration on the Hub says 0.5, the default of timm's architecture.
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/Wangyh/mSTAR",
    unverified=("mean", "std", "interpolation"),
)

PLIP = TeacherSpec(
    "plip",
    dim=512,
    mean=_CLIP_MEAN,
    std=_CLIP_STD,
    licence="MIT",
    source="https://huggingface.co/vinid/plip",
    requires="transformers, whose CLIPModel it is (`pip install transformers`)",
    unverified=("interpolation", "licence"),
)


def _in_open_clip(name: str, repository: str) -> TeacherSpec:
    """Return the row of an image tower that open_clip builds."""
    return TeacherSpec(
        name,
        dim=512,
        mean=_CLIP_MEAN,
        std=_CLIP_STD,
        licence="MIT",
        source=f"https://huggingface.co/{repository}",
        requires=(
            f"open_clip, whose model hf-hub:{repository} it is "
            "(`pip install open_clip_torch`)"
        ),
        unverified=("interpolation", "mean", "std", "licence"),
    )


QUILTNET = _in_open_clip("quiltnet", "wisdomik/QuiltNet-B-32")
BIOMEDCLIP = _in_open_clip(
    "biomedclip", "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
)
