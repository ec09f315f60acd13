"""Weights on the Hub: cache, then download; pinned, recorded; every refusal typed.

The Hub's own client runs, against a server on loopback.
"""

import dataclasses
import errno
import io
import json
import logging
import pickle
import socket
import sys
import time
import traceback
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants, errors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from skshazam.exceptions import (
    GatedTeacherError,
    OfflineTeacherError,
    TeacherLoadingError,
    TeacherSpecError,
)
from skshazam.teachers import (
    TeacherSpec,
    get_teacher,
    load_teacher,
    register_teacher,
    unload_teachers,
    unregister_teacher,
)
from skshazam.teachers._hub import HubAddress, find_in_cache, weights_address
from skshazam.teachers._refusals import plain_copy
from tests.fake_hub import (
    COMMIT,
    MEMBER_TOKEN,
    SIGNATURE,
    STRANGER_TOKEN,
    WRONG_TOKEN,
    Repository,
)
from tests.tiny_teachers import TINY_VIT, tiny_vit

CPU = "cpu"
RAMP = (np.indices((32, 32)).sum(0)[..., None] * [1, 2, 4]).astype(np.uint8)
NAME = "folder/model.safetensors"
HUB = f"hf-hub:Owner/Repository/{NAME}"
OLD_COMMIT = "0ddba115" * 5
ODD_TOKEN = "hf_ThisTokenHolds\x0bAVerticalTab"


def tiny_state(seed=1):
    torch.manual_seed(seed)
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, **TINY_VIT
    ).state_dict()


def safetensors(seed=1):
    return save(tiny_state(seed))


def pytorch_bin(seed=1):
    buffer = io.BytesIO()
    torch.save(tiny_state(seed), buffer)
    return buffer.getvalue()


def features_of(spec):
    return load_teacher(spec, CPU)([RAMP]).numpy()


def features_with(tmp_path, seed=1):
    """Return the features with the weights of a seed, from a local file."""
    file = tmp_path / f"seed{seed}.safetensors"
    file.write_bytes(safetensors(seed))
    return features_of(tiny_vit(weights=file))


def error_of(spec):
    with pytest.raises(TeacherLoadingError) as caught:
        load_teacher(spec, CPU)
    return caught.value


def files_in_the_cache():
    cache = Path(constants.HF_HUB_CACHE)
    return [p for p in cache.rglob("*") if p.is_file() and ".locks" not in p.parts]


@pytest.fixture
def hub(fake_hub):
    """A Hub with one open repository."""
    fake_hub.repositories["Owner/Repository"] = Repository({NAME: safetensors()})
    return fake_hub


@pytest.fixture
def no_waiting(monkeypatch):
    """Record how long the client would wait, and do not."""
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


# --- cache, then download ----------------------------------------------------------


def test_a_file_is_fetched_once_and_then_served_without_the_hub(hub, tmp_path):
    spec = tiny_vit(weights=HUB)
    np.testing.assert_array_equal(features_of(spec), features_with(tmp_path))
    assert hub.methods().count("GET") == 1
    n_requests = len(hub.requests)
    hub.stop()
    unload_teachers()
    np.testing.assert_array_equal(features_of(spec), features_with(tmp_path))
    assert len(hub.requests) == n_requests


def test_a_cached_file_is_used_without_a_question(hub):
    load_teacher(tiny_vit(weights=HUB), CPU)
    unload_teachers()
    hub.requests.clear()
    load_teacher(tiny_vit(weights=HUB), CPU)
    assert hub.requests == []


def test_nothing_is_asked_where_the_weights_are_local(hub, tmp_path):
    teacher = features_with(tmp_path)
    assert teacher.shape == (1, 24)
    assert load_teacher(tiny_vit(), CPU).commit is None
    assert hub.requests == []


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT])
def test_the_commit_of_the_weights_is_recorded(hub, revision):
    hub.repositories["Owner/Repository"].tags = ("v1",)
    spec = tiny_vit(weights=HUB, revision=revision)
    assert load_teacher(spec, CPU).commit == COMMIT
    unload_teachers()
    hub.stop()
    assert load_teacher(spec, CPU).commit == COMMIT


