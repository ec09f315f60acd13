"""skshazam teachers: the whole catalogue, without a connection unless asked."""

import json

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
    assert any(line.startswith("* not verified") for line in lines)


@pytest.mark.parametrize("check", [False, True])
def test_only_check_asks_the_hub_and_says_what_to_do(run, monkeypatch, check):
    asked = []

    def answer(specs, *, network):
        asked.append(network)
        steps = ("Accept the terms.", "Run `hf auth login`.")
        return [
            TeacherAvailability(spec.name, "refused", "No access.", steps)
            for spec in specs
        ]

    monkeypatch.setattr("skshazam.teachers.check_availabilities", answer)
    result = run("teachers", "uni", "virchow", *["--check"] * check)
    assert result.exit_code == 0
    assert asked == [check]
    assert (
        "uni: refused. No access. 1. Accept the terms. 2. Run `hf auth login`."
        in result.output.splitlines()
    )


def test_an_unknown_name_is_named_with_the_nearest(run):
    result = run("teachers", "unni")
    assert result.exit_code == 1
    assert "Did you mean 'uni'" in result.output
