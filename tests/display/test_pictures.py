"""Pictures: the same bytes each time, in any thread, whatever a class is called."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mm_assets.display.pictures import BLUE, draw_counts, figure, markdown_picture, short, to_png


def line(title: str = "Confidence") -> bytes:
    with figure(4, 3, title) as fig:
        fig.subplots().plot([1, 2, 3], color=BLUE)
        return to_png(fig)


def test_the_same_figure_gives_the_same_bytes_without_date_or_program() -> None:
    first = line()
    assert first == line()
    assert first != line("Another title")
    picture = Image.open(io.BytesIO(first))
    assert picture.format == "PNG"
    assert picture.size == (440, 330)
    assert not {"Software", "Creation Time"} & picture.info.keys()


def test_threads_draw_the_same_picture_as_one() -> None:
    alone = line()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: line(), range(8))) == {alone}


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    line()
    assert dict(rcParams) == before


def test_neither_the_module_nor_a_picture_loads_pyplot() -> None:
    code = (
        "import sys; import mm_assets.display.pictures as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        "with p.figure() as fig: p.to_png(fig)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name", ["$\\frac{$ x $", "$$", "日本語", "a\x00b\n\u202ec", "", "x" * 500]
)
def test_any_class_name_can_be_drawn(name: str) -> None:
    with figure() as fig:
        axes = fig.subplots()
        draw_counts(axes, np.array([[3, 1], [0, 2]]), [name, "b"], [name, "b"])
        axes.set_title(short(name))
        assert to_png(fig).startswith(b"\x89PNG")


def test_a_long_name_is_shortened_to_one_line() -> None:
    assert short("a\nb\x07\tc") == "a b\\x07 c"
    assert short("x" * 30, 10) == "x" * 9 + "…"
    assert short("x" * 10, 10) == "x" * 10


def test_markdown_holds_the_whole_picture_and_the_description_cannot_break_out() -> None:
    text = markdown_picture(b"\x89PNG", "a](http://evil)\n[b")
    description, _, data = text.partition("](data:image/png;base64,")
    assert description == "![a\\](http://evil) \\[b"
    assert base64.b64decode(data.removesuffix(")")) == b"\x89PNG"


def test_counts_say_count_and_share_and_leave_nothing_blank_out() -> None:
    with figure() as fig:
        axes = fig.subplots()
        draw_counts(axes, np.array([[1500, 500], [0, 4]]), ["a", "b"], ["a", "b"])
        assert [text.get_text() for text in axes.texts] == ["1,500\n75%", "500\n25%", "4\n100%"]
