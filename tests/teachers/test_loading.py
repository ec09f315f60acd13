"""load_teacher: once per process, strict about weights, typed errors, no code run."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from skshazam import TeacherSpec
from skshazam.exceptions import (
    CheckpointMismatchError,
    TeacherLoadingError,
    TeacherOutputError,
    TeacherSpecError,
)
from skshazam.teachers import Teacher, _loading, load_teacher, unload_teachers
from skshazam.teachers._weights import read_state
from tests.tiny_teachers import (
    TINY_VIT,
    TinyConvolution,
    TinyTokens,
    tiny_convolution,
    tiny_vit,
)

ROOT = Path(__file__).parents[2]
RAMP = (np.indices((32, 32)).sum(0)[..., None] * [1, 2, 4]).astype(np.uint8)
CPU = "cpu"


def features_of(spec):
    return load_teacher(spec, CPU)([RAMP]).numpy()


def tiny_state(seed=1, **arguments):
    """Return the state dict of another tiny ViT than the one of the fixed seed."""
    torch.manual_seed(seed)
    return timm.create_model(
        "vit_tiny_patch16_224", **{"num_classes": 0, **TINY_VIT, **arguments}
    ).state_dict()


# --- a loaded teacher --------------------------------------------------------------


@pytest.mark.parametrize("spec", [tiny_vit(), tiny_convolution()])
def test_a_teacher_turns_images_into_frozen_float32_features(spec, tiles):
    teacher = load_teacher(spec, CPU)
    assert isinstance(teacher, Teacher)
    assert teacher.dim == spec.dim
    assert teacher.device == torch.device(CPU)
    assert not teacher.module.training
    assert not any(weight.requires_grad for weight in teacher.module.parameters())
    features = teacher(tiles)
    assert features.shape == (len(tiles), spec.dim)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert features.std(dim=0).min() > 0


def test_a_row_depends_on_its_image_alone(tiles):
    teacher = load_teacher(tiny_vit(), CPU)
    together = teacher(tiles)
    for row, tile in enumerate(tiles):
        torch.testing.assert_close(together[row], teacher([tile])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", [tiny_vit(), tiny_convolution()])
def test_autocast_changes_little_and_still_returns_float32(spec, tiles):
    teacher = load_teacher(spec, CPU)
    exact, half = teacher(tiles), teacher(tiles, torch.bfloat16)
    assert half.dtype == torch.float32
    assert not torch.equal(exact, half)
    assert (exact - half).abs().max() < 0.1


def test_dim_is_measured_where_the_spec_leaves_it_open():
    assert load_teacher(tiny_vit(dim=None), CPU).dim == 24
    tokens = tiny_convolution(dim=None, build=TinyTokens, pooling="cls+mean")
    assert load_teacher(tokens, CPU).dim == 6


def test_other_input_sizes_reach_the_network():
    seen = []

    class Recorder(nn.Module):
        def forward(self, images):
            seen.append((tuple(images.shape), images.dtype))
            return images.mean((2, 3))

    load_teacher(TeacherSpec("x", build=lambda: Recorder(), size=(16, 24)), CPU)
    assert seen == [((1, 3, 16, 24), torch.float32)]


# --- once per process and device ---------------------------------------------------


def test_a_teacher_is_loaded_once_however_often_it_is_asked_for(builds):
    first = load_teacher(tiny_vit(), CPU)
    copies = [
        tiny_vit(),
        dataclasses.replace(tiny_vit(), name="renamed", source="somewhere"),
        pickle.loads(pickle.dumps(tiny_vit())),
    ]
    assert all(load_teacher(spec, CPU) is first for spec in copies)
    assert load_teacher(tiny_vit(), torch.device(CPU)) is first
    assert builds == ["tiny-vit"]


def test_other_facts_are_another_teacher(builds):
    others = [tiny_vit(pooling="cls"), tiny_vit(dim=None), tiny_convolution()]
    teachers = [load_teacher(spec, CPU) for spec in (tiny_vit(), *others)]
    assert len(set(map(id, teachers))) == len(builds) == 4


def test_threads_that_ask_at_once_share_one_teacher(builds):
    start = threading.Barrier(4)
    found = []

    def ask():
        start.wait()
        found.append(load_teacher(tiny_vit(), CPU))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == len(builds) == 1


def test_a_teacher_that_is_slow_to_come_holds_up_no_other(monkeypatch):
    asked, arrived = threading.Event(), threading.Event()
    ready = load_teacher(tiny_vit(), CPU)

    check = _loading._check_requirements

    def slow(spec):
        if spec.name == "slow":
            asked.set()
            arrived.wait(60)
        check(spec)

    monkeypatch.setattr(_loading, "_check_requirements", slow)
    late = tiny_convolution("slow", dim=7)
    thread = threading.Thread(target=load_teacher, args=(late, CPU))
    thread.start()
    try:
        assert asked.wait(60)
        others = []
        beside = threading.Thread(
            target=lambda: others.extend(
                load_teacher(spec, CPU) for spec in (tiny_vit(), tiny_convolution())
            )
        )
        beside.start()
        beside.join(30)
        assert [others[0] is ready, len(others)] == [True, 2]
    finally:
        arrived.set()
        thread.join()
    assert load_teacher(late, CPU).dim == 7


def test_a_build_may_load_a_teacher_that_another_thread_is_loading(monkeypatch):
    inner, inside, begun = tiny_vit(), threading.Event(), threading.Event()
    found, check = [], _loading._check_requirements

    def build():
        inside.set()
        begun.wait(60)
        found.append(load_teacher(inner, CPU))
        return TinyConvolution(3)

    build.__fingerprint__ = "outer/1"

    def noticed(spec):
        if spec.name == inner.name:
            begun.set()
        check(spec)

    monkeypatch.setattr(_loading, "_check_requirements", noticed)
    outer = tiny_convolution("outer", dim=3, build=build)
    first = threading.Thread(target=load_teacher, args=(outer, CPU), daemon=True)
    first.start()
    assert inside.wait(60)
    second = threading.Thread(target=load_teacher, args=(inner, CPU), daemon=True)
    second.start()
    for thread in (first, second):
        thread.join(60)
        assert not thread.is_alive()
    assert load_teacher(inner, CPU) is found[0]


def test_unloaded_teachers_are_built_again(builds):
    before = features_of(tiny_vit())
    unload_teachers()
    np.testing.assert_array_equal(features_of(tiny_vit()), before)
    assert len(builds) == 2


def test_a_failed_load_is_not_remembered(tmp_path):
    spec = tiny_vit(weights=tmp_path / "late.pt")
    with pytest.raises(TeacherLoadingError):
        load_teacher(spec, CPU)
    torch.save(tiny_state(), tmp_path / "late.pt")
    assert load_teacher(spec, CPU).dim == 24


def test_new_weights_in_the_same_file_are_loaded(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(tiny_state(1), file)
    before = features_of(tiny_vit(weights=file))
    save_file(tiny_state(2), file)
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert np.abs(features_of(tiny_vit(weights=file)) - before).max() > 0.01


# --- random weights ----------------------------------------------------------------


def test_random_weights_are_the_same_in_another_process():
    program = (
        "import json\n"
        "from skshazam.teachers import load_teacher\n"
        "from tests.tiny_teachers import tiny_convolution, tiny_vit\n"
        "specs = [tiny_vit(), tiny_convolution()]\n"
        "weights = [load_teacher(spec, 'cpu').module.state_dict() for spec in specs]\n"
        "print(json.dumps([{k: v.tolist() for k, v in w.items()} for w in weights]))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    torch.manual_seed(987)
    for make, elsewhere in zip(
        (tiny_vit, tiny_convolution), json.loads(printed), strict=True
    ):
        weights = load_teacher(make(), CPU).module.state_dict()
        assert weights.keys() == elsewhere.keys()
        assert max(value.std() for value in weights.values()) > 0.01
        for key, value in weights.items():
            assert torch.equal(value, torch.tensor(elsewhere[key]))


def test_loading_leaves_the_global_generator_as_it_was():
    before = torch.random.get_rng_state()
    load_teacher(tiny_vit(), CPU)
    load_teacher(tiny_convolution(), CPU)
    assert torch.equal(torch.random.get_rng_state(), before)


# --- local files -------------------------------------------------------------------

WRITERS = {
    "safetensors": ("m.safetensors", save_file),
    "pt": ("m.pt", torch.save),
    "pth": ("m.pth", torch.save),
    "bin": ("pytorch_model.bin", torch.save),
    "legacy format": (
        "m.pt",
        lambda state, file: torch.save(
            state, file, _use_new_zipfile_serialization=False
        ),
    ),
    "state_dict": (
        "m.pt",
        lambda s, file: torch.save({"state_dict": s, "epoch": 3}, file),
    ),
    "model": ("m.pt", lambda s, file: torch.save({"model": s}, file)),
    "half precision": ("m.safetensors", save_file),
}


@pytest.mark.parametrize("given_as", ["file", "folder", "text"])
@pytest.mark.parametrize("kind", WRITERS)
def test_weights_of_every_kind_of_file_give_the_same_features(tmp_path, kind, given_as):
    state = tiny_state()
    if kind == "half precision":
        state = {key: value.half() for key, value in state.items()}
    reference = timm.create_model("vit_tiny_patch16_224", num_classes=0, **TINY_VIT)
    reference.load_state_dict(state)
    name, write = WRITERS[kind]
    file = tmp_path / name
    write(state, file)
    weights = {"file": file, "folder": tmp_path, "text": str(file)}[given_as]
    teacher = load_teacher(tiny_vit(weights=weights), CPU)
    for key, value in reference.state_dict().items():
        assert torch.equal(teacher.module.state_dict()[key], value)
        assert teacher.module.state_dict()[key].dtype == torch.float32


def test_weights_for_a_module_of_ones_own_are_loaded_too(tmp_path):
    torch.manual_seed(5)
    source = TinyConvolution(10)
    save_file(source.state_dict(), tmp_path / "own.safetensors")
    teacher = load_teacher(tiny_convolution(weights=tmp_path / "own.safetensors"), CPU)
    assert torch.equal(teacher.module.convolution.weight, source.convolution.weight)


class TransformersLike(nn.Module):
    """A module of one's own whose keys look like those of transformers."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.cls_token = nn.Parameter(torch.ones(4))
        self.pooler = nn.Linear(3, 4)

    def forward(self, images):
        return self.pooler(images.mean((2, 3))) + self.embeddings.cls_token


