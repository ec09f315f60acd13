"""TrainingLoop: skorch's loop on whole tensors; no step waits for the device."""

import torch
from skorch import NeuralNetClassifier
from skorch.utils import TeeGenerator
from torch.nn import functional

from skshazam.fusion._batches import TensorBatches, TensorRows
from skshazam.networks import NetworkEnsemble

__all__ = ["PREDICT_BATCH_SIZE", "TrainingLoop"]

PREDICT_BATCH_SIZE = 512


class TrainingLoop(NeuralNetClassifier):
    """A skorch classifier that trains one or several networks on tensors in memory.

    A subclass supplies what stands under that heading below.
    """

    # ------------------------------------------------- what a subclass supplies

    def _training_outputs(
        self, network: torch.nn.Module, features: torch.Tensor, **fixed: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return logits (B, C), then whatever ``_penalties`` needs."""
        return (network(features).logits,)

    def _penalties(self, *outputs: torch.Tensor) -> torch.Tensor | float:
        """Return what is added to each sample's cross-entropy, shape (B,)."""
        return 0.0

    def _fixed_outputs(
        self, network: torch.nn.Module, features: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return what the loss needs of each row and training does not change.

        It is asked for once a fit and comes back to ``_training_outputs``, batch by
        batch, as keyword arguments; if it would take too much memory, it does not.
        """
        return {}

    def _fixed_outputs_of_members(
        self, features: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return ``_fixed_outputs``; those of several members along a second axis."""
        if not isinstance(self.module_, NetworkEnsemble):
            return self._fixed_outputs(self.module_, features)
        features = self.module_.standardization(features)
        each = [
            self._fixed_outputs(member, features) for member in self.module_.members
        ]
        return {name: torch.stack([one[name] for one in each], 1) for name in each[0]}

    # ------------------------------------------------------------------- data

    def get_split_datasets(self, X, y=None, **fit_params):
        """Divide the rows into training and validation, without copying any.

        Parameters
        ----------
        X : dict of Tensor
            ``features``, and perhaps ``sample_weight``, ``held_out`` and what
            ``_fixed_outputs`` gave.
        y : Tensor of shape (n_samples,), dtype=int64
            Class codes.
        **fit_params : dict
            Ignored.

        Returns
        -------
        training, validation : TensorRows
            The latter None if nothing is held out.
        """
        held_out = X.get("held_out")
        X = {name: tensor for name, tensor in X.items() if name != "held_out"}
        if held_out is None:
            return TensorRows(X, y), None
        training = TensorRows(X, y, torch.nonzero(~held_out)[:, 0].to(y.device))
        X = {name: X[name] for name in ("features", "sample_weight") if name in X}
        return training, TensorRows(X, y, torch.nonzero(held_out)[:, 0].to(y.device))

    def get_iterator(self, dataset, training=False):
        """Return batches of a dataset.

        Parameters
        ----------
        dataset : TensorRows
            Tensors.
        training : bool, default=False
            Shuffled batches of ``batch_size``, or large ones in order.

        Returns
        -------
        batches : TensorBatches
        """
        batch_size = self.batch_size if training else PREDICT_BATCH_SIZE
        return TensorBatches(dataset, batch_size, shuffle=training)

    # ------------------------------------------------------------------- loop

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

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Go through the data once.

        The losses in the history of batches are tensors until the end of the epoch:
        a number for each step would make the host wait for the device each time.

        Parameters
        ----------
        iterator : TensorBatches or None
            Batches; None does nothing.
        training : bool
            Whether this is training or validation.
        prefix : {"train", "valid"}
            Name in the history.
        step_fn : callable
            Takes a batch, returns a dict with ``loss`` and ``y_pred``.
        **fit_params : dict
            Handed to `step_fn`.
        """
        if iterator is None:
            return
        first = len(self.history[-1]["batches"])
        try:
            for batch in iterator:
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch, **fit_params)
                self.history.record_batch(f"{prefix}_loss", step["loss"].detach())
                self.history.record_batch(f"{prefix}_batch_size", len(batch[1]))
                self.notify("on_batch_end", batch=batch, training=training, **step)
        finally:
            _fetch(self.history[-1]["batches"][first:], f"{prefix}_loss")
        self.history.record(f"{prefix}_batch_count", len(iterator))

    def train_step(self, batch, **fit_params):
        """Take one step of the optimizer.

        Parameters
        ----------
        batch : tuple of dict of Tensor, Tensor
            From ``get_iterator``.
        **fit_params : dict
            Ignored.

        Returns
        -------
        step : dict
            ``loss`` and ``y_pred``, which is as in ``infer``.
        """
        # A callback may have predicted in between.
        if not self.module_.training:
            self._set_training(True)
        self.optimizer_.zero_grad()
        features, codes = batch
        outputs = self.infer(features)
        loss = self.get_loss(outputs, codes, X=features, training=True)
        loss.backward()
        self.notify(
            "on_grad_computed",
            named_parameters=TeeGenerator(self.get_all_learnable_params()),
            batch=batch,
            training=True,
        )
        self.optimizer_.step()
        return {"loss": loss, "y_pred": outputs}

    def infer(self, x, **fit_params):
        """Run the network on one batch.

        Parameters
        ----------
        x : dict of Tensor
            Holds ``features`` of shape (B, n_features) and what ``_fixed_outputs``
            gave.
        **fit_params : dict
            Ignored.

        Returns
        -------
        outputs : Tensor of shape (B, n_classes) or tuple of tuple of Tensor
            Logits; while training, of each member its logits and what the loss needs.
        """
        device = next(self.module_.parameters()).device
        # Features of half precision stay so until here.
        features = x["features"].to(device).float()
        if not self.module_.training:
            return self.module_(features).logits
        fixed = {
            name: tensor.to(device)
            for name, tensor in x.items()
            if name not in ("features", "sample_weight")
        }
        if not isinstance(self.module_, NetworkEnsemble):
            return (self._training_outputs(self.module_, features, **fixed),)
        features = self.module_.standardization(features)
        return tuple(
            self._training_outputs(
                member, features, **{name: each[:, i] for name, each in fixed.items()}
            )
            for i, member in enumerate(self.module_.members)
        )

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the weighted mean loss of one batch, averaged over the members.

        Parameters
        ----------
        y_pred : Tensor or tuple of tuple of Tensor
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
        members = ((y_pred,),) if isinstance(y_pred, torch.Tensor) else y_pred
        codes = y_true.to(members[0][0].device)
        losses = self._losses_of_member(codes, *members[0])
        for outputs in members[1:]:
            losses = losses + self._losses_of_member(codes, *outputs)
        if len(members) > 1:
            losses = losses / len(members)
        if X is not None and "sample_weight" in X:
            losses = losses * X["sample_weight"].to(losses.device)
        return losses.mean()

    def _losses_of_member(self, codes, logits, *others) -> torch.Tensor:
        """Return cross-entropy plus penalties of each sample, shape (B,)."""
        losses = functional.cross_entropy(logits, codes, reduction="none")
        return losses + self._penalties(*others) if others else losses


def _fetch(batches: list[dict], name: str) -> None:
    """Replace tensors by numbers, in one transfer."""
    recorded = [batch for batch in batches if name in batch]
    if recorded:
        values = torch.stack([batch[name] for batch in recorded]).tolist()
        for batch, value in zip(recorded, values, strict=True):
            batch[name] = value
