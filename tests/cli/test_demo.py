"""skshazam demo: what it prints, what it writes, how it fails."""

import json
import re

import pytest
from click.testing import CliRunner
from PIL import Image

from skshazam.benchmark import _demo, run_demo
from skshazam.cli import main


@pytest.fixture(scope="module")
def small_demo():
    """Make the demo take seconds: fewer patients, three epochs, two folds."""
    real = _demo.ShazamClassifier

    def small(folder, **options):
        return run_demo(folder, n_patients=12, tiles_per_patient=24, **options)

    def short(**options):
        return real(**{**options, "max_epochs": 3, "token_dim": 16, "depth": 1})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skshazam.benchmark.run_demo", small)
        patch.setattr(_demo, "ShazamClassifier", short)
        patch.setattr(_demo, "N_SPLITS", 2)
        yield small


@pytest.fixture(scope="module")
def demo_run(small_demo, tmp_path_factory):
    """Exit code, output and folder of one run of the command."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    result = CliRunner().invoke(main, ["demo", "--out", str(folder)])
    return result, folder


def test_demo_says_that_it_is_synthetic_and_names_every_method(demo_run):
    result, _ = demo_run
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC data: 288 tiles, 8 classes, 12 patients" in result.output
    for method in ("stain", "texture", "frequency", "concatenation", "Shazam"):
        assert re.search(rf"{method}.* 0\.\d\d\d .* 0\.\d\d\d to", result.output)


def test_demo_writes_pictures_with_content(demo_run):
    _, folder = demo_run
    for name in ("tiles", "confusion", "methods", "attention"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 300
            assert len(set(picture.convert("L").tobytes())) > 20


def test_demo_reports_its_steps_and_repeats_itself(demo_run, small_demo, tmp_path):
    steps = []
    again = small_demo(tmp_path, random_state=0, on_step=steps.append)
    assert len(steps) == _demo.count_steps()
    records = json.loads((demo_run[1] / "records.json").read_text())
    values = [record["value"] for record in records]
    assert values == [record["value"] for record in again.comparison.records]
    assert len(values) == 5 * 2
    assert max(values) < 1


def test_demo_without_matplotlib_names_the_install_command(run, monkeypatch, tmp_path):
    import importlib

    real = importlib.import_module

    def without_matplotlib(name, *arguments):
        if name.startswith("matplotlib"):
            raise ImportError("No module named 'matplotlib'")
        return real(name, *arguments)

    monkeypatch.setattr(
        "skshazam._optional.importlib.import_module", without_matplotlib
    )
    result = run("demo", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "pip install 'skshazam[plot]'" in result.output
    assert not list(tmp_path.iterdir())


def test_demo_refuses_a_file_as_folder(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    result = run("demo", "--out", str(file))
    assert result.exit_code == 2
    assert "is a file" in result.output


def test_a_folder_that_cannot_be_made_is_a_plain_message(run, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("demo", "--out", str(tmp_path / "file" / "inside"))
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")