def test_the_keys_of_a_module_of_ones_own_are_not_renamed(tmp_path):
    torch.save(TransformersLike().state_dict(), tmp_path / "own.pt")
    spec = tiny_convolution(build=TransformersLike, dim=4, weights=tmp_path / "own.pt")
    assert load_teacher(spec, CPU).dim == 4


def test_the_classifier_of_a_timm_checkpoint_is_left_out(tmp_path):
    state = tiny_state(num_classes=7)
    assert "head.weight" in state
    torch.save(state, tmp_path / "with_head.pt")
    teacher = load_teacher(tiny_vit(weights=tmp_path / "with_head.pt"), CPU)
    assert teacher.dim == 24
    assert torch.equal(teacher.module.state_dict()["norm.weight"], state["norm.weight"])


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


# changes to a fitting state dict -> what the message says
MISFITS = {
    "missing": (
        lambda s: without(s, "cls_token"),
        ["1 key missing from the file: cls_token"],
    ),
    "unknown": (
        lambda s: {**s, "fc.weight": torch.zeros(2)},
        ["1 key unknown to the architecture: fc.weight"],
    ),
    "of another shape": (
        lambda s: {**s, "norm.bias": torch.zeros(25)},
        ["1 key of another shape: norm.bias (25,) instead of (24,)"],
    ),
    "all three": (
        lambda s: {
            **without(s, "cls_token"),
            "head_dist.bias": torch.zeros(1),
            "norm.bias": torch.zeros(5),
        },
        [
            "missing",
            "cls_token",
            "unknown",
            "head_dist.bias",
            "shape",
            "norm.bias (5,)",
        ],
    ),
    "another network": (
        lambda s: {f"layer{i}.weight": torch.zeros(1) for i in range(5)},
        [
            "5 keys unknown to the architecture: layer0.weight, layer1.weight, "
            "layer2.weight, ...",
            "keys missing from the file: blocks.0.attn.proj.bias, "
            "blocks.0.attn.proj.weight, blocks.0.attn.qkv.bias, ...",
        ],
    ),
    "empty": (lambda s: {}, ["keys missing"]),
}


