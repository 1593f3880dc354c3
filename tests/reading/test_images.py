"""Images: whole ones come out upright, RGB and small; everything else is refused with a code."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mm_assets.contract.errors import REFUSALS
from mm_assets.reading.images import ImageRefused, NormalisedImage, is_image, normalise

MEGAPIXELS = 25_000_000


def photo(width: int = 320, height: int = 200) -> Image.Image:
    """A smooth image whose four corners differ: red, green, blue, white."""
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def run(data: bytes, side: int = 256, pixels: int = MEGAPIXELS) -> NormalisedImage:
    return normalise(data, longest_side=side, maximum_pixels=pixels)


def shown(data: bytes, side: int = 256) -> Image.Image:
    """The normalised image, decoded again."""
    image = Image.open(io.BytesIO(run(data, side).data))
    image.load()
    return image


def refused(data: bytes, code: str, pixels: int = MEGAPIXELS) -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        run(data, pixels=pixels)
    assert caught.value.code == code
    assert code in REFUSALS
    assert caught.value.reason
    return caught.value


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int,
    height: int,
    depth: int,
    colour: int,
    rows: bytes,
    before: bytes = b"",
    lace: int = 0,
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, lace)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(rows)),
         chunk(b"IEND", b"")]
    )  # fmt: skip


def close(pixel: Any, expected: tuple[int, int, int], tolerance: int = 6) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))


# -- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_comes_out_as_small_rgb_with_the_original_size_noted(kind: str) -> None:
    result = run(saved(photo(2000, 1000), kind), side=256)
    assert (result.width, result.height) == (2000, 1000)
    image = Image.open(io.BytesIO(result.data))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 128))


def test_a_small_image_stays_lossless_and_is_never_enlarged() -> None:
    original = photo(128, 77)
    image = shown(saved(original, "PNG"))
    assert image.format == "PNG"
    assert np.array_equal(np.asarray(image), np.asarray(original))


def test_a_middle_sized_image_keeps_its_size() -> None:
    image = shown(saved(photo(200, 100), "PNG"))
    assert (image.format, image.size) == ("JPEG", (200, 100))
    assert close(image.getpixel((1, 1)), (255, 0, 0))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 3000), (3000, 1), (60_000, 2)])
def test_thin_and_tiny_images_are_accepted(width: int, height: int) -> None:
    image = shown(saved(Image.new("RGB", (width, height), "red"), "PNG"))
    assert max(image.size) == min(256, max(width, height))
    assert min(image.size) == 1


def test_draft_decoding_looks_like_full_decoding() -> None:
    draws = np.random.default_rng(0)
    noise = Image.fromarray(draws.integers(0, 255, (38, 50, 3), dtype=np.uint8))
    data = saved(noise.resize((1600, 1200), Image.Resampling.BICUBIC), quality=95)
    full = Image.open(io.BytesIO(data)).convert("RGB")
    full = full.resize((128, 96), Image.Resampling.LANCZOS)
    difference = np.asarray(full, np.int16) - np.asarray(shown(data, 128), np.int16)
    assert np.abs(difference).mean() < 1.5


def test_the_same_bytes_give_the_same_bytes_in_any_thread() -> None:
    files = [saved(photo(900 + i, 700), kind) for i in range(4) for kind in ("JPEG", "WEBP", "PNG")]
    alone = [run(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, files)) == alone


def test_no_metadata_comes_through() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    options: dict[str, Any] = {"exif": exif, "icc_profile": b"secret profile"}
    for kind in ("JPEG", "PNG", "WEBP"):
        for size in ((100, 60), (600, 300)):
            data = saved(photo(*size), kind, **options)
            assert b"secret" in data
            assert b"secret" not in run(data).data
    assert b"secret" not in run(saved(photo(), comment=b"secret")).data


# -- orientation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(kind: str, orientation: int) -> None:
    turns = Image.Transpose
    undo = {
        2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE, 6: turns.ROTATE_90, 7: turns.TRANSVERSE, 8: turns.ROTATE_270,
    }  # fmt: skip
    image = photo(400, 240)
    stored = image.transpose(undo[orientation]) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(stored, kind, exif=exif)
    result = run(data, side=200)
    assert (result.width, result.height) == (400, 240)
    upright = Image.open(io.BytesIO(result.data))
    assert upright.size == (200, 120)
    assert close(upright.getpixel((2, 2)), (255, 0, 0), 14)
    assert close(upright.getpixel((197, 2)), (0, 255, 0), 14)
    assert close(upright.getpixel((2, 117)), (0, 0, 255), 14)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_broken_metadata_does_not_cost_the_image(exif: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(saved(photo(), exif=exif)).width == 320


def test_an_orientation_that_is_none_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    assert run(saved(photo(), exif=exif)).width == 320


# -- colour modes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB", "I;16"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    source = photo(64, 64)
    image = source.convert("L").convert("I;16") if mode == "I;16" else source.convert(mode)
    assert shown(saved(image, "PNG")).mode == "RGB"


@pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr"])
def test_every_jpeg_mode_becomes_rgb(mode: str) -> None:
    image = shown(saved(photo(600, 400).convert(mode), quality=95))
    assert image.mode == "RGB"
    if mode != "L":
        assert close(image.getpixel((1, 1)), (255, 0, 0), 12)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    pixels = np.asarray(shown(saved(Image.fromarray(values), "PNG")))
    assert np.array_equal(pixels[..., 0], values >> 8)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_sixteen_bit_colour_is_scaled_the_same_way() -> None:
    row = b"\0" + struct.pack(">6H", 0xFFFF, 0x8080, 0, 0x1234, 0x5678, 0x9ABC)
    image = shown(png(2, 1, 16, 2, row))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 128, 0), (0x12, 0x56, 0x9A)]


def test_what_is_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (40, 40), (10, 200, 30, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 20, 40))
    for kind in ("PNG", "WEBP"):
        image = shown(saved(clear, kind, lossless=True))
        assert close(image.getpixel((30, 5)), (255, 255, 255), 0)
        assert close(image.getpixel((5, 5)), (255, 0, 0), 0)
    half = shown(saved(Image.new("LA", (9, 9), (0, 128)), "PNG"))
    assert close(half.getpixel((4, 4)), (127, 127, 127), 1)


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    image.paste(2, (0, 0, 4, 8))
    image = shown(saved(image, "PNG", transparency=2))
    assert image.getpixel((1, 1)) == (255, 255, 255)
    assert image.getpixel((6, 1)) == (255, 0, 0)


@pytest.mark.parametrize(("depth", "value"), [(1, 0), (2, 2), (4, 9), (8, 77), (16, 0x4D4E)])
def test_the_transparent_colour_of_a_grey_png_is_found_at_any_depth(depth: int, value: int) -> None:
    bits = format(value, f"0{depth}b") * 8
    rows = (b"\0" + int(bits, 2).to_bytes(depth, "big")) * 8
    key = chunk(b"tRNS", struct.pack(">H", value))
    assert shown(png(8, 8, depth, 0, rows, key)).getpixel((3, 3)) == (255, 255, 255)
    assert shown(png(8, 8, depth, 0, rows)).getpixel((3, 3)) != (255, 255, 255)


def test_the_transparent_colour_of_a_sixteen_bit_colour_png_is_found() -> None:
    colour = struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)
    image = shown(png(2, 2, 16, 2, (b"\0" + colour * 2) * 2, chunk(b"tRNS", colour)))
    assert image.getpixel((0, 0)) == (255, 255, 255)


# -- golden images: the pixels that must come out, worked out without Pillow ---------------------


def pixels(data: bytes) -> np.ndarray:
    """[height, width, 3] of the normalised image."""
    return np.asarray(shown(data))


def chance(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_golden_an_rgb_image_is_not_touched() -> None:
    values = chance(7, 5, 3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    assert np.array_equal(pixels(png(5, 7, 8, 2, rows)), values)


def test_golden_a_palette_is_looked_up() -> None:
    palette, places = chance(16, 3, seed=1), chance(4, 6, seed=2) % 16
    rows = b"".join(b"\0" + row.tobytes() for row in places)
    data = png(6, 4, 8, 3, rows, chunk(b"PLTE", palette.tobytes()))
    assert np.array_equal(pixels(data), palette[places])


def test_golden_every_opacity_is_laid_on_white() -> None:
    colours = chance(16, 16, 3, seed=3)
    opacity = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.concatenate([colours, opacity], axis=2))
    share = opacity / 255
    expected = np.floor(colours * share + 255 * (1 - share) + 0.5)
    assert np.abs(pixels(png(16, 16, 8, 6, rows)) - expected).max() <= 1
    visible = pixels(png(16, 16, 8, 6, rows)).reshape(256, 3)
    assert np.array_equal(visible[0], [255, 255, 255])
    assert np.array_equal(visible[255], colours.reshape(256, 3)[255])


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_golden_sixteen_bits_become_the_high_eight(colour: int, channels: int) -> None:
    values = np.random.default_rng(4).integers(0, 65536, (4, 4, channels), dtype=np.uint16)
    if channels in (2, 4):
        values[..., -1] = 65535
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    seen = (values >> 8)[..., : channels - (channels in (2, 4))]
    expected = np.broadcast_to(seen, (4, 4, 3))
    assert np.array_equal(pixels(png(4, 4, 16, colour, rows)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_golden_each_orientation_moves_each_pixel_to_its_place(orientation: int) -> None:
    """EXIF 2.32, tag 274: which side of the scene the first row and the first column show."""
    stored = chance(3, 4, 3, seed=5)
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    height, width = (3, 4) if orientation < 5 else (4, 3)
    scene = np.zeros((height, width, 3), np.uint8)
    for i, j in np.ndindex(3, 4):
        down, across = (i, j) if orientation < 5 else (j, i)
        from_bottom = orientation in (3, 4, 7, 8)
        from_right = orientation in (2, 3, 6, 7)
        y = height - 1 - down if from_bottom else down
        x = width - 1 - across if from_right else across
        scene[y, x] = stored[i, j]
    assert np.array_equal(pixels(png(4, 3, 8, 2, rows, chunk(b"eXIf", tiff))), scene)


@pytest.mark.parametrize(
    ("cyan", "magenta", "yellow", "black"),
    [(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0), (0, 255, 255, 0), (40, 80, 120, 60)],
)
def test_golden_cmyk_ink_becomes_the_light_it_leaves(
    cyan: int, magenta: int, yellow: int, black: int
) -> None:
    flat = Image.new("CMYK", (16, 16), (cyan, magenta, yellow, black))
    data = saved(flat, quality=100, subsampling=0)
    expected = [(255 - ink) * (255 - black) / 255 for ink in (cyan, magenta, yellow)]
    assert np.abs(pixels(data) - np.array(expected)).max() <= 2


def test_golden_one_pixel_is_one_pixel() -> None:
    assert np.array_equal(pixels(png(1, 1, 8, 2, b"\0\x0a\x14\x1e")), [[[10, 20, 30]]])


@pytest.mark.parametrize("extra", [b"", b"\xff\xe0\0\x10film of a motion photo\xff\x01"])
def test_a_photo_of_samsung_without_its_end_marker_is_whole(extra: bytes) -> None:
    data = saved(photo(96, 64), "JPEG")
    trailer = b"\0\0\1\n\x0e\0\0\0Image_UTC_Data1700000000000" + extra + b"SEFH" + bytes(40)
    photo_of_phone = data[:-2] + trailer + b"SEFT"
    assert shown(photo_of_phone).tobytes() == shown(data).tobytes()
    refused(photo_of_phone[:-1], "image_unreadable")  # its own directory is cut short
    refused(data[:-2] + b"SEFT", "image_unreadable")
    many = data[:-2] + data[data.index(b"\xff\xda") : -2] * 101 + trailer + b"SEFT"
    refused(many, "image_unreadable")


# -- cut short or damaged -------------------------------------------------------------------------


@pytest.fixture
def tolerant_pillow() -> Any:
    """What `import autogluon.multimodal` leaves behind in the process."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = False


