"""FusionClassifier: what every student shares as a scikit-learn estimator on skorch.

Parameters, labels, weights, validation split. Nothing here knows the paper: a subclass
supplies the network and what it adds to the cross-entropy.
"""

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from skshazam._randomness import private_randomness
from skshazam.fusion._block_learning import BlockLearning
from skshazam.fusion._column_statistics import column_statistics
from skshazam.fusion._epochs import resolve_max_epochs
from skshazam.fusion._feature_tensor import FEATURE_DTYPES, as_tensor
from skshazam.fusion._groups import validated_groups
from skshazam.fusion._prediction import StudentPrediction
from skshazam.fusion._processor import on_one_thread
from skshazam.fusion._residence import fixed_outputs, resident
from skshazam.fusion._sample_weights import (
    scaled_to_mean_one,
    validated_weights,
    with_class_weights,
)
from skshazam.fusion._skorch import SkorchEstimator
from skshazam.fusion._user_callbacks import (
    check_something_is_monitored,
    has_schedule,
)
from skshazam.fusion._validation_split import validation_rows

__all__ = ["FusionClassifier"]


class FusionClassifier(BlockLearning, StudentPrediction, SkorchEstimator):
    """Base of the estimators that fuse the features of several teachers.

    A subclass implements ``_make_network(**arguments)``, adds parameters of its own to
    ``_get_network_arguments()`` and, if its loss is more than cross-entropy, implements
    ``_training_outputs(network, features)`` and ``_penalties(...)``. Its network
    returns an output with ``logits`` (B, C) and ``fused`` (B, token_dim). Its
    constructor stores its parameters, those below among them, and calls
    ``_init_skorch()``; its ``_parameter_constraints`` add to those here.

    Parameters
    ----------
    teacher_dims : sequence of int, default=None
        Widths of the teachers' blocks of columns. None takes them from X: from the
        ``TeacherFeatures`` that ``TeacherFeatureTransformer`` returns, or from column
        names ``<teacher>__<i>``.
    token_dim : int, default=128
        Width of a token. More is slower and fits more.
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
        Highest learning rate of AdamW.
    weight_decay : float, default=1e-3
        Weight decay of AdamW.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" rises to ``lr`` over the first 5 % of the steps of a fit and falls to 0
        as half a cosine; a warm start begins it anew. ``partial_fit``, which knows no
        last step, is constant. A skorch ``LRScheduler`` among the callbacks replaces
        it.
    batch_size : int, default=64
        Samples per step of training.
    max_epochs : int or "auto", default="auto"
        Passes over the data. "auto" aims at 1000 steps, in 10 to 200 passes.
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
    teacher_blocks_ : TeacherBlocks
        Which columns belong to which teacher.
    module_ : Module
        The trained network, or a :class:`skshazam.networks.NetworkEnsemble` of several.
    """

    _parameter_constraints: ClassVar[dict] = {
        "teacher_dims": ["array-like", None],
        "token_dim": [Interval(Integral, 1, None, closed="left")],
        "projection": [StrOptions({"linear", "mlp"})],
        "standardize": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "lr_schedule": [StrOptions({"cosine", "constant"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "warm_start": ["boolean"],
        "callbacks": [list, None],
        "device": "no_validation",
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the student on features and labels.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Feature blocks side by side, in float32; half precision is converted batch
            by batch.
        y : array-like of shape (n_samples,)
            Class labels, numbers or strings.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss, scaled to mean 1; rows of weight 0 are
            left out.
        groups : array-like of shape (n_samples,), default=None
            Patient of each sample. With ``early_stopping`` no patient is in both the
            training and the validation part.

        Returns
        -------
        self : FusionClassifier
        """
        warm = self.warm_start and self.__sklearn_is_fitted__()
        if not warm:
            vars(self).pop("n_iter_", None)  # not fitted, should this fit fail
        features, codes, weights, groups = self._validate_training_data(
            X, y, sample_weight, groups, reset=not warm
        )
        if not warm:
            self._rng = check_random_state(self.random_state)
            self._split_seed = None
        held_out = None
        if self.early_stopping:
            # A warm start holds out the same patients: the others it has trained on.
            if self._split_seed is None:
                self._split_seed = self._draw_seed()
            held_out = validation_rows(
                codes, groups, self.validation_fraction, self._split_seed
            )
        if weights is not None:
            weights = scaled_to_mean_one(weights, held_out)
        n_rows = len(codes) if held_out is None else np.count_nonzero(~held_out)
        n_epochs = resolve_max_epochs(self.max_epochs, n_rows, self.batch_size)
        self._n_steps = 0
        if self.lr_schedule == "cosine" and not has_schedule(self.callbacks):
            self._n_steps = n_epochs * -(-n_rows // self.batch_size)
        return self._train(
            features, codes, weights, held_out, warm=warm, n_epochs=n_epochs
        )

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one pass over a chunk of the data.

        The first call fixes the classes, the blocks and, with ``standardize``, the
        statistics of the columns, so that its chunk should be a fair sample. There is
        no early stopping.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Feature blocks side by side, in float32; half precision is converted batch
            by batch.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur; by default those of the first chunk.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss, taken as they are: unlike in ``fit``
            they are not scaled to mean 1, so that chunks can be weighted.

        Returns
        -------
        self : FusionClassifier
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' would balance each chunk by itself. Pass the "
                "weights of the whole data as a dict: sklearn.utils.class_weight."
                "compute_class_weight('balanced', classes=classes, y=all_labels)."
            )
        warm = self.__sklearn_is_fitted__()
        features, codes, weights, _ = self._validate_training_data(
            X, y, sample_weight, None, reset=not warm, classes=classes
        )
        if not warm:
            self._rng = check_random_state(self.random_state)
            self._split_seed = None
        self._n_steps = 0
        return self._train(features, codes, weights, None, warm=warm, n_epochs=1)

    def _validate_training_data(
        self, X, y, sample_weight, groups, *, reset, classes=None
    ):
        """Return features, int64 codes, weights and groups of the rows kept."""
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )
        carried = getattr(X, "teacher_blocks", None)
        X, y = validate_data(self, X, y, reset=reset, dtype=FEATURE_DTYPES, order="C")
        check_classification_targets(y)
        groups = validated_groups(groups, X)
        weights = validated_weights(sample_weight, X)
        if weights is not None and not weights.all():
            kept = weights > 0
            X, y, weights = X[kept], y[kept], weights[kept]
            groups = None if groups is None else groups[kept]
        if reset:
            self._learn_classes(y if classes is None else classes)
            self._learn_blocks(carried)
        else:
            self._check_carried_blocks(carried)
            self._encoded(self.classes_ if classes is None else classes)
        codes = self._encoded(y)
        weights = with_class_weights(weights, self.class_weight, y)
        return X, codes, weights, groups

    def _learn_classes(self, labels) -> None:
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, but y "
                f"holds only 1 class: {classes.tolist()[0]!r}. In cross-validation, "
                "use a stratified splitter."
            )
        self.classes_inferred_ = classes

    def _encoded(self, y) -> np.ndarray:
        """Return the position of each label among the classes."""
        unseen = np.setdiff1d(y, self.classes_)
        if len(unseen):
            raise ValueError(
                f"y holds labels that were not among the classes of the first call: "
                f"{unseen.tolist()}. Known: {self.classes_.tolist()}. Fit anew with "
                "warm_start=False, or pass all labels as classes= in the first call of "
                "partial_fit."
            )
        return np.searchsorted(self.classes_, y).astype(np.int64)

    def _train(self, features, codes, weights, held_out, *, warm, n_epochs):
        """Run skorch's loop on validated data, with a private random stream."""
        data = {"features": as_tensor(features)}
        if weights is not None:
            data["sample_weight"] = torch.from_numpy(weights.astype(np.float32))
        if held_out is None:
            check_something_is_monitored(self.callbacks)
        else:
            data["held_out"] = torch.from_numpy(held_out)
        device = self.device
        with (
            private_randomness(self._draw_seed(), device),
            on_one_thread(device),
            self._scoring_codes(),
        ):
            if warm:
                self._check_network_is_the_same()
                self._initialize_callbacks()
                self._refresh_optimizer()
            else:
                self.history_ = None
                self.initialized_ = False
                self._network_arguments = self._get_network_arguments()
                self._n_networks = self.n_members
                self.initialize()
                self._learn_statistics(data["features"], data.get("held_out"))
            data, codes = resident(data, torch.from_numpy(codes), device)
            if n_epochs > 1:
                data |= fixed_outputs(
                    self._fixed_outputs_of_members, data["features"], device
                )
            super().partial_fit(data, codes, epochs=n_epochs)
        if vars(self).pop("_interrupted", False):
            raise KeyboardInterrupt
        if not all(p.isfinite().all() for p in self.module_.parameters()):
            vars(self).pop("n_iter_", None)  # no longer fitted
            raise ValueError(
                f"Training has diverged: the student's weights are not finite, and it "
                f"has to be fitted anew. Lower lr={self.lr}, or keep standardize=True."
            )
        self.n_iter_ = len(self.history_)
        return self

    def _get_network_arguments(self) -> dict:
        return {
            "teacher_dims": self.teacher_dims_,
            "n_classes": len(self.classes_),
            "token_dim": self.token_dim,
            "projection": self.projection,
            "standardize": self.standardize,
            "dropout": self.dropout,
        }

    def _check_network_is_the_same(self) -> None:
        """Refuse to continue a network whose parameters have been changed."""
        kept = {**self._network_arguments, "n_members": self._n_networks}
        asked = {**self._get_network_arguments(), "n_members": self.n_members}
        changed = sorted(name for name in kept if kept[name] != asked[name])
        if changed:
            raise ValueError(
                f"Continued training keeps the network, but {changed} differ from what "
                f"it was built with: { ({name: kept[name] for name in changed}) }. Set "
                "them back, or fit anew with warm_start=False."
            )

    def _draw_seed(self) -> int:
        return int(self._rng.randint(2**31 - 1))

    def _learn_statistics(self, features: torch.Tensor, held_out) -> None:
        """Give the network the column statistics of the rows it is trained on."""
        standardization = getattr(self.module_, "standardization", None)
        if hasattr(standardization, "set_statistics"):
            standardization.set_statistics(*column_statistics(features, held_out))

    def _refresh_optimizer(self) -> None:
        """Let parameters set since the last call take effect in continued training."""
        for group in self.optimizer_.param_groups:
            group.update(lr=self.lr, weight_decay=self.weight_decay)
