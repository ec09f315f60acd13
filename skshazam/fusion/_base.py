"""FusionClassifier: what every student shares as a scikit-learn estimator on skorch.

Labels, blocks, weights, validation split, prediction. Nothing here knows the paper: a
subclass supplies the network and what it adds to the cross-entropy.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.utils import is_dataset
from torch.nn import functional

from skshazam._blocks import TeacherBlocks
from skshazam._randomness import private_randomness
from skshazam.exceptions import FeatureBlockError, UndeclaredBlocksWarning
from skshazam.fusion._sample_weights import validated_weights, with_class_weights
from skshazam.fusion._skorch import PREDICT_BATCH_SIZE, SkorchEstimator
from skshazam.fusion._validation_split import validation_rows

__all__ = ["FusionClassifier"]


# Matrix kernels round short batches differently. At whole multiples of 32 rows a
# sample's prediction was bit-identical whatever stood beside it (float32, CPU; 16 would
# do for 1 to 3 teachers of 3 to 1280 columns).
ROW_MULTIPLE = 32


class FusionClassifier(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, SkorchEstimator
):
    """Base of the estimators that fuse the features of several teachers.

    A subclass implements ``_get_network_arguments()``, ``_make_network(**arguments)``
    and, if its loss is more than cross-entropy, ``_training_outputs(features)`` and
    ``_penalties(...)``. Its constructor stores its parameters, those below among them,
    and calls ``_init_skorch()``.

    Parameters
    ----------
    lr, max_epochs, batch_size, callbacks, warm_start, verbose : object
        Handed to skorch.
    device : str or torch.device
        "auto" is a GPU if there is one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    teacher_blocks_ : TeacherBlocks
        Which columns belong to which teacher.
    """

    # ---------------------------------------------------------------- fitting

    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the student on features and labels.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Feature blocks side by side; converted to float32.
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
        if weights is not None:
            weights = weights / weights.mean()
        held_out = None
        if self.early_stopping:
            # A warm start holds out the same patients: the others it has trained on.
            if self._split_seed is None:
                self._split_seed = self._draw_seed()
            held_out = validation_rows(
                codes, groups, self.validation_fraction, self._split_seed
            )
        return self._train(
            features, codes, weights, held_out, warm=warm, n_epochs=self.max_epochs
        )

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one pass over a chunk of the data.

        The first call fixes the classes, the blocks and, with ``standardize``, the
        statistics of the columns, so that its chunk should be a fair sample. There is
        no early stopping.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Feature blocks side by side; converted to float32.
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
        return self._train(features, codes, weights, None, warm=warm, n_epochs=1)

    def _validate_training_data(
        self, X, y, sample_weight, groups, *, reset, classes=None
    ):
        """Return float32 features, int64 codes, weights and groups of the rows kept."""
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )
        carried = getattr(X, "teacher_blocks", None)
        X, y = validate_data(self, X, y, reset=reset, dtype=np.float32, order="C")
        check_classification_targets(y)
        if groups is not None:
            groups = np.asarray(groups)
            check_consistent_length(X, groups)
            if any(group is None or group != group for group in groups):
                raise ValueError(
                    "groups holds missing values. Give every sample a patient: one of "
                    "its own if it is unknown."
                )
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
                f"{unseen.tolist()}. Known: {self.classes_.tolist()}. Pass all labels "
                "as classes= in the first call of partial_fit."
            )
        return np.searchsorted(self.classes_, y).astype(np.int64)

    def _learn_blocks(self, carried: TeacherBlocks | None) -> None:
        """Find out which columns belong to which teacher."""
        self._carried_blocks = blocks = carried
        if self.teacher_dims is not None:
            given = TeacherBlocks.from_dims(self.teacher_dims)
            same = carried is not None and carried.dims == given.dims
            blocks = carried if same else given
        elif blocks is None and hasattr(self, "feature_names_in_"):
            blocks = TeacherBlocks.from_feature_names(self.feature_names_in_)
        if blocks is None:
            warnings.warn(
                f"X does not say which of its {self.n_features_in_} columns belong to "
                "which teacher; they are taken as one teacher, which leaves nothing "
                "to fuse. Pass the output of TeacherFeatureTransformer, a DataFrame "
                "with columns '<teacher>__<i>', or teacher_dims=(dim, dim, ...).",
                UndeclaredBlocksWarning,
                stacklevel=4,
            )
            blocks = TeacherBlocks.from_dims((self.n_features_in_,))
        if blocks.n_features != self.n_features_in_:
            raise FeatureBlockError(
                f"X has {self.n_features_in_} columns, but teacher_dims={blocks.dims} "
                f"adds up to {blocks.n_features}. Pass the dims of the teachers that "
                "produced X, in the same order: "
                f"{type(self).__name__}(teacher_dims=transformer.teacher_dims_)."
            )
        self.teacher_blocks_ = blocks
        self.teacher_dims_ = blocks.dims

    def _check_carried_blocks(self, carried: TeacherBlocks | None) -> None:
        """Refuse features that say they come from other teachers."""
        # The latter were overruled by teacher_dims.
        if carried in (None, self.teacher_blocks_, self._carried_blocks):
            return
        # Two teachers may be equally wide: then only their names tell them apart.
        unnamed = TeacherBlocks.from_dims(self.teacher_dims_)
        if carried == unnamed or (
            self.teacher_blocks_ == unnamed and carried.dims == unnamed.dims
        ):
            return
        raise FeatureBlockError(
            f"X holds the features of {carried.to_dict()}, but this "
            f"{type(self).__name__} was fitted on {self.teacher_blocks_.to_dict()}. "
            "Pass features of the same teachers in the same order."
        )

    def _train(self, features, codes, weights, held_out, *, warm, n_epochs):
        """Run skorch's loop on validated data, with a private random stream."""
        data = {"features": _as_tensor(features)}
        if weights is not None:
            data["sample_weight"] = torch.from_numpy(weights.astype(np.float32))
        if held_out is not None:
            data["held_out"] = torch.from_numpy(held_out)
        with private_randomness(self._draw_seed(), self.device), self._scoring_codes():
            if warm:
                self._initialize_callbacks()
                self._refresh_optimizer()
            else:
                self.history_ = None
                self.initialized_ = False
                self._network_arguments = self._get_network_arguments()
                self.initialize()
                self._learn_statistics(features, held_out)
            super().partial_fit(data, torch.from_numpy(codes), epochs=n_epochs)
        if vars(self).pop("_interrupted", False):
            raise KeyboardInterrupt
        if not all(p.isfinite().all() for p in self.module_.parameters()):
            raise ValueError(
                f"Training has diverged: the student's weights are not finite. Lower "
                f"lr={self.lr}, or keep standardize=True."
            )
        self.n_iter_ = len(self.history_)
        return self

    def _draw_seed(self) -> int:
        return int(self._rng.randint(2**31 - 1))

    def _learn_statistics(self, features: np.ndarray, held_out) -> None:
        """Give the network the column statistics of the rows it is trained on."""
        standardization = getattr(self.module_, "standardization", None)
        if hasattr(standardization, "set_statistics"):
            rows = features if held_out is None else features[~held_out]
            standardization.set_statistics(
                rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
            )

    def _refresh_optimizer(self) -> None:
        """Let parameters set since the last call take effect in continued training."""
        for group in self.optimizer_.param_groups:
            group.update(lr=self.lr, weight_decay=self.weight_decay)

    # ------------------------------------------------------------- prediction

    def predict(self, X):
        """Return the most probable class of each sample.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        codes = self.predict_log_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def predict_proba(self, X):
        """Return class probabilities.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), dtype=float32
            Columns in the order of ``classes_``; rows sum to 1.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X):
        """Return logarithms of class probabilities.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes), dtype=float32
        """
        return self._map(X, lambda output: output.logits.log_softmax(dim=1))

    def transform(self, X):
        """Return the fused vectors, T_final.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        fused : ndarray of shape (n_samples, token_dim), dtype=float32
        """
        return self._map(X, lambda output: output.fused)

    @property
    def _n_features_out(self):
        return self._network_arguments["token_dim"]

    def _map(self, X, function: Callable) -> np.ndarray:
        """Return ``function`` of the network's output, rows concatenated."""
        features = self._validate_features(X)
        device = self.device
        self.module_.eval()
        results = []
        with torch.inference_mode():
            for batch in features.split(PREDICT_BATCH_SIZE):
                output = self.module_(_padded(batch).to(device))
                results.append(function(output)[: len(batch)].cpu().numpy())
        found = np.concatenate(results)
        if not np.isfinite(found).all():
            raise ValueError(
                "The student's output is not finite: X holds values far outside the "
                "training data, at most "
                f"{features.abs().max().item():.3g} in absolute value. Check X."
            )
        return found

    def __sklearn_tags__(self):
        """Tell scikit-learn that fused vectors are always float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _validate_features(self, X) -> torch.Tensor:
        """Return float32 features of the width and the teachers of ``fit``."""
        if is_dataset(X):
            X = X.X
        if "_in_training_loop" in vars(self) and isinstance(X, dict):
            return X["features"]  # for a scoring callback of skorch
        check_is_fitted(self)
        self._check_carried_blocks(getattr(X, "teacher_blocks", None))
        return _as_tensor(
            validate_data(self, X, reset=False, dtype=np.float32, order="C")
        )


def _padded(batch: torch.Tensor) -> torch.Tensor:
    """Return ``batch`` with rows of zeros up to a multiple of ``ROW_MULTIPLE``."""
    return functional.pad(batch, (0, 0, 0, -len(batch) % ROW_MULTIPLE))


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor over the same memory; a read-only memmap has to be copied."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
