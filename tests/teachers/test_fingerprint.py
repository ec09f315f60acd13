"""A fingerprint changes with whatever changes the vector, and with nothing else."""

import copy
import dataclasses
import functools
import importlib.util
import json
import os
import pickle
import pydoc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from skshazam import TeacherSpec
from skshazam.exceptions import TeacherSpecError
from skshazam.teachers import get_teacher, list_teachers, load_teacher
from skshazam.teachers._fingerprint import digest_of, digest_of_file
from tests.tiny_teachers import TINY_VIT, TinyConvolution, tiny_convolution, tiny_vit

ROOT = Path(__file__).parents[2]

CHANGES = {
    "architecture": {"architecture": "vit_small_patch16_224"},
    "architecture_kwargs": {"architecture_kwargs": {**TINY_VIT, "depth": 2}},
    "one more argument": {"architecture_kwargs": {**TINY_VIT, "qkv_bias": False}},
    "build": {
        "architecture": None,
        "architecture_kwargs": {},
        "build": TinyConvolution,
    },
    "weights": {"weights": "hf-hub:owner/repository/model.safetensors"},
    "no weights": {"weights": None},
    "revision": {"weights": "hf-hub:o/r/f.bin", "revision": "abc123"},
    "dim": {"dim": 25},
    "pooling": {"pooling": "cls"},
    "size": {"size": 48},
    "one side": {"size": (32, 48)},
    "resize": {"resize": 40},
    "crop": {"crop": False},
    "interpolation": {"interpolation": "bilinear"},
    "mean": {"mean": (0.485, 0.456, 0.4060001)},
    "std": {"std": (0.229, 0.224, 0.2250001)},
    "dtype": {"dtype": "float16"},
}
IRRELEVANT = {
    "name": "other",
    "licence": "MIT",
    "gated": True,
    "source": "a paper",
    "requires": "a package",
    "unverified": ("mean",),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_fact_that_changes_the_vector_changes_the_fingerprint(change):
    assert tiny_vit(**change).fingerprint() != tiny_vit().fingerprint()


@pytest.mark.parametrize("field", IRRELEVANT)
def test_a_fact_for_people_does_not_change_the_fingerprint(field):
    changed = dataclasses.replace(tiny_vit(), **{field: IRRELEVANT[field]})
    assert changed != tiny_vit()
    assert changed.fingerprint() == tiny_vit().fingerprint()


def test_every_field_is_tested_here():
    fields = {field.name for field in dataclasses.fields(TeacherSpec)}
    assert fields == {
        *IRRELEVANT,
        *(name for change in CHANGES.values() for name in change),
    }


def test_a_revision_of_weights_on_the_hub_counts():
    first, second = (
        tiny_vit(weights="hf-hub:o/r/f.bin", revision=revision).fingerprint()
        for revision in ("abc123", "def456")
    )
    assert first != second


@pytest.mark.parametrize("version", ["CHECKPOINT_VERSION", "POOLING_VERSION"])
def test_the_code_between_weights_and_vector_counts_by_its_version(
    monkeypatch, version
):
    before = tiny_vit().fingerprint()
    monkeypatch.setattr(f"skshazam.teachers._spec.{version}", 99)
    assert tiny_vit().fingerprint() != before


def test_what_is_missing_tells_teachers_apart_until_it_is_there():
    first, second = (tiny_vit(weights=None, requires=text) for text in ("a", "b"))
    assert first.fingerprint() != second.fingerprint()
    first, second = (tiny_vit(requires=text) for text in ("a", "b"))
    assert first.fingerprint() == second.fingerprint()


def test_all_changes_give_different_fingerprints():
    specs = [tiny_vit(), *(tiny_vit(**change) for change in CHANGES.values())]
    assert len({spec.fingerprint() for spec in specs}) == len(specs)


def test_a_square_size_and_its_pair_share_a_fingerprint():
    assert tiny_vit(size=32).fingerprint() == tiny_vit(size=(32, 32)).fingerprint()
    portrait, landscape = tiny_vit(size=(32, 48)), tiny_vit(size=(48, 32))
    assert portrait.fingerprint() != landscape.fingerprint()


def test_the_order_of_arguments_does_not_matter():
    backwards = dict(reversed(TINY_VIT.items()))
    spec = tiny_vit(architecture_kwargs=backwards)
    assert spec.fingerprint() == tiny_vit().fingerprint()


def test_a_fingerprint_is_64_hexadecimal_digits():
    fingerprint = tiny_vit().fingerprint()
    assert len(fingerprint) == 64
    assert set(fingerprint) <= set("0123456789abcdef")


def test_the_catalogue_has_no_two_teachers_of_one_fingerprint():
    specs = [get_teacher(name) for name in list_teachers()]
    assert len({spec.fingerprint() for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    "values",
    [
        [1, 1.0, True, "1", [1], {"1": 1}, None, b"1"],
        [0.1 + 0.2, 0.3],
        [[], "", 0, False, 0.0, -0.0, {}],
        [{"a": 1, "b": 2}, {"a": 2, "b": 1}, [["a", 1], ["b", 2]]],
        [len, max, TinyConvolution, digest_of, functools.partial(max, 1)],
    ],
)
def test_different_values_have_different_digests(values):
    assert len({digest_of(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("first", "second"),
    [([1, 2], (1, 2)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ("ab", "a" + "b")],
)
def test_equal_values_have_equal_digests(first, second):
    assert digest_of(first) == digest_of(second)


# --- local weights -----------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "model.pt"
    file.write_bytes(b"first content")
    return file


def test_copies_of_the_weights_elsewhere_share_a_fingerprint(tmp_path, weights):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "renamed.bin").write_bytes(weights.read_bytes())
    link = tmp_path / "link.pt"
    link.symlink_to(weights)
    expected = tiny_vit(weights=weights).fingerprint()
    for place in (folder / "renamed.bin", folder, link, str(weights)):
        assert tiny_vit(weights=place).fingerprint() == expected


def test_new_content_of_the_same_file_changes_the_fingerprint(weights):
    before = tiny_vit(weights=weights).fingerprint()
    weights.write_bytes(b"other content")  # of the same length
    stat = weights.stat()
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert tiny_vit(weights=weights).fingerprint() != before


def test_a_file_is_hashed_once_until_it_changes(weights, monkeypatch):
    digest = digest_of_file(weights)
    monkeypatch.setattr(Path, "open", lambda *args, **kwargs: pytest.fail("read again"))
    assert digest_of_file(weights) == digest


def test_a_home_folder_is_expanded(weights, monkeypatch):
    monkeypatch.setenv("HOME", str(weights.parent))
    expected = tiny_vit(weights=weights).fingerprint()
    assert tiny_vit(weights="~/model.pt").fingerprint() == expected


def test_missing_weights_still_have_a_fingerprint(tmp_path):
    assert len(tiny_vit(weights=tmp_path / "none.pt").fingerprint()) == 64


# --- build= ------------------------------------------------------------------------

WIDTH = 4
TABLE = {"kernel": [3, 5]}


def helper(dim):
    return TinyConvolution(dim)


def uses_a_global():
    return TinyConvolution(WIDTH)


def uses_a_table():
    return TinyConvolution(TABLE["kernel"][0])


def uses_a_helper():
    return helper(3)


def uses_a_global_in_a_comprehension():
    return torch.nn.Sequential(*[TinyConvolution(WIDTH) for _ in range(1)])


def uses_a_global_in_an_inner_function():
    def inner():
        return TinyConvolution(WIDTH)

    return inner()


def calls_itself(depth=0):
    return calls_the_other(depth) if depth else TinyConvolution(3)


def calls_the_other(depth):
    return calls_itself(depth - 1)


def of_build(build):
    return TeacherSpec("x", build=build).fingerprint()


def with_closure(value):
    def build():
        return TinyConvolution(value)

    return build


def with_default(value):
    def build(dim=value, *, stride=value):
        return TinyConvolution(dim)

    return build


@dataclasses.dataclass
class Configuration:
    dim: int
    kind: str = "wide"


class Builder:
    def __init__(self, dim):
        self.dim = dim

    def __call__(self):
        return TinyConvolution(self.dim)

    def build(self):
        return TinyConvolution(self.dim)


MAKERS = {
    "partial, positional": lambda v: functools.partial(TinyConvolution, v),
    "partial, keyword": lambda v: functools.partial(TinyConvolution, dim=v),
    "partial of partial": lambda v: functools.partial(
        functools.partial(TinyConvolution, v), device=None
    ),
    "nested argument": lambda v: functools.partial(helper, {"a": [v, 1.5]}),
    "configuration": lambda v: functools.partial(helper, Configuration(v)),
    "set": lambda v: functools.partial(helper, {"a", "b", "c", v}),
    "tensor": lambda v: functools.partial(helper, torch.tensor([v, 1.0])),
    "closure": with_closure,
    "closure of a configuration": lambda v: with_closure(Configuration(v)),
    "default": with_default,
    "callable object": Builder,
    "bound method": lambda v: Builder(v).build,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_values_that_a_build_carries_count(make):
    assert of_build(make(3)) != of_build(make(4))
    assert of_build(make(3)) == of_build(make(3)) == of_build(copy.deepcopy(make(3)))


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [
        (uses_a_global, "WIDTH", 5),
        (uses_a_table, "TABLE", {"kernel": [5, 3]}),
        (uses_a_global_in_a_comprehension, "WIDTH", 5),
        (uses_a_global_in_an_inner_function, "WIDTH", 5),
        (uses_a_helper, "helper", lambda dim: TinyConvolution(dim + 1)),
        (calls_itself, "calls_the_other", helper),
    ],
)
def test_the_globals_that_a_build_uses_count(monkeypatch, build, name, value):
    before = of_build(build)
    assert of_build(build) == before
    monkeypatch.setitem(globals(), name, value)
    assert of_build(build) != before


def test_unrelated_globals_do_not_count(monkeypatch):
    before = of_build(uses_a_global)
    monkeypatch.setitem(globals(), "TABLE", {})
    assert of_build(uses_a_global) == before


@pytest.fixture
def module_of(tmp_path, monkeypatch):
    """Return a function that imports source text under one module name."""
    count = 0

    def imported(text):
        nonlocal count
        count += 1
        file = tmp_path / f"version{count}.py"
        file.write_text("from torch import nn\n\n\n" + text)
        spec = importlib.util.spec_from_file_location("own_network", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "own_network", module)
        spec.loader.exec_module(module)
        return module

    return imported


FUNCTION = """
def build():
    return nn.Linear(3, {})
"""
HELPED = """
def helper():
    return {}

def build():
    return helper()
"""
CLASS = """
class build(nn.Linear):
    def __init__(self):
        super().__init__(3, {})
"""
CONSTANT = "DIM = {}\n" + CLASS.format("DIM")
METHOD_HELPER = "def dim():\n    return {}\n" + CLASS.format("dim()")
BASE = """
class Base(nn.Module):
    dim = {}

class build(Base):
    kind = "derived"
"""
OBJECT = """
class Builder:
    def __call__(self):
        return {}

build = Builder()
"""
DECORATED = """
import functools

def twice(function):
    @functools.wraps(function)
    def wrapper():
        return function() * {}
    return wrapper

@twice
def build():
    return 1
"""
SOURCES = {
    "function": FUNCTION,
    "helper": HELPED,
    "class": CLASS,
    "constant of a class": CONSTANT,
    "helper of a method": METHOD_HELPER,
    "base class": BASE,
    "callable object": OBJECT,
    "decorator": DECORATED,
}


@pytest.mark.parametrize("text", SOURCES.values(), ids=SOURCES)
def test_the_source_text_behind_a_build_counts(module_of, text):
    first = of_build(module_of(text.format(4)).build)
    assert of_build(module_of(text.format(4)).build) == first
    assert of_build(module_of(text.format(5)).build) != first


def test_two_lambdas_of_one_line_are_two_builds():
    narrow, wide = (lambda: TinyConvolution(3)), (lambda: TinyConvolution(4))
    assert of_build(narrow) != of_build(wide)


@pytest.mark.parametrize("text", [FUNCTION, CLASS], ids=["function", "class"])
def test_code_typed_at_a_prompt_counts_without_its_source(text):
    def typed(value):
        namespace = {"__name__": "__main__"}
        exec("from torch import nn\n" + text.format(value), namespace)
        return namespace["build"]

    assert of_build(typed(4)) == of_build(typed(4))
    assert of_build(typed(4)) != of_build(typed(5))


def test_a_path_among_the_arguments_counts_by_content(tmp_path):
    first, second, other = (tmp_path / name for name in ("a.json", "b.json", "c.json"))
    first.write_text("{}")
    second.write_text("{}")
    other.write_text("{1}")
    for kind in (str, Path):
        a, b, c = (
            of_build(functools.partial(helper, kind(file)))
            for file in (first, second, other)
        )
        assert a == b != c


@pytest.mark.parametrize("text", ["x" * 300, "x" * 10_000, "a\0b", ""])
def test_a_text_that_can_be_no_path_is_a_text(text):
    assert len(of_build(functools.partial(helper, text))) == 64
    assert len(of_build(with_closure(text))) == 64


@pytest.mark.parametrize(
    "name", ["timm.create_model", "torch.nn.Conv2d", "torch.hub.load", "json.loads"]
)
def test_code_of_installed_packages_counts_by_name_and_is_not_followed(name):
    function = pydoc.locate(name)
    first, other = functools.partial(function, "a"), functools.partial(function, "b")
    assert of_build(first) == of_build(functools.partial(function, "a"))
    assert of_build(first) != of_build(other)


def test_functions_in_circles_have_a_fingerprint():
    assert len(of_build(calls_itself)) == 64


def test_a_captured_module_counts_by_its_weights_and_is_loaded_once():
    torch.manual_seed(1)
    network, other = TinyConvolution(3), TinyConvolution(3)
    spec = TeacherSpec("x", build=lambda: network, size=24)
    before = spec.fingerprint()
    teacher = load_teacher(spec, "cpu")
    assert spec.fingerprint() == before
    assert load_teacher(spec, "cpu") is teacher
    network.load_state_dict(other.state_dict())
    assert spec.fingerprint() != before


def test_what_cannot_be_pickled_has_no_fingerprint_and_says_so():
    build = functools.partial(helper, threading.Lock())
    with pytest.raises(TeacherSpecError, match=r"captures.*inside the callable"):
        of_build(build)


# --- other processes ---------------------------------------------------------------

SPECS = {
    "architecture": tiny_vit(),
    "partial": tiny_convolution(),
    "function": TeacherSpec("x", build=uses_a_helper),
    "set": TeacherSpec("x", build=functools.partial(helper, {"a", "b", "c", "d"})),
    "configuration": TeacherSpec(
        "x", build=functools.partial(helper, Configuration(3))
    ),
    "tensor": TeacherSpec("x", build=functools.partial(helper, torch.arange(3.0))),
    "catalogue": get_teacher("virchow"),
    "handcrafted": get_teacher("stain"),
}


@pytest.fixture(scope="module")
def elsewhere():
    """Fingerprints of SPECS, computed by a process with another hash seed."""
    program = (
        "import json, importlib.util as u\n"
        f"spec = u.spec_from_file_location({__name__!r}, {__file__!r})\n"
        "import sys\n"
        "module = u.module_from_spec(spec)\n"
        "sys.modules[spec.name] = module\n"
        "spec.loader.exec_module(module)\n"
        "print(json.dumps({k: s.fingerprint() for k, s in module.SPECS.items()}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return json.loads(printed)


@pytest.mark.parametrize("kind", SPECS)
def test_another_process_computes_the_same_fingerprint(elsewhere, kind):
    assert elsewhere[kind] == SPECS[kind].fingerprint()


@pytest.mark.parametrize("kind", SPECS)
def test_a_pickled_spec_keeps_its_fingerprint(kind):
    travelled = pickle.loads(pickle.dumps(SPECS[kind]))
    assert travelled.fingerprint() == SPECS[kind].fingerprint()


def network_class(options):
    class Network(TinyConvolution):
        def __init__(self):
            super().__init__(options["dim"])

    return Network


def test_a_table_that_a_method_captures_counts():
    assert of_build(network_class({"dim": 3})) != of_build(network_class({"dim": 4}))
    assert of_build(network_class({"dim": 3})) == of_build(network_class({"dim": 3}))
