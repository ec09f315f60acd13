"""Weights that come with an architecture: loaded strictly, unlike by timm itself."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file
from torch import hub as torch_hub

from skshazam.exceptions import (
    CheckpointMismatchError,
    TeacherLoadingError,
    TeacherSpecError,
)
from skshazam.teachers import (
    TeacherSpec,
    check_availability,
    load_teacher,
    unload_teachers,
)
from skshazam.teachers._spec import find_configuration
from tests.fake_hub import Repository
from tests.tiny_teachers import TINY_VIT, tiny_vit

CPU = "cpu"
RAMP = (np.indices((32, 32)).sum(0)[..., None] * [1, 2, 4]).astype(np.uint8)
# Published with classifiers of 1000 and of 10 classes.
TAG = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
BY_NAME = tiny_vit(architecture=TAG, weights=None)
ON_HUB = TeacherSpec("on-hub", architecture="hf-hub:Owner/Whole", size=32, dim=24)
SPEC_OF = {f"timm/{TAG}": BY_NAME, "Owner/Whole": ON_HUB}


def configuration(**changes):
    return json.dumps(
        {
            "architecture": "vit_tiny_patch16_224",
            "num_classes": 10,
            "pretrained_cfg": {
                "input_size": [3, 32, 32],
                "num_classes": 10,
                "classifier": "head",
            },
            "model_args": TINY_VIT,
            **changes,
        }
    ).encode()


def tiny_state(seed=1, **arguments):
    torch.manual_seed(seed)
    return timm.create_model(
        "vit_tiny_patch16_224", **{"num_classes": 10, **TINY_VIT, **arguments}
    ).state_dict()


def features_of(spec):
    return load_teacher(spec, CPU)([RAMP]).numpy()


@pytest.fixture(params=SPEC_OF)
def published(request, fake_hub):
    """Return the files of a published teacher, and its spec."""
    files = {"config.json": configuration(), "model.safetensors": save(tiny_state())}
    fake_hub.repositories[request.param] = Repository(files)
    return files, SPEC_OF[request.param]


def test_the_published_weights_are_loaded_without_their_classifier(published):
    _, spec = published
    state = tiny_state()
    for key, value in load_teacher(spec, CPU).module.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("lost", ["blocks.", "norm.", "pos_embed"])
def test_published_weights_without_a_part_are_refused(published, lost):
    files, spec = published
    kept = {k: v for k, v in tiny_state().items() if not k.startswith(lost)}
    files["model.safetensors"] = save(kept)
    with pytest.raises(CheckpointMismatchError, match=f"missing from the file: {lost}"):
        load_teacher(spec, CPU)


def test_published_weights_of_another_network_are_refused(published):
    files, spec = published
    files["model.safetensors"] = save({"conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointMismatchError, match=r"unknown.*conv1\.weight"):
        load_teacher(spec, CPU)


def test_published_weights_for_another_size_are_resized_as_timm_does(
    published, tmp_path
):
    files, spec = published
    state = tiny_state(img_size=96)
    files["model.safetensors"] = save(state)
    file = tmp_path / "model.safetensors"
    save_file(state, file)
    expected = timm.create_model(
        TAG,
        pretrained=True,
        pretrained_cfg_overlay={
            "file": str(file),
            "num_classes": 10,
            "custom_load": False,  # older timm would expect an .npz file
        },
        **{**TINY_VIT, "num_classes": 10},
    )
    found = load_teacher(spec, CPU).module
    assert torch.equal(found.pos_embed, expected.pos_embed)
    # A copy of the file, given by hand, is the same teacher.
    if spec is BY_NAME:
        copy = load_teacher(dataclasses.replace(spec, weights=file), CPU).module
        assert torch.equal(copy.pos_embed, expected.pos_embed)


@torch.inference_mode()
def test_resizing_once_gives_what_resizing_at_every_call_does(tmp_path):
    # How the row of the DINOv2 control is built, and how it could have been.
    save_file(tiny_state(img_size=96), tmp_path / "m.safetensors")
    given = {"weights": tmp_path / "m.safetensors", "architecture": TAG}
    dynamic = {**TINY_VIT, "dynamic_img_size": True}
    once, always = (
        tiny_vit(**given, architecture_kwargs={**dynamic, "img_size": side})
        for side in (32, 96)
    )
    np.testing.assert_allclose(features_of(once), features_of(always), atol=1e-5)


# --- the configuration of an architecture on the Hub ----------------------------------


def test_a_damaged_configuration_can_be_fetched_again(fake_hub):
    files = {"config.json": b"<html>", "model.safetensors": save(tiny_state())}
    fake_hub.repositories["Owner/Whole"] = Repository(files)
    with pytest.raises(TeacherLoadingError, match=r"config\.json") as caught:
        load_teacher(ON_HUB, CPU)
    assert "`hf download Owner/Whole config.json --force-download`" in str(caught.value)
    assert "model.safetensors" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (configuration(architecture="vit_of_tomorrow"), "vit_of_tomorrow"),
        (configuration(model_args={"no_such_option": 1}), "no_such_option"),
    ],
)
def test_a_configuration_that_timm_cannot_use_is_not_to_be_fetched_again(
    fake_hub, content, said
):
    files = {"config.json": content, "model.safetensors": save(tiny_state())}
    fake_hub.repositories["Owner/Whole"] = Repository(files)
    with pytest.raises(TeacherSpecError) as caught:
        load_teacher(ON_HUB, CPU)
    message = str(caught.value)
    assert all(part in message for part in [said, "config.json", timm.__version__])
    assert "hf download" not in message


@pytest.mark.parametrize("given_as", ["folder", "file"])
def test_a_configuration_beside_local_weights_is_used(fake_hub, tmp_path, given_as):
    (tmp_path / "config.json").write_bytes(configuration())
    save_file(tiny_state(3), tmp_path / "m.safetensors")
    weights = {"folder": tmp_path, "file": tmp_path / "m.safetensors"}[given_as]
    spec = dataclasses.replace(ON_HUB, weights=weights)
    assert find_configuration(spec) == tmp_path / "config.json"
    assert check_availability(spec).status == "here"
    features = features_of(spec)
    assert fake_hub.requests == []
    local = tiny_vit(weights=tmp_path / "m.safetensors")
    np.testing.assert_array_equal(features, features_of(local))
    before = spec.fingerprint()
    changed = configuration(model_args={**TINY_VIT, "qk_norm": True})
    (tmp_path / "config.json").write_bytes(changed + b" ")
    assert spec.fingerprint() != before


def test_where_the_configuration_is_out_of_reach_the_way_out_is_a_folder(
    fake_hub, tmp_path
):
    save_file(tiny_state(), tmp_path / "m.safetensors")
    spec = dataclasses.replace(ON_HUB, weights=tmp_path / "m.safetensors")
    # The weights, the configuration, or both are out of reach.
    files = {"config.json": configuration()}
    fake_hub.repositories["Owner/Whole"] = Repository(files)
    for spec_without in (ON_HUB, spec):
        with pytest.raises(TeacherLoadingError) as caught:
            load_teacher(spec_without, CPU)
        last = str(caught.value).splitlines()[-1]
        assert "weights={'on-hub': '/path/to/folder'}, a folder with config" in last
        fake_hub.stop()
        shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)


# --- weights that are not on the Hub --------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Return a spec whose weights timm has at a URL, and their place in the cache."""
    known = timm.get_pretrained_cfg(TAG)
    url = "https://example.org/tiny-0123456789.pth?sig=Opens"
    moved = dataclasses.replace(known, hf_hub_id=None, url=url.partition("?")[0])
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name, **_: moved)
    monkeypatch.setattr(torch_hub, "get_dir", lambda: str(tmp_path))
    return BY_NAME, tmp_path / "checkpoints" / "tiny-0123456789.pth"


def test_weights_at_a_url_are_fetched_once_and_loaded_strictly(elsewhere, monkeypatch):
    spec, path = elsewhere
    fetched = []

    def download(url, file, hash_prefix, progress):
        fetched.append((url, hash_prefix))
        torch.save({"model": tiny_state()}, file)

    monkeypatch.setattr(torch_hub, "download_url_to_file", download)
    assert load_teacher(spec, CPU).dim == 24
    unload_teachers()
    assert load_teacher(spec, CPU).dim == 24
    assert fetched == [("https://example.org/tiny-0123456789.pth", "0123456789")]
    torch.save({"norm.weight": torch.zeros(24)}, path)
    unload_teachers()
    with pytest.raises(CheckpointMismatchError, match="missing from the file"):
        load_teacher(spec, CPU)


def test_weights_at_a_url_that_cannot_be_fetched_are_a_loading_error(
    elsewhere, monkeypatch
):
    spec, _ = elsewhere

    def fail(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torch_hub, "download_url_to_file", fail)
    with pytest.raises(TeacherLoadingError, match="no route") as caught:
        load_teacher(spec, CPU)
    assert "weights={'tiny-vit': '/path/to/file'}" in str(caught.value)
