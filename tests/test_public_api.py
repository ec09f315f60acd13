"""What is public: declared, importable, documented, and nothing else leaks."""

import importlib
import re
from pathlib import Path

import pytest

import skshazam

ROOT = Path(__file__).parent.parent
PUBLIC_MODULES = [
    "skshazam",
    "skshazam.benchmark",
    "skshazam.datasets",
    "skshazam.exceptions",
    "skshazam.exchange",
    "skshazam.features",
    "skshazam.fusion",
    "skshazam.images",
    "skshazam.inspection",
    "skshazam.networks",
    "skshazam.storage",
    "skshazam.teachers",
]


def public_names():
    return [
        (module, name)
        for module in PUBLIC_MODULES
        for name in importlib.import_module(module).__all__
    ]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_all_is_sorted_and_complete(module):
    face = importlib.import_module(module)
    assert list(face.__all__) == sorted(face.__all__, key=str.swapcase) or list(
        face.__all__
    ) == sorted(face.__all__)
    defined = {
        name
        for name, value in vars(face).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith("skshazam")
    }
    assert defined <= set(face.__all__), f"{module} leaks {defined - set(face.__all__)}"


@pytest.mark.parametrize(("module", "name"), public_names())
def test_every_public_name_is_on_the_api_page(module, name):
    assert hasattr(importlib.import_module(module), name)
    page = (ROOT / "docs" / "api.md").read_text()
    assert f"`{name}`" in page


def test_the_api_page_invents_no_name():
    page = (ROOT / "docs" / "api.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE))
    assert listed == {name for _, name in public_names()}


def test_the_top_level_is_what_the_readme_uses():
    assert set(skshazam.__all__) == {
        "ShazamClassifier",
        "TeacherFeatureTransformer",
        "TeacherSpec",
        "__version__",
    }


def test_exceptions_are_builtins_too():
    for name in skshazam.exceptions.__all__:
        exception = getattr(skshazam.exceptions, name)
        builtin = (ValueError, OSError, ImportError, UserWarning)
        assert issubclass(exception, builtin) or name == "SkshazamError"
