"""Teachers by name: the nearest name suggested, revisions, the user's own."""

import dataclasses
from pathlib import Path

import pytest

from skshazam import TeacherSpec
from skshazam.exceptions import TeacherSpecError, UnknownTeacherError
from skshazam.teachers import (
    get_teacher,
    list_teachers,
    register_teacher,
    resolve_teachers,
    unregister_teacher,
)
from tests.tiny_teachers import TinyConvolution, tiny_convolution, tiny_vit


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch):
    monkeypatch.setattr("skshazam.teachers._registry._registered", {})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("uni2", "uni"),
        ("UNI", "uni"),
        ("virchov", "virchow"),
        ("phikonv2", "phikon-v2"),
        ("giga-path", "gigapath"),
        ("stains", "stain"),
        ("uni2@main", "uni"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(
        UnknownTeacherError, match=f"Did you mean {nearest!r}"
    ) as caught:
        get_teacher(name)
    assert repr(name.partition("@")[0]) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_name_like_no_other_is_refused_with_the_way_to_the_list():
    with pytest.raises(UnknownTeacherError) as caught:
        get_teacher("zzzzzz")
    assert "Did you mean" not in str(caught.value)
    assert f"All {len(list_teachers())} names: list_teachers()" in str(caught.value)


def test_every_listed_name_is_known_and_is_the_name_of_its_spec():
    assert list_teachers() == sorted(set(list_teachers()))
    assert all(get_teacher(name).name == name for name in list_teachers())


def test_a_revision_behind_the_name_pins_the_weights():
    pinned = get_teacher("uni@4fa9c0e")
    assert pinned == dataclasses.replace(get_teacher("uni"), revision="4fa9c0e")
    assert pinned.name == "uni"
    assert get_teacher("uni").revision is None


def test_a_registered_teacher_is_found_listed_and_forgotten():
    register_teacher(tiny_vit("mine"))
    assert get_teacher("mine") == tiny_vit("mine")
    assert "mine" in list_teachers()
    assert resolve_teachers("mine") == (tiny_vit("mine"),)
    unregister_teacher("mine")
    assert "mine" not in list_teachers()
    with pytest.raises(UnknownTeacherError, match="'mine'"):
        get_teacher("mine")


@pytest.mark.parametrize("make", [tiny_vit, tiny_convolution])
def test_registering_an_equal_spec_again_changes_nothing(make):
    register_teacher(make())
    register_teacher(make())
    assert list_teachers().count(make().name) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (tiny_vit("mine"), tiny_vit("mine", dim=None)),
        (tiny_vit("mine"), tiny_convolution("mine")),
        (tiny_convolution("mine", dim=3), tiny_convolution("mine", dim=4)),
        (None, tiny_vit("uni")),
    ],
)
def test_a_name_that_belongs_to_another_teacher_is_refused(first, second):
    if first is not None:
        register_teacher(first)
    before = get_teacher(second.name)
    with pytest.raises(TeacherSpecError, match=f"{second.name!r} belongs to another"):
        register_teacher(second)
    assert get_teacher(second.name) == before


def test_a_name_is_free_again_after_unregistering():
    register_teacher(tiny_vit("mine"))
    unregister_teacher("mine")
    register_teacher(tiny_vit("mine", dim=None))
    assert get_teacher("mine").dim is None


@pytest.mark.parametrize("spec", ["uni", None, TinyConvolution(3)])
def test_only_specs_are_registered(spec):
    with pytest.raises(TeacherSpecError, match="expects a TeacherSpec"):
        register_teacher(spec)


@pytest.mark.parametrize("name", ["uni", "nobody"])
def test_only_registered_teachers_are_forgotten(name):
    with pytest.raises(UnknownTeacherError, match=f"No teacher {name!r}"):
        unregister_teacher(name)


def test_names_and_specs_are_resolved_in_the_order_given():
    specs = resolve_teachers(["stain", tiny_vit(), "uni@main"])
    assert [spec.name for spec in specs] == ["stain", "tiny-vit", "uni"]
    assert specs[2].revision == "main"
    assert all(isinstance(spec, TeacherSpec) for spec in specs)


@pytest.mark.parametrize("one", ["stain", tiny_vit()])
def test_a_single_teacher_may_stand_alone(one):
    assert resolve_teachers(one) == resolve_teachers((one,))
    assert len(resolve_teachers(one)) == 1


def test_local_weights_replace_those_of_their_teacher_only():
    uni, virchow = resolve_teachers(
        ["uni", "virchow@main"], {"uni": Path("files") / "uni.pt"}
    )
    assert uni.weights == str(Path("files/uni.pt"))
    assert uni.revision is None
    assert virchow == get_teacher("virchow@main")
    assert get_teacher("uni").weights.startswith("hf-hub:")


def test_a_pinned_revision_beside_local_weights_is_refused():
    for uni in ("uni@main", get_teacher("uni@main")):
        with pytest.raises(TeacherSpecError, match=r"'uni'.*revision 'main'.*one of"):
            resolve_teachers([uni], {"uni": "uni.pt"})


@pytest.mark.parametrize("name", ["uni@", "nobody@"])
def test_a_name_with_an_empty_revision_is_refused(name):
    with pytest.raises(
        (TeacherSpecError, UnknownTeacherError), match=r"no revision behind|nobody"
    ):
        get_teacher(name)


@pytest.mark.parametrize(
    ("name", "present", "chosen"),
    [
        ("gigapath", ["pytorch_model.bin", "slide_encoder.pth"], "pytorch_model.bin"),
        ("virchow", ["model.safetensors", "other.safetensors"], "model.safetensors"),
        ("virchow", ["pytorch_model.bin", "other.bin"], "pytorch_model.bin"),
        ("virchow", ["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        ("gpfm", ["renamed.pth"], None),
        ("hipt", ["vit256_small_dino.pth"], None),
    ],
)
def test_of_a_folder_the_teachers_own_file_is_taken(tmp_path, name, present, chosen):
    for file in present:
        (tmp_path / file).touch()
    (spec,) = resolve_teachers([name], {name: tmp_path})
    assert spec.weights == str(tmp_path / chosen if chosen else tmp_path)


@pytest.mark.parametrize("weights", [None, {}])
def test_no_local_weights_change_nothing(weights):
    assert resolve_teachers(["uni"], weights) == (get_teacher("uni"),)


def test_weights_of_a_teacher_that_is_not_used_are_refused():
    with pytest.raises(UnknownTeacherError, match=r"'phikon-v2'.*'uni', 'stain'"):
        resolve_teachers(["uni", "stain"], {"phikon-v2": "a.pt"})


@pytest.mark.parametrize(
    ("teachers", "named"),
    [
        ([], "empty"),
        ((), "empty"),
        (["uni", "uni"], "'uni'"),
        (["uni", "uni@main"], "'uni'"),
        ([tiny_vit("stain"), "stain"], "'stain'"),
        ([3], "teachers holds 3"),
        ([TinyConvolution(3)], r"TinyConvolution.*build="),
        (None, "None"),
        (3, "3"),
    ],
)
def test_what_are_no_teachers_is_refused(teachers, named):
    with pytest.raises(TeacherSpecError, match=f"(?s){named}"):
        resolve_teachers(teachers)