def test_local_weights_have_no_commit(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(safetensors())
    assert load_teacher(tiny_vit(weights=tmp_path), CPU).commit is None


def test_a_revision_pins_the_weights(hub, tmp_path):
    hub.repositories["Owner/Repository"] = [
        Repository({NAME: safetensors(1)}),
        Repository({NAME: safetensors(2)}, commit=OLD_COMMIT),
    ]
    register_teacher(tiny_vit("mine", weights=HUB))
    try:
        newest, pinned = get_teacher("mine"), get_teacher(f"mine@{OLD_COMMIT}")
        found = features_of(newest), features_of(pinned)
        np.testing.assert_array_equal(found[0], features_with(tmp_path, 1))
        np.testing.assert_array_equal(found[1], features_with(tmp_path, 2))
        assert load_teacher(pinned, CPU).commit == OLD_COMMIT
    finally:
        unregister_teacher("mine")


@pytest.mark.parametrize("asked", ["owner/repository", "OWNER/Repository"])
def test_a_repository_cached_in_another_spelling_is_found(hub, asked):
    load_teacher(tiny_vit(weights=HUB), CPU)
    unload_teachers()
    hub.stop()
    teacher = load_teacher(tiny_vit(weights=f"hf-hub:{asked}/{NAME}"), CPU)
    assert teacher.commit == COMMIT


def test_the_spelling_asked_for_comes_first(hub):
    for repo_id in ("A/b", "a/B", "a/b"):
        hub.repositories[repo_id] = Repository({"m.bin": repo_id.encode()})
        huggingface_hub.hf_hub_download(repo_id, "m.bin")
    for repo_id in ("A/b", "a/B", "a/b"):
        found = find_in_cache(HubAddress(repo_id, ("m.bin",)))
        assert found.path.read_text() == found.address.repo_id == repo_id


@pytest.mark.parametrize("folder", ["", "folder/"])
def test_the_older_format_is_taken_where_the_newer_is_missing(
    fake_hub, tmp_path, folder
):
    older = f"{folder}pytorch_model.bin"
    repository = Repository({older: pytorch_bin(2)})
    fake_hub.repositories["Owner/Repository"] = repository
    spec = tiny_vit(weights=f"hf-hub:Owner/Repository/{folder}model.safetensors")
    np.testing.assert_array_equal(features_of(spec), features_with(tmp_path, 2))
    assert load_teacher(spec, CPU).commit == COMMIT
    # But not another file, and not the other way round.
    repository.files["model.safetensors"] = safetensors(1)
    for name in ("other.safetensors", "x/pytorch_model.bin"):
        error = error_of(tiny_vit(weights=f"hf-hub:Owner/Repository/{name}"))
        assert f"has no file '{name}'" in str(error)


# --- refusals ----------------------------------------------------------------------


def gated(hub):
    hub.repositories["Owner/Repository"].gated = True


def closed(hub):
    hub.repositories["Owner/Repository"].closed = True


def forgotten(hub):
    hub.repositories.clear()


def fileless(hub):
    hub.repositories["Owner/Repository"].files.clear()


def moved_on(hub):
    hub.repositories["Owner/Repository"].commit = OLD_COMMIT


def barred(hub):
    """Let another server hold the files, and refuse them."""
    hub.storage = "refuses"


def nothing(hub):
    """Leave the Hub as it is."""


# what happens to the Hub, token -> error, what it says
REFUSALS = {
    "gated, no token": (
        gated,
        None,
        GatedTeacherError,
        ["1. Accept the terms at https://huggingface.co/Owner/Repository.", "no token"],
    ),
    "gated, not granted": (
        gated,
        STRANGER_TOKEN,
        GatedTeacherError,
        [
            "1. Accept",
            "has not been granted access",
            "2. Run `hf auth login`",
            "HF_TOK",
        ],
    ),
    "gated, wrong token": (
        gated,
        WRONG_TOKEN,
        GatedTeacherError,
        ["does not know the token", "huggingface.co/settings/tokens", "hf auth login"],
    ),
    "open, wrong token": (
        nothing,
        WRONG_TOKEN,
        GatedTeacherError,
        ["does not know the token", "huggingface.co/settings/tokens"],
    ),
    "a token without this right": (
        closed,
        STRANGER_TOKEN,
        GatedTeacherError,
        ["The bearer of *** may not enter", "1. Let the token read gated repos"],
    ),
    "a token that no header can carry": (
        nothing,
        ODD_TOKEN,
        GatedTeacherError,
        ["characters that no token has", "hf auth login"],
    ),
    "a token that is not ASCII": (
        nothing,
        "hf_ThisTokenIs€Rich",
        GatedTeacherError,
        ["characters that no token has"],
    ),
    "no repository": (
        forgotten,
        None,
        TeacherLoadingError,
        ["no repository 'Owner/Repository'", "1. Check the spelling", "2. Is it priv"],
    ),
    "no repository, token": (
        forgotten,
        MEMBER_TOKEN,
        TeacherLoadingError,
        ["no repository 'Owner/Repository'"],
    ),
    "no file": (
        fileless,
        None,
        TeacherLoadingError,
        [f"no file '{NAME}' at '{COMMIT}'", f"/Owner/Repository/tree/{COMMIT}"],
    ),
    "no revision": (
        moved_on,
        None,
        TeacherLoadingError,
        [f"no revision '{COMMIT}'", "Owner/Repository/commits/main"],
    ),
    "storage that refuses": (
        barred,
        MEMBER_TOKEN,
        TeacherLoadingError,
        [
            f"the Hub hands out Owner/Repository/{NAME}, but localhost, where",
            "403",
            "1. Try again: the link that the Hub gave may have expired",
            "2. Is there a proxy",
        ],
    ),
    "no connection": (
        lambda hub: hub.stop(),
        MEMBER_TOKEN,
        OfflineTeacherError,
        [
            "cannot be reached",
            "refused",
            f"1. On a machine with a connection: `hf download Owner/Repository {NAME} "
            f"--revision {COMMIT}`",
            "2. Copy the folder 'models--Owner--Repository'",
            "hub-cache",
        ],
    ),
}


@pytest.mark.parametrize(
    ("change", "token", "kind", "said"), REFUSALS.values(), ids=REFUSALS
)
def test_a_refusal_is_typed_says_what_to_do_and_never_the_token(
    hub, monkeypatch, caplog, change, token, kind, said
):
    change(hub)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    if token == STRANGER_TOKEN:
        hub.message = f"The bearer of {token} may not enter."
    listen(caplog, monkeypatch)
    error = error_of(tiny_vit(weights=HUB, revision=COMMIT))
    assert type(error) is kind
    message = str(error)
    assert all(part in message for part in ["'tiny-vit'", *said])
    assert "weights={'tiny-vit': '/path/to/file'}" in message.splitlines()[-1]
    printed = "".join(traceback.format_exception(error))
    assert message.splitlines()[-1] in printed
    pickled = b"".join(map(pickled_chain, chain_of(error)))
    for shown in (printed, caplog.text, repr(error), str(pickled)):
        assert "hf_This" not in shown
        # The client's own log of level DEBUG has it.
        assert SIGNATURE not in shown or shown is caplog.text


def listen(caplog, monkeypatch):
    """Hear all that this package and the Hub's client have to say."""
    for name in ("skshazam", "huggingface_hub"):
        caplog.set_level(logging.DEBUG, logger=name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)


def chain_of(error):
    """Return an error and all that it remembers of what came before."""
    seen = []
    pending = [error]
    while pending:
        current = pending.pop()
        if current is not None and current not in seen:
            seen.append(current)
            pending += [current.__cause__, current.__context__]
    return seen


def pickled_chain(error):
    """Return the pickle of one error, or of what it holds if it refuses to be one."""
    try:
        return pickle.dumps(error)
    except (TypeError, pickle.PicklingError):
        return repr(vars(error)).encode()


def test_the_token_opens_a_gated_repository_and_stays_out_of_everything(
    hub, monkeypatch, caplog
):
    gated(hub)
    without = tiny_vit(weights=HUB).fingerprint()
    monkeypatch.setenv("HF_TOKEN", MEMBER_TOKEN)
    listen(caplog, monkeypatch)
    spec = tiny_vit(weights=HUB)
    teacher = load_teacher(spec, CPU)
    assert teacher.commit == COMMIT
    assert spec.fingerprint() == without
    assert "Fetching Owner/Repository" in caplog.text
    shown = [repr(spec), repr(vars(teacher)), str(pickle.dumps(spec)), caplog.text]
    assert not any(MEMBER_TOKEN in text for text in shown)
    assert not any(
        MEMBER_TOKEN.encode() in f.read_bytes() for f in files_in_the_cache()
    )


def test_the_cause_of_a_refusal_is_kept_without_the_token(hub, monkeypatch):
    gated(hub)
    monkeypatch.setenv("HF_TOKEN", STRANGER_TOKEN)
    error = error_of(tiny_vit(weights=HUB))
    assert type(error.__cause__) is RuntimeError
    assert str(error.__cause__).startswith("GatedRepoError: ")
    assert vars(error.__cause__) == {}
    assert error.__cause__.__context__ is error.__cause__.__cause__ is None
    assert pickle.loads(pickle.dumps(error)).args == error.args


def test_a_file_that_another_server_holds_is_fetched_from_there(
    hub, monkeypatch, tmp_path
):
    hub.storage = "serves"
    gated(hub)
    monkeypatch.setenv("HF_TOKEN", MEMBER_TOKEN)
    found = features_of(tiny_vit(weights=HUB))
    np.testing.assert_array_equal(found, features_with(tmp_path))
    assert any(SIGNATURE in path for _, path in hub.requests)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("at https://a.b/c?X-Sig=1&Y=2#z, later", "at https://a.b/c later"),
        ("for url 'https://a.b/c?X-Sig=1'", "for url 'https://a.b/c'"),
        ("proxy http://me:secret@host:80/x said no", "proxy http://host:80/x said no"),
        ("is it? https://a.b", "is it? https://a.b"),
    ],
)
def test_addresses_are_told_without_what_opens_them(said, shown):
    assert str(plain_copy(ValueError(said))) == f"ValueError: {shown}"


