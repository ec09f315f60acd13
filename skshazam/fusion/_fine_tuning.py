"""FineTuning: the loop that trains a teacher's weights together with a head.

Pure torch: which images and which teacher is for ``_fine_tuned`` to know.
"""

import logging
import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional

from skshazam.exceptions import FineTuningError
from skshazam.fusion._learning_rate import cosine_rate
from skshazam.networks._fusion import make_classifier

__all__ = ["FineTuning", "TeacherWithHead"]

logger = logging.getLogger("skshazam")

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


class TeacherWithHead(nn.Module):
    """A teacher's network and a classifier on the vector that is pooled from it.

    Parameters
    ----------
    backbone : nn.Module
        The teacher's network.
    pool : callable
        Called with the backbone and a batch of images, returns features (B, D).
    dim : int
        Length D of a feature vector.
    n_classes : int
        Number C of classes.
    head : {"linear", "mlp"}, default="linear"
        One linear layer, or the students' classifier.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pool: Callable[[nn.Module, torch.Tensor], torch.Tensor],
        dim: int,
        n_classes: int,
        head: str = "linear",
    ):
        super().__init__()
        self.backbone = backbone
        self.pool = pool
        self.head = (
            nn.Linear(dim, n_classes)
            if head == "linear"
            else make_classifier(dim, n_classes, 0.0)
        )

    @property
    def is_trained_throughout(self) -> bool:
        """Whether the backbone is trained, and not the head alone."""
        return any(p.requires_grad for p in self.backbone.parameters())

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (B, D) and logits (B, C), float32, of preprocessed images."""
        features = self.pool(self.backbone, images).float()
        with torch.autocast(images.device.type, enabled=False):
            return features, self.head(features)

    def train(self, mode: bool = True):
        """Set the mode of training; what is not trained stays in that of evaluation.

        Batch normalisation keeps its statistics: those of a last batch of one image, or
        of a batch from one slide, would stay for good.

        Parameters
        ----------
        mode : bool, default=True
            Whether dropout and stochastic depth act.

        Returns
        -------
        self : TeacherWithHead
        """
        super().train(mode)
        if not self.is_trained_throughout:
            self.backbone.eval()
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class FineTuning:
    """Train a network, epoch by epoch, with a learning rate for each of its parts.

    Parameters
    ----------
    network : TeacherWithHead
        On its device; parameters that require no gradient are not trained.
    backbone_lr, head_lr : float
        Learning rates of AdamW.
    weight_decay : float
        Weight decay of AdamW.
    schedule : {"cosine", "constant"}
        How both rates go over the steps.
    n_steps : int
        Steps of the whole training.
    dtype : torch.dtype
        Autocast dtype; float32 turns autocast off.
    """

    def __init__(
        self,
        network: TeacherWithHead,
        *,
        backbone_lr: float,
        head_lr: float,
        weight_decay: float,
        schedule: str,
        n_steps: int,
        dtype: torch.dtype,
    ):
        self.network = network
        self.schedule = schedule
        self.n_steps = n_steps
        self.dtype = dtype
        self.device = next(network.head.parameters()).device
        self._rates = {"backbone": backbone_lr, "head": head_lr}
        trained = [p for p in network.backbone.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": parameters, "lr": self._rates[name], "name": name}
                for name, parameters in (
                    ("backbone", trained),
                    ("head", list(network.head.parameters())),
                )
                if parameters
            ],
            weight_decay=weight_decay,
        )
        # Gradients of float16 vanish below 6e-8 unless the loss is scaled up.
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=dtype == torch.float16
        )
        self._step = 0

    def run(
        self,
        training: Callable[[], Iterable[Batch]],
        validation: Callable[[], Iterable[Batch]] | None,
        *,
        max_epochs: int,
        patience: int,
    ) -> list[dict]:
        """Train, and return to the best epoch if there are validation batches.

        Parameters
        ----------
        training, validation : callable
            Returns the batches of one pass: images, class codes, weights or None.
        max_epochs : int
            Passes over the training batches.
        patience : int
            Epochs without a better validation loss before training ends.

        Returns
        -------
        history : list of dict
            ``epoch``, ``train_loss`` and, with validation, ``valid_loss``.
        """
        history: list[dict] = []
        best, best_loss, best_state = 0, math.inf, None
        for epoch in range(1, max_epochs + 1):
            losses = {"epoch": epoch, "train_loss": self._train_epoch(training())}
            history.append(losses)
            if validation is not None:
                losses["valid_loss"] = self._mean_loss(validation())
            logger.info("Fine-tuning: %s", losses)
            if validation is None:
                continue
            if not math.isfinite(losses["valid_loss"]):
                raise self._divergence(f"the validation loss is {losses['valid_loss']}")
            if losses["valid_loss"] < best_loss:
                best, best_loss = epoch, losses["valid_loss"]
                best_state = _copied(self.network)
            elif epoch - best == patience:
                break
        if best_state is not None:
            self.network.load_state_dict(best_state)
        if not all(p.isfinite().all() for p in self.network.parameters()):
            raise self._divergence("some weights are not finite")
        return history

    def _train_epoch(self, batches: Iterable[Batch]) -> float:
        """Return the mean loss of a pass in which every batch is a step."""
        self.network.train()
        total, n_rows = torch.zeros((), device=self.device), 0
        for images, codes, weights in batches:
            loss = self._loss(images, codes, weights)
            self._set_rates()
            self.scaler.scale(loss).backward()
            if self._step == 0:
                self._check_gradients()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self._step += 1
            total += loss.detach() * len(codes)
            n_rows += len(codes)
        mean = total.item() / n_rows
        if not math.isfinite(mean):
            raise self._divergence(f"the loss is {mean}")
        return mean

    def _divergence(self, sign: str) -> FineTuningError:
        """Return the error that says what has gone wrong, and what to lower."""
        return FineTuningError(
            f"Training has diverged: {sign}. Lower backbone_lr="
            f"{self._rates['backbone']} or head_lr={self._rates['head']}, or pass "
            "precision='float32'."
        )

    # Not inference_mode: what a network caches in it could not be trained on.
    @torch.no_grad()
    def _mean_loss(self, batches: Iterable[Batch]) -> float:
        self.network.eval()
        total, n_rows = torch.zeros((), device=self.device), 0
        for images, codes, weights in batches:
            total += self._loss(images, codes, weights) * len(codes)
            n_rows += len(codes)
        return total.item() / n_rows

    def _loss(self, images, codes, weights) -> torch.Tensor:
        """Return the weighted mean cross-entropy of one batch."""
        with torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype != torch.float32
        ):
            _, logits = self.network(images)
        losses = functional.cross_entropy(logits, codes, reduction="none")
        return (losses if weights is None else losses * weights).mean()

    def _set_rates(self) -> None:
        factor = 1.0
        if self.schedule == "cosine":
            factor = cosine_rate(self._step, self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self._rates[group["name"]]

    def _check_gradients(self) -> None:
        """Refuse a backbone that no gradient reaches."""
        backbone = self.network.backbone
        if not self.network.is_trained_throughout:
            return
        if all(p.grad is None for p in backbone.parameters()):
            raise FineTuningError(
                f"No gradient reaches the weights of {type(backbone).__name__}: its "
                "forward seems to run under torch.no_grad() or to detach its output. "
                "Pass a network that does not, or backbone_lr=0 to train the head "
                "alone."
            )


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of a network in the CPU's memory, of which there is more."""
    return {
        name: tensor.detach().to("cpu", copy=True)
        for name, tensor in network.state_dict().items()
    }
