"""Teachers by name: the catalogue, and what the user registers in this process."""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from skshazam.exceptions import TeacherSpecError, UnknownTeacherError
from skshazam.teachers._catalog import CATALOG
from skshazam.teachers._hub import HUB_PREFIX, weights_address
from skshazam.teachers._spec import TeacherSpec

__all__ = [
    "get_teacher",
    "list_teachers",
    "register_teacher",
    "resolve_teachers",
    "unregister_teacher",
]

_registered: dict[str, TeacherSpec] = {}


def list_teachers() -> list[str]:
    """Return the names of all known teachers, sorted.

    Returns
    -------
    names : list of str
        The catalogue and the registered teachers.

    Examples
    --------
    >>> from skshazam.teachers import list_teachers
    >>> "uni" in list_teachers()
    True
    """
    return sorted({*CATALOG, *_registered})


def get_teacher(name: str) -> TeacherSpec:
    """Return the spec of a teacher by its name.

    Parameters
    ----------
    name : str
        A name of :func:`list_teachers`, or ``"name@revision"`` to pin the weights to a
        branch, tag or commit of the Hub.

    Returns
    -------
    spec : TeacherSpec

    Raises
    ------
    UnknownTeacherError
        Nobody knows the name; the nearest known one is suggested.
    TeacherSpecError
        Nothing follows the "@", or nothing of the teacher is on the Hub.

    Examples
    --------
    >>> from skshazam.teachers import get_teacher
    >>> get_teacher("uni").dim
    1024
    >>> get_teacher("uni@main").revision
    'main'
    """
    base, at, revision = name.partition("@")
    spec = _registered.get(base) or CATALOG.get(base)
    if spec is None:
        raise UnknownTeacherError(_unknown_name(base))
    if at and not revision:
        raise TeacherSpecError(
            f"{name!r} has no revision behind the '@'; expected a commit, branch or "
            f"tag of the Hub, or {base!r} alone."
        )
    return dataclasses.replace(spec, revision=revision) if at else spec


def _unknown_name(name: str) -> str:
    """Return the message for a name that nobody knows."""
    known = list_teachers()
    nearest = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
    guess = f"Did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    return (
        f"Unknown teacher {name!r}. {guess}All {len(known)} names: list_teachers(), or "
        "`skshazam teachers` in a shell. To use your own model, pass a TeacherSpec or "
        "call register_teacher(spec)."
    )


def register_teacher(spec: TeacherSpec) -> None:
    """Make a spec available by its name, in this process.

    Parameters
    ----------
    spec : TeacherSpec
        The teacher. Registering an equal spec again changes nothing.

    Raises
    ------
    TeacherSpecError
        The name belongs to another teacher.

    Notes
    -----
    Worker processes of joblib do not see it; a ``TeacherSpec`` in the ``teachers`` of a
    transformer travels with it.
    """
    if not isinstance(spec, TeacherSpec):
        raise TeacherSpecError(
            f"register_teacher expects a TeacherSpec, got {spec!r:.80}."
        )
    known = _registered.get(spec.name) or CATALOG.get(spec.name)
    # Two equal functools.partial are not equal to Python; their fingerprints are.
    if (
        known is not None
        and known != spec
        and known.fingerprint() != spec.fingerprint()
    ):
        raise TeacherSpecError(
            f"The name {spec.name!r} belongs to another teacher. Choose another name: "
            "dataclasses.replace(spec, name=...), or call unregister_teacher first if "
            "the other one is yours."
        )
    _registered[spec.name] = spec


def unregister_teacher(name: str) -> None:
    """Forget a teacher that :func:`register_teacher` added.

    Parameters
    ----------
    name : str
        Its name; the catalogue's own teachers cannot be removed.

    Raises
    ------
    UnknownTeacherError
        No such teacher was registered.
    """
    if _registered.pop(name, None) is None:
        raise UnknownTeacherError(
            f"No teacher {name!r} was registered in this process. Registered: "
            f"{sorted(_registered)}."
        )


def resolve_teachers(
    teachers: Iterable[str | TeacherSpec],
    weights: Mapping[str, str | os.PathLike] | None = None,
) -> tuple[TeacherSpec, ...]:
    """Turn what a user calls teachers into specs with distinct names.

    Parameters
    ----------
    teachers : iterable of str or TeacherSpec
        Names, ``"name@revision"`` or specs. A single one may stand alone.
    weights : mapping of str to path-like, default=None
        Local file or folder for some of the names. In a folder, the file that the
        teacher has on the Hub comes first.

    Returns
    -------
    specs : tuple of TeacherSpec
        In the order given.

    Raises
    ------
    UnknownTeacherError
        A name is unknown, or `weights` names a teacher that is not among `teachers`.
    TeacherSpecError
        There is no teacher, two share a name, an entry is neither name nor spec, or
        one has a revision as well as local weights.
    """
    if isinstance(teachers, str | TeacherSpec):
        teachers = (teachers,)
    if not isinstance(teachers, Iterable):
        raise TeacherSpecError(
            f"teachers={teachers!r}; expected names or TeacherSpec objects in a list."
        )
    specs = {}
    for teacher in teachers:
        if not isinstance(teacher, str | TeacherSpec):
            raise TeacherSpecError(
                f"teachers holds {teacher!r:.80}; expected names or TeacherSpec "
                "objects. Wrap a module as TeacherSpec('my-net', build=...)."
            )
        spec = get_teacher(teacher) if isinstance(teacher, str) else teacher
        if spec.name in specs:
            raise TeacherSpecError(
                f"Two teachers are named {spec.name!r}, so that their columns could "
                "not be told apart. Rename one: dataclasses.replace(spec, name=...)."
            )
        specs[spec.name] = spec
    if not specs:
        raise TeacherSpecError("teachers is empty; pass at least one name or spec.")
    for name, file in dict(weights or {}).items():
        if name not in specs:
            raise UnknownTeacherError(
                f"weights names {name!r}, which is not among the teachers: "
                f"{', '.join(map(repr, specs))}."
            )
        specs[name] = _with_local_weights(specs[name], file)
    return tuple(specs.values())


def _with_local_weights(spec: TeacherSpec, given: str | os.PathLike) -> TeacherSpec:
    """Return a spec that loads a local file or folder instead of its own weights."""
    if spec.revision is not None:
        raise TeacherSpecError(
            f"weights names {spec.name!r}, which is also pinned to revision "
            f"{spec.revision!r} of the Hub; expected one of the two. Leave out the "
            "revision, or the weights."
        )
    weights = os.fspath(given)
    folder = Path(weights).expanduser()
    if folder.is_dir() and (spec.weights or "").startswith(HUB_PREFIX):
        names = weights_address(spec).filenames
        # As a copy of the repository has it, or without its folders.
        paths = [folder / name for name in (*names, *(Path(n).name for n in names))]
        weights = next((str(path) for path in paths if path.is_file()), weights)
    return dataclasses.replace(spec, weights=weights)