@pytest.mark.parametrize(("change", "said"), MISFITS.values(), ids=MISFITS)
def test_weights_that_do_not_fit_are_refused_with_the_first_keys(
    tmp_path, change, said
):
    file = tmp_path / "misfit.pt"
    torch.save(change(tiny_state()), file)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_teacher(tiny_vit(weights=file), CPU)
    message = str(caught.value)
    for part in ["'tiny-vit'", "misfit.pt", "vit_tiny_patch16_224", *said]:
        assert part in message
    assert message.splitlines()[1:] == [
        "1. Check architecture and architecture_kwargs.",
        "2. Or another file? Pass weights={'tiny-vit': '/path/to/file'}.",
    ]


def test_a_classifier_is_not_dropped_from_a_module_of_ones_own(tmp_path):
    state = {**TinyConvolution(10).state_dict(), "head.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "own.pt")
    with pytest.raises(CheckpointMismatchError, match=r"unknown.*head\.weight"):
        load_teacher(tiny_convolution(weights=tmp_path / "own.pt"), CPU)


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("place", ["alone", "inside a state dict"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, place):
    proof = tmp_path / "code_was_run"
    payload = Payload(proof)
    content = payload if place == "alone" else {**tiny_state(), "extra": payload}
    torch.save(content, tmp_path / "evil.pt")
    with pytest.raises(TeacherLoadingError, match=r"evil\.pt.*could run code"):
        load_teacher(tiny_vit(weights=tmp_path / "evil.pt"), CPU)
    assert not proof.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert proof.exists()  # The same file, trusted, runs its code.


def test_a_whole_pickled_module_is_refused_with_the_way_out(tmp_path):
    torch.save(TinyConvolution(10), tmp_path / "module.pt")
    with pytest.raises(TeacherLoadingError, match=r"module\.state_dict\(\)"):
        load_teacher(tiny_convolution(weights=tmp_path / "module.pt"), CPU)


def shortened(path, fraction=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])


def no_checkpoint(kind, folder):
    """Write a file that is none and return its path."""
    file = folder / ("bad.safetensors" if "safetensors" in kind else "bad.pt")
    if kind.startswith("truncated"):
        WRITERS[kind.removeprefix("truncated ")][1](tiny_state(), file)
        shortened(file)
    else:
        content = {"empty": b"", "text": b"<html>404</html>\n", "short": b"\x80"}
        file.write_bytes(content[kind.partition(" ")[0]])
    return file


@pytest.mark.parametrize(
    "kind",
    [
        "truncated pt",
        "truncated legacy format",
        "truncated safetensors",
        "empty pt",
        "empty safetensors",
        "text pt",
        "text safetensors",
        "short pt",
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, kind):
    file = no_checkpoint(kind, tmp_path)
    with pytest.raises(TeacherLoadingError, match=r"'tiny-vit'.*bad\.") as caught:
        load_teacher(tiny_vit(weights=file), CPU)
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ([1, 2], "list"),
        (torch.zeros(3), "Tensor"),
        ({"epoch": 3}, "dict"),
        ({"weights": {"a": torch.zeros(1)}}, "dict"),
        ({0: torch.zeros(1)}, "dict"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content, held):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(TeacherLoadingError, match=f"holds {held}, not a state dict"):
        load_teacher(tiny_vit(weights=tmp_path / "other.pt"), CPU)


@pytest.mark.parametrize("kind", ["pt", "legacy format", "safetensors"])
@settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=5
    )
)
def test_a_damaged_checkpoint_raises_nothing_but_a_loading_error(tmp_path, kind, edits):
    file = tmp_path / WRITERS[kind][0]
    WRITERS[kind][1]({"a": torch.ones(2), "b": torch.zeros(1, 2)}, file)
    content = bytearray(file.read_bytes())
    for position, value in edits:
        content[position % len(content)] = value
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            state = read_state(file, tiny_vit())
        except TeacherLoadingError:
            return
    assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.mark.parametrize("weights", ["no/such/file.pt", "nowhere"])
