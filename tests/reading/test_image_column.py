"""The cell of an image column, and the file that it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_assets.reading.image_column import Ambiguous, ImageFiles, cells_of

FILES = (
    "images/IMG_1.jpg", "images/b/IMG_2.JPG", "x/a.png", "y/a.png", "train/7.jpg",
    "données/é é.png", "photos/v1.2", "same.png", "deep/same.png",
)  # fmt: skip
MEANT = {
    "IMG_1.jpg": "images/IMG_1.jpg",
    "images\\IMG_1.jpg": "images/IMG_1.jpg",
    "/home/ada/images/img_1.JPG": "images/IMG_1.jpg",
    "C:\\data\\images\\IMG_1.jpg": "images/IMG_1.jpg",
    "../../images/IMG_1.jpg": "images/IMG_1.jpg",
    "IMG_2": "images/b/IMG_2.JPG",
    "b/img_2.jpg": "images/b/IMG_2.JPG",
    "7.jpg": "train/7.jpg",
    "./train/7.jpg": "train/7.jpg",
    "7": "train/7.jpg",
    "donn%C3%A9es/%C3%A9%20%C3%A9.png": "données/é é.png",
    "e\u0301 e\u0301.png": "données/é é.png",
    "v1.2": "photos/v1.2",
    "same.png": "same.png",
    "https://example.org/images/IMG_1.jpg": "images/IMG_1.jpg",
}


@pytest.mark.parametrize(("cell", "file"), MEANT.items())
def test_a_cell_means_the_file_that_its_path_ends_with_or_that_ends_with_it(
    cell: str, file: str
) -> None:
    assert ImageFiles(FILES).meant(cell, "table.csv") == file


@pytest.mark.parametrize("cell", ["test/7.jpg", "8.jpg", "G_1.jpg", "v1", ".", "/", ""])
def test_a_folder_or_a_name_that_differs_means_nothing(cell: str) -> None:
    assert ImageFiles(FILES).meant(cell, "table.csv") is None


def test_what_could_mean_two_files_means_none_and_names_both() -> None:
    found = ImageFiles(FILES).meant("a.png", "table.csv")
    assert isinstance(found, Ambiguous)
    assert found.words == "x/a.png or y/a.png"


def test_the_file_beside_the_table_comes_first() -> None:
    assert ImageFiles(FILES).meant("a.png", "y/table.csv") == "y/a.png"
    assert ImageFiles(FILES).meant("same.png", "deep/table.csv") == "deep/same.png"


def test_case_counts_where_it_tells_two_files_apart() -> None:
    files = ImageFiles(["A.png", "a.png"])
    assert (files.meant("A.png", "t"), files.meant("a.png", "t")) == ("A.png", "a.png")
    files = ImageFiles(["A.PNG", "a.png"])
    assert isinstance(files.meant("a.Png", "t"), Ambiguous)


def test_a_cell_may_name_several_files() -> None:
    missing = frozenset({"", "NA"})
    assert cells_of(" a.png | b.png |NA| ", "|", missing) == ["a.png", "b.png"]
    assert cells_of("a | b.png", None, missing) == ["a | b.png"]
    assert cells_of("NA", None, missing) == cells_of(None, "|", missing) == []


paths = st.lists(st.sampled_from(["a", "b", "C", "ü"]), min_size=1, max_size=3).map("/".join)


@given(st.sets(paths, min_size=1, max_size=8), paths)
def test_a_file_found_ends_like_the_cell_whatever_the_files(files: set[str], cell: str) -> None:
    found = ImageFiles(files).meant(cell, "t.csv")
    if isinstance(found, str):
        one, other = sorted((found.casefold(), cell.casefold()), key=len)
        assert other == one or other.endswith("/" + one)
    if cell in files:
        assert found == cell
