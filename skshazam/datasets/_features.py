"""Synthetic teacher features: for examples and tests that need no image."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, validate_params

from skshazam._blocks import TeacherBlocks, TeacherFeatures

__all__ = ["make_teacher_features"]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "teacher_dims": ["array-like"],
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_teacher_features(
    n_samples=120,
    *,
    teacher_dims=(8, 12, 16),
    n_classes=3,
    n_groups=12,
    noise=1.0,
    random_state=None,
):
    """Make features of several synthetic teachers that see the same samples.

    Every sample has a class and a group (a patient). Each teacher maps the class, a
    shift of the group and noise of its own linearly into its space and its own scale,
    so that teachers complement each other and groups cluster.

    Parameters
    ----------
    n_samples : int, default=120
        Rows.
    teacher_dims : sequence of int, default=(8, 12, 16)
        Widths of the teachers' blocks.
    n_classes : int, default=3
        Classes, named "class-0", "class-1" and so on.
    n_groups : int, default=12
        Patients, named "patient-00" and so on; each holds about as many rows.
    noise : float, default=1.0
        Standard deviation of each teacher's own noise, in units of the class signal.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : TeacherFeatures of shape (n_samples, sum(teacher_dims)), dtype=float32
        Features with their blocks.
    y : ndarray of shape (n_samples,), dtype=str
        Labels, all classes as equally often as the number of rows allows.
    groups : ndarray of shape (n_samples,), dtype=str
        Patient of each row.

    Examples
    --------
    >>> from skshazam.datasets import make_teacher_features
    >>> X, y, groups = make_teacher_features(random_state=0)
    >>> X.shape, X.teacher_blocks.dims
    ((120, 36), (8, 12, 16))
    """
    rng = check_random_state(random_state)
    blocks = TeacherBlocks.from_dims(teacher_dims)
    codes = rng.permutation(np.arange(n_samples) % n_classes)
    patients = rng.permutation(np.arange(n_samples) % n_groups)
    latent_dim = n_classes + 2
    centres = rng.normal(size=(n_classes, latent_dim))
    shifts = 0.5 * rng.normal(size=(n_groups, latent_dim))
    latent = centres[codes] + shifts[patients]
    columns = []
    for i, dim in enumerate(blocks.dims):
        seen = latent + noise * rng.normal(size=latent.shape)
        columns.append(10.0**i * (seen @ rng.normal(size=(latent_dim, dim))))
    X = TeacherFeatures(np.hstack(columns).astype(np.float32), blocks)
    y = np.array([f"class-{code}" for code in codes])
    return X, y, np.array([f"patient-{patient:02d}" for patient in patients])
