"""The whole job on synthetic tissue, offline: tiles, teachers, students, pictures."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from skshazam._blocks import TeacherFeatures
from skshazam._optional import require
from skshazam.benchmark._comparison import (
    Comparison,
    balanced_recall,
    compare_methods,
)
from skshazam.datasets import make_tissue_tiles
from skshazam.features import TeacherFeatureTransformer
from skshazam.fusion import ShazamClassifier
from skshazam.inspection import (
    ComparisonDisplay,
    TeacherAttentionDisplay,
    TileSheetDisplay,
)

__all__ = ["DemoResult", "run_demo"]

TEACHERS = ("stain", "texture", "frequency")
CONCATENATION = "concatenation + logistic regression"
SHAZAM = "Shazam"
N_SPLITS = 5


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Parameters
    ----------
    tiles : Bunch
        From :func:`skshazam.datasets.make_tissue_tiles`.
    comparison : Comparison
        Every method on the same patient-grouped folds.
    files : list of Path
        Pictures and records that were written.
    """

    tiles: Bunch
    comparison: Comparison
    files: list[Path]


def run_demo(
    folder,
    *,
    n_patients: int = 24,
    tiles_per_patient: int = 36,
    random_state: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> DemoResult:
    """Draw tiles, extract three handcrafted teachers, compare methods, draw pictures.

    Parameters
    ----------
    folder : path-like
        Where pictures and records go; made if missing.
    n_patients : int, default=24
        Synthetic patients.
    tiles_per_patient : int, default=36
        Tiles of each patient.
    random_state : int, default=0
        Seed of tiles, folds and students.
    on_step : callable, default=None
        Called :func:`count_steps` times with what has just been finished.

    Returns
    -------
    result : DemoResult
    """
    # Fail before the work, not after it.
    require("matplotlib", needed_by="skshazam demo")
    report = on_step or (lambda step: None)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tiles = make_tissue_tiles(n_patients, tiles_per_patient, random_state=random_state)
    report("tiles drawn")
    features = TeacherFeatureTransformer(TEACHERS, device="cpu").fit_transform(
        tiles.images
    )
    report("features extracted")
    methods = make_methods(features, random_state)
    comparison = compare_methods(
        methods,
        tiles.target,
        tiles.groups,
        n_splits=N_SPLITS,
        random_state=random_state,
        on_fold=lambda method, fold: report(f"{method}, fold {fold + 1}"),
    )
    student, X = methods[SHAZAM]
    # One student on one fold's training patients, to look inside it.
    train, test = next(
        StratifiedGroupKFold(N_SPLITS, shuffle=True, random_state=random_state).split(
            tiles.target, tiles.target, tiles.groups
        )
    )
    student = clone(student).fit(X[train], tiles.target[train])
    files = _write_pictures(folder, tiles, comparison, student, X[test], random_state)
    records = folder / "records.json"
    records.write_text(json.dumps(comparison.records, indent=1))
    report("pictures drawn")
    return DemoResult(tiles, comparison, [*files, records])


def count_steps() -> int:
    """Return how many steps a demo reports."""
    return 3 + N_SPLITS * (len(TEACHERS) + 2)


def make_methods(features: TeacherFeatures, random_state: int) -> dict:
    """Return each method of the demo with the features that it sees."""
    blocks = features.teacher_blocks.split(features)
    methods = {
        f"{name} alone + logistic regression": (
            _logistic_regression(),
            np.asarray(block),
        )
        for name, block in blocks.items()
    }
    methods[CONCATENATION] = (_logistic_regression(), np.asarray(features))
    # Few tiles: fewer passes than by default, chosen on cohorts of other seeds.
    student = ShazamClassifier(max_epochs=40, device="cpu", random_state=random_state)
    methods[SHAZAM] = (student, features)
    return methods


def _logistic_regression() -> GridSearchCV:
    """Return logistic regression with C chosen by patient-grouped inner folds."""
    return GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": [0.01, 0.1, 1.0]},
        scoring=make_scorer(balanced_recall),
        cv=StratifiedGroupKFold(3),
    )


def _write_pictures(
    folder: Path,
    tiles: Bunch,
    comparison: Comparison,
    student: ShazamClassifier,
    X: TeacherFeatures,
    random_state: int,
) -> list[Path]:
    """Draw the four pictures and return their files."""
    pyplot = require("matplotlib.pyplot", needed_by="skshazam demo")
    predicted = comparison.predictions[SHAZAM]
    sheet = TileSheetDisplay.from_predictions(
        tiles.images, tiles.target, predicted, random_state=random_state
    )
    figures = {
        "tiles": sheet.figure_,
        "confusion": _confusion_figure(pyplot, tiles.target, predicted),
        "methods": ComparisonDisplay(comparison.scores(), comparison.intervals)
        .plot()
        .figure_,
        "attention": TeacherAttentionDisplay.from_estimator(student, X).figure_,
    }
    files = []
    for name, figure in figures.items():
        files.append(folder / f"{name}.png")
        figure.supxlabel("synthetic data", fontsize=8, color="dimgrey")
        figure.savefig(files[-1], dpi=130)
        pyplot.close(figure)
    return files


def _confusion_figure(pyplot, y_true, y_pred):
    """Return the confusion matrix of out-of-fold predictions, rows summing to 1."""
    figure, ax = pyplot.subplots(figsize=(7, 6), layout="constrained")
    display = ConfusionMatrixDisplay.from_predictions(
        y_true,
        y_pred,
        normalize="true",
        values_format=".2f",
        cmap="Blues",
        xticks_rotation=45,
        ax=ax,
    )
    display.im_.colorbar.set_label("share of the true class")
    ax.set_title("Shazam, out-of-fold predictions of unseen patients")
    return figure
