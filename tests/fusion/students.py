"""Students that train in a blink, and the callbacks that watch them."""

import copy

import numpy as np
from skorch.callbacks import Callback

from skshazam import ShazamClassifier

FAST = {
    "token_dim": 8,
    "depth": 1,
    "max_epochs": 4,
    "lr": 1e-2,
    "device": "cpu",
    "random_state": 0,
}


# What tests take for granted, whatever the defaults are.
PLAIN = {
    "distillation_weight": 0.5,
    "distillation_target": "frozen",
    "projection": "linear",
    "standardize": True,
    "dropout": 0.2,
    "n_members": 1,
    "weight_decay": 1e-3,
    "lr_schedule": "cosine",
    "batch_size": 64,
    "early_stopping": False,
}


def fast_student(**changes):
    return ShazamClassifier(**{**FAST, **PLAIN, **changes})


def fast_preset(preset, **changes):
    return ShazamClassifier.from_preset(preset, **{**FAST, **changes})


def state_of(student):
    """Return a copy of the network's weights and buffers as arrays."""
    return {
        name: tensor.detach().cpu().numpy().copy()
        for name, tensor in student.module_.state_dict().items()
    }


def equal_states(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def seeded_like(random_state, n_draws=1):
    """Return the seed that a fit draws for torch as its ``n_draws``-th."""
    rng = np.random.RandomState(random_state)
    return [int(rng.randint(2**31 - 1)) for _ in range(n_draws)][-1]


class Spy(Callback):
    """Keep the first network, the data, and the weights after every epoch."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.start = copy.deepcopy(net.module_)
        self.data, self.codes = X, y
        self.epochs = []

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(state_of(net))

    @property
    def held_out(self):
        return self.data["held_out"].numpy()


class Interrupt(Callback):
    """Press Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt
