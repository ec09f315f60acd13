"""SingleTeacherClassifier: the best of the teachers, on its own."""

import warnings
from difflib import get_close_matches
from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skshazam.exceptions import UnknownTeacherError
from skshazam.fusion._base import FusionClassifier
from skshazam.fusion._inner_splits import inner_splits
from skshazam.fusion._sample_weights import validated_weights
from skshazam.networks import SumNetwork

__all__ = ["SingleTeacherClassifier"]


class SingleTeacherClassifier(FusionClassifier):
    """Classify by the features of one teacher, chosen on the training data.

    The teacher's feature is projected to a token, which goes to an MLP: the student
    without anything to fuse, and what fusion has to beat. ``teacher="auto"`` compares
    the teachers by cross-validation inside ``fit``, so that a score on test data stays
    honest; choosing by test scores would flatter the single teacher.

    Parameters
    ----------
    teacher_dims : sequence of int, default=None
        Widths of the teachers' blocks of columns. None takes them from X: from the
        ``TeacherFeatures`` that ``TeacherFeatureTransformer`` returns, or from column
        names ``<teacher>__<i>``.
    token_dim : int, default=128
        Width of a token (released code; the paper gives none). More is slower and
        fits more.
    teacher : str or int, default="auto"
        Name or position of the teacher; "auto" is the one with the highest mean score
        in cross-validation, the first of equals.
    cv : int or cross-validation splitter, default=5
        Folds that "auto" compares on: that many, stratified by class, of whole patients
        if ``fit`` is given ``groups``. A splitter sees the rows of sample weight above
        0, and has to keep the patients apart too.
    scoring : str, callable or None, default="balanced_accuracy"
        What "auto" compares, as in ``cross_val_score``: a scorer's name, a scorer, or
        None for accuracy. It is called with the ``sample_weight`` of a fold if ``fit``
        was given any; class weights do not count in it.
    projection : {"mlp", "linear"}, default="mlp"
        Two linear layers per teacher, each with LayerNorm and ReLU (released code), or
        one (equation 1).
    standardize : bool, default=True
        z-score every column with the statistics of the training rows, which are kept
        with the network. Features of different scale need it.
    dropout : float, default=0.3
        Share of token components and hidden units zeroed in training. More regularises
        more.
    n_members : int, default=2
        Networks, each with an initialisation of its own, that are trained side by side
        on the same batches; their probabilities are averaged. More is slower in
        proportion and varies less with the seed.
    lr : float, default=1e-3
        Highest learning rate of AdamW (paper, section 3.2).
    weight_decay : float, default=1e-3
        Weight decay of AdamW (paper, section 3.2).
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" rises to ``lr`` over the first 5 % of the steps of a fit and falls to 0
        as half a cosine; a warm start begins it anew. ``partial_fit``, which knows no
        last step, is constant, as are the paper and the released code. A skorch
        ``LRScheduler`` among the callbacks replaces it.
    batch_size : int, default=64
        Samples per step of training (paper, section 3.2).
    max_epochs : int or "auto", default="auto"
        Passes over the data (paper, section 3.2: 100). "auto" aims at 1000 steps, in
        10 to 200 passes.
    early_stopping : bool, default=False
        Hold out part of the training data, stop when its cross-entropy no longer falls,
        and return to the best epoch. Pass ``groups`` to ``fit``, so that no patient is
        on both sides.
    validation_fraction : float, default=0.1
        Share of groups (of rows, without ``groups``) held out by `early_stopping`.
    patience : int, default=10
        Epochs without improvement before `early_stopping` stops.
    class_weight : dict or "balanced", default=None
        Weight of each class in the loss; "balanced" makes classes count alike.
    warm_start : bool, default=False
        Continue from the last ``fit`` instead of starting anew.
    callbacks : list, default=None
        skorch callbacks, or (name, callback) pairs.
    device : str or torch.device, default="auto"
        Where to train; "auto" is a GPU if there is one. On the CPU it takes one thread,
        whatever torch is set to.
    random_state : int, RandomState instance or None, default=None
        Seed of initialisation, batches, dropout and the validation split. Torch's
        global generator is not touched.
    verbose : int, default=0
        1 prints a line per epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X had any.
    teacher_blocks_ : TeacherBlocks
        Names and widths of the blocks.
    teacher_dims_ : tuple of int
        Widths of the blocks.
    teacher_ : str
        Name of the teacher in use.
    teacher_scores_ : dict of str to float
        Mean score of each teacher over the folds; empty unless several were compared.
    module_ : SumNetwork or NetworkEnsemble
        The trained network, or several.
    history_ : skorch.history.History
        Losses by epoch.
    n_iter_ : int
        Epochs run.

    See Also
    --------
    skshazam.ShazamClassifier : The student that these rivals are compared with.
    SumClassifier : The same network with all teachers.

    Notes
    -----
    Projection, classifier and training are those of ``ShazamClassifier``, with one
    teacher, no attention and no distillation; the mean over one token is the token.

    Choosing among N teachers trains N ``cv`` + 1 students, each on the columns of one
    teacher; callbacks see all of them. ``partial_fit`` does not choose: a chunk comes
    without patients. After a fit it keeps to the choice, as does a warm start.

    References
    ----------
    .. [1] W. Lei, A. Li, Y. Tan, H. Chen, X. Zhang. "Shazam: Unifying Multiple
       Foundation Models for Advanced Computational Pathology", 2025, table 1.

    Examples
    --------
    >>> from skshazam.datasets import make_teacher_features
    >>> from skshazam.fusion import SingleTeacherClassifier
    >>> X, y, groups = make_teacher_features(random_state=0)
    >>> rival = SingleTeacherClassifier(
    ...     token_dim=16, cv=2, max_epochs=5, random_state=0
    ... )
    >>> rival.fit(X, y, groups=groups).teacher_ in rival.teacher_scores_
    True
    >>> sorted(rival.teacher_scores_) == sorted(X.teacher_blocks.names)
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **FusionClassifier._parameter_constraints,
        "teacher": [str, Interval(Integral, 0, None, closed="left")],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
    }

    def __init__(
        self,
        *,
        teacher_dims=None,
        token_dim=128,
        teacher="auto",
        cv=5,
        scoring="balanced_accuracy",
        projection="mlp",
        standardize=True,
        dropout=0.3,
        n_members=2,
        lr=1e-3,
        weight_decay=1e-3,
        lr_schedule="cosine",
        batch_size=64,
        max_epochs="auto",
        early_stopping=False,
        validation_fraction=0.1,
        patience=10,
        class_weight=None,
        warm_start=False,
        callbacks=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.teacher_dims = teacher_dims
        self.token_dim = token_dim
        self.teacher = teacher
        self.cv = cv
        self.scoring = scoring
        self.projection = projection
        self.standardize = standardize
        self.dropout = dropout
        self.n_members = n_members
        self.lr = lr
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self._init_skorch()

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one pass over a chunk of the data.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Feature blocks side by side.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur; by default those of the first chunk.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss, taken as they are.

        Returns
        -------
        self : SingleTeacherClassifier

        Raises
        ------
        ValueError
            It would have to choose among several teachers: a chunk comes without
            patients, and a teacher that recognises them would look best.
        """
        self._may_choose = self.__sklearn_is_fitted__() or self.teacher != "auto"
        try:
            return super().partial_fit(X, y, classes, sample_weight)
        finally:
            del self._may_choose

    def _validate_training_data(
        self, X, y, sample_weight, groups, *, reset, classes=None
    ):
        """Return the columns of the teacher in use, chosen in the first call."""
        features, codes, weights, groups = super()._validate_training_data(
            X, y, sample_weight, groups, reset=reset, classes=classes
        )
        if reset:
            own_weights = validated_weights(sample_weight, X)
            if own_weights is not None:
                own_weights = own_weights[own_weights > 0]
            self._choose_teacher(features, self.classes_[codes], own_weights, groups)
        return features[:, self._columns], codes, weights, groups

    def _choose_teacher(self, features, y, weights, groups) -> None:
        names = self.teacher_blocks_.names
        self.teacher_scores_ = {}
        if self.teacher != "auto":
            self.teacher_ = _named(self.teacher, names)
            return
        if len(names) > 1 and not vars(self).get("_may_choose", True):
            raise ValueError(
                f"teacher='auto' cannot choose among {list(names)} in partial_fit, "
                "which knows no patients. Pass the name of one as teacher, or let "
                "fit(X, y, groups=patients) choose."
            )
        if len(names) > 1:
            self.teacher_scores_ = self._scores(features, y, weights, groups)
        self.teacher_ = max(names, key=lambda name: self.teacher_scores_.get(name, 0))

    def _scores(self, features, y, weights, groups) -> dict[str, float]:
        """Return the mean score of each teacher over the folds."""
        folds = inner_splits(self.cv, y, groups, np.arange(len(y)))
        if not folds:
            raise ValueError(
                f"cv={self.cv!r} leaves but one class in every training part. Pass "
                "data of more patients per class, another cv, or the name of a teacher."
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        scores = {
            name: self._score(block, y, weights, groups, folds, seed)
            for name, block in self.teacher_blocks_.split(features).items()
        }
        if not np.isfinite(list(scores.values())).all():
            raise ValueError(
                f"scoring={self.scoring!r} gives no number for some teacher: {scores}. "
                "A fold may lack a class: pass fewer folds as cv, or another scoring."
            )
        return scores

    def _score(self, block, y, weights, groups, folds, seed) -> float:
        """Return the mean score of one teacher's columns over the folds."""
        scorer = check_scoring(self, self.scoring)
        scores = []
        for training, test in folds:
            student = clone(self).set_params(
                teacher_dims=(block.shape[1],), teacher=0, random_state=seed, verbose=0
            )
            student.fit(
                block[training],
                y[training],
                sample_weight=_rows(weights, training),
                groups=_rows(groups, training),
            )
            weighted = {} if weights is None else {"sample_weight": weights[test]}
            scores.append(self._scored(scorer, student, block[test], y[test], weighted))
        return float(np.mean(scores))

    def _scored(self, scorer, student, X, y, weighted: dict) -> float:
        """Return the score of a student, or say why there is none."""
        try:
            with warnings.catch_warnings():
                # A small fold may lack a class that the student knows.
                warnings.filterwarnings("ignore", "y_pred contains classes not in")
                return scorer(student, X, y, **weighted)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"scoring={self.scoring!r} cannot be computed on a held-out fold: "
                f"{error} A fold may lack a class: pass fewer folds as cv, or another "
                "scoring."
            ) from error

    @property
    def _columns(self) -> slice:
        """Columns of the teacher in use."""
        blocks = self.teacher_blocks_
        return blocks.slices[blocks.names.index(self.teacher_)]

    def _validate_features(self, X):
        """Return the columns of the teacher in use, all columns having been checked."""
        features = super()._validate_features(X)
        if features.shape[1] != self.n_features_in_:
            return features  # those of the training loop are cut already
        return features[:, self._columns]

    def _get_network_arguments(self):
        return {
            **super()._get_network_arguments(),
            "teacher_dims": (self.teacher_blocks_.to_dict()[self.teacher_],),
        }

    def _make_network(self, **arguments):
        return SumNetwork(**arguments)


def _named(teacher: "str | int", names: tuple[str, ...]) -> str:
    """Return the name of a teacher given by name or position."""
    if isinstance(teacher, str):
        if teacher in names:
            return teacher
        nearest = get_close_matches(teacher, names, n=1)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise UnknownTeacherError(
            f"teacher={teacher!r}, but X holds the features of {sorted(names)}. {hint}"
            "Pass one of these names, a position, or 'auto'."
        )
    if teacher >= len(names):
        raise UnknownTeacherError(
            f"teacher={teacher}, but X holds the features of {len(names)} teachers: "
            f"{list(names)}. Pass a position from 0 to {len(names) - 1}, a name, or "
            "'auto'."
        )
    return names[teacher]


def _rows(values, rows):
    return None if values is None else values[rows]
