"""Kill extractions at random moments, and look at what they leave.

The tests do this a few times; by hand, for longer::

    python -m tests.survival --kills 200
"""

import argparse
import hashlib
import os
import signal
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch

from skshazam import TeacherFeatureTransformer, TeacherSpec
from skshazam.exceptions import SkshazamError
from skshazam.features import FeatureStore, extract_to_store, read_features
from tests.tiny_teachers import TinyConvolution

BATCH = 8
DIM = 6


class Reporting(TinyConvolution):
    """A slow network that appends a line to a file for each image it sees."""

    # A fingerprint counts arguments that are files by their content, so that the file
    # itself must not be one.
    def __init__(self, folder, name):
        super().__init__(DIM)
        self.log = f"{folder}/{name}.log"

    def forward(self, images):
        lines = [hashlib.sha256(image.numpy()).hexdigest() for image in images]
        with Path(self.log).open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
        time.sleep(0.002)
        return super().forward(images)


def teachers_that_report(folder):
    """Return two teachers, and the files they report to."""
    sizes = {"first": 16, "second": 24}
    specs = [
        TeacherSpec(
            name, build=partial(Reporting, str(folder), name), dim=DIM, size=size
        )
        for name, size in sizes.items()
    ]
    return specs, [folder / f"{name}.log" for name in sizes]


def make_images(n_images):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(n_images)]


def fork(function):
    """Run a function in a child process; return its id."""
    with warnings.catch_warnings():
        # Newer Pythons warn of threads in the parent; torch's are idle here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        function()
        code = 0
    except SkshazamError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(code)


def extract(images, specs, path):
    extract_to_store(images, specs, FeatureStore(path), device="cpu", batch_size=BATCH)


def n_repeated(log):
    """Return how many images a teacher saw again; not its trial run on a black one."""
    counts = Counter(log.read_text().split())
    return sum(counts.values()) - len(counts) - (max(counts.values()) - 1)


def expected_features(images):
    """Return the true features, computed without a store."""
    with tempfile.TemporaryDirectory() as folder:
        specs, _ = teachers_that_report(Path(folder))
        return TeacherFeatureTransformer(specs, device="cpu").fit_transform(images)


def n_wrong_rows(images, specs, path, expected):
    """Return how many stored rows differ from the truth, and how many were missing."""
    extraction = extract_to_store(images, specs, FeatureStore(path), device="cpu")
    features = read_features(extraction.digests, specs, FeatureStore(path))
    near = np.isclose(features, expected, rtol=2**-10, atol=1e-5)
    return int((~near.all(axis=1)).sum()), extraction.n_computed


def killed_until_done(images, specs, path, rng, n_kills):
    """Start extractions, kill them at random moments; return kills and exits."""
    kills, exits = 0, []
    while True:
        child = fork(partial(extract, images, specs, path))
        if kills < n_kills:
            time.sleep(rng.uniform(0.005, 0.15))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            continue
        exits.append(os.WEXITSTATUS(status))
        return kills, exits


def run_together(images, specs, path, n_writers):
    """Run several extractions of the same images at once; return their exits."""
    children = [fork(partial(extract, images, specs, path)) for _ in range(n_writers)]
    return [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--writers", type=int, default=4)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rng = np.random.default_rng(int(time.time()))
    images = make_images(options.images)
    kills = stores = again = most_again = wrong = 0
    started = time.monotonic()
    while kills < options.kills:
        with tempfile.TemporaryDirectory() as folder:
            specs, logs = teachers_that_report(Path(folder))
            expected = expected_features(images)
            path = Path(folder) / "store"
            n, exits = killed_until_done(
                images, specs, path, rng, min(40, options.kills - kills)
            )
            n_wrong, n_missing = n_wrong_rows(images, specs, path, expected)
            repeated = max(map(n_repeated, logs))
            kills, stores, wrong = kills + n, stores + 1, wrong + n_wrong + n_missing
            again, most_again = again + repeated, max(most_again, repeated / max(n, 1))
            print(f"{n} kills, exits {exits}: {repeated} images computed again")
    print(
        f"{kills} kills in {stores} stores of {options.images} images, "
        f"{time.monotonic() - started:.0f} s: {wrong} wrong or missing rows; "
        f"{again / kills:.1f} images a kill computed again (at most {most_again:.1f} "
        f"in a store; a batch is {BATCH})"
    )
    with tempfile.TemporaryDirectory() as folder:
        specs, logs = teachers_that_report(Path(folder))
        expected = expected_features(images)
        path = Path(folder) / "store"
        exits = run_together(images, specs, path, options.writers)
        n_wrong, n_missing = n_wrong_rows(images, specs, path, expected)
        print(
            f"{options.writers} writers at once, exits {exits}: {n_wrong + n_missing} "
            f"wrong or missing rows, {max(map(n_repeated, logs))} of {len(images)} "
            "images computed by more than one"
        )


if __name__ == "__main__":
    main()
