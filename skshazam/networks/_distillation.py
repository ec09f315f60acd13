"""What pulls the student towards every teacher: equations 5 to 7."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from skshazam.networks._choices import check_choice
from skshazam.networks._projection import TeacherProjection

__all__ = ["DistillationTargets", "cosine_distillation", "huber_distillation"]

TARGETS = ("token", "token_detached", "frozen", "trained")


def cosine_distillation(
    fused: torch.Tensor, tokens: torch.Tensor, *, reduction: str = "mean"
) -> torch.Tensor:
    """Return the cosine distances of the student to its teachers, summed over teachers.

    Parameters
    ----------
    fused : Tensor of shape (B, D)
        The student's vector, T_final.
    tokens : Tensor of shape (B, N, D)
        One target per teacher, T_i.
    reduction : {"mean", "none"}, default="mean"
        The mean over the batch, or one value per sample.

    Returns
    -------
    loss : Tensor, scalar or of shape (B,)
        Sum over i of 1 - <T_final, T_i> / (||T_final|| ||T_i||); 0 to 2 N.

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, equation 5.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.eye(2).expand(1, 2, 2)
    >>> cosine_distillation(torch.tensor([[1.0, 0.0]]), tokens)
    tensor(1.)
    """
    cosine = functional.cosine_similarity(fused.unsqueeze(1), tokens, dim=-1)  # (B, N)
    return _reduced((1 - cosine).sum(dim=1), reduction)


def huber_distillation(
    fused: torch.Tensor,
    tokens: torch.Tensor,
    delta: float = 1.0,
    form: str = "norm",
    *,
    reduction: str = "mean",
) -> torch.Tensor:
    """Return the Huber losses of the student to its teachers, summed over teachers.

    Parameters
    ----------
    fused : Tensor of shape (B, D)
        The student's vector, T_final.
    tokens : Tensor of shape (B, N, D)
        One target per teacher, T_i.
    delta : float, default=1.0
        Where the loss turns from quadratic to linear (paper, section 3.2).
    form : {"norm", "elementwise"}, default="norm"
        "norm" applies equation 7 to the norm of the difference. "elementwise" applies
        it to every component and takes the mean over the D components, as the paper's
        released code does; for random vectors of 128 components it is 20 to 25 times
        smaller.
    reduction : {"mean", "none"}, default="mean"
        The mean over the batch, or one value per sample.

    Returns
    -------
    loss : Tensor, scalar or of shape (B,)

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, equations 6-7.

    Examples
    --------
    >>> import torch
    >>> fused, tokens = torch.zeros(1, 2), torch.tensor([[[3.0, 4.0]]])
    >>> huber_distillation(fused, tokens)  # 1 * 5 - 1 / 2
    tensor(4.5000)
    >>> huber_distillation(fused, tokens, form="elementwise")  # (2.5 + 3.5) / 2
    tensor(3.)
    """
    check_choice("form", form, ("norm", "elementwise"))
    student = fused.unsqueeze(1).expand_as(tokens)  # (B, N, D)
    if form == "elementwise":
        components = functional.huber_loss(
            student, tokens, reduction="none", delta=delta
        )
        per_teacher = components.mean(dim=-1)
    else:
        squared = (student - tokens).square().sum(dim=-1)  # (B, N)
        # The norm is only taken where it is above delta: its gradient at 0 is not
        # defined, and the student may reach its teacher.
        norm = squared.clamp_min(delta**2).sqrt()
        linear = delta * norm - delta**2 / 2
        per_teacher = torch.where(squared <= delta**2, squared / 2, linear)
    return _reduced(per_teacher.sum(dim=1), reduction)


def _reduced(per_sample: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return the batch mean of shape (), or the values of shape (B,)."""
    check_choice("reduction", reduction, ("mean", "none"))
    return per_sample.mean() if reduction == "mean" else per_sample


class DistillationTargets(nn.Module):
    """Choose what the student is pulled towards.

    Parameters
    ----------
    teacher_dims : sequence of int
        Widths of the teachers' blocks.
    token_dim : int
        Width D of a token.
    kind : {"token", "token_detached", "frozen", "trained"}, default="token"
        "token" is the paper's T_i, through which gradients flow, so that teachers may
        also move to the student. "token_detached" stops them. "frozen" is a random
        linear map per teacher that is never trained, which is what the released code
        amounts to. "trained" is a separate linear map per teacher that is.

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, section 2.2.
    """

    def __init__(
        self, teacher_dims: Sequence[int], token_dim: int, kind: str = "token"
    ):
        super().__init__()
        check_choice("distillation_target", kind, TARGETS)
        self.kind = kind
        self.maps = None
        if kind in ("frozen", "trained"):
            self.maps = TeacherProjection(teacher_dims, token_dim)
            self.maps.requires_grad_(kind == "trained")

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return targets of shape (B, N, D).

        Parameters
        ----------
        features : Tensor of shape (B, sum D_i)
            What the projection of the network sees.
        tokens : Tensor of shape (B, N, D)
            What it makes of it.

        Returns
        -------
        targets : Tensor of shape (B, N, D)
        """
        if self.maps is not None:
            return self.maps(features)
        return tokens.detach() if self.kind == "token_detached" else tokens
