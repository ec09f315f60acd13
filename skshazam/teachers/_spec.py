"""TeacherSpec: every fact about one teacher that changes its vector, as data.

Nothing is built or downloaded here; a fingerprint reads local weights.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from skshazam.exceptions import TeacherSpecError
from skshazam.teachers._checkpoints import CHECKPOINT_VERSION
from skshazam.teachers._fingerprint import digest_of, digest_of_file
from skshazam.teachers._frozen_mapping import FrozenMapping
from skshazam.teachers._pooling import POOLING_VERSION

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "TeacherSpec"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DTYPES = ("float32", "float16", "bfloat16")
INTERPOLATIONS = ("bicubic", "bilinear")
POOLINGS = ("model", "cls", "mean", "cls+mean")

# No "__", which separates teacher and column in feature names, and no "@", which
# separates name and revision.
_NAME = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")

# Facts for people; they do not change the vector.
_NOT_IN_FINGERPRINT = {
    "name",
    "licence",
    "gated",
    "source",
    "requires",
    "unverified",
}


@dataclass(frozen=True)
class TeacherSpec:
    """Facts of one teacher: which network, which weights, which preprocessing.

    Parameters
    ----------
    name : str
        Short name, unique among the teachers used together; the prefix of its feature
        columns. Letters, digits, and single ``.``, ``_`` or ``-`` between them.
    architecture : str, default=None
        A timm model name, or "hf-hub:owner/repository". Give either this or `build`.
    architecture_kwargs : dict, default={}
        Arguments for timm's ``create_model`` beyond ``num_classes=0``. A string that
        starts with "timm." or "torch." is imported, so that
        ``{"act_layer": "torch.nn.SiLU"}`` stays plain data; so does an argument bound
        beforehand, ``{"norm_layer": {"partial": "torch.nn.LayerNorm", "eps": 1e-12}}``.
    build : callable, default=None
        Called without arguments, returns the teacher as a ``torch.nn.Module`` that maps
        a float32 batch (n, 3, height, width) to features. Use a module-level function,
        a class or a ``functools.partial`` of one, so that it can be pickled. If the
        module has a method ``adapt_checkpoint(state)``, that renames the keys of the
        weights' state dict before these are loaded.
    weights : str or path-like, default=None
        A .safetensors or PyTorch file, a folder that holds one, or a file on the Hub as
        "hf-hub:owner/repository/file"; "model.safetensors" stands also for the
        "pytorch_model.bin" of a repository that lacks it. None means the weights that
        come with the architecture (timm's pretrained ones) or that `build` put in
        place; "random" means none at all, from a fixed seed, for controls and tests.
    revision : str, default=None
        Branch, tag or commit for weights on the Hub. A commit pins them.
    dim : int, default=None
        Length of the feature vector, checked by a dry forward pass when the teacher is
        loaded. None means whatever the teacher returns; then fitting a transformer has
        to load the teacher to learn it.
    pooling : {"model", "cls", "mean", "cls+mean"}, default="model"
        Which tokens become the vector: what the model returns without its classifier;
        the class token; the mean of the patch tokens, registers left out (of a feature
        map: of all positions); or the first two side by side.
    size : int or tuple of (int, int), default=224
        Height and width of the network's input, in pixels.
    resize : int, default=None
        Shorter side, in pixels, before the centre crop. None means that of `size`.
    crop : bool, default=True
        Keep the aspect ratio and crop the centre. False squashes the image to `size`.
    interpolation : {"bicubic", "bilinear"}, default="bicubic"
        Resizing filter, antialiased.
    mean : tuple of 3 float, default=(0.485, 0.456, 0.406)
        Subtracted from RGB values in 0..1. The default is that of ImageNet.
    std : tuple of 3 float, default=(0.229, 0.224, 0.225)
        Divides RGB values after the mean is subtracted.
    dtype : {"float32", "float16", "bfloat16"}, default="float32"
        Autocast dtype on a GPU.
    licence : str, default=None
        Licence of the weights.
    gated : bool, default=False
        Whether the Hub asks to accept terms before it hands out the weights.
    source : str, default=None
        URL of the model card or paper these facts are from.
    requires : str, default=None
        What a user has to add before this teacher can run, as a sentence: a package
        that skshazam does not use, or a file that is not on the Hub. Such a spec may
        lack both `architecture` and `build`; loading it says what is missing.
    unverified : tuple of str, default=()
        Facts above, by field name or short phrase, that sources disagree on or that
        were not checked against the published weights.

    Raises
    ------
    TeacherSpecError
        A field holds a value that no teacher can have.

    See Also
    --------
    skshazam.teachers.register_teacher : Make a spec available by its name.

    Notes
    -----
    A spec is frozen and hashable. ``dataclasses.replace(spec, ...)`` makes a variant.

    Examples
    --------
    >>> from skshazam import TeacherSpec
    >>> spec = TeacherSpec("tiny", architecture="vit_tiny_patch16_224", dim=192,
    ...                    weights="random")
    >>> len(spec.fingerprint())
    64
    """

    name: str
    architecture: str | None = None
    architecture_kwargs: Mapping[str, Any] = field(default_factory=FrozenMapping)
    build: Callable | None = None
    weights: str | None = None
    revision: str | None = None
    dim: int | None = None
    pooling: str = "model"
    size: int | tuple[int, int] = 224
    resize: int | None = None
    crop: bool = True
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    dtype: str = "float32"
    licence: str | None = None
    gated: bool = False
    source: str | None = None
    requires: str | None = None
    unverified: tuple[str, ...] = ()

    def __post_init__(self):
        """Normalise the containers and check every field."""
        self._check_identity()
        self._check_weights()
        self._check_output()
        self._check_geometry()
        self._check_colour()
        self._check_remarks()

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def fingerprint(self) -> str:
        """Return a digest of everything that changes the vector.

        Returns
        -------
        digest : str
            64 hexadecimal digits. Two specs share it exactly when they differ in
            facts for people: name, licence, gate, source, what is required or
            unverified. Local weights count by content, wherever they lie; Hub weights
            by name and revision. So do the versions of the code that renames a
            checkpoint's keys and that pools. `build` counts by bytecode, arguments and
            captured values, so that another Python version may see another digest,
            unless it declares an identity, ``__fingerprint__ = "mine/1"``: then that
            text counts instead, and is to be changed whenever the vector changes.
        """
        facts = {
            name: getattr(self, name)
            for name in sorted(self.__dataclass_fields__)
            if name not in _NOT_IN_FINGERPRINT
        }
        facts["size"] = self.input_size
        facts["versions"] = (CHECKPOINT_VERSION, POOLING_VERSION)
        if self.requires is not None and self.weights is None:
            # No vector yet; what is missing tells such rows apart.
            facts["requires"] = self.requires
        if self.build is not None:
            facts["build"] = digest_of(self.build, follow_paths=True)
        if self.weights is not None:
            path = Path(self.weights).expanduser()
            if path.is_file():
                facts["weights"] = digest_of_file(path)
            elif path.is_dir():
                facts["weights"] = digest_of_file(find_weights_file(path, self.name))
        configuration = find_configuration(self)
        if configuration is not None:
            facts["configuration"] = digest_of_file(configuration)
        return digest_of(facts)

    def _set(self, name: str, value) -> None:
        object.__setattr__(self, name, value)

    def _refuse(self, name: str, expected: str) -> None:
        raise TeacherSpecError(
            f"TeacherSpec({self.name!r}): {name}={getattr(self, name)!r}; "
            f"expected {expected}."
        )

    def _check_identity(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            self._refuse(
                "name", "letters and digits, with single '.', '_' or '-' between them"
            )
        n_networks = (self.architecture is not None) + (self.build is not None)
        if n_networks == 2 or (n_networks == 0 and self.requires is None):
            raise TeacherSpecError(
                f"TeacherSpec({self.name!r}): give either architecture= (a timm name) "
                f"or build= (a callable that returns a torch.nn.Module), not "
                f"{'both' if self.build else 'neither'}."
            )
        if self.architecture is not None and not _is_text(self.architecture):
            self._refuse("architecture", "a timm model name or 'hf-hub:owner/repo'")
        # A module instance is callable too, but expects images.
        is_instance = hasattr(self.build, "state_dict") and not isinstance(
            self.build, type
        )
        if self.build is not None and (not callable(self.build) or is_instance):
            self._refuse(
                "build",
                "a callable without arguments that returns the module, for example "
                "build=functools.partial(MyNetwork, 64)",
            )
        if not isinstance(self.architecture_kwargs, Mapping):
            self._refuse("architecture_kwargs", "a dict of arguments by name")
        self._set("architecture_kwargs", FrozenMapping(self.architecture_kwargs))
        if self.build is not None and self.architecture_kwargs:
            self._refuse(
                "architecture_kwargs",
                "none beside build=; bind arguments with functools.partial",
            )

    def _check_weights(self) -> None:
        if isinstance(self.weights, os.PathLike):
            self._set("weights", os.fspath(self.weights))
        if self.weights is not None and not _is_text(self.weights):
            self._refuse(
                "weights",
                "a file, a folder, 'hf-hub:owner/repo/file', 'random' or None",
            )
        if self.revision is not None and not _is_text(self.revision):
            self._refuse("revision", "a branch, tag or commit of the Hub, or None")
        if self.revision is not None and not self._is_on_the_hub():
            self._refuse("revision", "None, because nothing of it is on the Hub")

    def _check_remarks(self) -> None:
        for name in ("licence", "source"):
            if not isinstance(getattr(self, name), str | None):
                self._refuse(name, "a text or None")
        if self.requires is not None and not _is_text(self.requires):
            self._refuse("requires", "a sentence that says what to add, or None")
        if not isinstance(self.gated, bool):
            self._refuse("gated", "True or False")
        if isinstance(self.unverified, list | tuple):
            self._set("unverified", tuple(self.unverified))
        if not isinstance(self.unverified, tuple) or not all(
            map(_is_text, self.unverified)
        ):
            self._refuse("unverified", "a tuple of texts, one a fact")

    def _is_on_the_hub(self) -> bool:
        """Return whether weights come from the Hub, where revisions exist."""
        if self.weights is not None:
            return self.weights.startswith("hf-hub:")
        return self.architecture is not None

    def _check_output(self) -> None:
        if self.dim is not None and not _is_count(self.dim):
            self._refuse("dim", "a positive integer or None")
        if self.dim is not None:
            self._set("dim", int(self.dim))
        if self.pooling not in POOLINGS:
            self._refuse("pooling", f"one of {POOLINGS}")
        if self.dtype not in DTYPES:
            self._refuse("dtype", f"one of {DTYPES}")

    def _check_geometry(self) -> None:
        if isinstance(self.size, list | tuple):
            self._set("size", tuple(self.size))
        sides = self.size if isinstance(self.size, tuple) else (self.size,) * 2
        if len(sides) != 2 or not all(map(_is_count, sides)):
            self._refuse("size", "a positive integer or a (height, width) pair")
        pair = tuple(map(int, sides))
        self._set("size", pair if isinstance(self.size, tuple) else pair[0])
        if not isinstance(self.crop, bool):
            self._refuse("crop", "True or False")
        if self.resize is not None:
            if not _is_count(self.resize):
                self._refuse("resize", "a positive integer or None")
            if not self.crop:
                self._refuse("resize", "None, because crop=False squashes to size")
            if self.resize < max(sides):
                self._refuse("resize", f"at least the crop, {max(sides)} pixels")
        if self.interpolation not in INTERPOLATIONS:
            self._refuse("interpolation", f"one of {INTERPOLATIONS}")

    def _check_colour(self) -> None:
        for name in ("mean", "std"):
            try:
                channels = tuple(float(value) for value in getattr(self, name))
            except (TypeError, ValueError):
                channels = ()
            if len(channels) != 3 or not all(abs(value) < 10 for value in channels):
                self._refuse(
                    name, "three numbers on the scale 0..1, for red, green and blue"
                )
            self._set(name, channels)
        if min(self.std) <= 0:
            self._refuse("std", "three positive numbers")


def find_configuration(spec: TeacherSpec) -> Path | None:
    """Return the config.json beside local weights, of an architecture on the Hub.

    Parameters
    ----------
    spec : TeacherSpec
        Any teacher.

    Returns
    -------
    file : Path or None
        None if there is none, or the architecture needs none.
    """
    is_local = spec.weights not in (None, "random") and not spec._is_on_the_hub()
    if not is_local or not (spec.architecture or "").startswith("hf-hub:"):
        return None
    path = Path(spec.weights).expanduser()
    file = (path if path.is_dir() else path.parent) / "config.json"
    return file if file.is_file() else None


def find_weights_file(folder: Path, name: str) -> Path:
    """Return the checkpoint in a folder, safetensors first.

    Parameters
    ----------
    folder : Path
        A folder as the Hub lays it out.
    name : str
        The teacher it is for, named in errors.

    Returns
    -------
    file : Path
        The only checkpoint of its kind.

    Raises
    ------
    TeacherSpecError
        There is none, or more than one that it could be.
    """
    for patterns in (("*.safetensors",), ("*.bin", "*.pt", "*.pth", "*.torch")):
        found = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise TeacherSpecError(
                f"Teacher {name!r}: the folder {str(folder)!r} holds {len(found)} "
                f"checkpoints: {[path.name for path in found[:5]]}. Pass the file "
                "itself as weights."
            )
    raise TeacherSpecError(
        f"Teacher {name!r}: the folder {str(folder)!r} holds no .safetensors, .bin, "
        ".pt, .pth or .torch file. Pass the checkpoint itself as weights."
    )


def _is_text(value) -> bool:
    """Return whether ``value`` is a string that says something."""
    return isinstance(value, str) and bool(value)


def _is_count(value) -> bool:
    """Return whether ``value`` is a positive integer, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and value > 0
