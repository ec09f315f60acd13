"""docs/cluster.md: its commands run as they stand, with handcrafted teachers."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skshazam.cli._tiles import list_tiles
from skshazam.exchange import load_slide_features
from skshazam.features import extract_to_store, read_features
from tests.test_docs import code_blocks

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"

# Whose weights are at hand: stain stands for uni, texture for virchow.
STAND_INS = {"uni": "stain", "virchow": "texture"}


def command_lines():
    for block in code_blocks(PAGE, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("skshazam "):
                yield line


def with_stand_ins(line):
    line = re.sub(r"--weights \S+", "", line)
    names = "|".join(STAND_INS)
    return re.sub(
        rf"(?<![\w./])({names})(?![\w.])", lambda name: STAND_INS[name[0]], line
    )


@pytest.fixture
def workplace(folder, tmp_path, monkeypatch):
    """The files that the page names, in the working directory."""
    monkeypatch.chdir(tmp_path)
    paths = list_tiles(Path(folder.name)).paths
    (tmp_path / "tiles.csv").write_text(
        "path\n" + "".join(f'"{path}"\n' for path in paths), encoding="utf-8"
    )
    (tmp_path / "slides.csv").write_text("path,slide,x,y\ntiles/b.png,S1,0,0\n")
    return paths


def test_every_command_of_the_page_runs(workplace, run, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    lines = list(command_lines())
    assert len(lines) >= 12
    for line in lines:
        if "foreign.pt" in line:
            make_foreign_file(workplace)
        arguments = shlex.split(os.path.expandvars(with_stand_ins(line)), comments=True)
        result = run(*arguments[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert load_slide_features({"uni": "out"}).slides.tolist() == ["S1"]


def make_foreign_file(paths):
    import torch

    digests = extract_to_store(paths, ["stain"], "features").digests
    features = np.asarray(read_features(digests, ["stain"], "features"))
    torch.save(torch.from_numpy(features), "foreign.pt")


def test_the_array_of_the_page_is_a_script_whose_tasks_are_complete(workplace, run):
    (script,) = [b for b in code_blocks(PAGE, "bash") if "#SBATCH" in b]
    n_tasks = int(re.search(r"--array=1-(\d+)", script)[1])
    assert f"$SLURM_ARRAY_TASK_ID/{n_tasks}" in script
    # The shell decides what the tasks run; the commands then run here.
    for task in range(1, len(workplace) + 1):
        environment = {
            **os.environ,
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_CPUS_PER_TASK": "2",
        }
        shell = subprocess.run(
            ["bash", "-eu", "-c", f'skshazam() {{ printf "%s\\0" "$@"; }}\n{script}'],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        arguments = shell.stdout.split("\0")[:-1]
        assert run(*map(with_stand_ins, arguments)).exit_code == 0
    extraction = extract_to_store(workplace, ["stain", "texture"], "features")
    assert extraction.n_computed == 0


def test_the_function_of_the_page_runs_with_an_executor(workplace, monkeypatch):
    pytest.importorskip("distributed")
    from concurrent.futures import ThreadPoolExecutor
    from types import SimpleNamespace

    (block,) = [b for b in code_blocks(PAGE, "python") if "LocalCluster" in b]

    class Cluster:
        def __init__(self, *arguments, **options):
            self.executor = ThreadPoolExecutor(1)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.executor.shutdown()

        def get_executor(self):
            return self.executor

    stand_in = SimpleNamespace(Client=Cluster, LocalCluster=Cluster)
    monkeypatch.setitem(sys.modules, "dask.distributed", stand_in)
    variables = {}
    exec(re.sub('"(uni|virchow)"', lambda n: f'"{STAND_INS[n[1]]}"', block), variables)
    features = variables["main"](workplace)
    assert features.shape[0] == len(workplace)
    assert np.isfinite(features).all()
