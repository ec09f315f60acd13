"""Published networks once more, in plain torch and without timm, run from a state dict.

Each takes a checkpoint as its authors name it and images (n, 3, h, w), and is literal.
"""

import torch
from torch.nn import functional


def linear(state, name, x):
    return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(state, name, x, eps):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    centred = x - x.mean(-1, keepdim=True)
    return (
        weight * centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() + bias
    )


def attend(query, key, value, n_heads, bias=0.0):
    """Return multi-head attention of (n, tokens, dim); bias (heads, tokens, tokens)."""
    outputs = []
    biases = bias if isinstance(bias, torch.Tensor) else [bias] * n_heads
    parts = (part.chunk(n_heads, dim=-1) for part in (query, key, value))
    for (q, k, v), b in zip(zip(*parts, strict=True), biases, strict=True):
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + b
        outputs.append(scores.softmax(-1) @ v)
    return torch.cat(outputs, dim=-1)


def patches(state, name, images, size):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return functional.conv2d(images, weight, bias, stride=size).flatten(2).mT


def dinov2(state, images, *, n_heads, patch, depth):
    """facebookresearch/dinov2: in chunks or not, SwiGLU or not, registers or not."""
    names = {key.split(".mlp.")[0] for key in state if ".mlp." in key}
    blocks = sorted(names, key=lambda name: int(name.rpartition(".")[2]))
    assert len(blocks) == depth
    x = patches(state, "patch_embed.proj", images, patch)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + state["pos_embed"]
    if "register_tokens" in state:
        registers = state["register_tokens"].expand(len(x), -1, -1)
        x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
    for block in blocks:
        y = norm(state, f"{block}.norm1", x, 1e-6)
        qkv = linear(state, f"{block}.attn.qkv", y).chunk(3, -1)
        y = linear(state, f"{block}.attn.proj", attend(*qkv, n_heads))
        x = x + y * state[f"{block}.ls1.gamma"]
        y = norm(state, f"{block}.norm2", x, 1e-6)
        if f"{block}.mlp.w12.weight" in state:
            gate, up = linear(state, f"{block}.mlp.w12", y).chunk(2, -1)
            y = linear(state, f"{block}.mlp.w3", gate * gate.sigmoid() * up)
        else:
            y = functional.gelu(linear(state, f"{block}.mlp.fc1", y))
            y = linear(state, f"{block}.mlp.fc2", y)
        x = x + y * state[f"{block}.ls2.gamma"]
    return norm(state, "norm", x, 1e-6)