def test_missing_weights_are_named_with_the_folder_searched(weights):
    with pytest.raises(TeacherLoadingError) as caught:
        load_teacher(tiny_vit(weights=weights), CPU)
    assert repr(weights) in str(caught.value)
    assert str(Path.cwd()) in str(caught.value)
    assert "hf-hub:" in str(caught.value)


def test_a_folder_with_two_checkpoints_is_refused(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch.save(tiny_state(), tmp_path / name)
    with pytest.raises(TeacherSpecError, match=r"a\.pt.*b\.pt"):
        load_teacher(tiny_vit(weights=tmp_path), CPU)


# --- architectures and modules -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("vit_tiny_patch16_244", "vit_tiny_patch16_224"),
        ("resnet_18", "resnet18"),
        ("vit_large_patch16", "vit_large_patch16_224"),
    ],
)
def test_an_unknown_architecture_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(TeacherSpecError, match=f"{name!r}.*Nearest:.*{nearest}"):
        load_teacher(TeacherSpec("mine", architecture=name, weights="random"), CPU)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"no_such_option": 3}, "no_such_option"),
        ({"num_heads": 5}, "num_heads"),
        ({"num_heads": 0}, "num_heads"),
        ({"embed_dim": -2}, "embed_dim"),
        ({"depth": "two"}, "depth"),
        ({"act_layer": "torch.nn.NoSuchLayer"}, "NoSuchLayer"),
        ({"act_layer": "torch.nowhere.GELU"}, "torch.nowhere"),
        ({"mlp_layer": "timm.layers.NoSuchLayer"}, "NoSuchLayer"),
    ],
)
def test_arguments_that_timm_refuses_are_shown(arguments, named):
    spec = tiny_vit(architecture_kwargs={**TINY_VIT, **arguments})
    with pytest.raises(TeacherSpecError, match=f"'tiny-vit'.*{named}"):
        load_teacher(spec, CPU)


