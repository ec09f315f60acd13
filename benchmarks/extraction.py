"""How much of the teachers' own speed an extraction keeps, and what a store saves.

Run by hand: ``python benchmarks/extraction.py [--tiles FOLDER]``. FOLDER holds tiles as
JPEG or PNG; without it, synthetic 224 x 224 JPEGs are drawn. Every line is a ratio of
two ways that take turns in this one process; medians of repeats. With a GPU, networks
of the shapes of ViT-L (UNI) and ViT-g (GigaPath) join, from random weights: speed does
not depend on what the weights are.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torchvision import transforms

from skshazam import TeacherFeatureTransformer, TeacherSpec
from skshazam.datasets import make_tissue_tiles
from skshazam.features import FeatureStore, extract_to_store
from skshazam.teachers import load_teacher

CPU_TEACHERS = {
    "vit-small": ("vit_small_patch16_224", {}, 384),
    "vit-tiny": ("vit_tiny_patch16_224", {}, 192),
    "mobilenet-v2": ("mobilenetv2_100", {}, 1280),
    "resnet50": ("resnet50", {}, 2048),
}
GPU_TEACHERS = {
    "vit-large": ("vit_large_patch16_224", {"init_values": 1e-5}, 1024),
    "vit-giant": (
        "vit_giant_patch14_dinov2",
        {
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
        },
        1536,
    ),
}


class Colours(torch.nn.Module):
    """A teacher that costs next to nothing, so that memory is all about the tiles."""

    def forward(self, images):
        """Return features (n, 3) of images (n, 3, height, width)."""
        return images.mean(dim=(2, 3))


def specs_of(teachers) -> list[TeacherSpec]:
    """Return teachers with random weights."""
    return [
        TeacherSpec(
            name,
            architecture=architecture,
            architecture_kwargs=arguments,
            weights="random",
            dim=dim,
            dtype="float16",
        )
        for name, (architecture, arguments, dim) in teachers.items()
    ]


def medians(ways, repeats):
    """Return the median seconds of each way; they take turns, so noise is shared."""
    spent = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            spent[name].append(time.perf_counter() - start)
    return {name: float(np.median(seconds)) for name, seconds in spent.items()}


def half_on_a_gpu(device):
    """Return the autocast context in which teachers run there."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    return torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32)


def forward_only(specs, n_images, batch_size, device):
    """Run networks on tensors in the device's memory; wait once, at the end."""
    for spec in specs:
        module = load_teacher(spec, device).module
        images = torch.zeros(batch_size, 3, *spec.input_size, device=device)
        rows = []
        with torch.inference_mode(), half_on_a_gpu(device):
            for start in range(0, n_images, batch_size):
                rows.append(module(images[: min(batch_size, n_images - start)]))
        torch.cat(rows).float().cpu()


def plain_networks(specs, device):
    """Return timm's networks as a script makes them, before the clock starts."""
    return [
        timm.create_model(spec.architecture, num_classes=0, **spec.architecture_kwargs)
        .eval()
        .to(device)
        for spec in specs
    ]


