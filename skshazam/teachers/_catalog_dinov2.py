"""Rows of the catalogue: pathology encoders trained with DINOv2.

No code: facts, and where they are from. A fact that sources disagree on follows the
model card and is named in ``unverified``.
"""

from dataclasses import replace

from skshazam.teachers._spec import TeacherSpec

HALF = (0.5, 0.5, 0.5)

_SWIGLU = {"mlp_layer": "timm.layers.SwiGLUPacked", "act_layer": "torch.nn.SiLU"}

UNI = TeacherSpec(
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
    unverified=("dtype",),
)

PHIKON_V2 = TeacherSpec(
    "phikon-v2",
    # The checkpoint is in transformers' Dinov2 layout: LayerScale, patch 16.
    architecture="vit_large_patch16_224",
    architecture_kwargs={"init_values": 1.0},
    weights="hf-hub:owkin/phikon-v2/model.safetensors",
    dim=1024,
    licence="Owkin non-commercial",
    source="https://huggingface.co/owkin/phikon-v2",
    # Its processor resizes bicubically, TRIDENT bilinearly.
    unverified=("number of heads", "interpolation"),
)

VIRCHOW = TeacherSpec(
    "virchow",
    architecture="vit_huge_patch14_224",
    architecture_kwargs={
        "init_values": 1e-5,
        "mlp_ratio": 5.3375,
        "global_pool": "",
        "dynamic_img_size": True,
        **_SWIGLU,
    },
    weights="hf-hub:paige-ai/Virchow/model.safetensors",
    dim=2560,
    pooling="cls+mean",
    dtype="float16",
    licence="Apache-2.0",
    gated=True,
    source="https://huggingface.co/paige-ai/Virchow",
    # timm's configuration crops the centre, TRIDENT does not.
    unverified=("crop",),
)

# The vector that the paper's released code used: the class token alone.
VIRCHOW_CLS = replace(VIRCHOW, name="virchow-cls", dim=1280, pooling="cls")

GIGAPATH = TeacherSpec(
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
    licence="Apache-2.0; its card: deployment out of scope",
    gated=True,
    source="https://huggingface.co/prov-gigapath/prov-gigapath",
    # Other software runs it on the tile as it is, without 256 pixels in between.
    unverified=("resize",),
)

UNI2_H = TeacherSpec(
    "uni2-h",
    architecture="vit_giant_patch14_224",
    architecture_kwargs={
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "init_values": 1e-5,
        "embed_dim": 1536,
        "mlp_ratio": 5.33334,
        "no_embed_class": True,
        "reg_tokens": 8,
        "dynamic_img_size": True,
        **_SWIGLU,
    },
    weights="hf-hub:MahmoodLab/UNI2-h/pytorch_model.bin",
    dim=1536,
    interpolation="bilinear",
    dtype="bfloat16",
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/MahmoodLab/UNI2-h",
    unverified=("dtype",),
)

VIRCHOW2 = TeacherSpec(
    "virchow2",
    architecture="vit_huge_patch14_224",
    # Unlike in DINOv2's own networks, the registers carry positions.
    architecture_kwargs={**VIRCHOW.architecture_kwargs, "reg_tokens": 4},
    weights="hf-hub:paige-ai/Virchow2/model.safetensors",
    dim=2560,
    pooling="cls+mean",
    dtype="float16",
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/paige-ai/Virchow2",
    unverified=("crop",),
)

VIRCHOW2_CLS = replace(VIRCHOW2, name="virchow2-cls", dim=1280, pooling="cls")

H_OPTIMUS_0 = TeacherSpec(
    "h-optimus-0",
    architecture="vit_giant_patch14_reg4_dinov2",
    architecture_kwargs={"img_size": 224, "global_pool": "token", "init_values": 1e-5},
    weights="hf-hub:bioptimus/H-optimus-0/pytorch_model.bin",
    dim=1536,
    # TRIDENT resizes bilinearly; the published configuration says bicubic.
    mean=(0.707223, 0.578729, 0.703617),
    std=(0.211883, 0.230117, 0.177517),
    dtype="float16",
    licence="Apache-2.0",
    gated=True,
    source="https://huggingface.co/bioptimus/H-optimus-0",
    unverified=("interpolation", "gated"),
)

