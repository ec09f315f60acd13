"""What a student's training costs, against loops written by hand.

Run by hand: ``python benchmarks/training.py``. All ways train on the same random
features, with the same batch size, rate and number of epochs; they take turns in this
one process, with one torch thread. Seconds are those of the processor, because the
cores may be shared. Lines are ratios to the tight loop; medians of repeats, with the
fastest in brackets.

``--accuracy`` measures instead how long the default needs to be as good as the released
recipe is at its end. ``--memory`` and ``--prediction`` say what they say.
``--profile`` lists where a fit spends its time.
"""

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupShuffleSplit
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from skshazam import ShazamClassifier
from skshazam.datasets import make_teacher_features
from skshazam.networks import (
    ShazamNetwork,
    Standardization,
    cosine_distillation,
    huber_distillation,
)

UNITOPATHO = {"rows": 6270, "dims": (1280, 1024, 1024, 1536), "n_classes": 6}
# Of the released recipe.
LR, WEIGHT_DECAY, BATCH_SIZE, WEIGHT = 1e-3, 1e-3, 64, 0.5
# What the loops by hand take over.
DEFAULTS = ShazamClassifier().get_params()


# ------------------------------------------------------------- the released recipe


class ReleasedAttention(nn.Module):
    """LN(x + W_o softmax(QK^T / sqrt D) V), one head."""

    def __init__(self, dim):
        super().__init__()
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens):
        """Return tokens of the same shape."""
        scores = self.query(tokens) @ self.key(tokens).transpose(1, 2)
        weights = (scores / tokens.shape[-1] ** 0.5).softmax(dim=-1)
        return self.norm(tokens + self.out(weights @ self.value(tokens)))


class ReleasedStudent(nn.Module):
    """Two-layer projectors, five layers of attention, their mean, an MLP."""

    def __init__(self, dims, n_classes, dim=128, depth=5):
        super().__init__()
        self.projectors = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(width, dim), nn.LayerNorm(dim), nn.ReLU()),
                *(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU()),
            )
            for width in dims
        )
        self.layers = nn.Sequential(*(ReleasedAttention(dim) for _ in range(depth)))
        self.classifier = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.LayerNorm(dim), nn.Linear(dim, n_classes)
        )

    def forward(self, blocks):
        """Return logits and the fused vector of a list of blocks."""
        tokens = [p(block) for p, block in zip(self.projectors, blocks, strict=True)]
        fused = self.layers(torch.stack(tokens, dim=1)).mean(dim=1)
        return self.classifier(fused), fused


def released_recipe(data, epochs, after_epoch=None):
    """Train as the paper's released code does, from its description.

    A DataLoader over one tensor a teacher; mappers that no optimizer knows; AdamW as
    torch gives it; the loss as a number every step.
    """
    X, codes, dims, n_classes = data
    blocks = [block.contiguous() for block in torch.from_numpy(X).split(dims, dim=1)]
    loader = DataLoader(
        TensorDataset(*blocks, torch.from_numpy(codes)), BATCH_SIZE, shuffle=True
    )
    student = ReleasedStudent(dims, n_classes)
    mappers = [nn.Linear(width, 128) for width in dims]
    optimizer = torch.optim.AdamW(student.parameters(), LR, weight_decay=WEIGHT_DECAY)
    cross_entropy, huber = nn.CrossEntropyLoss(), nn.HuberLoss()
    for epoch in range(epochs):
        student.train()
        total = 0.0
        for *parts, targets in loader:
            optimizer.zero_grad()
            logits, fused = student(parts)
            loss = cross_entropy(logits, targets)
            for mapper, part in zip(mappers, parts, strict=True):
                mapped = mapper(part)
                away = 1 - functional.cosine_similarity(fused, mapped, dim=-1).mean()
                loss = loss + WEIGHT * (away + huber(fused, mapped))
            loss.backward()
            optimizer.step()
            total += loss.item()
        if after_epoch:
            after_epoch(epoch, student)


# ------------------------------------------------------------------- loops by hand


def tight_loop(data, epochs, *, targets_once):
    """Train what ShazamClassifier() trains, with its loss and nothing around it."""
    X, codes, dims, n_classes = data
    X, codes = torch.from_numpy(X), torch.from_numpy(codes)
    standardization, members = networks_of_the_default(dims, n_classes)
    standardization.set_statistics(X.mean(dim=0), X.std(dim=0))
    trained = [p for m in members for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, DEFAULTS["lr"], weight_decay=DEFAULTS["weight_decay"], fused=True
    )
    if targets_once:
        with torch.no_grad():
            features = standardization(X)
            fixed = [member.targets.maps(features) for member in members]
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(DEFAULTS["batch_size"]):
            optimizer.zero_grad()
            features = standardization(X.index_select(0, rows))
            loss = 0.0
            for i, member in enumerate(members):
                output = member(features)
                targets = fixed[i][rows] if targets_once else output.targets
                away = cosine_distillation(output.fused, targets) + huber_distillation(
                    output.fused, targets, DEFAULTS["huber_delta"], DEFAULTS["huber"]
                )
                wrong = functional.cross_entropy(output.logits, codes[rows])
                loss = loss + wrong + DEFAULTS["distillation_weight"] * away
            (loss / len(members)).backward()
            optimizer.step()


