"""The switches of the networks: one of a few words."""

from collections.abc import Collection

__all__ = ["check_choice"]


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a word that a switch does not know.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : str
        As it was given.
    choices : collection of str
        What it may be.

    Raises
    ------
    ValueError
        It is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r}; expected one of {sorted(choices)}.")
