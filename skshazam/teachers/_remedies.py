"""What a user can do about weights or an output that do not serve, step by step."""

import functools
from collections.abc import Iterable

from skshazam.teachers._catalog import CATALOG
from skshazam.teachers._spec import TeacherSpec

__all__ = [
    "is_published",
    "missing_step",
    "name_of_network",
    "numbered",
    "pass_file_step",
    "steps_for_misfit",
]


def numbered(steps: Iterable[str]) -> str:
    """Return steps as lines that follow a message."""
    return "".join(f"\n{number}. {step}" for number, step in enumerate(steps, 1))


def pass_file_step(spec: TeacherSpec) -> str:
    """Return the step that replaces a teacher's weights by a local file."""
    return f"Pass weights={{{spec.name!r}: '/path/to/file'}}."


def missing_step(spec: TeacherSpec) -> str:
    """Return the step that adds what a spec says it requires."""
    if spec.build is not None or spec.architecture is not None:
        return pass_file_step(spec)
    return (
        "Write a function that returns its torch.nn.Module, and use "
        f"dataclasses.replace(get_teacher({spec.name!r}), build=function, "
        "requires=None)."
    )


def is_published(spec: TeacherSpec) -> bool:
    """Return whether a spec has the network of the catalogue's row of its name."""
    row = CATALOG.get(spec.name)
    return row is not None and all(
        getattr(row, name) == getattr(spec, name)
        for name in ("architecture", "architecture_kwargs", "build")
    )


def steps_for_misfit(spec: TeacherSpec, *own_steps: str) -> list[str]:
    """Return the steps where weights and network of a teacher do not go together.

    Parameters
    ----------
    spec : TeacherSpec
        The teacher.
    *own_steps : str
        The first steps for a spec of the user's own. Of the catalogue's rows nobody
        chose the network, so that the file is to be looked at.

    Returns
    -------
    steps : list of str
    """
    if not is_published(spec):
        return [*own_steps, f"Or another file? {pass_file_step(spec)}"]
    steps = [
        f"Compare the file with the one of {spec.source}: name, size, sha256.",
        f"Is it another? {pass_file_step(spec)}",
    ]
    if (CATALOG[spec.name].weights or "").startswith("hf-hub:"):
        pinned = f"{spec.name}@<commit>"
        steps.append(f"Has it changed? Pin a commit that is known to fit: {pinned!r}.")
    return [*steps, "Is it the published file? Then the catalogue is wrong: report it."]


def name_of_network(spec: TeacherSpec) -> str:
    """Return a short name of a teacher's network, as its spec has it."""
    if spec.architecture is not None:
        return spec.architecture
    build = spec.build
    while isinstance(build, functools.partial):
        build = build.func
    return f"build={getattr(build, '__qualname__', type(build).__qualname__)}"
