"""Whether a teacher can be loaded here and now, without loading or fetching it."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from skshazam.exceptions import TeacherSpecError
from skshazam.teachers._hub import (
    HUB_PREFIX,
    HubAddress,
    ask_hub,
    find_in_cache,
    weights_address,
)
from skshazam.teachers._pretrained import (
    check_architecture,
    config_address,
    path_of_url,
    pretrained_address,
)
from skshazam.teachers._refusals import gravest
from skshazam.teachers._remedies import is_published, missing_step, pass_file_step
from skshazam.teachers._spec import TeacherSpec, find_weights_file

__all__ = ["TeacherAvailability", "check_availabilities", "check_availability"]

# Worst first: a teacher is what the worst of its files is.
_STATUSES = (
    "incomplete",
    "missing",
    "refused",
    "offline",
    "failed",
    "not here",
    "reachable",
    "here",
    "built-in",
)

# Questions that wait for an answer at the same time.
_N_THREADS = 32


@dataclass(frozen=True)
class TeacherAvailability:
    """Whether a teacher can be loaded here and now, and what is in the way.

    Parameters
    ----------
    name : str
        The teacher's name.
    status : str
        "built-in": needs no weights; "here": on this machine; "reachable": the Hub
        would hand out the weights; "not here": nobody was asked; "refused": the Hub
        refuses this account or token; "missing": there is no such file; "offline": the
        Hub cannot or may not be asked; "failed": it gave no usable answer;
        "incomplete": needs what skshazam does not bring.
    detail : str
        Where the weights are, or why they cannot be had.
    steps : tuple of str, default=()
        What to do about it, in this order.
    commit : str, default=None
        The Hub commit of the weights, if known.
    n_bytes : int, default=None
        Size of the weights, if known.

    See Also
    --------
    skshazam.teachers.check_availability : Make one.
    """

    name: str
    status: str
    detail: str
    steps: tuple[str, ...] = ()
    commit: str | None = None
    n_bytes: int | None = None


def check_availability(
    spec: TeacherSpec, *, network: bool = True
) -> TeacherAvailability:
    """Tell whether a teacher can be loaded, without downloading weights.

    Parameters
    ----------
    spec : TeacherSpec
        The teacher.
    network : bool, default=True
        Ask the Hub about files that are not here. False opens no connection.

    Returns
    -------
    availability : TeacherAvailability

    Notes
    -----
    What is asked for is the header of the very file that ``load_teacher`` would fetch,
    with the same token, so that "reachable" holds for gated weights too. Files here
    are not opened: a damaged one is still "here".

    Examples
    --------
    >>> from skshazam.teachers import check_availability, get_teacher
    >>> check_availability(get_teacher("stain"), network=False).status
    'built-in'
    """
    has_network = spec.build is not None or spec.architecture is not None
    if spec.requires is not None and not (has_network and spec.weights is not None):
        return TeacherAvailability(
            spec.name, "incomplete", spec.requires, (missing_step(spec),)
        )
    try:
        # The catalogue's are known to timm, whose import takes a while.
        if not is_published(spec):
            check_architecture(spec)
        found = [_of_address(spec, each, network) for each in _addresses(spec)]
        found.append(_of_weights(spec))
    except TeacherSpecError as error:
        return TeacherAvailability(
            spec.name, "missing", str(error), (pass_file_step(spec),)
        )
    return min(filter(None, found), key=lambda one: _STATUSES.index(one.status))


def check_availabilities(
    specs: Iterable[TeacherSpec], *, network: bool = True
) -> list[TeacherAvailability]:
    """Tell of several teachers whether they can be loaded, asking the Hub in parallel.

    Parameters
    ----------
    specs : iterable of TeacherSpec
        The teachers.
    network : bool, default=True
        Ask the Hub about files that are not here. False opens no connection.

    Returns
    -------
    availabilities : list of TeacherAvailability
        In the order of `specs`.

    See Also
    --------
    skshazam.teachers.check_availability : What is told of each.
    """
    with ThreadPoolExecutor(_N_THREADS) as threads:
        return list(
            threads.map(lambda spec: check_availability(spec, network=network), specs)
        )


def _addresses(spec: TeacherSpec) -> list[HubAddress]:
    """Return which files of the Hub a teacher is loaded from."""
    config = config_address(spec)
    addresses = [] if config is None else [config]
    if spec.weights is None and spec.architecture is not None:
        weights = pretrained_address(spec)
        cached = find_in_cache(config) if config is not None else None
        if weights is not None and cached is not None:
            weights = replace(weights, revision=cached.commit)
        addresses.append(weights)
    elif spec.weights is not None and spec.weights.startswith(HUB_PREFIX):
        addresses.append(weights_address(spec))
    # The weights first, because the first of the worst is what is told.
    return [address for address in reversed(addresses) if address is not None]


def _of_address(
    spec: TeacherSpec, address: HubAddress, network: bool
) -> TeacherAvailability:
    """Return how a file of the Hub can be had."""
    cached = find_in_cache(address)
    if cached is not None:
        return TeacherAvailability(
            spec.name,
            "here",
            str(cached.path),
            commit=cached.commit,
            n_bytes=cached.path.stat().st_size,
        )
    if not network:
        return TeacherAvailability(
            spec.name,
            "not here",
            f"{HUB_PREFIX}{address}",
            (f"Fetch it: `{address.download_command()}`.",),
        )
    refusals = []
    for named in address.by_name():
        metadata, refusal, _ = ask_hub(named)
        if metadata is not None:
            return TeacherAvailability(
                spec.name,
                "reachable",
                f"{HUB_PREFIX}{named}",
                commit=metadata.commit_hash,
                n_bytes=metadata.size,
            )
        refusals.append(refusal)
        if not refusal.file_missing:
            break
    told = gravest(refusals)
    return TeacherAvailability(spec.name, told.status, told.reason, told.steps)


def _of_weights(spec: TeacherSpec) -> TeacherAvailability | None:
    """Return how weights that are not on the Hub can be had; None for the others."""
    if spec.weights is None:
        return _of_no_weights(spec)
    if spec.weights.startswith(HUB_PREFIX):
        return None
    if spec.weights == "random":
        return TeacherAvailability(spec.name, "built-in", "random weights")
    path = Path(spec.weights).expanduser()
    if path.is_dir():
        path = find_weights_file(path, spec.name)
    if path.is_file():
        size = path.stat().st_size
        return TeacherAvailability(spec.name, "here", str(path), n_bytes=size)
    return TeacherAvailability(
        spec.name,
        "missing",
        f"no weights at {spec.weights!r}",
        (pass_file_step(spec),),
    )


def _of_no_weights(spec: TeacherSpec) -> TeacherAvailability | None:
    """Return where the weights are that come with the network; None if on the Hub."""
    if spec.build is not None:
        return TeacherAvailability(spec.name, "built-in", "comes with its weights")
    if pretrained_address(spec) is not None:
        return None
    url, path = path_of_url(spec)
    if path.is_file():
        size = path.stat().st_size
        return TeacherAvailability(spec.name, "here", str(path), n_bytes=size)
    return TeacherAvailability(
        spec.name, "not here", url, ("Load the teacher: that fetches it.",)
    )