@settings(derandomize=True, deadline=None, max_examples=60)
@given(text=st.text(max_size=40), host=st.from_regex(r"[a-z]{1,9}", fullmatch=True))
def test_no_query_survives_in_any_text(text, host):
    told = str(plain_copy(ValueError(f"{text} https://{host}/f?sig=Opens {text}")))
    assert "Opens" not in told


def test_offline_mode_asks_nobody_and_uses_the_cache(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = error_of(tiny_vit(weights=HUB))
    assert type(error) is OfflineTeacherError
    assert "HF_HUB_OFFLINE" in str(error)
    assert f"hf download Owner/Repository {NAME}`" in str(error)
    assert hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    load_teacher(tiny_vit(weights=HUB), CPU)
    unload_teachers()
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_teacher(tiny_vit(weights=HUB), CPU).commit == COMMIT
    assert hub.requests == []


def test_the_commit_that_is_cached_is_offered_offline(hub):
    load_teacher(tiny_vit(weights=HUB, revision=COMMIT), CPU)
    hub.stop()
    assert f"cached is revision '{COMMIT}'" in str(error_of(tiny_vit(weights=HUB)))


def transport_error(name):
    """Return an error of the HTTP client that this version of the Hub's client uses."""
    package = errors.HTTPError.__module__.partition(".")[0]
    return getattr(sys.modules[package], name)("timed out")


@pytest.mark.parametrize(
    ("name", "n_questions"), [("ConnectTimeout", 1), ("ConnectError", 2)]
)
def test_an_unreachable_hub_is_given_up_soon(
    hub, monkeypatch, no_waiting, name, n_questions
):
    asked = []

    def fail(url, **arguments):
        asked.append(url)
        raise transport_error(name)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    assert type(error_of(tiny_vit(weights=HUB))) is OfflineTeacherError
    assert len(asked) == n_questions
    assert sum(no_waiting) <= 1
    assert hub.requests == []


def test_a_slow_hub_is_left_to_its_client_which_waits(hub, monkeypatch):
    def fail(url, **arguments):
        raise transport_error("ReadTimeout")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    assert load_teacher(tiny_vit(weights=HUB), CPU).commit == COMMIT


def test_a_busy_hub_is_asked_again(hub, no_waiting):
    hub.failures = 1
    assert load_teacher(tiny_vit(weights=HUB), CPU).commit == COMMIT
    assert hub.methods()[:2] == ["HEAD", "HEAD"]


def test_a_hub_that_stays_busy_is_a_typed_error(hub, no_waiting):
    hub.failures = 10**6
    assert "503" in str(error_of(tiny_vit(weights=HUB)))


# --- downloads that break ----------------------------------------------------------


def test_a_download_that_breaks_once_is_taken_up(hub, no_waiting, tmp_path):
    hub.cuts = 1
    try:
        found = features_of(tiny_vit(weights=HUB))
    except TeacherLoadingError:  # huggingface_hub 1.0 leaves trying again to the user
        found = features_of(tiny_vit(weights=HUB))
    assert hub.methods().count("GET") == 2
    np.testing.assert_array_equal(found, features_with(tmp_path))


def test_a_download_that_breaks_for_good_leaves_no_file(hub, no_waiting, tmp_path):
    hub.cuts = 10**6
    error = error_of(tiny_vit(weights=HUB))
    assert type(error) is TeacherLoadingError
    assert f"cannot fetch Owner/Repository/{NAME}" in str(error)
    assert "1. Try again" in str(error)
    assert find_in_cache(HubAddress("Owner/Repository", (NAME,))) is None
    assert not [p for p in files_in_the_cache() if "snapshots" in p.parts]
    hub.cuts = 0
    found = features_of(tiny_vit(weights=HUB))
    np.testing.assert_array_equal(found, features_with(tmp_path))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_cannot_keep_the_file_is_named(hub, monkeypatch, number):
    def fail(*arguments, **options):
        raise OSError(number, "no")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    error = error_of(tiny_vit(weights=HUB))
    assert "cannot be kept in" in str(error)
    assert constants.HF_HUB_CACHE in str(error)
    assert "1. Make room" in str(error)
    assert "HF_HOME" in str(error)


@pytest.mark.parametrize("revision", [None, COMMIT])
@pytest.mark.parametrize("name", ["m.safetensors", "pytorch_model.bin"])
def test_a_damaged_file_in_the_cache_can_be_fetched_again(hub, name, revision):
    content = {"m.safetensors": safetensors, "pytorch_model.bin": pytorch_bin}[name]()
    hub.repositories["Owner/Repository"].files[name] = content
    spec = tiny_vit(weights=f"hf-hub:Owner/Repository/{name}", revision=revision)
    load_teacher(spec, CPU)
    unload_teachers()
    found = find_in_cache(HubAddress("Owner/Repository", (name,), revision))
    found.path.resolve().write_bytes(content[: len(content) // 2])
    message = str(error_of(spec))
    command = message.partition("`")[2].partition("`")[0]
    pinned = f" --revision {COMMIT}" if revision else ""
    assert command == (f"hf download Owner/Repository {name}{pinned} --force-download")
    huggingface_hub.hf_hub_download(
        "Owner/Repository", name, revision=revision, force_download=True
    )
    assert load_teacher(spec, CPU).commit == COMMIT


# --- timm's pretrained weights ------------------------------------------------------

TIMM_NAME = "vit_tiny_patch16_224.augreg_in21k"
BY_NAME = tiny_vit(architecture=TIMM_NAME, weights=None)
ON_HUB = TeacherSpec("on-hub", architecture="hf-hub:Owner/Whole", size=32, dim=24)
CONFIG = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 0,
    "pretrained_cfg": {"input_size": [3, 32, 32], "num_classes": 0},
    "model_args": TINY_VIT,
}
REPOSITORY_OF = {"by name": f"timm/{TIMM_NAME}", "on hub": "Owner/Whole"}
SPEC_OF = {"by name": BY_NAME, "on hub": ON_HUB}


@pytest.fixture(params=SPEC_OF)
def pretrained(request, fake_hub):
    """A Hub with the weights of a timm teacher: hub, repository, spec."""
    files = {"config.json": json.dumps(CONFIG).encode()}
    repository = Repository(files)
    fake_hub.repositories[REPOSITORY_OF[request.param]] = repository
    return fake_hub, repository, SPEC_OF[request.param]


def test_pretrained_weights_are_fetched_once_safetensors_first(pretrained, tmp_path):
    hub, repository, spec = pretrained
    repository.files["model.safetensors"] = safetensors(1)
    repository.files["pytorch_model.bin"] = pytorch_bin(2)
    np.testing.assert_array_equal(features_of(spec), features_with(tmp_path, 1))
    assert load_teacher(spec, CPU).commit == COMMIT
    assert not any("pytorch_model" in path for _, path in hub.requests)
    hub.stop()
    unload_teachers()
    np.testing.assert_array_equal(features_of(spec), features_with(tmp_path, 1))


def test_pretrained_weights_may_be_of_the_older_format(pretrained, tmp_path):
    _, repository, spec = pretrained
    repository.files["pytorch_model.bin"] = pytorch_bin(2)
    np.testing.assert_array_equal(features_of(spec), features_with(tmp_path, 2))


def test_pretrained_weights_can_be_pinned(pretrained, tmp_path):
    hub, repository, spec = pretrained
    repository.files["model.safetensors"] = safetensors(1)
    old = Repository(
        {**repository.files, "model.safetensors": safetensors(2)}, commit=OLD_COMMIT
    )
    repo_id = next(iter(hub.repositories))
    hub.repositories[repo_id] = [repository, old]
    pinned = dataclasses.replace(spec, revision=OLD_COMMIT)
    np.testing.assert_array_equal(features_of(pinned), features_with(tmp_path, 2))
    assert load_teacher(pinned, CPU).commit == OLD_COMMIT


def test_pretrained_weights_that_are_gone_are_a_loading_error(pretrained):
    _, repository, spec = pretrained
    assert "has no file 'model.safetensors'" in str(error_of(spec))
    repository.gated = True
    assert type(error_of(spec)) is GatedTeacherError


def test_damaged_pretrained_weights_can_be_fetched_again(pretrained):
    _, repository, spec = pretrained
    repository.files["model.safetensors"] = safetensors()[:1000]
    message = str(error_of(spec))
    assert "model.safetensors" in message
    assert "--force-download`" in message


def test_an_architecture_on_the_hub_takes_other_weights(fake_hub, tmp_path):
    fake_hub.repositories["Owner/Whole"] = Repository(
        {"config.json": json.dumps(CONFIG).encode()}
    )
    file = tmp_path / "m.safetensors"
    file.write_bytes(safetensors(3))
    spec = dataclasses.replace(ON_HUB, weights=file)
    np.testing.assert_array_equal(features_of(spec), features_with(tmp_path, 3))
    assert load_teacher(spec, CPU).commit is None


def test_configuration_and_weights_are_of_one_commit(fake_hub, tmp_path):
    config = {"config.json": json.dumps(CONFIG).encode()}
    old, new = (
        Repository({**config, "model.safetensors": safetensors(seed)}, commit)
        for seed, commit in [(1, OLD_COMMIT), (2, COMMIT)]
    )
    fake_hub.repositories["Owner/Whole"] = old
    huggingface_hub.hf_hub_download("Owner/Whole", "config.json")
    fake_hub.repositories["Owner/Whole"] = [new, old]
    np.testing.assert_array_equal(features_of(ON_HUB), features_with(tmp_path, 1))
    assert load_teacher(ON_HUB, CPU).commit == OLD_COMMIT


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("vit_tiny_patch16_224.no_such_tag", "no_such_tag"),
        ("vit_small_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2.lvd142m"),
        ("test_vit4", "weights"),
    ],
)
def test_weights_that_timm_does_not_have_are_refused(fake_hub, architecture, said):
    kinds = (TeacherSpecError, TeacherLoadingError)
    with pytest.raises(kinds, match=f"'x'.*{said}"):
        load_teacher(TeacherSpec("x", architecture=architecture), CPU)


