"""The learning rate of every step: a warm-up, then half a cosine."""

import math

from skorch.callbacks import Callback

__all__ = ["CosineSchedule", "cosine_rate"]

WARM_UP = 0.05  # share of the steps


def cosine_rate(step: int, n_steps: int) -> float:
    """Return the share of the learning rate that one step takes.

    Parameters
    ----------
    step : int
        From 0.
    n_steps : int
        Of the whole fit.

    Returns
    -------
    share : float
        Rises in equal parts to 1 over the first 5 % of the steps, at least one; then
        falls as half a cosine, which would be 0 one step after the last.
    """
    n_warm = math.ceil(WARM_UP * n_steps)
    if step < n_warm:
        return (step + 1) / n_warm
    return (1 + math.cos(math.pi * (step - n_warm) / (n_steps - n_warm))) / 2


class CosineSchedule(Callback):
    """Set the learning rate before every step of training.

    Parameters
    ----------
    lr : float
        Its highest value.
    n_steps : int
        Steps of the whole fit.
    """

    def __init__(self, lr, n_steps):
        self.lr = lr
        self.n_steps = n_steps

    def initialize(self):
        """Go back to the first step."""
        self.step_ = 0
        return self

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rate of the coming step."""
        if training:
            rate = self.lr * cosine_rate(self.step_, self.n_steps)
            for group in net.optimizer_.param_groups:
                group["lr"] = rate
            self.step_ += 1
