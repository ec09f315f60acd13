"""How many passes over the data ``max_epochs="auto"`` stands for."""

__all__ = ["resolve_max_epochs"]

N_STEPS = 1000
FEWEST, MOST = 10, 200


def resolve_max_epochs(max_epochs: "int | str", n_rows: int, batch_size: int) -> int:
    """Return the number of passes over the training rows.

    Parameters
    ----------
    max_epochs : int or "auto"
        "auto" is as many as make about 1000 steps, at least 10 and at most 200.
    n_rows : int
        Rows trained on, without those held out.
    batch_size : int
        Rows a step.

    Returns
    -------
    n_epochs : int
    """
    if max_epochs != "auto":
        return max_epochs
    steps_an_epoch = -(-n_rows // batch_size)
    return min(max(round(N_STEPS / steps_an_epoch), FEWEST), MOST)