@pytest.mark.usefixtures("tolerant_pillow")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"quality": 95}), ("PNG", {}),
        ("JPEG", {"restart_marker_blocks": 1}), ("WEBP", {}), ("WEBP", {"lossless": True}),
    ],
)  # fmt: skip
def test_an_image_cut_short_anywhere_is_refused(kind: str, options: dict[str, Any]) -> None:
    data = saved(photo(640, 480), kind, **options)
    lengths = {*range(1, len(data), max(1, len(data) // 60)), *range(len(data) - 40, len(data))}
    for length in sorted(lengths):
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        with pytest.raises(ImageRefused) as caught:
            run(data[:length])
        assert caught.value.code == ("image_unreadable" if length > 20 else caught.value.code)


RECEIVING = """
import sys
from mm_assets.reading.images import ImageRefused, normalise
from mm_assets.uploads.receive import receive  # what a run that receives an upload imports

for data in sys.stdin.buffer.read().split(b"SPLIT"):
    try:
        normalise(data, longest_side=64, maximum_pixels=10**6)
        print("read")
    except ImageRefused as error:
        print(error.code)
print([name for name in ("autogluon", "torch", "torchvision") if name in sys.modules])
"""


def test_images_are_verified_in_a_process_that_never_imported_autogluon() -> None:
    whole = saved(photo())
    done = subprocess.run(
        [sys.executable, "-c", RECEIVING],
        input=whole + b"SPLIT" + whole[: len(whole) // 2],
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == ["read", "image_unreadable", "[]"]


@pytest.mark.usefixtures("tolerant_pillow")
def test_a_jpeg_without_its_end_marker_is_refused() -> None:
    data = saved(photo())
    assert data.endswith(b"\xff\xd9")
    assert "cut short" in refused(data[:-2], "image_unreadable").reason
    assert "cut short" in refused(data[: len(data) // 2] + bytes(5000), "image_unreadable").reason


@pytest.mark.parametrize(
    ("place", "byte", "kind"),
    [(1, 0xC3, "a lossless JPEG"), (1, 0xF7, "a JPEG-LS"), (4, 12, "a 12-bit JPEG")],
)
def test_a_jpeg_that_no_browser_shows_is_named(place: int, byte: int, kind: str) -> None:
    data = bytearray(saved(photo()))
    data[data.index(b"\xff\xc0") + place] = byte
    assert refused(bytes(data), "image_type").reason.startswith(f"{kind} image is not accepted")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_refusal_holds_no_address_in_memory(kind: str) -> None:
    """Two receipts of the same file are the same."""
    data, reasons = saved(photo(40, 30), kind), []
    for at in range(12, 92):
        try:
            run(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        except ImageRefused as error:
            reasons.append(error.reason)
    assert reasons
    assert not [reason for reason in reasons if "0x" in reason]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_bytes_after_the_image_are_ignored(kind: str) -> None:
    data = saved(photo(), kind)
    assert run(data + b"film" * 1000) == run(data)


def test_a_thumbnail_inside_does_not_pass_for_the_end_of_a_jpeg() -> None:
    thumbnail = saved(photo(32, 20))
    data = saved(photo(640, 480))
    segment = b"\xff\xe5" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    data = data[:2] + segment + data[2:]
    assert run(data).width == 640
    refused(data[: len(data) // 2], "image_unreadable")


def test_a_png_with_a_changed_byte_is_refused() -> None:
    data = saved(photo(), "PNG")
    for at in range(16, len(data), len(data) // 50):
        broken = bytearray(data)
        broken[at] ^= 0x40
        refused(bytes(broken), "image_too_large" if at in (16, 20) else "image_unreadable")


@pytest.mark.parametrize("lace", [0, 1])
def test_a_png_whose_pixels_end_early_is_refused(lace: int) -> None:
    rows = (b"\0" + bytes(30)) * 5
    reason = refused(png(10, 10, 8, 2, rows, lace=lace), "image_unreadable").reason
    assert "ends before the last row" in reason


def test_an_interlaced_png_is_read() -> None:
    # Adam7 stores a 5 x 3 image as passes of 1x1, 1x1, none, 1x1, 3x1, 2x2 and 5x1 pixels.
    sizes = [(1, 1), (1, 1), (1, 1), (3, 1), (2, 2), (5, 1)]
    rows = b"".join((b"\0" + b"\x40" * w) * h for w, h in sizes)
    image = shown(png(5, 3, 8, 0, rows, lace=1))
    assert image.size == (5, 3)
    assert {image.getpixel((x, y)) for x in range(5) for y in range(3)} == {(64, 64, 64)}
    refused(png(5, 3, 8, 0, rows[:-1], lace=1), "image_unreadable")


def test_an_empty_file_is_refused() -> None:
    refused(b"", "image_empty")


images = [
    saved(photo(48, 40)), saved(photo(48, 40), progressive=True), saved(photo(40, 30), "PNG"),
    saved(photo(40, 30).convert("P"), "PNG"), saved(photo(40, 30), "WEBP"),
    saved(photo(48, 40).convert("CMYK")),
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(images),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 60),
)
def test_damaged_images_are_read_or_refused_and_nothing_else(
    data: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    broken = bytearray(data)
    for at, value in edits:
        broken[at % len(broken)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mutant in (bytes(broken), bytes(broken[: max(1, len(broken) - cut)])):
            try:
                result = run(mutant, pixels=1_000_000)
            except ImageRefused as error:
                code = error.code
                assert code in REFUSALS
            else:
                image = Image.open(io.BytesIO(result.data))
                assert image.mode == "RGB"
                assert max(image.size) <= 256


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", *(data[:30] for data in images)]), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_and_nothing_else(head: bytes, rest: bytes) -> None:
    with pytest.raises(ImageRefused):
        run(head + rest)


# -- too large ------------------------------------------------------------------------------------


def test_the_pixel_limit_is_exact_and_judged_before_decoding() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = saved(photo(100, 50), kind)
        assert run(data, pixels=5000).width == 100
        assert "100 x 50" in refused(data, "image_too_large", pixels=4999).reason
    for lossless in ({"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}):
        refused(saved(photo(100, 50), "WEBP", **lossless), "image_too_large", pixels=4999)


def test_a_small_file_that_holds_a_huge_image_costs_nothing() -> None:
    bombs = [png(13_000, 13_000, 8, 2, b""), png(2**31 - 1, 1, 1, 0, b""), png(1, 10**6, 1, 0, b"")]
    jpeg = bytearray(saved(photo()))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    webp = bytearray(saved(photo(), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 0x0FFF_FFFF)
    begin = time.process_time()
    for bomb in (*bombs, bytes(jpeg), bytes(webp)):
        refused(bomb, "image_too_large")
    assert time.process_time() - begin < 1


def test_a_limit_above_pillows_own_still_ends_in_a_refusal() -> None:
    jpeg = bytearray(saved(photo()))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 30_000, 30_000)
    refused(bytes(jpeg), "image_too_large", pixels=10**9)


def test_a_jpeg_of_endless_scans_is_refused_quickly() -> None:
    data = saved(photo(), progressive=True)
    at = data.rindex(b"\xff\xda")
    begin = time.process_time()
    reason = refused(data[:-2] + data[at:-2] * 5000 + b"\xff\xd9", "image_unreadable").reason
    assert "scans" in reason
    assert time.process_time() - begin < 1


# -- other formats --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ICO", "JPEG2000"])
def test_other_image_formats_are_known_and_refused(kind: str) -> None:
    data = saved(photo(64, 64), kind)
    assert is_image(data[:4096])
    refused(data, "image_type")


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x18ftypcrx \0\0\0\0", b"8BPS\0\1", b"<svg xmlns='x'>", b"\xff\x0a",
        b"P1\n2 2\n1 0", b"Pf\n2 2\n-1.0\n", b"II\xbc\1", b"\x01\xda\1\1", b"\n\5\1\x08",
        b"%!PS-Adobe-3.0", b"\0\0\2" + bytes(9) + b"\x0c\0\x0c\0\x18", b"\x08\0\5\0CS\x0a\0ISO",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->\n<svg>", bytes(128) + b"DICM",
    ],
)  # fmt: skip
def test_formats_that_are_not_read_are_known_too(head: bytes) -> None:
    assert is_image(head)
    refused(head, "image_type")


@pytest.mark.parametrize(
    "head", [b"", b"id,x\n", b"BMI,age\n", b"P1,P2\n", b"II,MM\n", b"RIFF....WAVE", b"<html>"]
)
def test_what_is_no_image_is_not_taken_for_one(head: bytes) -> None:
    assert not is_image(head)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_used_and_the_others_are_counted(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    result = run(data)
    assert (result.width, result.height, result.frames) == (20, 20, 3)
    assert close(shown(data).getpixel((9, 9)), (255, 0, 0))


def test_a_phones_jpeg_with_a_second_view_is_read_as_its_first() -> None:
    data = saved(photo(), "MPO", save_all=True, append_images=[photo(100, 100)])
    result = run(data)
    assert (result.width, result.height) == (320, 200)
    assert result.frames == 1  # previews and maps of light are in such files, too