def beit3(state, images, *, n_heads, patch, depth):
    """BEiT-3's image branch (A), sub-layers normalised, as torchscale has it."""
    x = patches(state, "beit3.vision_embed.proj", images, patch)
    x = torch.cat([state["beit3.vision_embed.cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + state["beit3.encoder.embed_positions.A.weight"][2 : 2 + x.shape[1]]
    for layer in range(depth):
        name = f"beit3.encoder.layers.{layer}"
        y = norm(state, f"{name}.self_attn_layer_norm.A", x, 1e-5)
        qkv = (linear(state, f"{name}.self_attn.{r}_proj.A", y) for r in "qkv")
        y = norm(
            state, f"{name}.self_attn.inner_attn_ln.A", attend(*qkv, n_heads), 1e-5
        )
        x = x + linear(state, f"{name}.self_attn.out_proj.A", y)
        y = norm(state, f"{name}.final_layer_norm.A", x, 1e-5)
        y = functional.gelu(linear(state, f"{name}.ffn.A.fc1", y))
        y = norm(state, f"{name}.ffn.A.ffn_layernorm", y, 1e-5)
        x = x + linear(state, f"{name}.ffn.A.fc2", y)
    return norm(state, "beit3.encoder.layer_norm.A", x, 1e-5)


def vision_transformer(state, prefix, images, *, n_heads, patch, depth, scale):
    """A ViT in timm's names; `scale` is the name of its LayerScale, if it has one."""
    x = patches(state, f"{prefix}patch_embed.proj", images, patch)
    x = torch.cat([state[f"{prefix}cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + state[f"{prefix}pos_embed"]
    for index in range(depth):
        name = f"{prefix}blocks.{index}"
        y = norm(state, f"{name}.norm1", x, 1e-6)
        qkv = linear(state, f"{name}.attn.qkv", y).chunk(3, -1)
        y = linear(state, f"{name}.attn.proj", attend(*qkv, n_heads))
        x = x + y * (state[f"{name}.ls1.{scale}"] if scale else 1)
        y = functional.gelu(
            linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x, 1e-6))
        )
        y = linear(state, f"{name}.mlp.fc2", y)
        x = x + y * (state[f"{name}.ls2.{scale}"] if scale else 1)
    return norm(state, f"{prefix}norm", x, 1e-6)


def conch(state, images, *, n_heads, pool_heads, patch, depth):
    """CONCH's vector before the projection, from the checkpoint of all its towers."""
    tokens = vision_transformer(
        state,
        "visual.trunk.",
        images,
        n_heads=n_heads,
        patch=patch,
        depth=depth,
        scale=None,
    )
    pool = "visual.attn_pool_contrast"
    context = norm(state, f"{pool}.ln_k", tokens, 1e-5)
    query = norm(state, f"{pool}.ln_q", state[f"{pool}.query"], 1e-5)
    biases = state[f"{pool}.attn.in_proj_bias"].chunk(3)
    q, k, v = (
        x @ state[f"{pool}.attn.{role}_proj_weight"].T + bias
        for x, role, bias in zip((query, context, context), "qkv", biases, strict=True)
    )
    pooled = attend(q.expand(len(images), -1, -1), k, v, pool_heads)
    pooled = linear(state, f"{pool}.attn.out_proj", pooled)
    return norm(state, "visual.ln_contrast", pooled[:, 0], 1e-5)


def conch_v15(state, images, *, n_heads, pool_heads, patch, depth):
    """CONCH v1.5's vector, from the checkpoint of its image tower."""
    tokens = vision_transformer(
        state,
        "trunk.",
        images,
        n_heads=n_heads,
        patch=patch,
        depth=depth,
        scale="gamma",
    )
    pool = "attn_pool_contrast"
    query = linear(
        state, f"{pool}.to_q", norm(state, f"{pool}.ln_q", state[f"{pool}.query"], 1e-5)
    )
    key, value = linear(
        state, f"{pool}.to_kv", norm(state, f"{pool}.ln_k", tokens, 1e-5)
    ).chunk(2, -1)
    pooled = attend(query.expand(len(images), -1, -1), key, value, pool_heads)
    return norm(
        state, "ln_contrast", linear(state, f"{pool}.to_out", pooled)[:, 0], 1e-5
    )


def keep(state, images, *, n_heads, patch, depth):
    """KEEP's vector, from the checkpoint of both towers."""
    tokens = vision_transformer(
        state,
        "visual.",
        images,
        n_heads=n_heads,
        patch=patch,
        depth=depth,
        scale="weight",
    )
    x = functional.gelu(linear(state, "visual_head.0", tokens[:, 0]))
    x = linear(state, "visual_head.2", x)
    return x / x.square().sum(-1, keepdim=True).sqrt()


def ctranspath(state, images, *, n_heads, depths, window):
    """Swin as the old timm had it: patches are merged at the end of a stage."""
    x = images
    for conv, batch_norm in ((0, 1), (3, 4)):
        x = functional.conv2d(
            x, state[f"patch_embed.proj.{conv}.weight"], stride=2, padding=1
        )
        mean, var, weight, bias = (
            state[f"patch_embed.proj.{batch_norm}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        x = (weight * (x - mean) / (var + 1e-5).sqrt() + bias).clamp_min(0)
    x = functional.conv2d(
        x, state["patch_embed.proj.6.weight"], state["patch_embed.proj.6.bias"]
    )
    side = x.shape[-1]
    x = norm(state, "patch_embed.norm", x.flatten(2).mT, 1e-5)  # (n, side * side, dim)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            shift = window // 2 if index % 2 and side > window else 0
            x = swin_block(
                state,
                f"layers.{stage}.blocks.{index}",
                x,
                side,
                n_heads[stage],
                window,
                shift,
            )
        if stage + 1 < len(depths):
            grid = x.unflatten(1, (side, side))
            corners = [grid[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
            x = norm(
                state,
                f"layers.{stage}.downsample.norm",
                torch.cat(corners, -1).flatten(1, 2),
                1e-5,
            )
            x = linear(state, f"layers.{stage}.downsample.reduction", x)
            side //= 2
    return norm(state, "norm", x, 1e-5).mean(1)


def swin_block(state, name, x, side, n_heads, window, shift):
    y = norm(state, f"{name}.norm1", x, 1e-5)
    qkv = linear(state, f"{name}.attn.qkv", y).chunk(3, -1)
    table = state[f"{name}.attn.relative_position_bias_table"]
    y = attend(*qkv, n_heads, window_bias(table, side, window, shift))
    x = x + linear(state, f"{name}.attn.proj", y)
    y = functional.gelu(
        linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x, 1e-5))
    )
    return x + linear(state, f"{name}.mlp.fc2", y)


def window_bias(table, side, window, shift):
    """Return (heads, side**2, side**2): the bias in a window, -infinity beyond it."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = [(part.flatten() - shift) % side for part in (row, column)]
    reachable = torch.ones(side * side, side * side, dtype=torch.bool)
    offsets = []
    for place in places:
        # The window, and whether the shift carried the pixel round the edge.
        label = place // window * 2 + (place >= side - shift).long()
        reachable &= label[:, None] == label
        offsets.append((place[:, None] - place + window - 1).clamp(0, 2 * window - 2))
    bias = table[offsets[0] * (2 * window - 1) + offsets[1]].permute(2, 0, 1)
    return bias.masked_fill(~reachable, -torch.inf)