def networks_of_the_default(dims, n_classes):
    """Return the standardisation and the members of ShazamClassifier()."""
    names = ("token_dim", "depth", "projection", "block", "dropout")
    arguments = {name: DEFAULTS[name] for name in names}
    arguments["distillation_target"] = DEFAULTS["distillation_target"]
    members = [
        ShazamNetwork(dims, n_classes, standardize=False, **arguments).train()
        for _ in range(DEFAULTS["n_members"])
    ]
    return Standardization(sum(dims)), members


def products_only(data, epochs):
    """Do the matrix products of the linear layers of the default, and nothing else."""
    X, _, dims, n_classes = data
    _, members = networks_of_the_default(dims, n_classes)
    batch_size, operands = DEFAULTS["batch_size"], []
    for name, layer in members[0].named_modules():
        if isinstance(layer, nn.Linear) and not name.startswith("targets"):
            n_rows = batch_size * (len(dims) if name.startswith("attention") else 1)
            inputs = torch.randn(n_rows, layer.in_features)
            gradient = torch.randn(n_rows, layer.out_features)
            # Nobody needs the gradient of the features.
            is_first = layer.in_features in dims
            operands.append((inputs, layer.weight.detach().T, gradient, is_first))
    n_steps = epochs * -(-len(X) // batch_size)
    for _ in range(n_steps * len(members)):
        for inputs, weights, gradient, is_first in operands:
            inputs @ weights
            inputs.T @ gradient
            if not is_first:
                gradient @ weights.T


def ours(data, epochs, **changes):
    """Fit the estimator."""
    X, codes, dims, _ = data
    return ShazamClassifier(
        teacher_dims=dims, max_epochs=epochs, device="cpu", random_state=0, **changes
    ).fit(X, codes)


# ------------------------------------------------------------------ what is measured


def random_data(rows, dims, n_classes, dtype=np.float32):
    """Return features, codes, widths and the number of classes."""
    rng = np.random.default_rng(0)
    X = np.empty((rows, sum(dims)), dtype)
    for start in range(0, rows, 4096):
        part = X[start : start + 4096]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    return X, rng.integers(0, n_classes, rows), dims, n_classes


def speed(options):
    """Print seconds an epoch of every way, as ratios to the tight loop."""
    data = random_data(options.rows, UNITOPATHO["dims"], UNITOPATHO["n_classes"])
    ways = {
        "matrix products alone": products_only,
        "tight loop, targets once": lambda *a: tight_loop(*a, targets_once=True),
        "tight loop": lambda *a: tight_loop(*a, targets_once=False),
        "ShazamClassifier()": ours,
        "  float16 features": lambda _, epochs: ours(half, epochs),
        "  n_members=1": lambda *a: ours(*a, n_members=1),
        "  distillation_weight=0": lambda *a: ours(*a, distillation_weight=0),
        "released recipe, by hand": released_recipe,
        "  preset 'released'": lambda data, epochs: ShazamClassifier.from_preset(
            "released", teacher_dims=data[2], max_epochs=epochs, device="cpu"
        ).fit(*data[:2]),
    }
    half = (data[0].astype(np.float16), *data[1:])
    spent = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            start = time.process_time()
            way(data, options.epochs)
            spent[name].append((time.process_time() - start) / options.epochs)
    reference = spent["tight loop"]
    print(f"{options.rows} rows, {UNITOPATHO['dims']}, {options.epochs} epochs a fit")
    for name, seconds in spent.items():
        print(
            f"  {name:<34} {np.median(seconds):7.2f} s an epoch ({min(seconds):.2f})"
            f"   {np.median(seconds) / np.median(reference):5.2f} of the tight loop"
            f" ({min(seconds) / min(reference):.2f})"
        )


def memory(options):
    """Print the peak memory of fit and predict_proba, each in a fresh process."""
    for dtype in ("float32", "float16"):
        subprocess.run(
            [sys.executable, __file__, "--rows", str(options.rows), "--peak", dtype],
            check=True,
        )


def peak(options):
    """Print by how much a fit and a prediction raise this process's peak memory."""
    X, codes, dims, _ = random_data(
        options.rows, UNITOPATHO["dims"], UNITOPATHO["n_classes"], options.peak
    )
    ours((X[:64], codes[:64], dims, None), 1)  # what is imported late, is now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    student = ShazamClassifier(
        teacher_dims=dims, max_epochs=2, device="cpu", random_state=0
    ).fit(X, codes)
    fitted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    student.predict_proba(X)
    predicted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"  {options.peak}: features {X.nbytes / 2**20:.0f} MiB, "
        f"fit adds {(fitted - before) / 2**10:.0f} MiB to the process's peak, "
        f"prediction {(predicted - fitted) / 2**10:.0f} MiB more"
    )


