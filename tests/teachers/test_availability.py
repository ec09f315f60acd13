"""check_availability: tells what load_teacher would do, and fetches nothing."""

import dataclasses
import json
import logging
import pickle
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save

from skshazam.exceptions import SkshazamError
from skshazam.teachers import (
    TeacherSpec,
    check_availabilities,
    check_availability,
    get_teacher,
    list_teachers,
    load_teacher,
    unload_teachers,
)
from skshazam.teachers import _availability as availability_module
from tests.fake_hub import (
    COMMIT,
    MEMBER_TOKEN,
    STRANGER_TOKEN,
    WRONG_TOKEN,
    Repository,
)
from tests.tiny_teachers import TINY_VIT, tiny_convolution, tiny_vit

LOADABLE = {"built-in", "here", "reachable"}
HUB = "hf-hub:Owner/Repository/model.safetensors"
TIMM_NAME = "vit_tiny_patch16_224.augreg_in21k"
CONFIG = {"architecture": "vit_tiny_patch16_224", "model_args": TINY_VIT}


def weights():
    torch.manual_seed(1)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **TINY_VIT)
    return save(model.state_dict())


@pytest.fixture
def hub(fake_hub):
    """A Hub with an open, a gated and an unfinished repository, and timm's own."""
    files = {"model.safetensors": weights()}
    config = json.dumps({**CONFIG, "pretrained_cfg": {"num_classes": 0}}).encode()
    fake_hub.repositories.update(
        {
            "Owner/Repository": Repository(files),
            "Owner/Gated": Repository(files, gated=True),
            "Owner/Whole": Repository({"config.json": config, **files}),
            "Owner/Headless": Repository({"config.json": config}),
            f"timm/{TIMM_NAME}": Repository(files),
        }
    )
    return fake_hub


def on_hub(repository):
    return tiny_vit(weights=f"hf-hub:Owner/{repository}/model.safetensors")


def whole(repository, **changes):
    architecture = f"hf-hub:Owner/{repository}"
    return TeacherSpec("whole", architecture=architecture, size=32, **changes)


# spec, token -> status, part of the detail, part of the steps
CASES = {
    "random": (tiny_vit(), None, "built-in", "random", ""),
    "build": (tiny_convolution(), None, "built-in", "", ""),
    "open": (tiny_vit(weights=HUB), None, "reachable", HUB, ""),
    "pinned": (
        tiny_vit(weights=HUB, revision=COMMIT),
        None,
        "reachable",
        "Owner/Repository",
        "",
    ),
    "gated": (on_hub("Gated"), None, "refused", "no token", "Accept the terms"),
    "not granted": (
        on_hub("Gated"),
        STRANGER_TOKEN,
        "refused",
        "not been granted",
        "huggingface.co/Owner/Gated",
    ),
    "granted": (on_hub("Gated"), MEMBER_TOKEN, "reachable", "Owner/Gated", ""),
    "wrong token": (
        tiny_vit(weights=HUB),
        WRONG_TOKEN,
        "refused",
        "does not know the token",
        "hf auth login",
    ),
    "no repository": (on_hub("Nothing"), None, "missing", "Owner/Nothing", "spelling"),
    "no file": (
        tiny_vit(weights="hf-hub:Owner/Repository/other.bin"),
        None,
        "missing",
        "other.bin",
        "tree/main",
    ),
    "no revision": (
        tiny_vit(weights=HUB, revision="v9"),
        None,
        "missing",
        "v9",
        "commits/main",
    ),
    "impossible": (
        tiny_vit(weights="hf-hub:-o/r/f"),
        None,
        "missing",
        "can exist",
        "weights={'tiny-vit'",
    ),
    "no local file": (
        tiny_vit(weights="no/such.pt"),
        None,
        "missing",
        "no/such.pt",
        "weights={'tiny-vit'",
    ),
    "timm": (
        tiny_vit(architecture=TIMM_NAME, weights=None),
        None,
        "reachable",
        f"timm/{TIMM_NAME}/model.safetensors",
        "",
    ),
    "no such architecture": (
        tiny_vit(architecture="vit_tinny"),
        None,
        "missing",
        "knows no architecture 'vit_tinny'",
        "",
    ),
    "no such tag": (
        tiny_vit(architecture="vit_tiny_patch16_224.nothing", weights=None),
        None,
        "missing",
        "nothing",
        "",
    ),
    "whole": (whole("Whole"), None, "reachable", "Owner/Whole/model.safetensors", ""),
    "whole, no weights": (whole("Headless"), None, "missing", "model.safetensors", ""),
    "whole, no repository": (whole("Nothing"), None, "missing", "Owner/Nothing", ""),
    "whole, random": (whole("Whole", weights="random"), None, "reachable", "conf", ""),
}


@pytest.mark.parametrize(
    ("spec", "token", "status", "detail", "steps"), CASES.values(), ids=CASES
)
def test_what_is_told_is_what_loading_does(
    hub, monkeypatch, spec, token, status, detail, steps
):
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    found = check_availability(spec)
    assert found.status == status
    assert found.name == spec.name
    assert detail in found.detail
    assert steps in " ".join(found.steps)
    assert bool(found.steps) or found.status in LOADABLE
    assert set(hub.methods()) <= {"HEAD"}
    assert not Path(constants.HF_HUB_CACHE).exists()
    try:
        teacher = load_teacher(spec, "cpu")
    except SkshazamError:
        assert found.status not in LOADABLE
        return
    assert found.status in LOADABLE
    assert found.commit in (None, COMMIT)
    # Once loaded, it is here: told without a question, with the same commit.
    hub.stop()
    again = check_availability(spec)
    assert again.status == ("built-in" if found.status == "built-in" else "here")
    if teacher.commit is not None:
        assert found.commit == again.commit == teacher.commit
        assert found.n_bytes == again.n_bytes == len(weights())
        assert Path(again.detail).is_file()