def test_dotted_names_of_torch_and_timm_are_imported():
    spec = tiny_vit(
        architecture_kwargs={
            **TINY_VIT,
            "act_layer": "torch.nn.SiLU",
            "mlp_layer": "timm.layers.SwiGLUPacked",
        }
    )
    perceptron = load_teacher(spec, CPU).module.blocks[0].mlp
    assert isinstance(perceptron, timm.layers.GluMlp)
    assert isinstance(perceptron.act, nn.SiLU)


def test_a_build_that_returns_no_module_is_refused():
    with pytest.raises(TeacherOutputError, match=r"'x'.*build\(\) returned dict"):
        load_teacher(TeacherSpec("x", build=dict), CPU)


@pytest.mark.parametrize(
    "spec",
    [tiny_vit(dim=25), tiny_convolution(build=lambda: TinyConvolution(24), dim=25)],
)
def test_another_dim_than_the_spec_promises_is_refused(spec):
    with pytest.raises(
        TeacherOutputError, match=r"(?s)\(1, 24\).*\(1, 25\).*1\. Set dim=24"
    ):
        load_teacher(spec, CPU)


class Misbehaving(nn.Module):
    """A network that fails in one of several ways."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, images):
        if self.kind == "raises":
            raise IndexError("no such layer")
        if self.kind == "two rows":
            return torch.zeros(2, 3)
        return images.mean((2, 3)) * float(self.kind)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("nan", "non-finite"),
        ("inf", "non-finite"),
        ("raises", r"\(24, 24\) image: IndexError: no such layer"),
        ("two rows", r"shape \(2, 3\)"),
    ],
)
def test_a_network_that_misbehaves_is_named_when_it_is_loaded(kind, named):
    spec = TeacherSpec("odd", build=lambda: Misbehaving(kind), size=24)
    with pytest.raises(TeacherOutputError, match=f"'odd'.*{named}"):
        load_teacher(spec, CPU)


def test_an_input_size_that_the_network_refuses_is_shown():
    with pytest.raises(TeacherOutputError, match=r"(?s)\(48, 48\).*1\. Check size="):
        load_teacher(tiny_vit(size=48), CPU)


def test_an_unknown_device_is_refused_before_anything_is_built(builds):
    with pytest.raises(ValueError, match="'gpu' is not a torch device"):
        load_teacher(tiny_vit(), "gpu")
    assert builds == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_holds_one_copy_and_agrees_with_the_cpu(tiles):
    on_gpu = load_teacher(tiny_vit(), "cuda")
    assert load_teacher(tiny_vit(), "auto") is on_gpu
    assert load_teacher(tiny_vit(), "cuda:0") is on_gpu
    exact, half = on_gpu(tiles).cpu(), on_gpu(tiles, torch.float16).cpu()
    expected = load_teacher(tiny_vit(), CPU)(tiles)
    cosine = nn.functional.cosine_similarity
    assert cosine(exact, expected).min() > 0.9999
    assert cosine(half, expected).min() > 0.999


SHARED = TinyConvolution(4)


def shared_network():
    return SHARED


def test_teachers_that_build_one_module_do_not_overwrite_each_other(tmp_path):
    pixels = [np.full((24, 24, 3), 200, dtype=np.uint8)]
    features = {}
    for name in ("a", "b"):
        torch.manual_seed(ord(name))
        torch.save(TinyConvolution(4).state_dict(), tmp_path / f"{name}.pt")
    specs = [
        tiny_convolution(n, dim=4, build=shared_network, weights=tmp_path / f"{n}.pt")
        for n in ("a", "b")
    ]
    for spec in specs:
        unload_teachers()
        features[spec.name] = load_teacher(spec, CPU)(pixels)
    unload_teachers()
    loaded = [load_teacher(spec, CPU) for spec in specs]
    for spec, teacher in zip(specs, loaded, strict=True):
        assert torch.equal(teacher(pixels), features[spec.name])
    assert not torch.equal(features["a"], features["b"])
    assert SHARED.training
    assert all(parameter.requires_grad for parameter in SHARED.parameters())


@pytest.mark.parametrize(
    "build", [lambda: 1 / 0, lambda needed: needed, lambda: torch.nn.Linear(-1, 2)]
)
def test_a_build_that_fails_is_a_typed_error(build):
    with pytest.raises(TeacherSpecError, match=r"'x': build\(\) raised"):
        load_teacher(TeacherSpec("x", build=build), CPU)