def prediction(options):
    """Print seconds of predict_proba for 100,000 rows."""
    data = random_data(options.rows, UNITOPATHO["dims"], UNITOPATHO["n_classes"])
    student = ours((data[0][:640], data[1][:640], *data[2:]), 1)
    for dtype in (np.float32, np.float16):
        X = data[0].astype(dtype)
        seconds = []
        for _ in range(options.repeats):
            start = time.process_time()
            student.predict_proba(X)
            seconds.append(time.process_time() - start)
        print(f"  {options.rows} rows of {np.dtype(dtype)}: {np.median(seconds):.2f} s")


def profile(options):
    """Print where one fit spends its time, by function."""
    data = random_data(options.rows, UNITOPATHO["dims"], UNITOPATHO["n_classes"])
    profiler = cProfile.Profile()
    profiler.runcall(ours, data, options.epochs)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def patients_apart(options):
    """Yield training and test parts, no patient in both, with one seed each."""
    if options.features:
        with np.load(options.features) as file:
            X, y, groups = file["X"].astype(np.float32), file["y"], file["groups"]
            dims = tuple(file["teacher_dims"].tolist())
    else:
        X, y, groups = make_teacher_features(
            options.rows,
            teacher_dims=(dims := (320, 256, 256, 384)),
            n_classes=6,
            n_groups=60,
            noise=options.noise,
            random_state=0,
        )
    labels, codes = np.unique(y, return_inverse=True)
    X = np.ascontiguousarray(X)
    splits = GroupShuffleSplit(options.repeats, test_size=0.3, random_state=0)
    for seed, (train, test) in enumerate(splits.split(X, codes, groups)):
        torch.manual_seed(seed)
        yield (
            seed,
            (X[train], codes[train], dims, len(labels)),
            (X[test], codes[test]),
        )


def accuracy(options):
    """Print how long the default needs to match the released recipe at its end.

    Each line of ours is a whole fit with that many epochs, its learning-rate schedule
    and all, not a look into a longer one.
    """
    released, table = [], {budget: [] for budget in (1, 2, 3, 5, 10, 20, "auto")}
    for seed, data, (X, codes) in patients_apart(options):
        blocks = torch.from_numpy(X).split(data[2], dim=1)
        scores, scoring = [], []

        def score(
            epoch, student, blocks=blocks, codes=codes, scores=scores, scoring=scoring
        ):
            start = time.process_time()
            with torch.inference_mode():
                found = student.eval()(blocks)[0].argmax(dim=1).numpy()
            scores.append(balanced_accuracy_score(codes, found))
            scoring.append(time.process_time() - start)

        start = time.process_time()
        released_recipe(data, options.epochs, score)
        spent = time.process_time() - start - sum(scoring)
        released.append((scores[-1], max(scores), spent))
        for budget, rows in table.items():
            start = time.process_time()
            student = ShazamClassifier(
                teacher_dims=data[2],
                max_epochs=budget,
                device="cpu",
                random_state=seed,
            ).fit(*data[:2])
            spent = time.process_time() - start
            found = student.predict(X)
            rows.append((balanced_accuracy_score(codes, found), spent, student.n_iter_))
    last, best, seconds = np.array(released).T
    print(
        f"released recipe, {options.epochs} epochs: balanced accuracy "
        f"{last.mean():.3f} ± {last.std():.3f} at the end ({best.mean():.3f} at its "
        f"best epoch, chosen on the test rows), {seconds.mean():.1f} s"
    )
    for budget, rows in table.items():
        reached, spent, passes = np.array(rows).T
        print(
            f"  ShazamClassifier(max_epochs={budget!r:<6}) {reached.mean():.3f} ± "
            f"{reached.std():.3f}   {passes.mean():3.0f} epochs {spent.mean():6.2f} s, "
            f"{seconds.mean() / spent.mean():6.1f} times faster"
        )


MODES = {
    "memory": memory,
    "prediction": prediction,
    "profile": profile,
    "accuracy": accuracy,
}


def main():
    """Read the options and print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=UNITOPATHO["rows"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--features", help="npz with X, y, groups and teacher_dims")
    parser.add_argument("--noise", type=float, default=4.0)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    for name in MODES:
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        return peak(options)
    for mode in [MODES[name] for name in MODES if getattr(options, name)] or [speed]:
        mode(options)


if __name__ == "__main__":
    main()
