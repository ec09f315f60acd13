"""Which default wins: the student against every rival on public multi-view sets.

Run by hand: ``python benchmarks/defaults.py PATH_TO_DATA --records FILE --store
FOLDER`` (resumes where it stopped), then ``python benchmarks/defaults_table.py FILE``.
The store keeps the features of ``colorectal5``.
PATH_TO_DATA holds ``kather2016/texture_views.npz``, ``multiview/*.mat``,
``colorectal5`` and ``weights`` (see docs/benchmarks.md); two more sets come with
scikit-learn. Every set is divided once into five folds, by slide where there are
slides. Folds 0 and 1 are for choosing (``--folds 0 1``), folds 2 to 4 for reporting. A
run is a fold, a training size and a seed, which draws the training rows and seeds the
model; every method gets the same runs. Five seeds take the reported folds in turn: 2,
3, 4, 2, 3. Intervals resample test slides (tiles, where there are none) and know
nothing of seeds.
"""

import argparse
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from skshazam import ShazamClassifier, TeacherFeatureTransformer
from skshazam.fusion import (
    AveragedTeachersClassifier,
    ConcatClassifier,
    LogitProductClassifier,
    MambaClassifier,
    MoEClassifier,
    SingleTeacherClassifier,
    StackedTeachersClassifier,
    SumClassifier,
)

N_FOLDS = 5
REPORTED = (2, 3, 4)
SIZES = (100, 300, 1000, None)
C_GRID = np.logspace(-4, 2, 7)
OURS = "ShazamClassifier()"


# ------------------------------------------------------------------------------- sets


def matlab_views(path: Path):
    """Return the views and labels of a file whose ``X`` is a cell array."""
    content = loadmat(path)
    labels = content["Y"].ravel()
    views = [np.asarray(view, dtype=np.float64) for view in content["X"].ravel()]
    return [v if len(v) == len(labels) else v.T for v in views], labels, None


def load_set(name: str, arguments):
    """Return views (a list of (n, d)), labels, and slides or None."""
    data = arguments.data
    if name == "kather2016":
        archive = np.load(data / "kather2016/texture_views.npz", allow_pickle=True)
        views = [archive[key] for key in archive.files if archive[key].ndim == 2]
        return views, archive["y"], archive["slide"]
    if name == "handwritten":
        return matlab_views(data / "multiview/handwritten.mat")
    if name == "LandUse-21":
        return matlab_views(data / "multiview/LandUse-21.mat")
    if name == "digits":
        pixels, labels = load_digits(return_X_y=True)
        images = pixels.reshape(-1, 8, 8)
        spectrum = np.abs(np.fft.fft2(images)).reshape(len(images), -1)
        profiles = np.hstack([images.sum(axis=1), images.sum(axis=2)])
        return [pixels, spectrum, profiles], labels, None
    if name == "breast-cancer":
        columns, labels = load_breast_cancer(return_X_y=True)
        return np.split(columns, 3, axis=1), labels, None
    return colorectal_views(data, arguments.store)


def colorectal_views(data: Path, store: Path):
    """Return features of three ImageNet networks, all 2250 tiles together."""
    from real_tiles import read_folder, real_teachers

    parts = [read_folder(data / "colorectal5" / part) for part in ("train", "test")]
    paths, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    teachers = TeacherFeatureTransformer(
        real_teachers(data / "weights"), batch_size=8, store=store
    )
    features = teachers.fit_transform(paths)
    blocks = teachers.teacher_blocks_
    return list(blocks.split(np.asarray(features)).values()), labels, None


SETS = (
    "kather2016",
    "colorectal5",
    "handwritten",
    "LandUse-21",
    "digits",
    "breast-cancer",
)


# ---------------------------------------------------------------------------- methods


def logistic_regression(cv):
    """Return scaled logistic regression with C searched on ``cv``."""
    return GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": C_GRID},
        scoring="balanced_accuracy",
        cv=cv,
    )


def make_methods(dims, seed: int, grouped: bool) -> dict:
    """Return every method, untrained."""
    splitter = StratifiedGroupKFold if grouped else StratifiedKFold
    cv = splitter(3, shuffle=True, random_state=0)
    net = {"teacher_dims": dims, "random_state": seed, "device": "cpu"}
    late = {"teacher_dims": dims}
    return {
        OURS: ShazamClassifier(**net),
        "the same, no distillation": ShazamClassifier(distillation_weight=0, **net),
        "the same, depth=0": ShazamClassifier(depth=0, **net),
        "preset released": ShazamClassifier.from_preset("released", **net),
        "preset paper": ShazamClassifier.from_preset("paper", **net),
        "SumClassifier": SumClassifier(**net),
        "ConcatClassifier": ConcatClassifier(**net),
        "MoEClassifier": MoEClassifier(**net),
        "MambaClassifier": MambaClassifier(**net),
        # By default 5 folds and two members: more than this script has time for.
        "SingleTeacherClassifier(n_members=1, cv=3)": SingleTeacherClassifier(
            n_members=1, cv=3, **net
        ),
        "concatenation + logistic regression": logistic_regression(cv),
        "AveragedTeachersClassifier": AveragedTeachersClassifier(**late),
        "StackedTeachersClassifier": StackedTeachersClassifier(**late),
        "LogitProductClassifier": LogitProductClassifier(**late),
    }


