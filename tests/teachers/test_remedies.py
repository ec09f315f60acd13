"""What a message tells to do: of a published teacher, not what to do of one's own."""

import dataclasses
import functools

import pytest
import torch

from skshazam.exceptions import CheckpointMismatchError, TeacherOutputError
from skshazam.teachers import get_teacher, load_teacher
from skshazam.teachers._remedies import (
    is_published,
    name_of_network,
    numbered,
    steps_for_misfit,
)
from tests.tiny_teachers import TinyConvolution, tiny_convolution, tiny_vit


def test_steps_are_numbered_lines():
    assert numbered(["Do.", "Or do not."]) == "\n1. Do.\n2. Or do not."
    assert numbered([]) == ""


def test_a_row_is_published_until_its_network_is_changed():
    uni = get_teacher("uni")
    assert is_published(uni)
    assert is_published(dataclasses.replace(uni, weights="uni.bin", dim=3))
    assert not is_published(dataclasses.replace(uni, architecture_kwargs={}))
    assert not is_published(tiny_vit())
    assert not is_published(tiny_vit("uni"))


def test_nobody_is_told_to_check_what_they_never_set(tmp_path):
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    spec = dataclasses.replace(get_teacher("resnet50"), weights=tmp_path / "other.pth")
    with pytest.raises(CheckpointMismatchError) as caught:
        load_teacher(spec, "cpu")
    first, *steps = str(caught.value).splitlines()
    assert "'resnet50' (resnet50)" in first
    assert [step[:2] for step in steps] == ["1.", "2.", "3.", "4."]
    assert spec.source in steps[0]
    assert "weights={'resnet50': '/path/to/file'}" in steps[1]
    assert "'resnet50@<commit>'" in steps[2]
    assert "report it" in steps[3]
    assert "architecture" not in str(caught.value).replace("to the architecture:", "")


def test_a_vector_of_another_length_is_not_blamed_on_the_user_of_a_published_row():
    spec = dataclasses.replace(get_teacher("stain"), dim=28)
    with pytest.raises(TeacherOutputError) as caught:
        load_teacher(spec, "cpu")
    assert "Set dim=" not in str(caught.value)
    assert "1. Compare the file" in str(caught.value)


def test_no_commit_is_offered_where_nothing_is_on_the_hub():
    steps = steps_for_misfit(get_teacher("hipt"))
    assert len(steps) == 3
    assert not any("commit" in step for step in steps)


def network():
    return TinyConvolution(3)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (network, "build=network"),
        (TinyConvolution, "build=TinyConvolution"),
        (functools.partial(TinyConvolution, 3), "build=TinyConvolution"),
        (functools.partial(functools.partial(TinyConvolution), 3), "build=TinyConv"),
    ],
)
def test_a_network_of_ones_own_has_a_readable_name(build, name, tmp_path):
    spec = tiny_convolution(build=build)
    assert name_of_network(spec).startswith(name)
    torch.save({}, tmp_path / "empty.pt")
    spec = tiny_convolution(weights=tmp_path / "empty.pt")
    with pytest.raises(CheckpointMismatchError, match=r"\(build=TinyConvolution\)"):
        load_teacher(spec, "cpu")
