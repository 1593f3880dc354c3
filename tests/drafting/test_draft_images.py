"""`mm init FOLDER` drafts a YAML from images alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_assets.contract.errors import SpecError
from mm_assets.drafting.draft_images import draft_images
from mm_assets.drafting.yaml_text import load_draft
from mm_assets.uploads.check import check
from tests.make import draw_image
from tests.reading import heic_files as heic


def folder_of(tmp_path: Path, *files: str) -> Path:
    for number, file in enumerate(files):
        path = tmp_path / "my photos" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_image(number))
    return tmp_path / "my photos"


@pytest.mark.parametrize(
    ("files", "shape", "classes"),
    [
        (("cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png"), "{label}/{id}", ("cat", "dog")),
        (("t/cat/a.png", "t/cat/b.png", "t/dog/c.png", "v/dog/d.jpg"), "{label}/{id}",
         ("cat", "dog")),
        (("cat_1.png", "cat_2.png", "dog_3.png", "dog_4.png"), "{label}_{id}", ("cat", "dog")),
        (("1-on.png", "2-on.png", "3-off.png", "4-off.png"), "{id}-{label}", ("off", "on")),
        (("a/1.png", "a/2.png", "b/1.png", "b/2.png", "c/1.png", "c/3.png"), "{label}/*",
         ("a", "b", "c")),
    ],
)  # fmt: skip
def test_the_shape_of_the_paths_is_found(
    files: tuple[str, ...], shape: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    drafted = draft_images(folder_of(tmp_path, *files))
    spec, name = load_draft(drafted.text), drafted.dataset
    assert (spec.records, spec.image_name, spec.classes) == ("images", shape, classes)
    assert spec.problem_type == ("binary" if len(classes) == 2 else "multiclass")
    assert name == spec.dataset == "my_photos"


def test_one_stray_folder_hides_no_classes_and_is_named(tmp_path: Path) -> None:
    files = [f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(5 + 5 * (kind == "dog"))]
    drafted = draft_images(folder_of(tmp_path, *files, "cat/deep/x.png"))
    assert load_draft(drafted.text).classes == ("cat", "deep", "dog")
    assert any(note.startswith("only one image: deep; if it is no class") for note in drafted.notes)


def test_folders_that_differ_only_in_how_they_are_written_are_one_class(tmp_path: Path) -> None:
    files = ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png", "DOG/5.png")
    drafted = draft_images(folder_of(tmp_path, *files))
    assert load_draft(drafted.text).classes == ("cat", "dog")
    assert "are one class, 'dog'" in " ".join(drafted.notes)
    assert "only one image" not in " ".join(drafted.notes)
    with pytest.raises(SpecError, match="no label can be read"):
        draft_images(
            folder_of(tmp_path / "one", "dog/1.png", "dog/2.png", "DOG/3.png", "DOG/4.png")
        )


def test_a_folder_of_heic_is_drafted(tmp_path: Path) -> None:
    names = ("cat/IMG_1.HEIC", "cat/IMG_2.HEIC", "dog/IMG_3.heic", "dog/IMG_4.heif")
    files = (heic.PLAIN, heic.TURNED, heic.TEN_BITS, heic.THREE)
    for number, name in enumerate(names):
        path = tmp_path / "phone" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[number])
    spec = load_draft(draft_images(tmp_path / "phone").text)
    assert (spec.image_name, spec.classes) == ("{label}/{id}", ("cat", "dog"))
    report = check(tmp_path / "phone", spec)
    assert (report.counts["images"], report.problems) == (4, [])


def test_images_in_no_folder_are_said_to_be_predicted(tmp_path: Path) -> None:
    files = ("cat/a.png", "cat/b.png", "dog/c.png", "dog/d.png", "e.png", "f.png")
    notes = draft_images(folder_of(tmp_path, *files)).notes
    assert "images without a label, which will be predicted: 2" in notes


@pytest.mark.parametrize(
    ("files", "code"),
    [((), "init_no_images"), (("a.png", "b.png"), "init_no_labels"),
     (("one/a.png", "one/b.png"), "init_no_labels")],
)  # fmt: skip
def test_a_folder_that_says_no_labels_is_answered_in_words(
    files: tuple[str, ...], code: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, *files)
    folder.mkdir(exist_ok=True)
    with pytest.raises(SpecError) as caught:
        draft_images(folder)
    assert caught.value.code == code
    assert caught.value.todo
