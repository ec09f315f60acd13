"""TeacherSpec accepts what a teacher can be, refuses the rest, and is a value."""

import copy
import dataclasses
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from skshazam import TeacherSpec
from skshazam.exceptions import TeacherSpecError
from skshazam.teachers._frozen_mapping import FrozenMapping
from skshazam.teachers._spec import find_weights_file
from tests.tiny_teachers import TinyConvolution, tiny_convolution, tiny_vit

NAN, INFINITY = float("nan"), float("inf")

IMPOSSIBLE = [
    ("name", value)
    for value in ["", "a__b", "_a", "a_", "a@b", "a b", "a/b", "é", "a..b", None, 3]
]
IMPOSSIBLE += [("architecture", value) for value in [3, ("vit",), ""]]
IMPOSSIBLE += [("architecture_kwargs", value) for value in ["depth", [1], 3]]
IMPOSSIBLE += [("weights", value) for value in ["", 3, b"file.pt", True]]
IMPOSSIBLE += [("revision", value) for value in ["", 3]]
IMPOSSIBLE += [("dim", value) for value in [0, -3, 2.0, "24", True]]
IMPOSSIBLE += [("pooling", value) for value in ["max", "CLS", None, "mean+cls"]]
IMPOSSIBLE += [
    ("size", value)
    for value in [0, -1, 224.0, "224", None, True, (32,), (32, 0), (8, 8, 3), ()]
]
IMPOSSIBLE += [("resize", value) for value in [0, -1, 256.0, "256", True, 31]]
IMPOSSIBLE += [("crop", value) for value in ["no", None, 0.5]]
IMPOSSIBLE += [("interpolation", value) for value in ["nearest", "BICUBIC", None]]
for colour in ("mean", "std"):
    IMPOSSIBLE += [
        (colour, value)
        for value in [0.5, (1, 2), (1, 2, 3, 4), "abc", None, (1, NAN, 1), (1, 1, "x")]
    ]
IMPOSSIBLE += [
    ("mean", (0, INFINITY, 0)),
    ("std", (0.0, 1.0, 1.0)),
    ("std", (1.0, -1.0, 1.0)),
]
IMPOSSIBLE += [("requires", value) for value in ["", 3, ("a package",)]]
IMPOSSIBLE += [
    ("unverified", value) for value in ["mean", None, ("mean", ""), (1,), {"mean"}]
]
IMPOSSIBLE += [("dtype", value) for value in ["float64", "half", None, np.float32]]


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_with_field_and_value(field, value):
    with pytest.raises(TeacherSpecError) as caught:
        tiny_vit(**{field: value})
    message = str(caught.value)
    assert f"{field}={value!r}" in message
    assert "expected" in message
    if field != "name":
        assert "'tiny-vit'" in message


@pytest.mark.parametrize("name", ["uni", "UNI2-h", "phikon-v2", "a.b_c-d", "7", "x1"])
def test_usual_names_are_accepted(name):
    assert TeacherSpec(name, architecture="resnet18").name == name


@pytest.mark.parametrize(
    ("source", "named"),
    [({}, "neither"), ({"architecture": "resnet18", "build": TinyConvolution}, "both")],
)
def test_a_teacher_is_either_an_architecture_or_a_build(source, named):
    with pytest.raises(TeacherSpecError, match=f"architecture= .* build= .*{named}"):
        TeacherSpec("x", **source)


def test_a_teacher_that_requires_something_may_lack_its_network():
    spec = TeacherSpec("x", requires="the package y (`pip install y`)", dim=4)
    assert (spec.architecture, spec.build) == (None, None)
    completed = dataclasses.replace(spec, build=TinyConvolution, requires=None)
    assert completed.build is TinyConvolution
    with pytest.raises(TeacherSpecError, match="both"):
        dataclasses.replace(completed, architecture="resnet18", requires="y")


def test_unverified_facts_are_a_tuple():
    assert tiny_vit(unverified=["mean", "std"]).unverified == ("mean", "std")
    assert tiny_vit().unverified == ()


@pytest.mark.parametrize("build", [TinyConvolution(4), "TinyConvolution", 3])
def test_build_is_a_callable_and_no_module(build):
    with pytest.raises(TeacherSpecError, match=r"build=.*functools\.partial"):
        TeacherSpec("x", build=build)


def test_build_takes_no_architecture_kwargs():
    with pytest.raises(TeacherSpecError, match=r"architecture_kwargs=.*partial"):
        TeacherSpec("x", build=TinyConvolution, architecture_kwargs={"dim": 4})


@pytest.mark.parametrize("build", [TinyConvolution, partial(TinyConvolution, 4)])
def test_classes_functions_and_partials_build(build):
    assert TeacherSpec("x", build=build).build is build


@pytest.mark.parametrize(
    ("size", "resize"), [(32, 31), ((32, 48), 40), ((48, 32), 47), (1, 0)]
)
def test_resize_below_the_crop_is_refused(size, resize):
    with pytest.raises(TeacherSpecError, match=f"resize={resize}"):
        tiny_vit(size=size, resize=resize)


def test_squashing_takes_no_resize():
    with pytest.raises(TeacherSpecError, match=r"resize=64.*crop=False"):
        tiny_vit(crop=False, resize=64)
    assert tiny_vit(crop=False).resize is None