H_OPTIMUS_1 = replace(
    H_OPTIMUS_0,
    name="h-optimus-1",
    weights="hf-hub:bioptimus/H-optimus-1/model.safetensors",
    licence="CC-BY-NC-ND-4.0",
    source="https://huggingface.co/bioptimus/H-optimus-1",
    unverified=("interpolation",),
)

H0_MINI = TeacherSpec(
    "h0-mini",
    architecture="vit_base_patch14_reg4_dinov2",
    architecture_kwargs={
        "img_size": 224,
        "init_values": 1e-5,
        "reg_tokens": 4,
        "mlp_ratio": 5.33334,
        "global_pool": "",
        "dynamic_img_size": True,
        **_SWIGLU,
    },
    weights="hf-hub:bioptimus/H0-mini/model.safetensors",
    dim=768,
    pooling="cls",
    mean=H_OPTIMUS_0.mean,
    std=H_OPTIMUS_0.std,
    dtype="float16",
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/bioptimus/H0-mini",
)

H0_MINI_CLS_MEAN = replace(
    H0_MINI, name="h0-mini-cls-mean", dim=1536, pooling="cls+mean"
)

GPFM = TeacherSpec(
    "gpfm",
    architecture="vit_large_patch14_dinov2",
    architecture_kwargs={
        "img_size": 224,
        "init_values": 1e-5,
        "dynamic_img_size": True,
    },
    weights="hf-hub:majiabo/GPFM/GPFM.pth",
    dim=1024,
    dtype="float16",
    licence="MIT",
    source="https://huggingface.co/majiabo/GPFM",
    # The card says MIT, the repository of the code CC-BY-NC-ND-4.0.
    unverified=("licence", "crop", "dtype"),
)

MIDNIGHT = TeacherSpec(
    "midnight",
    # Not at 518 pixels with dynamic_img_size: transformers, which its authors use,
    # resizes the position embeddings without smoothing. That is done once, on loading.
    architecture="vit_giant_patch14_dinov2",
    architecture_kwargs={"img_size": 224, "init_values": 1e-5},
    weights="hf-hub:kaiko-ai/midnight/model.safetensors",
    dim=3072,
    pooling="cls+mean",
    interpolation="bilinear",
    mean=HALF,
    std=HALF,
    licence="MIT",
    source="https://huggingface.co/kaiko-ai/midnight",
    unverified=("number of heads", "size of the position embeddings", "dtype"),
)

MIDNIGHT_CLS = replace(MIDNIGHT, name="midnight-cls", dim=1536, pooling="cls")

HIBOU_B = TeacherSpec(
    "hibou-b",
    architecture="vit_base_patch14_reg4_dinov2",
    architecture_kwargs={
        "img_size": 224,
        "init_values": 1e-5,
        "mlp_ratio": 5.33334,
        **_SWIGLU,
    },
    weights="hf-hub:histai/hibou-b/model.safetensors",
    dim=768,
    mean=(0.7068, 0.5755, 0.722),
    std=(0.195, 0.2316, 0.1816),
    licence="Apache-2.0",
    gated=True,
    source="https://huggingface.co/histai/hibou-b",
    unverified=("names in the checkpoint", "gated", "dtype"),
)

HIBOU_L = TeacherSpec(
    "hibou-l",
    architecture="vit_large_patch14_reg4_dinov2",
    architecture_kwargs={
        "img_size": 224,
        "init_values": 1e-5,
        # Its perceptron is 5472 wide: 5.33334, as of its relatives, gives 5461.
        "mlp_ratio": 5.34375,
        **_SWIGLU,
    },
    weights="hf-hub:histai/hibou-L/model.safetensors",
    dim=1024,
    mean=HIBOU_B.mean,
    std=HIBOU_B.std,
    licence="Apache-2.0",
    gated=True,
    source="https://huggingface.co/histai/hibou-L",
    unverified=("names in the checkpoint", "dtype"),
)

