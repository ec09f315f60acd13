"""The README and the docs: what they show exists and runs."""

import re
import runpy
from pathlib import Path

import pytest
from matplotlib import pyplot

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
)


def code_blocks(page, language):
    pattern = rf"^ *```{language}\n(.*?)^ *```"
    text = page.read_text()
    return re.findall(pattern, text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_are_valid_and_import_what_exists(page):
    import textwrap

    for block in code_blocks(page, "python"):
        code = textwrap.dedent(block)
        compile(code, page.name, "exec")
        imports = re.findall(r"^(?:from|import) .*$", code, flags=re.MULTILINE)
        exec("\n".join(imports), {})


def test_the_two_commands_of_the_readme():
    commands = re.findall(
        r"^    (python3 -m venv .*)$",
        (ROOT / "README.md").read_text(),
        flags=re.MULTILINE,
    )
    assert len(commands) == 2
    assert commands[0].endswith("skshazam demo")
    assert commands[1].endswith("pytest")


def test_the_readme_uses_twenty_lines():
    (block,) = code_blocks(ROOT / "README.md", "python")
    assert len(block.strip().splitlines()) <= 24


@pytest.mark.parametrize(
    "script", sorted((ROOT / "examples").glob("*.py")), ids=lambda script: script.name
)
def test_examples_run(script):
    variables = runpy.run_path(str(script))
    assert min(variables["comparison"].pooled.values()) > 0.5
    pyplot.close("all")
