"""Which images a folder or a CSV file names."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skshazam.cli._tiles import list_tiles
from skshazam.exceptions import ImageCollectionError


def names(tiles, root):
    return [os.path.relpath(path, root) for path in tiles.paths]


def test_a_folder_gives_its_images_sorted(folder):
    tiles = list_tiles(folder)
    expected = ["S1, [ä]/1.png", "S1, [ä]/2.png", "a.PNG", "b.png", "c.tif", "d.png"]
    assert names(tiles, folder) == expected
    assert tiles.slides is None and tiles.coords is None


def test_links_are_followed_once_and_hidden_folders_are_not(folder, tmp_path):
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.png").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.png").touch()
    (folder / "e").symlink_to(tmp_path / "elsewhere")
    (folder / "f").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "z.png").symlink_to(folder / "a.PNG")
    found = names(list_tiles(folder), folder)
    assert found[2:] == ["a.PNG", "b.png", "c.tif", "d.png", "e/y.png", "z.png"]


def test_a_folder_without_images_says_what_counts(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ImageCollectionError, match=r"holds no file .*\.png.*'path'"):
        list_tiles(tmp_path)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_a_csv_file_names_paths_relative_to_itself(tmp_path):
    csv = write(
        tmp_path / "tiles.csv",
        'y,path,slide,x\r\n2,"S1/a, ""b"".png",S1,1\r\n-4,/abs/ä.png,"S, 2",3\r\n',
        "utf-8-sig",
    )
    tiles = list_tiles(csv)
    assert tiles.paths == [str(tmp_path / 'S1/a, "b".png'), "/abs/ä.png"]
    assert tiles.slides == ["S1", "S, 2"]
    assert tiles.coords == [(1, 2), (3, -4)]
    assert list_tiles(write(csv, "path\na.png\n\nb.png")).slides is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"columns \[\]; expected one named 'path'"),
        ("path;slide\na;b\n", r"\['path;slide'\].*commas"),
        ("file\na.png\n", r"\['file'\]"),
        ("path\n", "names no image"),
        ("path,slide\na.png\n", "Line 2 .* slide=None"),
        ("path,slide\na.png,S\n,S\n", "Line 3 .* path=''"),
        ("path\na.png,b\n", "Line 2 .*more cells than the header"),
        ("path,x,y\na.png,1.5,2\n", "Line 2 .* x='1.5'"),
        ("path,path\na.png,b\n", "each once"),
        ('path\n"a', "cannot be read as a CSV file"),
    ],
)
def test_a_wrong_csv_file_is_named_with_its_line(tmp_path, text, said):
    with pytest.raises(ImageCollectionError, match=said):
        list_tiles(write(tmp_path / "tiles.csv", text))


def test_a_csv_file_in_another_encoding_is_refused(tmp_path):
    with pytest.raises(ImageCollectionError, match="UTF-8"):
        list_tiles(write(tmp_path / "tiles.csv", "path\nä.png\n", "latin-1"))


@settings(derandomize=True, max_examples=150, deadline=None, database=None)
@given(
    st.sampled_from([b"", b"path\n", b"path,x,y\n", b"\xef\xbb\xbfpath,slide\n"]),
    st.one_of(
        st.binary(max_size=60),
        st.text(st.sampled_from('a,"\n\r1\0;'), max_size=30).map(str.encode),
    ),
)
def test_any_bytes_are_a_list_of_files_or_a_typed_error(tmp_path_factory, head, rest):
    csv = tmp_path_factory.mktemp("csv") / "tiles.csv"
    csv.write_bytes(head + rest)
    try:
        tiles = list_tiles(csv)
    except ImageCollectionError as error:
        assert str(csv) in str(error)
    else:
        assert tiles.paths and all(Path(path).name for path in tiles.paths)


def test_whole_numbers_may_be_written_as_pandas_does(tmp_path):
    tiles = list_tiles(write(tmp_path / "tiles.csv", "path,x,y\na.png,12.0,-3\n"))
    assert tiles.coords == [(12, -3)]
