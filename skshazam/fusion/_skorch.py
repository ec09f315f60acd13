"""skorch, made to behave as scikit-learn expects of an estimator.

Parameters that are only stored, hooks that work on whole tensors, labels that scoring
callbacks understand, a state without torch objects.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import Dataset
from skorch.utils import is_dataset, to_tensor
from torch.nn import functional

from skshazam._device import resolve_device
from skshazam.fusion._batches import TensorBatches
from skshazam.fusion._callbacks import BestEpoch
from skshazam.fusion._state import ArrayState

__all__ = ["PREDICT_BATCH_SIZE", "SkorchEstimator"]

PREDICT_BATCH_SIZE = 4096


class SkorchEstimator(ArrayState, NeuralNetClassifier):
    """A skorch classifier that conforms to scikit-learn.

    A subclass supplies what stands under that heading below; its constructor stores its
    parameters and calls ``_init_skorch()``.
    """

    # skorch sets these in its constructor, where scikit-learn allows only parameters.
    history_ = None
    initialized_ = False
    virtual_params_ = MappingProxyType({})

    def _init_skorch(self):
        """Let skorch take over its parameters; called at the end of a constructor."""
        super().__init__(
            module=torch.nn.Module,
            criterion=torch.nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            iterator_train=TensorBatches,
            iterator_valid=TensorBatches,
            train_split=None,
            # Cached outputs stand in the shuffled order of the batches, and
            # ``predict`` would answer in the order of the rows.
            use_caching=False,
            callbacks=self.callbacks,
            warm_start=self.warm_start,
            verbose=self.verbose,
            device=vars(self)["device"],
        )
        for name in ("history_", "initialized_", "virtual_params_"):
            vars(self).pop(name, None)

    # ------------------------------------------------- what a subclass supplies

    def _get_network_arguments(self) -> dict:
        """Return what the network is built from, ``token_dim`` among it.

        It is kept as of ``fit``: parameters set later wait for the next one.
        """
        raise AttributeError(
            f"{type(self).__name__} is abstract; use ShazamClassifier."
        )

    def _make_network(self, **arguments) -> torch.nn.Module:
        """Return the untrained network of ``_get_network_arguments()``."""
        raise AttributeError(
            f"{type(self).__name__} is abstract; use ShazamClassifier."
        )

    def _training_outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits (B, C), then whatever ``_penalties`` needs."""
        return (self.module_(features).logits,)

    def _penalties(self, *outputs: torch.Tensor) -> torch.Tensor | float:
        """Return what is added to each sample's cross-entropy, shape (B,)."""
        return 0.0

    # ------------------------------------------------------------- parameters

    @property
    def device(self):
        """Torch device in use; ``get_params`` returns the parameter as it was given."""
        return resolve_device(vars(self)["device"])

    @device.setter
    def device(self, device):
        vars(self)["device"] = device

    @classmethod
    def _get_param_names(cls):
        return BaseEstimator._get_param_names.__func__(cls)

    def get_params(self, deep=True):
        """Return the constructor's parameters.

        Parameters
        ----------
        deep : bool, default=True
            Ignored: no parameter is an estimator.

        Returns
        -------
        params : dict
            Parameter names and values.
        """
        return {name: vars(self)[name] for name in self._get_param_names()}

    def set_params(self, **params):
        """Set parameters; they take effect at the next ``fit`` or ``partial_fit``.

        Parameters
        ----------
        **params : dict
            Names and new values.

        Returns
        -------
        self : FusionClassifier
        """
        return BaseEstimator.set_params(self, **params)

    __repr__ = BaseEstimator.__repr__

    def get_metadata_routing(self):
        """Return which metadata this estimator asks for.

        Returns
        -------
        routing : MetadataRequest
            Requests set by ``set_fit_request`` and its like.
        """
        return self._get_metadata_request()

    # ------------------------------------------------------- hooks of skorch

    @property
    def _default_callbacks(self):
        callbacks = [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
        ]
        if self.early_stopping:
            callbacks += [
                ("valid_loss", PassthroughScoring("valid_loss")),
                (
                    "early_stopping",
                    BestEpoch(patience=self.patience, threshold=0, load_best=True),
                ),
            ]
        return [*callbacks, ("print_log", PrintLog())]

    def check_data(self, X, y):
        """Do nothing: data are checked before skorch sees them.

        Parameters
        ----------
        X : dict of Tensor
            Ignored.
        y : Tensor
            Ignored.
        """

    def initialize_module(self):
        """Build the network.

        Returns
        -------
        self : FusionClassifier
        """
        check_is_fitted(self, "teacher_blocks_")
        self.module_ = self._make_network(**self._network_arguments)
        return self

    def initialize_optimizer(self, *args, **kwargs):
        """Build AdamW over what the network trains.

        Parameters
        ----------
        *args : tuple
            Ignored.
        **kwargs : dict
            Ignored.

        Returns
        -------
        self : FusionClassifier
        """
        trained = [p for p in self.module_.parameters() if p.requires_grad]
        self.optimizer_ = self.optimizer(
            trained, lr=self.lr, weight_decay=self.weight_decay
        )
        return self

    def get_split_datasets(self, X, y=None, **fit_params):
        """Divide the rows into training and validation.

        Parameters
        ----------
        X : dict of Tensor
            ``features``, and perhaps ``sample_weight`` and ``held_out``.
        y : Tensor of shape (n_samples,), dtype=int64
            Class codes.
        **fit_params : dict
            Ignored.

        Returns
        -------
        training, validation : Dataset
            The latter None if nothing is held out.
        """
        held_out = X.get("held_out")
        X = {name: tensor for name, tensor in X.items() if name != "held_out"}
        if held_out is None:
            return Dataset(X, y), None
        return tuple(
            Dataset({name: tensor[rows] for name, tensor in X.items()}, y[rows])
            for rows in (~held_out, held_out)
        )

    def get_dataset(self, X, y=None):
        """Return a dataset of tensors.

        Parameters
        ----------
        X : Dataset, dict of Tensor or array-like of shape (n_samples, n_features)
            Features.
        y : Tensor of shape (n_samples,), dtype=int64, default=None
            Class codes.

        Returns
        -------
        dataset : Dataset
        """
        if is_dataset(X):
            return X
        if not isinstance(X, dict):
            X = {"features": self._validate_features(X)}
        return Dataset(X, y)

    def notify(self, method_name, **kwargs):
        """Tell the callbacks what happens.

        Parameters
        ----------
        method_name : str
            What happens.
        **kwargs : dict
            Handed to the callbacks.
        """
        try:
            super().notify(method_name, **kwargs)
        except KeyboardInterrupt:
            # How callbacks end training; anywhere else it is the user's Ctrl-C.
            self._ended_by_callback = True
            raise

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train, and remember whether the user interrupted it.

        Parameters
        ----------
        X : dict of Tensor
            As for ``get_split_datasets``.
        y : Tensor of shape (n_samples,), dtype=int64, default=None
            Class codes.
        epochs : int, default=None
            Passes over the data; None means ``max_epochs``.
        **fit_params : dict
            Handed on.

        Returns
        -------
        self : FusionClassifier
        """
        try:
            return super().fit_loop(X, y, epochs=epochs, **fit_params)
        except KeyboardInterrupt:
            # skorch would take it for the end of training.
            self._interrupted = not vars(self).pop("_ended_by_callback", False)
            raise

    def get_iterator(self, dataset, training=False):
        """Return batches of a dataset.

        Parameters
        ----------
        dataset : Dataset
            Tensors.
        training : bool, default=False
            Shuffled batches of ``batch_size``, or large ones in order.

        Returns
        -------
        batches : TensorBatches
        """
        batch_size = self.batch_size if training else PREDICT_BATCH_SIZE
        return TensorBatches(dataset, batch_size, shuffle=training)

    def infer(self, x, **fit_params):
        """Run the network on one batch.

        Parameters
        ----------
        x : dict of Tensor
            Holds ``features`` of shape (B, n_features).
        **fit_params : dict
            Ignored.

        Returns
        -------
        outputs : Tensor of shape (B, n_classes) or tuple of Tensor
            Logits; while training, a tuple of the logits and what the loss needs.
        """
        features = to_tensor(x["features"], device=self.device)
        if self.module_.training:
            return self._training_outputs(features)
        return self.module_(features).logits

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the weighted mean loss of one batch.

        Parameters
        ----------
        y_pred : Tensor or tuple of Tensor
            What ``infer`` returned.
        y_true : Tensor of shape (B,), dtype=int64
            Class codes.
        X : dict of Tensor, default=None
            The batch; may hold ``sample_weight``.
        training : bool, default=False
            Ignored: outside training ``infer`` returns no more than the logits, so
            that the validation loss is the cross-entropy alone.

        Returns
        -------
        loss : Tensor, scalar
        """
        logits, *others = y_pred if isinstance(y_pred, tuple) else (y_pred,)
        losses = functional.cross_entropy(
            logits, y_true.to(logits.device), reduction="none"
        )
        if others:
            losses = losses + self._penalties(*others)
        if X is not None and "sample_weight" in X:
            losses = losses * X["sample_weight"].to(logits.device)
        return losses.mean()

    # ----------------------------------------------------------------- labels

    @property
    def classes_(self):
        """Class labels, sorted; inside the training loop, callbacks see codes."""
        classes = vars(self).get("classes_inferred_")
        if classes is None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'classes_'"
            )
        return np.arange(len(classes)) if "_in_training_loop" in vars(self) else classes

    @contextmanager
    def _scoring_codes(self) -> Iterator[None]:
        """Let skorch's scoring callbacks compare codes with codes."""
        vars(self)["_in_training_loop"] = True
        try:
            yield
        finally:
            del vars(self)["_in_training_loop"]

    def __sklearn_is_fitted__(self):
        """Return whether there is a trained network."""
        return not vars(self).keys().isdisjoint({"n_iter_", "_in_training_loop"})
