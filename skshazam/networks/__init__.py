"""The student in pure torch: no files, no scikit-learn."""

from skshazam.networks._attention import SelfAttentionStack
from skshazam.networks._distillation import (
    DistillationTargets,
    cosine_distillation,
    huber_distillation,
)
from skshazam.networks._ensemble import EnsembleOutput, NetworkEnsemble
from skshazam.networks._fusion import FusionOutput
from skshazam.networks._mamba import MambaBlock, MambaNetwork
from skshazam.networks._projection import TeacherProjection
from skshazam.networks._rivals import (
    ConcatNetwork,
    MoENetwork,
    MoEOutput,
    SumNetwork,
)
from skshazam.networks._shazam import ShazamNetwork, ShazamOutput
from skshazam.networks._standardization import Standardization

__all__ = [
    "ConcatNetwork",
    "DistillationTargets",
    "EnsembleOutput",
    "FusionOutput",
    "MambaBlock",
    "MambaNetwork",
    "MoENetwork",
    "MoEOutput",
    "NetworkEnsemble",
    "SelfAttentionStack",
    "ShazamNetwork",
    "ShazamOutput",
    "Standardization",
    "SumNetwork",
    "TeacherProjection",
    "cosine_distillation",
    "huber_distillation",
]
