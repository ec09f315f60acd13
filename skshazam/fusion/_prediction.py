"""StudentPrediction: what a trained student answers."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.utils import is_dataset
from torch.nn import functional

from skshazam.fusion._feature_tensor import FEATURE_DTYPES, as_tensor
from skshazam.fusion._processor import on_one_thread
from skshazam.fusion._training_loop import PREDICT_BATCH_SIZE

__all__ = ["StudentPrediction"]

# Matrix kernels round short batches differently. At whole multiples of 32 rows a
# sample's prediction was bit-identical whatever stood beside it (float32, CPU; 16 would
# do for 1 to 3 teachers of 3 to 1280 columns).
ROW_MULTIPLE = 32


class StudentPrediction(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Mixin of the estimators that put features through a trained network.

    X may be of half precision; it is converted batch by batch.
    """

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
        """Return the fused vectors, T_final; those of several members side by side.

        Parameters
        ----------
        X : TeacherFeatures, DataFrame or array-like of shape (n_samples, n_features)
            Features of the teachers of ``fit``, in the same order.

        Returns
        -------
        fused : ndarray of shape (n_samples, n_members * token_dim), dtype=float32
        """
        return self._map(X, lambda output: output.fused)

    @property
    def _n_features_out(self):
        return self._n_networks * self._network_arguments["token_dim"]

    def _map(self, X, function: Callable) -> np.ndarray:
        """Return ``function`` of the network's output, rows concatenated."""
        features = self._validate_features(X)
        device = self.device
        self.module_.eval()
        results = []
        with torch.inference_mode(), on_one_thread(device):
            for batch in features.split(PREDICT_BATCH_SIZE):
                output = self.module_(_padded(batch.to(device)).float())
                results.append(function(output)[: len(batch)].cpu().numpy())
        found = np.concatenate(results)
        if not np.isfinite(found).all():
            raise ValueError(
                "The student's output is not finite: X holds values far outside the "
                "training data, at most "
                f"{features.abs().max().item():.3g} in absolute value. Check X."
            )
        return found

    def _map_members(self, X, function: Callable) -> np.ndarray:
        """Return ``function`` of the network's output, averaged over the members."""

        def average(output):
            members = output.members if self._n_networks > 1 else (output,)
            return sum(map(function, members)) / len(members)

        return self._map(X, average)

    def __sklearn_tags__(self):
        """Tell scikit-learn that fused vectors are always float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _validate_features(self, X) -> torch.Tensor:
        """Return features of the width and the teachers of ``fit``."""
        if is_dataset(X):
            X = X.X
        if "_in_training_loop" in vars(self) and isinstance(X, dict):
            return X["features"]  # for a scoring callback of skorch
        check_is_fitted(self)
        self._check_carried_blocks(getattr(X, "teacher_blocks", None))
        return as_tensor(
            validate_data(self, X, reset=False, dtype=FEATURE_DTYPES, order="C")
        )


def _padded(batch: torch.Tensor) -> torch.Tensor:
    """Return ``batch`` with rows of zeros up to a multiple of ``ROW_MULTIPLE``."""
    return functional.pad(batch, (0, 0, 0, -len(batch) % ROW_MULTIPLE))
