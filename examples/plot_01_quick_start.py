"""
Quick start
===========

From tiles to a fused model, without weights or network: synthetic tissue, three
handcrafted teachers, folds by patient.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skshazam import ShazamClassifier, TeacherFeatureTransformer
from skshazam.benchmark import compare_methods
from skshazam.datasets import make_tissue_tiles
from skshazam.inspection import ComparisonDisplay

# %%
# Tiles of 12 synthetic patients. Real ones would be a list of paths, their labels, and
# the patient of each tile.
tiles = make_tissue_tiles(n_patients=12, tiles_per_patient=24, random_state=3)

# %%
# Each tile is decoded once and seen by every teacher. Teachers are never trained.
teachers = TeacherFeatureTransformer(["stain", "texture", "frequency"])
X = teachers.fit_transform(tiles.images)

# %%
# The student fuses the teachers; the rival concatenates them. Both see the same folds,
# and no patient is on both sides of any.
rival = GridSearchCV(
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    {"logisticregression__C": [0.01, 0.1]},
    cv=StratifiedGroupKFold(2),
)
student = ShazamClassifier(max_epochs=30, random_state=0)
comparison = compare_methods(
    {"concatenation": (rival, np.asarray(X)), "student": (student, X)},
    tiles.target,
    tiles.groups,
    n_splits=3,
)

# %%
# A dot is a fold, the bar an interval over patients. With 12 patients it is wide: do
# not believe a difference that it covers.
ComparisonDisplay(comparison.scores(), comparison.intervals).plot()
