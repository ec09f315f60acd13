"""Docstrings: numpydoc sections, every parameter, defaults equal to the signature's."""

import ast
import importlib
import inspect
import re

import pytest
from numpydoc.docscrape import FunctionDoc, NumpyDocString
from numpydoc.validate import validate

from tests.test_public_api import PUBLIC_MODULES

# numpydoc's rules; left out: those on blank lines, and on sections that not every
# object needs (ES01, EX01, SA01), wrapping (GL01-03), and See Also descriptions.
CHECKED = {
    "GL07",  # sections in the right order
    "GL08",  # there is a docstring
    "PR01",  # parameters documented
    "PR02",  # no unknown parameters
    "PR03",  # in order
    "PR04",  # typed
    "PR07",  # described
    "RT01",  # returns documented
    "SS03",  # summary ends with a period
    "SS06",  # summary in one line
    "YD01",  # yields documented
}


def public_objects():
    seen = {}
    for module in PUBLIC_MODULES:
        face = importlib.import_module(module)
        for name in face.__all__:
            value = getattr(face, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                seen.setdefault(f"{value.__module__}.{value.__qualname__}", value)
    return seen


def documented():
    """Yield (dotted name, object) of public classes, functions and methods."""
    for dotted, value in public_objects().items():
        yield dotted, value
        if inspect.isclass(value):
            for name, member in vars(value).items():
                function = getattr(member, "__func__", member)
                # nn.Module.forward is called by torch; its text stands beside it.
                if name.startswith("_") or not inspect.isfunction(function):
                    continue
                yield f"{dotted}.{name}", function


OBJECTS = dict(documented())


def is_exception(value):
    return inspect.isclass(value) and issubclass(value, Exception | Warning)


@pytest.mark.parametrize("dotted", sorted(OBJECTS))
def test_docstring_is_numpydoc(dotted):
    value = OBJECTS[dotted]
    assert value.__doc__, f"{dotted} has no docstring"
    if is_exception(value) or dotted.endswith(".forward"):
        return
    problems = [
        f"{code}: {text}"
        for code, text in validate(dotted)["errors"]
        if code in CHECKED
    ]
    assert not problems, f"{dotted}: {problems}"


@pytest.mark.parametrize("dotted", sorted(OBJECTS))
def test_summary_fits_one_line(dotted):
    summary = inspect.getdoc(OBJECTS[dotted]).splitlines()[0]
    assert len(summary) <= 88, f"{dotted}: {len(summary)} characters"


def parsed(value):
    if inspect.isclass(value):
        return NumpyDocString(inspect.getdoc(value))
    return FunctionDoc(value)


def documented_default(parameter_type):
    match = re.search(r"default=(.+)$", parameter_type)
    return None if match is None else ast.literal_eval(match.group(1))


WITH_DEFAULTS = sorted(
    dotted
    for dotted, value in OBJECTS.items()
    if not is_exception(value)
    and any(
        parameter.default is not inspect.Parameter.empty
        for parameter in inspect.signature(value).parameters.values()
    )
)


@pytest.mark.parametrize("dotted", WITH_DEFAULTS)
def test_documented_defaults_equal_the_signature(dotted):
    value = OBJECTS[dotted]
    documentation = {
        name: parameter.type
        for parameter in parsed(value)["Parameters"]
        for name in parameter.name.split(", ")
    }
    for name, parameter in inspect.signature(value).parameters.items():
        default = parameter.default
        if default is inspect.Parameter.empty or name == "self":
            continue
        if "default=" not in documentation[name]:
            # "int or None, default ..." is the only other accepted wording.
            pytest.fail(f"{dotted}: {name} documents no default")
        stated = documented_default(documentation[name])
        if callable(default) and not isinstance(default, type):
            continue
        if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
            default = {}
        if type(default).__name__ == "dtype":
            continue
        assert stated == default, f"{dotted}: {name} says {stated}, is {default}"


def test_there_is_something_to_check():
    assert len(OBJECTS) > 40
    assert len(WITH_DEFAULTS) > 15
