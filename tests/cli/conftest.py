"""Fixtures of the command line's tests."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from skshazam.cli import main


@pytest.fixture
def run():
    """Run one command in this process; returns exit code and output."""
    return lambda *arguments: CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def folder(tmp_path, tiles):
    """A folder of six tiles, two of them one folder down, and what is no tile."""
    root = tmp_path / "tiles"
    (root / "S1, [ä]").mkdir(parents=True)
    names = ["b.png", "a.PNG", "c.tif", "d.png", "S1, [ä]/1.png", "S1, [ä]/2.png"]
    for name, tile in zip(names, tiles, strict=True):
        Image.fromarray(tile).save(root / name)
    (root / "notes.txt").write_text("no tile")
    (root / ".hidden.png").write_bytes(b"no tile")
    return root


@pytest.fixture
def broken(folder):
    """The same folder with two files that are no images."""
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def random_tiles(tmp_path):
    """A function that makes a folder of n different tiles."""

    def make(n):
        root = tmp_path / f"{n}-tiles"
        root.mkdir()
        rng = np.random.default_rng(0)
        for i in range(n):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{i:03}.png")
        return root

    return make