def plain_loop(paths, specs, modules, batch_size, device):
    """Do what a script does: Pillow, the card's transform, one teacher at a time."""
    for spec, module in zip(specs, modules, strict=True):
        transform = transforms.Compose(
            [
                transforms.Resize(224, transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(spec.mean, spec.std),
            ]
        )
        rows = []
        with torch.inference_mode(), half_on_a_gpu(device):
            for start in range(0, len(paths), batch_size):
                batch = [
                    transform(Image.open(path).convert("RGB"))
                    for path in paths[start : start + batch_size]
                ]
                rows.append(module(torch.stack(batch).to(device)).float().cpu().numpy())
        np.concatenate(rows)


def compare_ways(paths, specs, options, device):
    """Print the table of ways for one set of teachers."""
    transform = partial(
        TeacherFeatureTransformer,
        device=device,
        batch_size=options.batch_size,
        n_jobs=options.threads,
    )
    for spec in specs:
        load_teacher(spec, device)
        load_teacher(spec, device, channels_last=True)
    modules = plain_networks(specs, device)

    def one_pass(**parameters):
        transform(specs, **parameters).fit_transform(paths)

    def cold_store():
        with tempfile.TemporaryDirectory() as folder:
            one_pass(store=folder)

    with tempfile.TemporaryDirectory() as folder:
        one_pass(store=folder)
        seconds = medians(
            {
                "forward only": lambda: forward_only(
                    specs, len(paths), options.batch_size, device
                ),
                "one pass": one_pass,
                "one pass, preprocessing='pil'": lambda: one_pass(preprocessing="pil"),
                "one pass, channels_last": lambda: one_pass(channels_last=True),
                "one pass into a new store": cold_store,
                "from a warm store": lambda: one_pass(store=folder),
                "a pass a teacher": lambda: [
                    transform([spec]).fit_transform(paths) for spec in specs
                ],
                "plain timm and Pillow": lambda: plain_loop(
                    paths, specs, modules, options.batch_size, device
                ),
            },
            options.repeats,
        )
    names = ", ".join(spec.name for spec in specs)
    print(f"\n{len(paths)} tiles, {names}, {device}, batches of {options.batch_size}")
    reference = seconds["forward only"]
    for way, spent in seconds.items():
        print(
            f"  {way:<32} {spent:8.2f} s {len(paths) / spent:9.1f} tiles/s   "
            f"speed {reference / spent:7.3f} of forward only"
        )


def draw_tiles(folder, n_tiles, size=224):
    """Write synthetic tiles as JPEG; return their paths."""
    images = make_tissue_tiles(
        n_patients=-(-n_tiles // 24), tiles_per_patient=24, random_state=0
    ).images[:n_tiles]
    paths = []
    for i, image in enumerate(images):
        paths.append(folder / f"{i:05}.jpg")
        Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC).save(
            paths[-1], quality=80
        )
    return paths


def peak_memory(n_tiles, folder):
    """Print the peak memory of extracting `n_tiles`, in a process of its own."""
    rng = np.random.default_rng(0)
    tiles = folder / "tiles"
    tiles.mkdir(exist_ok=True)
    for i in range(len(list(tiles.iterdir())), n_tiles):
        noise = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        tile = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
        tile.save(tiles / f"{i:06}.jpg", quality=80)
    command = [sys.executable, __file__, "--peak", str(folder), str(n_tiles)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"  {n_tiles:>7} tiles  {result.stdout.strip()}")


def report_peak(folder, n_tiles):
    """Extract, and print how much memory that took on top of what was there."""
    # Texts: a Path remembers what it is asked, which would count as growth.
    paths = sorted(map(str, (folder / "tiles").iterdir()))[:n_tiles]
    spec = TeacherSpec("colours", build=Colours, dim=3)
    warm_up = FeatureStore(folder / f"warm-up-{n_tiles}")
    extract_to_store(paths[:200], [spec], warm_up, device="cpu", n_threads=2)
    before = peak_of_this_process()
    store = FeatureStore(folder / f"store-{n_tiles}")
    start = time.perf_counter()
    extract_to_store(paths, [spec], store, device="cpu", n_threads=2)
    rate = n_tiles / (time.perf_counter() - start)
    print(
        f"peak {peak_of_this_process():7.1f} MB, of which "
        f"{peak_of_this_process() - before:6.1f} MB since the first 200 tiles; "
        f"{rate:.0f} tiles/s"
    )


def peak_of_this_process():
    """Return the peak resident memory so far, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise OSError("this system does not tell VmHWM")


def main():
    """Compare ways on this machine, then measure memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiles", type=Path)
    parser.add_argument("--n-tiles", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 10_000, 50_000])
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        report_peak(Path(options.peak[0]), int(options.peak[1]))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} torch threads")
    with tempfile.TemporaryDirectory() as folder:
        paths = draw_tiles(Path(folder), options.n_tiles)
        if options.tiles:
            found = [p for p in sorted(options.tiles.rglob("*")) if p.is_file()]
            paths = found[:: max(1, len(found) // options.n_tiles)][: options.n_tiles]
        for name in CPU_TEACHERS:
            compare_ways(paths, specs_of({name: CPU_TEACHERS[name]}), options, "cpu")
        compare_ways(paths, specs_of(CPU_TEACHERS), options, "cpu")
        if torch.cuda.is_available():
            for name in GPU_TEACHERS:
                compare_ways(
                    paths, specs_of({name: GPU_TEACHERS[name]}), options, "cuda"
                )
            compare_ways(paths, specs_of(GPU_TEACHERS), options, "cuda")
    print("\nPeak memory, a teacher that costs nothing, into a store:")
    with tempfile.TemporaryDirectory() as folder:
        for n_tiles in options.memory:
            peak_memory(n_tiles, Path(folder))


if __name__ == "__main__":
    main()
