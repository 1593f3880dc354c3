"""Drawing: one look for every picture, and pictures as PNG or as Markdown.

What belongs here: figure size, fonts, colours, encoding. What does not: what a picture shows.
pyplot and its global state are never used, so pictures can be drawn in any thread.

    with figure(6, 4, "Confidence") as fig:
        axes = fig.subplots()
        axes.plot(days, confidence, color=BLUE)
        png = to_png(fig)
"""

from __future__ import annotations

import base64
import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mm_assets.display.cells import visible

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), "Color Universal Design": can be told apart by everybody.
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
SKY = "#56B4E9"
PURPLE = "#CC79A7"
YELLOW = "#F0E442"
BLACK = "#000000"
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW, BLACK)
GREY = "#6B6B6B"
PALE = "#B8B8B8"  # for amounts and for all that has no colour of its own
SHADES = "Blues"  # for amounts: one hue from white to dark, so that lightness alone tells them

DOTS_PER_INCH = 110
_STYLE: Any = {
    # The first comes with matplotlib: the same picture everywhere. The others lend letters that it
    # lacks, where the machine has them.
    "font.family": ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans", "Arial Unicode MS"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.dpi": DOTS_PER_INCH,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # A class or a column may be called `$\x$`: text is text, never a formula that fails to parse.
    "text.parse_math": False,
}
# matplotlib's settings are global: pictures of several threads take turns.
_TURN = threading.RLock()