OPENMIDNIGHT = TeacherSpec(
    "openmidnight",
    architecture="vit_giant_patch14_reg4_dinov2",
    architecture_kwargs={"img_size": 224, "init_values": 1e-5},
    weights="hf-hub:SophontAI/OpenMidnight/teacher_checkpoint_load.pt",
    dim=1536,
    interpolation="bilinear",
    dtype="float16",
    licence="Apache-2.0",
    gated=True,
    source="https://huggingface.co/SophontAI/OpenMidnight",
    unverified=("crop", "dtype"),
)

OPENPATH = TeacherSpec(
    "openpath",
    architecture="vit_giant_patch14_reg4_dinov2",
    architecture_kwargs={"img_size": 224, "init_values": 1e-5},
    weights="hf-hub:taejoon89/openpath/teacher_checkpoint.pth",
    dim=1536,
    licence="Apache-2.0",
    source="https://huggingface.co/taejoon89/openpath",
    unverified=("architecture", "interpolation", "crop"),
)

PATHORCHESTRA = TeacherSpec(
    "pathorchestra",
    architecture="vit_large_patch16_224",
    architecture_kwargs={"init_values": 1e-5},
    weights="hf-hub:AI4Pathology/PathOrchestra/pytorch_model.bin",
    dim=1024,
    interpolation="bilinear",
    licence="CC-BY-NC-ND-4.0",
    gated=True,
    source="https://huggingface.co/AI4Pathology/PathOrchestra",
    unverified=("interpolation", "dtype"),
)

KAIKO_VITL14 = TeacherSpec(
    "kaiko-vitl14",
    # Built at 518 pixels and run at 224: timm resizes the position embeddings at every
    # call, smoothed, which is how its publishers run it.
    architecture="vit_large_patch14_reg4_dinov2",
    architecture_kwargs={"img_size": 518, "dynamic_img_size": True},
    weights=(
        "hf-hub:1aurent/vit_large_patch14_reg4_224."
        "kaiko_ai_towards_large_pathology_fms/model.safetensors"
    ),
    dim=1024,
    interpolation="bilinear",
    mean=HALF,
    std=HALF,
    licence="Kaiko non-commercial",
    source=(
        "https://huggingface.co/1aurent/vit_large_patch14_reg4_224."
        "kaiko_ai_towards_large_pathology_fms"
    ),
    # Others name the repository vit_large_patch14_reg4_dinov2.kaiko...; its
    # configuration gives ImageNet's statistics.
    unverified=("weights", "mean", "std", "interpolation"),
)

PROST40M = TeacherSpec(
    "prost40m",
    # Its configuration on the Hub names the architecture.
    architecture="hf-hub:waticlems/Prost40M",
    architecture_kwargs={
        "img_size": 224,
        "patch_size": 14,
        "dynamic_img_size": True,
    },
    dim=384,
    licence="unknown: see its card",
    source="https://huggingface.co/waticlems/Prost40M",
    unverified=("architecture", "interpolation", "mean", "std", "licence", "gated"),
)

GIGAPATH_FLASH = TeacherSpec(
    "gigapath-flash",
    weights="hf-hub:prov-gigapath/prov-gigapath-flash/pytorch_model.bin",
    dim=384,
    resize=256,
    dtype="float16",
    licence="Apache-2.0 with terms",
    gated=True,
    source="https://huggingface.co/prov-gigapath/prov-gigapath-flash",
    requires=(
        "the package gigapath, whose timm architecture gigapath_tile_enc_dinov2s it is "
        "(`pip install git+https://github.com/prov-gigapath/prov-gigapath`)"
    ),
    unverified=("architecture", "resize", "interpolation", "dtype"),
)

GENBIO_PATHFM = TeacherSpec(
    "genbio-pathfm",
    weights="hf-hub:genbio-ai/genbio-pathfm/model.pth",
    dim=4608,
    crop=False,
    mean=(0.697, 0.575, 0.728),
    std=(0.188, 0.240, 0.187),
    dtype="bfloat16",
    licence="GenBio AI Community",
    source="https://huggingface.co/genbio-ai/genbio-pathfm",
    requires=(
        "transformers and the code in its repository on the Hub "
        "(`pip install transformers==4.57.1`, trust_remote_code=True)"
    ),
    unverified=("interpolation", "dtype"),
)
