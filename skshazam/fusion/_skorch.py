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
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.utils import is_dataset

from skshazam._device import resolve_device
from skshazam.fusion._batches import TensorBatches, TensorRows
from skshazam.fusion._callbacks import BestEpoch
from skshazam.fusion._learning_rate import CosineSchedule
from skshazam.fusion._state import ArrayState
from skshazam.fusion._training_loop import TrainingLoop
from skshazam.networks import NetworkEnsemble

__all__ = ["SkorchEstimator"]


class SkorchEstimator(ArrayState, TrainingLoop):
    """A skorch classifier that conforms to scikit-learn.

    A subclass supplies what stands under that heading below; its constructor stores its
    parameters and calls ``_init_skorch()``.
    """

    # skorch sets these in its constructor, where scikit-learn allows only parameters.
    history_ = None
    initialized_ = False
    virtual_params_ = MappingProxyType({})
    _n_networks = 1  # as of ``fit``
    _n_steps = 0  # of a fit with a learning-rate schedule

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
        if self._n_steps:
            callbacks.append(("lr_schedule", CosineSchedule(self.lr, self._n_steps)))
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
        """Build the network, or an ensemble of several.

        Returns
        -------
        self : FusionClassifier
        """
        check_is_fitted(self, "teacher_blocks_")
        members = [
            self._make_network(**self._network_arguments)
            for _ in range(self._n_networks)
        ]
        self.module_ = members[0] if len(members) == 1 else NetworkEnsemble(members)
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
            trained,
            lr=self.lr,
            weight_decay=self.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        return self

    def get_dataset(self, X, y=None):
        """Return a dataset of tensors.

        Parameters
        ----------
        X : TensorRows, dict of Tensor or array-like of shape (n_samples, n_features)
            Features.
        y : Tensor of shape (n_samples,), dtype=int64, default=None
            Class codes.

        Returns
        -------
        dataset : TensorRows
        """
        if is_dataset(X):
            return X
        if not isinstance(X, dict):
            X = {"features": self._validate_features(X)}
        return TensorRows(X, y)

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
