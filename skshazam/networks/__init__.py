"""The student in pure torch: no files, no scikit-learn."""

from skshazam.networks._attention import SelfAttentionStack
from skshazam.networks._distillation import (
    DistillationTargets,
    cosine_distillation,
    huber_distillation,
)
from skshazam.networks._projection import TeacherProjection
from skshazam.networks._shazam import ShazamNetwork, ShazamOutput
from skshazam.networks._standardization import Standardization

__all__ = [
    "DistillationTargets",
    "SelfAttentionStack",
    "ShazamNetwork",
    "ShazamOutput",
    "Standardization",
    "TeacherProjection",
    "cosine_distillation",
    "huber_distillation",
]