def test_local_weights_are_here(hub, tmp_path):
    file = tmp_path / "m.safetensors"
    file.write_bytes(weights())
    for given in (file, tmp_path):
        found = check_availability(tiny_vit(weights=given))
        assert (found.status, found.detail) == ("here", str(file))
        assert found.n_bytes == file.stat().st_size
        assert found.commit is None
    (tmp_path / "n.safetensors").touch()
    found = check_availability(tiny_vit(weights=tmp_path))
    assert (found.status, len(found.steps)) == ("missing", 1)
    assert "Teacher 'tiny-vit': the folder" in found.detail
    assert hub.requests == []


def test_a_cached_file_is_here_in_any_spelling(hub):
    load_teacher(tiny_vit(weights=HUB), "cpu")
    hub.requests.clear()
    found = check_availability(tiny_vit(weights=HUB.replace("Owner", "OWNER")))
    assert (found.status, found.commit) == ("here", COMMIT)
    assert hub.requests == []


def test_a_machine_without_connection_is_told_so(hub):
    hub.stop()
    found = check_availability(tiny_vit(weights=HUB))
    assert found.status == "offline"
    assert "cannot be reached" in found.detail
    assert "`hf download Owner/Repository model.safetensors`" in found.steps[0]


def test_offline_mode_is_told_without_a_question(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = check_availability(tiny_vit(weights=HUB))
    assert found.status == "offline"
    assert "HF_HUB_OFFLINE" in found.detail
    assert hub.requests == []


def test_a_hub_that_answers_badly_is_told_so(hub):
    hub.failures = 1
    found = check_availability(tiny_vit(weights=HUB))
    assert found.status == "failed"
    assert "503" in found.detail
    assert found.steps


def test_without_network_nobody_is_asked(fake_hub, monkeypatch):
    monkeypatch.setattr(
        availability_module, "ask_hub", lambda address: pytest.fail("asked")
    )
    specs = [get_teacher(name) for name in list_teachers()]
    found = {one.name: one for one in check_availabilities(specs, network=False)}
    assert fake_hub.requests == []
    assert found["stain"].status == "built-in"
    assert found["uni"].status == "not here"
    assert found["uni"].steps == (
        "Fetch it: `hf download MahmoodLab/UNI pytorch_model.bin`.",
    )
    assert {one.status for one in found.values()} <= {
        "built-in",
        "not here",
        "incomplete",
    }


def test_without_network_no_socket_is_opened(monkeypatch, tmp_path):
    # The sockets of these tests refuse loudly; see conftest.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = check_availability(tiny_vit(weights=HUB), network=False)
    assert found.status == "not here"


def test_what_a_teacher_lacks_is_told():
    spec = TeacherSpec("odd", requires="the package oddnet", dim=3)
    found = check_availability(spec)
    assert (found.status, found.detail) == ("incomplete", "the package oddnet")
    assert "build=function" in found.steps[0]
    hipt = check_availability(get_teacher("hipt"))
    assert hipt.steps == ("Pass weights={'hipt': '/path/to/file'}.",)
    spec = tiny_vit(weights=None, requires="a file of the authors")
    assert check_availability(spec).status == "incomplete"
    given = dataclasses.replace(spec, weights="random")
    assert check_availability(given).status == "built-in"


def test_weights_that_timm_fetches_from_elsewhere_are_not_here(
    monkeypatch, tmp_path, fake_hub
):
    name = next(
        name
        for name in timm.list_pretrained("*ijepa*")
        if not timm.get_pretrained_cfg(name).hf_hub_id
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    spec = TeacherSpec("elsewhere", architecture=name)
    found = check_availability(spec)
    assert found.status == "not here"
    assert found.detail.startswith("https://")
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / found.detail.rpartition("/")[2]
    file.write_bytes(b"12345")
    again = check_availability(spec)
    assert (again.status, again.detail, again.n_bytes) == ("here", str(file), 5)


def test_several_are_told_in_their_order(hub):
    specs = [
        dataclasses.replace(case[0], name=f"t{number}")
        for number, case in enumerate(CASES.values())
    ]
    together = check_availabilities(specs)
    assert together == [check_availability(spec) for spec in specs]
    assert len({one.status for one in together}) >= 4
    assert check_availabilities([]) == []


def test_the_token_is_not_told(hub, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, logger="skshazam")
    for token in (STRANGER_TOKEN, MEMBER_TOKEN, WRONG_TOKEN):
        monkeypatch.setenv("HF_TOKEN", token)
        hub.message = f"Known as {token}"
        for repository in ("Gated", "Repository", "Nothing"):
            found = check_availability(on_hub(repository))
            unload_teachers()
            assert token not in repr(found)
            assert token.encode() not in pickle.dumps(found)
    assert "hf_This" not in caplog.text
