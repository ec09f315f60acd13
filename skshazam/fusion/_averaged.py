"""AveragedTeachersClassifier: the mean of the teachers' probabilities."""

from typing import ClassVar

import numpy as np
from scipy.special import softmax
from sklearn.utils._param_validation import StrOptions

from skshazam.fusion._late import LateFusionClassifier, log_probabilities

__all__ = ["AveragedTeachersClassifier"]


class AveragedTeachersClassifier(LateFusionClassifier):
    """Train one classifier per teacher and average their probabilities.

    Nothing is learnt beyond the classifiers, which makes it hard to break: the rival
    that every fusion has to beat first.

    Parameters
    ----------
    estimator : classifier, default=None
        Cloned for each teacher; sees that teacher's columns alone. None is a logistic
        regression on standardised columns, with scikit-learn's C of 1.
    teacher_dims : sequence of int, default=None
        Widths of the teachers' blocks of columns. None takes them from X: from the
        ``TeacherFeatures`` that ``TeacherFeatureTransformer`` returns, or from column
        names ``<teacher>__<i>``.
    average : {"probabilities", "logits"}, default="probabilities"
        The mean of the probabilities, or of the logits: their normalised geometric
        mean, in which a teacher that excludes a class outweighs those that are unsure.
    n_jobs : int, default=None
        Teachers fitted at once, as in joblib.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    estimators_ : list of classifier
        One per teacher, in the order of the columns.
    named_estimators_ : Bunch
        The same by the teacher's name.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X had any.
    teacher_blocks_ : TeacherBlocks
        Names and widths of the blocks.
    teacher_dims_ : tuple of int
        Widths of the blocks.

    See Also
    --------
    StackedTeachersClassifier : Learns the combination.
    LogitProductClassifier : Learns whom to trust on which sample.

    Notes
    -----
    C = 1 was as good as C searched by cross-validation where a teacher has 200 to 1300
    columns, and better with few columns (300 and 1000 rows of four public sets).
    Neighbours of it are worth a search: pass the pipeline, and search over
    ``estimator__logisticregression__C``.

    Examples
    --------
    >>> from skshazam.datasets import make_teacher_features
    >>> from skshazam.fusion import AveragedTeachersClassifier
    >>> X, y, groups = make_teacher_features(random_state=0)
    >>> late = AveragedTeachersClassifier().fit(X, y)
    >>> sorted(late.named_estimators_)
    ['teacher0', 'teacher1', 'teacher2']
    """

    _parameter_constraints: ClassVar[dict] = {
        **LateFusionClassifier._parameter_constraints,
        "average": [StrOptions({"probabilities", "logits"})],
    }

    def __init__(
        self, estimator=None, *, teacher_dims=None, average="probabilities", n_jobs=None
    ):
        self.estimator = estimator
        self.teacher_dims = teacher_dims
        self.average = average
        self.n_jobs = n_jobs

    def _fused(self, probabilities: np.ndarray) -> np.ndarray:
        if self.average == "logits":
            return softmax(log_probabilities(probabilities).mean(axis=0), axis=1)
        return probabilities.mean(axis=0)
