"""The rooms of the house: who may import whom, and what importing may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skshazam

PACKAGE = Path(skshazam.__file__).parent

# Left to right: a room imports only rooms before it.
ROOMS = [
    "exceptions",
    "_optional",
    "_blocks",
    "_device",
    "_randomness",
    "images",
    "teachers",
    "storage",
    "features",
    "exchange",
    "networks",
    "fusion",
    "sharing",
    "inspection",
    "datasets",
    "benchmark",
    "cli",
]

# Only these rooms know these packages (inside functions or not).
DOORS = {
    "timm": {"teachers"},
    "huggingface_hub": {"teachers", "sharing"},
    "skorch": {"fusion"},
    "matplotlib": set(),
    "click": {"cli"},
    "h5py": set(),
    "distributed": set(),
}

# networks is pure torch; a student sees features, never images or teachers.
FORBIDDEN = {
    "networks": {"sklearn", "skorch", "PIL", "pathlib", "skshazam.features"},
    "fusion": {"skshazam.images", "skshazam.teachers", "skshazam.features"},
    "storage": {"torch", "sklearn", "skshazam.images", "skshazam.teachers"},
    "datasets": {"torch", "skshazam.teachers", "skshazam.fusion"},
}

# The rival that trains a teacher's own weights takes images.
EXCUSED = {
    "fusion/_fine_tuned.py": {"skshazam.teachers"},
    "fusion/_trainable_teacher.py": {"skshazam.images", "skshazam.teachers"},
}

SOFT_CEILING = 400
LONGER_WITH_REASON: dict[str, str] = {}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module


def room_of(module_name):
    parts = module_name.split(".")
    return parts[1] if len(parts) > 1 else None


def test_every_file_is_in_a_known_room():
    rooms = {relative(path).split("/")[0].removesuffix(".py") for path in modules()}
    assert rooms - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_imports_go_to_the_left(path):
    here = relative(path).split("/")[0].removesuffix(".py")
    if here == "__init__":
        return
    for name in imports_of(path):
        if name.split(".")[0] != "skshazam" or room_of(name) is None:
            # The root itself holds nothing but the version for anyone inside.
            assert name != "skshazam" or here == "cli", f"{path} imports the root"
            continue
        there = room_of(name)
        assert ROOMS.index(there) <= ROOMS.index(here), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_doors_are_kept(path):
    here = relative(path).split("/")[0].removesuffix(".py")
    for name in imports_of(path):
        top = name.split(".")[0]
        assert here in DOORS.get(top, {here}), f"{path} imports {name}"
        excused = EXCUSED.get(relative(path), set())
        for forbidden in FORBIDDEN.get(here, set()) - excused:
            assert name != forbidden and not name.startswith(f"{forbidden}."), path


def test_there_is_no_import_cycle():
    graph = {}
    for path in modules():
        dotted = ".".join(
            ("skshazam", *path.relative_to(PACKAGE).with_suffix("").parts)
        )
        graph[dotted.removesuffix(".__init__")] = {
            name for name in imports_of(path) if name.startswith("skshazam.")
        }
    finished, on_path = set(), []

    def visit(node):
        if node in finished or node not in graph:
            return
        assert node not in on_path, f"cycle: {[*on_path, node]}"
        on_path.append(node)
        for other in graph[node]:
            # A package's face imports its own files; they do not import it back.
            visit(other)
        on_path.pop()
        finished.add(node)

    for node in graph:
        visit(node)
    assert len(finished) == len(graph)


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_file_length(path):
    n_lines = len(path.read_text().splitlines())
    assert n_lines <= SOFT_CEILING or relative(path) in LONGER_WITH_REASON


def test_only_the_command_line_prints():
    for path in modules():
        calls = [
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ]
        assert "print" not in calls, path


IMPORT_PROBE = """
import builtins, pathlib, random, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("import touched the network")

socket.socket.connect = refuse
socket.getaddrinfo = refuse

import numpy as np
import skorch  # imports rich where there is one, which draws a random number
import torch

numpy_state = np.random.get_state()[1].tolist()
torch_state = torch.get_rng_state().tolist()
python_state = random.getstate()
n_threads = torch.get_num_threads()

opened_for_writing = []
real_open = builtins.open
builtins.open = lambda file, mode="r", *args, **kwargs: (
    opened_for_writing.append(file) if set(mode) & set("wax+") else None,
    real_open(file, mode, *args, **kwargs),
)[1]

import skshazam
import skshazam.benchmark, skshazam.cli, skshazam.datasets, skshazam.exchange
import skshazam.inspection

assert not opened_for_writing, opened_for_writing
assert "timm" not in sys.modules, "timm"
assert "matplotlib" not in sys.modules, "matplotlib"
assert "huggingface_hub" not in sys.modules, "huggingface_hub"
assert "pandas" not in sys.modules or "sklearn" in sys.modules
assert not torch.cuda.is_initialized()
assert numpy_state == np.random.get_state()[1].tolist()
assert torch_state == torch.get_rng_state().tolist()
assert python_state == random.getstate()
assert n_threads == torch.get_num_threads()
print("clean")
"""


def test_import_has_no_side_effects():
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_PROBE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout.strip() == "clean", result.stderr