def test_weights_are_asked_for_before_the_network_is_built(hub, monkeypatch):
    gated(hub)
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: pytest.fail("built"))
    assert type(error_of(tiny_vit(weights=HUB))) is GatedTeacherError


def test_an_unknown_architecture_is_refused_before_weights_are_fetched(hub):
    spec = tiny_vit(architecture="vit_tinny", weights=HUB)
    with pytest.raises(TeacherSpecError, match="vit_tinny"):
        load_teacher(spec, CPU)
    assert hub.requests == []


def test_these_tests_reach_this_machine_alone(fake_hub):
    with pytest.raises(RuntimeError, match="connects to loopback, not '192"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(RuntimeError, match=r"not 'huggingface\.co'"):
        socket.getaddrinfo("huggingface.co", 443)


# --- addresses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    ["hf-hub:owner", "hf-hub:owner/repository", "hf-hub:", "hf-hub:owner//file"],
)
def test_an_incomplete_address_on_the_hub_is_refused(fake_hub, weights):
    with pytest.raises(TeacherSpecError, match="owner/repository/file"):
        load_teacher(tiny_vit(weights=weights), CPU)
    assert fake_hub.requests == []


@pytest.mark.parametrize(
    "weights",
    [
        "hf-hub:an owner/repository/f",
        "hf-hub:-o/r/f",
        "hf-hub:o/r/../../f",
        "hf-hub:o/r/a//f",
    ],
)
def test_an_impossible_address_on_the_hub_is_refused(fake_hub, weights):
    with pytest.raises(TeacherSpecError, match=r"'tiny-vit'.*no file that can exist"):
        load_teacher(tiny_vit(weights=weights), CPU)
    assert fake_hub.requests == []


@settings(derandomize=True, deadline=None, max_examples=80)
@given(rest=st.text(st.characters(codec="utf-8"), max_size=25))
def test_any_text_is_an_address_or_a_typed_error(rest):
    try:
        address = weights_address(tiny_vit(weights=f"hf-hub:{rest}"))
    except TeacherSpecError:
        return
    assert str(address) == rest
    assert (
        Path("cache", address.cache_folder, rest)
        .resolve()
        .is_relative_to(Path("cache").resolve())
    )
