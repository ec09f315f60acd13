"""TrainedTeacherMixin: what an estimator does with a teacher that it has trained."""

import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from skorch.exceptions import DeviceWarning
from torch import nn

from skshazam._blocks import TeacherFeatures
from skshazam._device import resolve_device, resolve_precision
from skshazam._randomness import private_randomness
from skshazam.exceptions import DeviceError, TeacherOutputError
from skshazam.fusion._fine_tuning import TeacherWithHead
from skshazam.fusion._trainable_teacher import check_images, memory_advice

__all__ = ["TrainedTeacherMixin"]

# Threads that ask an unpickled estimator at once must not all build its network.
_one_rebuilds = threading.RLock()


class TrainedTeacherMixin(TransformerMixin):
    """Predict from images, and keep the network as arrays in a pickle.

    The estimator has the parameters ``batch_size``, ``device``, ``n_jobs``,
    ``precision`` and ``preprocessing``. Its ``fit`` leaves ``_teacher``, ``_network``
    and ``_head``, which kind the classifier is of, besides its public attributes.
    """

    def predict(self, X):
        """Return the most probable class of each image.

        Parameters
        ----------
        X : sequence of length n_images
            Images, as for ``fit``.

        Returns
        -------
        labels : ndarray of shape (n_images,)
        """
        codes = self.predict_log_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def predict_proba(self, X):
        """Return class probabilities.

        Parameters
        ----------
        X : sequence of length n_images
            Images, as for ``fit``.

        Returns
        -------
        probabilities : ndarray of shape (n_images, n_classes), dtype=float32
            Columns in the order of ``classes_``; rows sum to 1.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X):
        """Return logarithms of class probabilities.

        Parameters
        ----------
        X : sequence of length n_images
            Images, as for ``fit``.

        Returns
        -------
        log_probabilities : ndarray of shape (n_images, n_classes), dtype=float32
        """
        return self._map(X, lambda features, logits: logits.log_softmax(dim=1))

    def transform(self, X):
        """Return the features of the fine-tuned teacher.

        Parameters
        ----------
        X : sequence of length n_images
            Images, as for ``fit``.

        Returns
        -------
        features : TeacherFeatures of shape (n_images, dim), dtype=float32
            Columns as of a ``TeacherFeatureTransformer`` with this teacher alone.
        """
        features = self._map(X, lambda features, logits: features)
        return TeacherFeatures(features, self.teacher_blocks_)

    def get_feature_names_out(self, input_features=None):
        """Return the column names ``<teacher>__<i>``.

        Parameters
        ----------
        input_features : None, default=None
            Ignored; images have no feature names.

        Returns
        -------
        names : ndarray of shape (dim,), dtype=object
        """
        check_is_fitted(self)
        return self.teacher_blocks_.get_feature_names()

    def _map(self, X, function: Callable) -> np.ndarray:
        """Return ``function`` of features and logits, rows concatenated."""
        check_is_fitted(self)
        images = check_images(X)
        network = self.module_.eval()
        device = next(network.parameters()).device
        dtype = self._dtype(device)
        results = []
        with torch.inference_mode(), memory_advice(self.teacher_.name):
            for _, pixels in self._batches(images, np.arange(len(images)), device):
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    results.append(function(*network(pixels)).cpu().numpy())
        found = np.concatenate(results)
        if not np.isfinite(found).all():
            raise TeacherOutputError(
                f"The fine-tuned teacher {self.teacher_.name!r} computes values that "
                f"are not finite, in {dtype}. "
                + (
                    "Look for odd images in X, or fit again with lower rates."
                    if dtype == torch.float32
                    else "Pass precision='float32'."
                )
            )
        return found

    @property
    def module_(self):
        """The trained network; after unpickling it is built when it is asked for."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'module_'"
            )
        with _one_rebuilds, memory_advice(self.teacher_.name):
            if "_arrays" in vars(self):
                self._network = self._rebuilt(self._arrays)
                # Only now: should the device be full, the weights are still there.
                del self._arrays
            return self._network

    def _rebuilt(self, arrays: dict):
        """Return the network of which a pickle holds the weights."""
        backbone = self._teacher.rebuilt_backbone()
        with private_randomness(0, torch.device("cpu")):
            network = self._with_head(backbone)
        network.load_state_dict(
            {name: torch.tensor(array) for name, array in arrays.items()}
        )
        return network.to(self._device_at_hand()).eval()

    def __getstate__(self):
        """Return parameters and numpy arrays: no torch object, no device."""
        with _one_rebuilds:
            state = super().__getstate__().copy()
        network = state.pop("_network", None)
        if network is not None and self.__sklearn_is_fitted__():
            state["_arrays"] = {
                name: tensor.detach().cpu().numpy()
                for name, tensor in network.state_dict().items()
            }
        return state

    def __sklearn_is_fitted__(self):
        """Return whether there is a trained network."""
        return "n_iter_" in vars(self)

    def _with_head(self, backbone: nn.Module) -> TeacherWithHead:
        """Return the network of a backbone and an untrained head."""
        return self._teacher.with_head(
            backbone, *self.teacher_blocks_.dims, len(self.classes_), self._head
        )

    def _batches(self, images, rows, device) -> Iterator:
        """Yield positions in the collection, and pixels on the device."""
        return self._teacher.batches(
            images,
            rows,
            device,
            batch_size=self.batch_size,
            n_threads=effective_n_jobs(self.n_jobs),
            preprocessing=self.preprocessing,
        )

    def _dtype(self, device: torch.device) -> torch.dtype:
        """Return the autocast dtype."""
        return resolve_precision(self.precision, self.teacher_.dtype, device)

    def _device_at_hand(self):
        """Return the device of the parameter, or the CPU where it does not exist."""
        try:
            return resolve_device(self.device)
        except DeviceError:
            warnings.warn(
                f"The estimator was saved with device={self.device!r}, which this "
                "machine lacks; it runs on the CPU.",
                DeviceWarning,
                stacklevel=3,
            )
            return torch.device("cpu")
