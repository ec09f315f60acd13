"""What skorch callbacks given by the user mean for a fit."""

from skorch.callbacks import Callback, EarlyStopping, LRScheduler

__all__ = ["check_something_is_monitored", "has_schedule"]


def has_schedule(callbacks) -> bool:
    """Return whether a callback sets the learning rate.

    Parameters
    ----------
    callbacks : list of Callback or (str, Callback), or None
        As given to the estimator.

    Returns
    -------
    found : bool
    """
    return any(isinstance(callback, LRScheduler) for callback in _plain(callbacks))


def check_something_is_monitored(callbacks) -> None:
    """Refuse to stop early on held-out rows where none are held out.

    Parameters
    ----------
    callbacks : list of Callback or (str, Callback), or None
        As given to the estimator.

    Raises
    ------
    ValueError
        A callback watches the validation loss.
    """
    for callback in _plain(callbacks):
        if isinstance(callback, EarlyStopping) and callback.monitor == "valid_loss":
            raise ValueError(
                "EarlyStopping(monitor='valid_loss') is among the callbacks, but no "
                "rows are held out. Pass early_stopping=True to the estimator, which "
                "then needs no such callback, and call fit; or watch what there is: "
                "EarlyStopping(monitor='train_loss')."
            )


def _plain(callbacks) -> list[Callback]:
    """Return callbacks without their names."""
    return [item[1] if isinstance(item, tuple) else item for item in callbacks or ()]