def fit(method, X, y, groups):
    """Fit, handing on the slides where there are any and the method takes them."""
    takes = isinstance(method, GridSearchCV) or has_fit_parameter(method, "groups")
    return method.fit(
        X, y, **({"groups": groups} if takes and groups is not None else {})
    )


# -------------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class Split:
    """Training and test rows of one run, NaN filled in from the training rows."""

    dims: tuple
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None
    X_test: np.ndarray
    y_test: np.ndarray
    units: np.ndarray

    @classmethod
    def of(cls, views, labels, groups, *, fold, size, seed, **_):
        """Return the run of this fold, size and seed, or None if rows are too few."""
        y = np.unique(labels, return_inverse=True)[1]
        units = np.arange(len(y))
        if groups is not None:
            units = np.unique(groups, return_inverse=True)[1]
        rows, test = fold_indices(y, groups)[fold]
        rows = training_rows(y, rows, size, seed)
        if rows is None:
            return None
        X = np.hstack(views)
        imputer = SimpleImputer(strategy="median").fit(X[rows])
        return cls(
            dims=tuple(view.shape[1] for view in views),
            X=imputer.transform(X[rows]),
            y=y[rows],
            groups=None if groups is None else units[rows],
            X_test=imputer.transform(X[test]),
            y_test=y[test],
            units=units[test],
        )

    def methods(self, seed: int) -> dict:
        """Return every method, untrained."""
        return make_methods(self.dims, seed, self.groups is not None)

    def outcome(self, method) -> dict:
        """Return what a method predicts, and how long its training took."""
        start = time.perf_counter()
        fit(method, self.X, self.y, self.groups)
        return {
            "seconds": time.perf_counter() - start,
            "truth": self.y_test.tolist(),
            "units": self.units.tolist(),
            "predicted": method.predict(self.X_test).tolist(),
        }


def fold_indices(y, groups):
    """Return (train, test) of each of the five folds, the same in every call."""
    if groups is None:
        splitter = StratifiedKFold(N_FOLDS, shuffle=True, random_state=7)
    else:
        splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=7)
    return list(splitter.split(y, y, groups))


def training_rows(y, rows, size: int | None, seed: int):
    """Return ``size`` of ``rows``, classes in proportion; None if there are fewer."""
    if size is None:
        return rows
    if size >= len(rows) or size < 2 * len(np.unique(y[rows])):
        return None
    picked, _ = train_test_split(
        rows, train_size=size, stratify=y[rows], random_state=seed
    )
    return picked


def run(arguments) -> None:
    """Append one JSON line per method and run to the records."""
    done = {key_of(record) for record in read_records(arguments.records)}
    loaded = {name: load_set(name, arguments) for name in arguments.sets}
    # Seed by seed, so that records of an unfinished run compare all cells alike.
    plan = itertools.product(range(arguments.seeds), loaded, arguments.sizes)
    with Path(arguments.records).open("a") as file:
        for seed, name, size in plan:
            fold = arguments.folds[seed % len(arguments.folds)]
            facts = {"set": name, "size": size, "seed": seed, "fold": fold}
            split = Split.of(*loaded[name], **facts)
            if split is None:
                continue
            for label, method in split.methods(seed).items():
                record = {**facts, "method": label}
                wanted = selected(label, arguments.methods)
                if wanted and key_of(record) not in done:
                    file.write(json.dumps(record | split.outcome(method)) + "\n")
                    file.flush()


def key_of(record) -> tuple:
    """Return what tells a record from the others."""
    return tuple(record[part] for part in ("set", "size", "seed", "fold", "method"))


def read_records(path) -> list[dict]:
    """Return the records so far."""
    path = Path(path)
    return [json.loads(line) for line in path.open()] if path.exists() else []


def selected(label: str, patterns) -> bool:
    """Return whether a method was asked for."""
    return not patterns or any(pattern in label for pattern in patterns)


def parse_arguments():
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--records", required=True)
    parser.add_argument("--store", type=Path, help="needed by colorectal5")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=SIZES,
        type=lambda s: None if s == "all" else int(s),
    )
    parser.add_argument("--folds", nargs="+", default=REPORTED, type=int)
    parser.add_argument("--seeds", default=5, type=int)
    parser.add_argument("--methods", nargs="+", help="parts of names")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(parse_arguments())
