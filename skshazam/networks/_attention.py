"""Self-attention between the teachers' tokens: equations 2 and 3."""

import math

import torch
from torch import nn

from skshazam.networks._choices import check_choice

__all__ = ["SelfAttentionStack"]


class PlainAttention(nn.Module):
    """One layer as the paper writes it: softmax(Q K^T / sqrt D) V and nothing else."""

    def __init__(self, token_dim: int):
        super().__init__()
        # eq. 2 has no bias.
        self.query = nn.Linear(token_dim, token_dim, bias=False)
        self.key = nn.Linear(token_dim, token_dim, bias=False)
        self.value = nn.Linear(token_dim, token_dim, bias=False)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return new tokens (B, N, D) and attention weights (B, N, N)."""
        weights = _attention_weights(self.query(tokens), self.key(tokens))
        return weights @ self.value(tokens), weights


class ResidualAttention(nn.Module):
    """One layer as the paper's released code has it: LN(T + W_o attention(T))."""

    def __init__(self, token_dim: int):
        super().__init__()
        self.query = nn.Linear(token_dim, token_dim)
        self.key = nn.Linear(token_dim, token_dim)
        self.value = nn.Linear(token_dim, token_dim)
        self.output = nn.Linear(token_dim, token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return new tokens (B, N, D) and attention weights (B, N, N)."""
        weights = _attention_weights(self.query(tokens), self.key(tokens))
        update = self.output(weights @ self.value(tokens))
        return self.norm(tokens + update), weights


class SelfAttentionStack(nn.Module):
    """K layers of single-head self-attention over N tokens.

    There is no positional encoding: a teacher is known by its projection alone, so
    permuting the tokens permutes the result.

    Parameters
    ----------
    token_dim : int
        Width D of a token.
    depth : int
        Number K of layers; 0 passes the tokens through.
    kind : {"residual", "plain"}, default="residual"
        "plain" is equations 2-3 alone. "residual" adds biases, an output projection,
        the residual connection and LayerNorm, as the paper's released code does.

    References
    ----------
    .. [1] W. Lei et al., "Shazam", 2025, equations 2-3.
    """

    def __init__(self, token_dim: int, depth: int, kind: str = "residual"):
        super().__init__()
        makers = {"residual": ResidualAttention, "plain": PlainAttention}
        check_choice("block", kind, makers)
        self.layers = nn.ModuleList(makers[kind](token_dim) for _ in range(depth))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return tokens (B, N, D) and one weight matrix (B, N, N) a layer."""
        weights_of_layers = []
        for layer in self.layers:
            tokens, weights = layer(tokens)
            weights_of_layers.append(weights)
        return tokens, weights_of_layers


def _attention_weights(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return softmax(Q K^T / sqrt D); row i says whom token i listens to. Eq. 3."""
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])  # (B, N, N)
    return scores.softmax(dim=-1)
