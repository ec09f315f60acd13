"""skshazam teachers: the whole catalogue, without a connection unless asked."""

import json
import subprocess
import sys

import pytest

from skshazam.cli import _teachers
from skshazam.teachers import TeacherAvailability, get_teacher, list_teachers


def test_every_teacher_is_listed_without_a_connection(run):
    result = run("teachers")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == list(_teachers.HEADER)
    listed = [
        line.split()[0].rstrip("*") for line in lines[1 : len(list_teachers()) + 1]
    ]
    assert listed == list_teachers()
    assert "built-in" in next(line for line in lines if line.startswith("stain"))


def test_json_holds_the_same_facts(run):
    found = {
        entry["name"]: entry for entry in json.loads(run("teachers", "--json").output)
    }
    assert list(found) == list_teachers()
    for name, entry in found.items():
        spec = get_teacher(name)
        assert entry["dim"] == spec.dim
        assert entry["size"] == list(spec.input_size)
        assert entry["unverified"] == list(spec.unverified)
        assert entry["availability"]["status"]


def test_unverified_facts_are_marked_and_explained(run, monkeypatch):
    import dataclasses

    spec = dataclasses.replace(
        get_teacher("uni"), unverified=("licence", "whether registers count")
    )
    monkeypatch.setattr("skshazam.teachers.get_teacher", lambda name: spec)
    lines = run("teachers", "uni").output.splitlines()
    assert lines[1].startswith("uni*  1024 ")
    assert f"{spec.licence}*" in lines[1]
    assert "  uni: licence, whether registers count" in lines
    legend = " ".join(lines)
    assert "* sources disagree or are silent on this; no teacher at all" in legend


@pytest.mark.parametrize("check", [False, True])
def test_only_check_asks_the_hub_and_says_what_to_do(run, monkeypatch, check):
    asked = []

    def answer(specs, *, network):
        asked.append(network)
        steps = ("Accept the terms.", "Run `hf auth login`.")
        return [
            TeacherAvailability(spec.name, "refused", "No access", steps)
            for spec in specs
        ]

    monkeypatch.setattr("skshazam.teachers.check_availabilities", answer)
    result = run("teachers", "uni", "virchow", *["--check"] * check)
    assert result.exit_code == (3 if check else 0)
    assert asked == [check]
    assert (
        "uni: refused. No access. 1. Accept the terms. 2. Run `hf auth login`."
        in result.output.splitlines()
    )


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("here", 0),
        ("built-in", 0),
        ("reachable", 0),
        ("not here", 0),
        ("refused", 3),
        ("offline", 3),
        ("missing", 3),
        ("incomplete", 3),
        ("failed", 3),
    ],
)
def test_a_named_teacher_out_of_reach_is_told_by_the_exit_code(
    run, monkeypatch, status, code, as_json
):
    monkeypatch.setattr(
        "skshazam.teachers.check_availabilities",
        lambda specs, *, network: [
            TeacherAvailability(spec.name, status, "So.") for spec in specs
        ],
    )
    form = ["--json"] * as_json
    assert run("teachers", "stain", "uni", "--check", *form).exit_code == code
    # Of the whole list some are always out of reach.
    assert run("teachers", "--check", *form).exit_code == 0
    assert run("teachers", "uni", *form).exit_code == 0


def test_the_list_is_printed_without_importing_timm():
    program = (
        "import sys\n"
        "from skshazam.teachers import *\n"
        "specs = [get_teacher(name) for name in list_teachers()]\n"
        "check_availabilities(specs, network=False)\n"
        "sys.exit('timm' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_unknown_name_is_named_with_the_nearest(run):
    result = run("teachers", "unni")
    assert result.exit_code == 1
    assert "Did you mean 'uni'" in result.output
