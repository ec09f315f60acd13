"""The whole main job on real tiles: extract, compare, search, save, load.

Run by hand: ``python benchmarks/real_tiles.py PATH_TO_DATA [--search]``. PATH_TO_DATA
holds ``colorectal5/{train,test}/<class>/*.jpg`` and ``weights/*.safetensors`` (see
docs/benchmarks.md). The tiles carry no patient ids, so the split is by tile and
flatters every method alike; the intervals resample tiles and are too narrow for the
same reason.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.models import SqueezeNet

from skshazam import ShazamClassifier, TeacherFeatureTransformer, TeacherSpec

HALF = (0.5, 0.5, 0.5)
N_SEEDS = 5
BATCH_SIZE = 8  # on a CPU, small batches that stay in its cache are faster


class SqueezeNetFeatures(SqueezeNet):
    """torchvision's SqueezeNet, returning the mean of its last feature map."""

    def forward(self, images):
        """Return features (n, 512) of images (n, 3, height, width)."""
        return self.features(images).mean(dim=(2, 3))


def real_teachers(weights: Path) -> list[TeacherSpec]:
    """Return the specs of the three ImageNet networks under data/weights."""
    return [
        TeacherSpec(
            "vit-tiny",
            architecture="vit_tiny_patch16_224",
            weights=weights / "vit_tiny_patch16_224.safetensors",
            dim=192,
            mean=HALF,
            std=HALF,
        ),
        TeacherSpec(
            "mobilenet-v2",
            architecture="mobilenetv2_100",
            architecture_kwargs={"pad_type": "same"},
            weights=weights / "mobilenetv2_100.safetensors",
            dim=1280,
            mean=HALF,
            std=HALF,
        ),
        TeacherSpec(
            "squeezenet",
            build=partial(SqueezeNetFeatures, version="1_1"),
            weights=weights / "squeezenet1_1.safetensors",
            dim=512,
            size=227,
            interpolation="bilinear",
        ),
    ]


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return image paths and class names of a folder of class folders."""
    paths = sorted(folder.glob("*/*.jpg"))
    labels = np.array([path.parent.name for path in paths])
    return np.array([str(path) for path in paths]), labels


def plain_features(path: str, spec: TeacherSpec) -> np.ndarray:
    """Return one teacher's feature of one tile by timm, torchvision and PIL alone."""
    from safetensors.torch import load_file
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    if spec.build:
        model = spec.build()
        model.load_state_dict(load_file(spec.weights))
    else:
        kwargs = dict(spec.architecture_kwargs)
        model = timm.create_model(
            spec.architecture, checkpoint_path=spec.weights, **kwargs
        )
        model.reset_classifier(0)
    interpolation = InterpolationMode(spec.interpolation)
    card = transforms.Compose(
        [
            transforms.Resize(spec.size, interpolation),
            transforms.CenterCrop(spec.size),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    with torch.inference_mode():
        image = card(Image.open(path).convert("RGB"))
        return model.eval()(image[None]).numpy()[0]


def report_parity(specs, paths, features, n_tiles: int = 20) -> None:
    """Print the smallest cosine between our features and the plain ones."""
    blocks = features.teacher_blocks.split(features)
    for spec in specs:
        block = np.asarray(blocks[spec.name])[:n_tiles]
        cosines = []
        for path, ours in zip(paths[:n_tiles], block, strict=True):
            plain = plain_features(path, spec)
            norms = np.linalg.norm(plain) * np.linalg.norm(ours)
            cosines.append(float(plain @ ours) / norms)
        print(
            f"{spec.name:<15} smallest cosine with plain timm + PIL: {min(cosines):.6f}"
        )


def logistic_regression() -> GridSearchCV:
    """Return standardised logistic regression with C chosen inside the training set."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    grid = {"logisticregression__C": np.logspace(-4, 1, 6)}
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return GridSearchCV(pipeline, grid, scoring="balanced_accuracy", cv=folds)


def interval(y, predicted, n_resamples: int = 1000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of balanced accuracy over tiles."""
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(n_resamples):
        rows = rng.integers(0, len(y), len(y))
        scores.append(balanced_accuracy_score(y[rows], predicted[rows]))
    return tuple(np.quantile(scores, (0.025, 0.975)))


def report(name: str, y, predictions: list) -> None:
    """Print mean and spread over seeds, and the interval of the first seed."""
    scores = [balanced_accuracy_score(y, predicted) for predicted in predictions]
    low, high = interval(y, predictions[0])
    spread = f"± {np.std(scores, ddof=1):.3f}" if len(scores) > 1 else "       "
    print(f"{name:<42}{np.mean(scores):.3f} {spread}  [{low:.3f}, {high:.3f}]")


def compare(X_train, y_train, X_test, y_test) -> None:
    """Print balanced accuracy on the test folder for every method."""
    print(f"\n{len(y_train)} training, {len(y_test)} test tiles, {N_SEEDS} seeds")
    print(f"{'method':<42}balanced accuracy  95 % over tiles")
    test_blocks = X_test.teacher_blocks.split(X_test)
    for name, block in X_train.teacher_blocks.split(X_train).items():
        model = logistic_regression().fit(np.asarray(block), y_train)
        report(
            f"{name} + logistic regression",
            y_test,
            [model.predict(np.asarray(test_blocks[name]))],
        )
    model = logistic_regression().fit(np.asarray(X_train), y_train)
    report(
        "concatenation + logistic regression",
        y_test,
        [model.predict(np.asarray(X_test))],
    )
    student, preset = ShazamClassifier, ShazamClassifier.from_preset
    students = {
        "Shazam": student,
        "Shazam without distillation": partial(student, distillation_weight=0),
    }
    for name in ("paper", "released"):
        students[name] = partial(preset, name)
        students[f"{name}, early stopping"] = partial(preset, name, early_stopping=True)
    for name, make in students.items():
        start = time.perf_counter()
        predictions = [
            make(random_state=seed).fit(X_train, y_train).predict(X_test)
            for seed in range(N_SEEDS)
        ]
        seconds = (time.perf_counter() - start) / N_SEEDS
        report(f"{name} ({seconds:.0f} s a fit)", y_test, predictions)


def search(specs, paths, y, test_paths) -> None:
    """Search λ and depth over the whole pipeline, save it, and reload it elsewhere."""
    pipeline = Pipeline(
        [
            ("teachers", TeacherFeatureTransformer(specs, batch_size=BATCH_SIZE)),
            ("student", ShazamClassifier(max_epochs=20, random_state=0)),
        ]
    )
    grid = {
        "student__distillation_weight": [0.05, 0.5],
        "student__depth": [1, 3],
    }
    with tempfile.TemporaryDirectory() as folder:
        pipeline.set_params(memory=folder)
        search = GridSearchCV(
            pipeline,
            grid,
            n_jobs=2,
            cv=StratifiedKFold(3, shuffle=True, random_state=0),
            scoring="balanced_accuracy",
        ).fit(paths, y)
        print(f"\nbest of {len(search.cv_results_['params'])}: {search.best_params_}")
        file = Path(folder) / "search.joblib"
        joblib.dump(search, file)
        print(f"dump of the search: {file.stat().st_size / 1e6:.2f} MB")
        np.save(Path(folder) / "tiles.npy", test_paths)
        np.save(Path(folder) / "here.npy", search.predict_proba(test_paths))
        subprocess.run([sys.executable, __file__, "--reload", folder], check=True)


def reload(folder: Path) -> None:
    """Compare the probabilities of a reloaded search with those saved beside it."""
    search = joblib.load(folder / "search.joblib")
    there = search.predict_proba(np.load(folder / "tiles.npy"))
    difference = np.abs(there - np.load(folder / "here.npy")).max()
    print(f"fresh process: largest difference of a probability {difference:.2e}")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--search", action="store_true", help="search and save instead")
    parser.add_argument("--reload", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reload:
        reload(arguments.data)
        return
    specs = real_teachers(arguments.data / "weights")
    train_paths, y_train = read_folder(arguments.data / "colorectal5" / "train")
    test_paths, y_test = read_folder(arguments.data / "colorectal5" / "test")
    if arguments.search:
        search(specs, train_paths[::5], y_train[::5], test_paths[::15])
        return
    transformer = TeacherFeatureTransformer(specs, batch_size=BATCH_SIZE, progress=True)
    start = time.perf_counter()
    X_train = transformer.fit_transform(train_paths)
    X_test = transformer.transform(test_paths)
    seconds = time.perf_counter() - start
    n_tiles = len(train_paths) + len(test_paths)
    print(f"{n_tiles} tiles x 3 teachers in {seconds:.0f} s")
    report_parity(specs, test_paths, X_test)
    compare(X_train, y_train, X_test, y_test)


if __name__ == "__main__":
    # Imported under its own name, so that worker processes find SqueezeNetFeatures.
    import real_tiles

    real_tiles.main()
