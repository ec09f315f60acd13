"""The page of teachers is the catalogue, row by row."""

from pathlib import Path

import pytest

from skshazam.teachers import list_teachers
from skshazam.teachers._catalog import CATALOG

DOCS = Path(__file__).parents[2] / "docs"


def row_of(spec):
    """Return a spec as a row of the page's table."""
    name = f"`{spec.name}`"
    linked = f"[{name}]({spec.source})" if spec.source.startswith("http") else name
    cells = (
        linked,
        str(spec.dim),
        spec.pooling,
        str(spec.input_size[0]),
        spec.licence,
        ("gated" if spec.gated else "open") + (", needs more" if spec.requires else ""),
        ", ".join(spec.unverified),
    )
    return f"| {' | '.join(cells)} |".replace("  ", " ")


def rows_of_the_page():
    page = (DOCS / "teachers.md").read_text()
    return [line for line in page.splitlines() if line.startswith(("| [`", "| `"))]


def test_the_table_is_the_catalogue_in_its_order():
    assert rows_of_the_page() == [row_of(spec) for spec in CATALOG.values()]


@pytest.mark.parametrize("name", [n for n, spec in CATALOG.items() if spec.requires])
def test_the_page_says_what_a_teacher_needs_more(name):
    page = " ".join((DOCS / "teachers.md").read_text().split())
    assert f"`{name}`: {CATALOG[name].requires}" in page


def test_the_guide_leads_to_the_page_and_counts_the_teachers():
    guide = (DOCS / "guide.md").read_text()
    assert "(teachers.md)" in guide
    assert f"{len(CATALOG)} teachers" in guide
    assert set(CATALOG) <= set(list_teachers())
