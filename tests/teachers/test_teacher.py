"""Teacher: what its options change, and that they do not change the features."""

import numpy as np
import pytest
import torch

from skshazam import TeacherFeatureTransformer
from skshazam.teachers import load_teacher
from tests.tiny_teachers import TinyTokens, tiny_convolution, tiny_vit

SPECS = {
    "tokens of timm": tiny_vit(pooling="cls+mean", dim=48),
    "a vector of timm": tiny_vit(),
    "a vector": tiny_convolution(),
    "tokens": tiny_convolution(build=TinyTokens, pooling="cls+mean", dim=6),
}


@pytest.fixture
def compiled(monkeypatch):
    """Record what is compiled, and run it as it is."""
    record = []

    def as_it_is(function, **options):
        record.append(function)
        return function

    monkeypatch.setattr(torch, "compile", as_it_is)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module: record.append(module)
    )
    return record


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_channels_last_changes_the_layout_and_not_the_features(spec, tiles):
    plain = load_teacher(spec, "cpu")
    other = load_teacher(spec, "cpu", channels_last=True)
    assert other is not plain
    torch.testing.assert_close(other(tiles), plain(tiles), rtol=0, atol=1e-5)
    for teacher, layout in [
        (plain, torch.contiguous_format),
        (other, torch.channels_last),
    ]:
        kernels = [w for w in teacher.module.parameters() if w.ndim == 4]
        assert all(kernel.is_contiguous(memory_format=layout) for kernel in kernels)


def test_images_reach_a_channels_last_network_in_its_layout(tiles):
    seen = []
    for channels_last in (False, True):
        teacher = load_teacher(tiny_convolution(), "cpu", channels_last=channels_last)
        teacher.module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        teacher(tiles)
    plain, other = (
        batch.is_contiguous(memory_format=torch.channels_last) for batch in seen
    )
    assert (plain, other) == (False, True)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_what_the_pooling_calls_is_compiled(spec, tiles, compiled):
    teacher = load_teacher(spec, "cpu", compile=True)
    [what] = compiled
    if spec is SPECS["tokens of timm"]:
        assert what.__name__ == "forward_features"
    else:
        assert what is teacher.module
    torch.testing.assert_close(teacher(tiles), load_teacher(spec, "cpu")(tiles))


def test_nothing_is_compiled_unless_asked_for(tiles, compiled):
    load_teacher(tiny_vit(), "cpu")(tiles)
    assert compiled == []


def test_the_options_of_a_transformer_reach_its_teachers(tiles, compiled, tmp_path):
    plain = TeacherFeatureTransformer([tiny_vit()], device="cpu").fit_transform(tiles)
    for store in (None, tmp_path / "store"):
        transformer = TeacherFeatureTransformer(
            [tiny_vit(dim=None)],
            device="cpu",
            compile=True,
            channels_last=True,
            store=store,
        )
        features = transformer.fit_transform(tiles)
        np.testing.assert_allclose(features, plain, rtol=2**-10, atol=1e-5)
    assert len(compiled) == 1
    teacher = load_teacher(tiny_vit(dim=None), "cpu", channels_last=True, compile=True)
    assert len(compiled) == 1  # the one that the transformer loaded
    weight = teacher.module.patch_embed.proj.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_teacher_knows_no_commit_if_its_weights_are_not_from_the_hub():
    assert load_teacher(tiny_vit(), "cpu").commit is None