@contextmanager
def figure(width: float = 6.4, height: float = 4.0, title: str = "") -> Iterator[Figure]:
    """An empty figure of `width` x `height` inches in our look. Draw and `to_png` it inside."""
    with _look():
        from matplotlib.figure import Figure

        fig = Figure(figsize=(width, height), layout="constrained")
        if title:
            fig.suptitle(visible(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
        yield fig


def to_png(fig: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes (no date, no program version)."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    buffer = io.BytesIO()
    with _look(), warnings.catch_warnings():
        # A label in a script that the font lacks is drawn as boxes; that is no one's emergency.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = FigureCanvasAgg(fig)
        canvas.draw()  # once: `savefig` draws everything twice
        drawn = np.asarray(canvas.buffer_rgba())[..., :3]
        Image.fromarray(drawn).save(buffer, "PNG", dpi=(DOTS_PER_INCH, DOTS_PER_INCH))
    return buffer.getvalue()


def markdown_picture(png: bytes, alt: str) -> str:
    """The picture as Markdown that holds it whole, as Dagster's UI shows it."""
    words = re.sub(r"([\\\[\]])", r"\\\1", visible(" ".join(alt.split())))
    return f"![{words}](data:image/png;base64,{base64.b64encode(png).decode()})"


def short(text: object, length: int = 24) -> str:
    """A name from the data as a label: one line in which nothing acts, at most `length` long."""
    line = " ".join(visible(str(text), keep="\n\r\t").split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def draw_counts(
    axes: Axes, counts: npt.NDArray[np.int_], rows: list[str], columns: list[str]
) -> None:
    """A table of counts, shaded by each count's share of its row. Blank where nothing is.

    Up to 12 columns say count and share, more only the count; names are shortened to fit.
    """
    import numpy as np

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    many = max(counts.shape) > 12
    size = 8.5 if max(counts.shape) <= 8 else 7 if counts.max(initial=0) < 1000 else 5.5
    axes.imshow(shares, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [short(name, 20) for name in columns])
    axes.set_yticks(range(len(rows)), [short(name, 20) for name in rows])
    longest = max(map(len, columns), default=0)
    if longest * len(columns) > 45:
        turn, side, mode = (90, "center", "default") if many else (40, "right", "anchor")
        for label in axes.get_xticklabels():
            label.set(rotation=turn, horizontalalignment=side, rotation_mode=mode)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    for row, column in np.argwhere(counts):
        count, share = int(counts[row, column]), float(shares[row, column])
        text = f"{count:,}" if many else f"{count:,}\n{share:.0%}"
        color = "white" if share > 0.7 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def draw_reliability(top: Axes, bottom: Axes, bins: Sequence[Mapping[str, float]]) -> None:
    """A reliability diagram: the share that was right against confidence, and how many there are.

    bins: `low`, `high`, `count`, `confidence` (mean) and `right` (share) of each, as
    training.evaluation.calibration_bins gives them. The axes share their x axis; what was drawn on
    `top` before stays, and is named in the legend.
    """
    from matplotlib.ticker import MaxNLocator

    top.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="ideal")
    confidence, right, counts = (
        [b[name] for b in bins] for name in ("confidence", "right", "count")
    )
    sizes = [14 + 90 * count / max(counts) for count in counts]  # few records weigh little
    top.plot(confidence, right, color=BLUE, linewidth=0.8)
    top.scatter(confidence, right, s=sizes, color=BLUE, zorder=3, label="model")
    top.set_ylabel("share that was right")
    top.set(ylim=(-0.03, 1.03), xlim=(min(0.5, *(b["low"] for b in bins), 1), 1.01))
    top.legend(loc="best")  # where the points leave room
    middles = [(b["low"] + b["high"]) / 2 for b in bins]
    bottom.bar(middles, counts, width=0.092, color=SKY)
    for middle, count in zip(middles, counts, strict=True):
        bottom.annotate(
            f"{count:,.0f}", (middle, count), (0, 1), textcoords="offset points", ha="center",
            fontsize=7, color=GREY,
        )  # fmt: skip
    bottom.grid(visible=False)
    bottom.set_ylim(0, 1.25 * max(counts))
    bottom.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    bottom.yaxis.set_major_formatter("{x:,.0f}")
    bottom.set_xlabel("confidence (highest probability)")
    bottom.set_ylabel("records")


@contextmanager
def _look() -> Iterator[None]:
    with _TURN:
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        from matplotlib import rc_context

        with rc_context(_STYLE):
            yield


MOST_PICTURES = 24
_CELL = 1.25  # inches; the side of the square that a picture fills
_LINE = 0.135  # inches; the height of a line of a caption


def contact_sheet(items: Sequence[tuple[bytes, Sequence[str]]], title: str = "") -> bytes | None:
    """Up to 24 pictures (PNG or JPEG bytes) with lines of text below each, as one PNG.

    Pictures keep their shape; small ones are enlarged so that each pixel stays visible. Bytes that
    are no picture leave an empty frame. None where there is nothing to show.
    """
    shown = list(items[:MOST_PICTURES])
    if not shown:
        return None
    columns = min(len(shown), 6)
    rows = -(-len(shown) // columns)
    lines = max(len(caption) for _, caption in shown)
    high, gap, top = _CELL + _LINE * lines + 0.2, 0.12, 0.4 if title else 0.08
    width, height = max(columns * (_CELL + gap) + gap, 3.4), top + rows * high
    with figure(width, height, title) as fig:
        from matplotlib.transforms import Bbox, TransformedBbox

        fig.set_layout_engine("none")
        for place, (data, caption) in enumerate(shown):
            row, column = divmod(place, columns)
            left = gap + column * (_CELL + gap)
            bottom = height - top - row * high - _CELL
            _draw_picture(fig, left, bottom, data)
            text = "\n".join(short(line, 22) for line in caption)
            # Letters of some scripts are wide: what does not fit is cut off at the next picture.
            below = Bbox.from_bounds(left / width, 0, (_CELL + gap / 2) / width, 1)
            fig.text(
                left / width, (bottom - 0.05) / height, text, va="top", fontsize=7,
                linespacing=1.2, clip_on=True, clip_box=TransformedBbox(below, fig.transFigure),
            )  # fmt: skip
        return to_png(fig)


def _draw_picture(fig: Figure, left: float, bottom: float, data: bytes) -> None:
    """Into the square whose corner is there (inches), in the middle and at the bottom."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        from matplotlib.patches import Rectangle

        inches = fig.dpi_scale_trans
        frame = (left, bottom), _CELL, _CELL
        fig.add_artist(Rectangle(*frame, fill=False, color="#DDDDDD", transform=inches))
        fig.text(
            left + _CELL / 2, bottom + _CELL / 2, "no picture", ha="center", va="center",
            color=GREY, fontsize=8, transform=inches,
        )  # fmt: skip
        return
    side = round(_CELL * DOTS_PER_INCH)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    scale = side / max(image.size)  # each pixel of a small one stays visible
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.NEAREST)
    x = round(left * DOTS_PER_INCH) + (side - image.width) // 2
    fig.figimage(np.asarray(image), x, round(bottom * DOTS_PER_INCH), origin="upper")