@pytest.mark.parametrize(
    ("size", "expected"), [(32, (32, 32)), ((24, 48), (24, 48)), ([24, 48], (24, 48))]
)
def test_input_size_is_height_and_width(size, expected):
    assert tiny_vit(size=size).input_size == expected


def test_containers_are_normalised():
    spec = tiny_vit(mean=[0, 0.5, 1], std=np.ones(3), weights=Path("a") / "b.pt")
    assert spec.mean == (0.0, 0.5, 1.0)
    assert spec.std == (1.0, 1.0, 1.0)
    assert all(type(value) is float for value in (*spec.mean, *spec.std))
    assert spec.weights == str(Path("a/b.pt"))


def test_documented_defaults_hold():
    spec = TeacherSpec("x", architecture="resnet18")
    assert spec.input_size == (224, 224)
    assert spec.mean == (0.485, 0.456, 0.406)
    assert spec.std == (0.229, 0.224, 0.225)
    assert (spec.pooling, spec.interpolation, spec.crop) == ("model", "bicubic", True)
    assert (spec.weights, spec.revision, spec.dim, spec.gated) == (None,) * 3 + (False,)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(TeacherSpec)])
def test_no_field_can_be_set_again(field):
    spec = tiny_vit()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(spec, field, getattr(spec, field))


def test_the_architecture_kwargs_cannot_be_changed():
    arguments = {"depth": 1, "sizes": [1, 2], "nested": {"a": [3]}}
    spec = tiny_vit(architecture_kwargs=arguments)
    arguments["depth"] = 2
    arguments["sizes"].append(3)
    assert spec.architecture_kwargs["depth"] == 1
    assert spec.architecture_kwargs["sizes"] == (1, 2)
    assert spec.architecture_kwargs["nested"]["a"] == (3,)
    with pytest.raises(TypeError):
        spec.architecture_kwargs["depth"] = 3


def test_equal_specs_have_equal_hashes_whatever_the_order_of_arguments():
    first = tiny_vit(architecture_kwargs={"depth": 1, "sizes": [1, 2]}, size=[8, 8])
    second = tiny_vit(architecture_kwargs={"sizes": (1, 2), "depth": 1}, size=(8, 8))
    assert first == second
    assert hash(first) == hash(second)
    assert len({first, second, tiny_vit()}) == 2


def test_another_value_is_another_spec():
    assert tiny_vit() != tiny_vit(dim=None)
    assert tiny_vit("a") != tiny_vit("b")
    assert tiny_vit(architecture_kwargs={"depth": 2}) != tiny_vit()


@pytest.mark.parametrize(
    "travel", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_a_spec_survives_pickle_and_deepcopy(travel):
    spec = tiny_vit(architecture_kwargs={"depth": 1, "nested": {"a": (3,)}})
    returned = travel(spec)
    assert returned == spec
    assert hash(returned) == hash(spec)
    assert returned.fingerprint() == spec.fingerprint()
    own = tiny_convolution()
    assert travel(own).fingerprint() == own.fingerprint()


def test_replace_makes_a_checked_variant():
    spec = tiny_vit()
    assert dataclasses.replace(spec, name="other") == tiny_vit("other")
    assert spec == tiny_vit()
    with pytest.raises(TeacherSpecError, match="dim=0"):
        dataclasses.replace(spec, dim=0)


def test_the_repr_shows_the_facts():
    assert "dim=24" in repr(tiny_vit())
    assert "'embed_dim': 24" in repr(tiny_vit())


def test_a_frozen_mapping_is_a_mapping():
    mapping = FrozenMapping({"a": 1, "b": [2]})
    assert dict(mapping) == {"a": 1, "b": (2,)}
    assert mapping == {"a": 1, "b": (2,)}
    assert len(mapping) == 2
    assert repr(mapping) == "{'a': 1, 'b': (2,)}"
    assert len(FrozenMapping()) == 0


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (["model.safetensors"], "model.safetensors"),
        (["pytorch_model.bin"], "pytorch_model.bin"),
        (["model.safetensors", "pytorch_model.bin", "a.pt"], "model.safetensors"),
        (["weights.pth", "config.json", "README.md"], "weights.pth"),
        (["bt_rn50_ep200.torch"], "bt_rn50_ep200.torch"),
    ],
)
def test_the_only_checkpoint_in_a_folder_is_chosen(tmp_path, present, chosen):
    for name in present:
        (tmp_path / name).touch()
    assert find_weights_file(tmp_path, "t") == tmp_path / chosen


@pytest.mark.parametrize(
    ("present", "named"),
    [
        ([], "holds no .safetensors"),
        (["config.json"], "holds no .safetensors"),
        (["a.pt", "b.bin"], r"2 checkpoints: \['a.pt', 'b.bin'\]"),
        (["a.safetensors", "b.safetensors", "c.pt"], "2 checkpoints"),
    ],
)
def test_a_folder_without_one_clear_checkpoint_is_refused(tmp_path, present, named):
    for name in present:
        (tmp_path / name).touch()
    with pytest.raises(TeacherSpecError, match=f"Teacher 't': .*{named}"):
        find_weights_file(tmp_path, "t")
