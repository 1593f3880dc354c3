"""TIFF, HEIC, AVIF, GIF, BMP, Netpbm: as whole, as upright and as careful as the others."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from mm_assets.contract.errors import REFUSALS
from mm_assets.reading.images import ImageRefused, is_image
from mm_assets.reading.images.formats import SUFFIX, SUFFIXES, USED
from tests.reading import heic_files as heic
from tests.reading.test_images import chunk, close, photo, png, refused, run, saved, shown

WRITTEN: dict[str, bytes] = {
    "tiff": saved(photo(96, 64), "TIFF"),
    "tiff lzw": saved(photo(96, 64), "TIFF", compression="tiff_lzw"),
    "tiff deflate": saved(photo(96, 64), "TIFF", compression="tiff_adobe_deflate"),
    "tiff packbits": saved(photo(96, 64), "TIFF", compression="packbits"),
    "tiff jpeg": saved(photo(96, 64), "TIFF", compression="jpeg", quality=95),
    "tiff big": saved(photo(96, 64), "TIFF", big_tiff=True),
    "tiff grey": saved(photo(96, 64).convert("L"), "TIFF"),
    "gif": saved(photo(96, 64), "GIF"),
    "bmp": saved(photo(96, 64), "BMP"),
    "bmp grey": saved(photo(96, 64).convert("L"), "BMP"),
    "ppm": saved(photo(96, 64), "PPM"),
    "pgm": saved(photo(96, 64).convert("L"), "PPM"),
    "avif": saved(photo(96, 64), "AVIF", quality=90),
    "heic": heic.PLAIN,
    "heic twelve bits": heic.TEN_BITS,
    "heic turned": heic.TURNED,
}


@pytest.mark.parametrize("name", WRITTEN)
def test_each_format_comes_out_as_it_went_in(name: str) -> None:
    data = WRITTEN[name]
    assert is_image(data[:4096])
    result = run(data)
    turned = name == "heic turned"
    assert (result.width, result.height) == ((64, 96) if turned else (96, 64))
    assert result.frames == 1
    image = shown(data)
    right, low = image.width - 2, image.height - 2
    if "grey" not in name and name != "pgm":
        assert close(image.getpixel((1, 1)), (255, 0, 0), 12)
        assert close(image.getpixel((right, 1)), (0, 255, 0), 12)
        assert close(image.getpixel((1, low)), (0, 0, 255), 12)
    assert close(image.getpixel((right, low)), (255, 255, 255), 12)


def test_a_large_one_comes_out_small() -> None:
    for kind in ("TIFF", "BMP", "AVIF", "GIF"):
        result = run(saved(photo(1200, 600), kind))
        assert Image.open(io.BytesIO(result.data)).size == (256, 128)


def test_each_format_that_is_used_has_an_ending() -> None:
    assert set(SUFFIX) == set(USED)
    assert set(SUFFIX.values()) <= set(SUFFIXES)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientations_are_turned_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90,
             8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = photo(96, 64).transpose(turns[orientation]) if orientation > 1 else photo(96, 64)
    result = run(saved(stored, kind, exif=exif, **({"quality": 95} if kind == "AVIF" else {})))
    assert (result.width, result.height) == (96, 64)
    upright = Image.open(io.BytesIO(result.data))
    assert close(upright.getpixel((2, 2)), (255, 0, 0), 20)
    assert close(upright.getpixel((93, 2)), (0, 255, 0), 20)


def test_what_is_transparent_in_a_gif_a_tiff_or_an_avif_becomes_white() -> None:
    clear = Image.new("RGBA", (40, 40), (10, 200, 30, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 20, 40))
    for kind in ("GIF", "TIFF", "AVIF"):
        image = shown(saved(clear, kind, **({"quality": 100} if kind == "AVIF" else {})))
        assert close(image.getpixel((35, 5)), (255, 255, 255), 3)
        assert close(image.getpixel((5, 5)), (255, 0, 0), 3)


# -- the first of several -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "AVIF"])
def test_the_first_of_several_is_used_and_they_are_counted(kind: str) -> None:
    pages = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "lime")]
    data = saved(pages[0], kind, save_all=True, append_images=pages[1:])
    result = run(data)
    assert result.frames == 3
    assert close(shown(data).getpixel((9, 9)), (255, 0, 0), 4)


def test_the_images_of_a_heic_are_counted() -> None:
    assert run(heic.THREE).frames == 3
    assert (run(heic.THREE).width, run(heic.THREE).height) == (96, 64)


def test_a_thumbnail_in_a_tiff_is_no_page() -> None:
    whole, small = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (8, 8), "red")
    small.encoderinfo = {"tiffinfo": {254: 1}}
    buffer = io.BytesIO()
    whole.save(buffer, "TIFF", save_all=True, append_images=[small])
    assert run(buffer.getvalue()).frames == 1


# -- more than eight bits -------------------------------------------------------------------------


def tiff(
    values: np.ndarray, tags: dict[int, tuple[int, int]] | None = None, order: str = "<"
) -> bytes:
    """A TIFF of one strip. tags: more of them, or others: number to (type, value)."""
    kinds = {"u": 1, "i": 2, "f": 3}
    height, width = values.shape
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    entries = {
        256: (4, width), 257: (4, height), 258: (3, values.dtype.itemsize * 8), 259: (3, 1),
        262: (3, 1), 273: (4, 8), 277: (3, 1), 278: (4, height), 279: (4, len(pixels)),
        339: (3, kinds[values.dtype.kind]), **(tags or {}),
    }  # fmt: skip
    made = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(pixels))
    made += pixels + struct.pack(order + "H", len(entries))
    for tag, (kind, value) in sorted(entries.items()):
        small = struct.pack(order + ("H" if kind == 3 else "I"), value)
        made += struct.pack(order + "HHI", tag, kind, 1) + small.ljust(4, b"\0")
    return made + bytes(4)


def ramp(highest: int, kind: Any = np.uint16) -> np.ndarray:
    return np.linspace(0, highest, 64 * 64).reshape(64, 64).astype(kind)


def grey(data: bytes) -> np.ndarray:
    """[height, width]; every channel is alike."""
    pixels = np.asarray(shown(data))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF MM"])
def test_grey_in_16_bits_is_white_where_its_own_depth_is_full(bits: int, kind: str) -> None:
    values = ramp((1 << bits) - 1)
    data = (
        saved(Image.fromarray(values), "PNG")
        if kind == "PNG"
        else tiff(values, order=">" if kind == "TIFF MM" else "<")
    )
    assert np.array_equal(grey(data), values >> (bits - 8))


@pytest.mark.parametrize("highest", [3000, 4095])
def test_a_dark_image_of_a_camera_is_as_dark_as_its_bright_one(highest: int) -> None:
    assert grey(tiff(ramp(highest))).max() == highest >> 4


def test_what_the_file_says_of_its_highest_value_counts() -> None:
    dark = ramp(900)
    assert grey(tiff(dark)).max() == 900 >> 2
    assert grey(tiff(dark, {281: (3, 4095)})).max() == 900 >> 4
    assert grey(tiff(dark, {281: (3, 65535)})).max() == 900 >> 8
    assert grey(tiff(dark, {281: (3, 100)})).max() == 900 >> 2  # it says what cannot be


def test_significant_bits_of_a_png_count() -> None:
    def with_sbit(values: np.ndarray, bits: int) -> bytes:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        return png(64, 64, 16, 0, rows, chunk(b"sBIT", bytes([bits])))

    assert grey(with_sbit(ramp(900), 12)).max() == 900 >> 4
    assert grey(with_sbit(ramp(4095) << 4, 12)).max() == 255
    assert grey(with_sbit(ramp(200) << 4, 12)).max() == 200 >> 4


@pytest.mark.parametrize("step", [16, 257])
def test_values_that_were_moved_up_to_16_bits_stay_as_dark_as_they_were(step: int) -> None:
    values = (ramp(14_000) // step * step).astype(np.uint16)
    assert grey(tiff(values)).max() == values.max() >> 8


def test_white_is_zero_is_turned_round() -> None:
    values = ramp(65_535)
    assert np.array_equal(grey(tiff(values, {262: (3, 0)})), 255 - (values >> 8))


def test_a_mask_of_two_values_is_not_black() -> None:
    values = np.zeros((64, 64), np.uint16)
    values[:, 32:] = 128
    assert set(grey(tiff(values)).ravel()) == {0, 128}


def test_twelve_bits_that_lie_close_are_read() -> None:
    values = ramp(4095)
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8,
                       pairs[:, 1] & 255], 1).astype(np.uint8)  # fmt: skip
    data = tiff(packed.reshape(64, 96), {256: (4, 64), 258: (3, 12)})
    assert np.array_equal(grey(data), values >> 4)


@pytest.mark.parametrize("high", [1.0, 0.6, 255.0, 4095.0, 65_535.0, 1e9, 1e-6])
def test_floats_are_neither_black_nor_white(high: float) -> None:
    values = (np.linspace(0, high, 64 * 64) ** 1).reshape(64, 64).astype(np.float32)
    pixels = grey(tiff(values))
    assert pixels.min() == 0
    assert pixels.max() == (153 if high == 0.6 else 255)
    assert len(set(pixels.ravel())) > 100


def test_values_below_zero_reach_from_the_lowest_to_the_highest() -> None:
    values = np.linspace(-1000, 3000, 64 * 64).reshape(64, 64)
    for kind in (np.int16, np.int32, np.float32):
        pixels = grey(tiff(values.astype(kind)))
        assert (pixels.min(), pixels.max()) == (0, 255)
        assert abs(int(pixels[16, 0]) - 64) <= 1


def test_unsigned_values_of_32_bits_do_not_turn_round() -> None:
    pixels = grey(tiff(np.linspace(0, 4e9, 64 * 64).reshape(64, 64).astype(np.uint32)))
    assert (np.diff(pixels.ravel().astype(int)) >= 0).all()
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_what_is_no_number_is_black_and_an_image_of_it_is_refused() -> None:
    values = ramp(1, np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    pixels = grey(tiff(values))
    assert (pixels[0, 0], pixels[0, 1], pixels[63, 63]) == (0, 255, 255)
    refused(tiff(np.full((4, 4), np.nan, np.float32)), "image_unreadable")


def test_grey_of_netpbm_is_as_white_as_it_says() -> None:
    pixels = struct.pack(">4H", 0, 256, 512, 1023)
    assert list(grey(b"P5 4 1 1023\n" + pixels)[0]) == [0, 64, 128, 255]
    dark = struct.pack(">4H", 0, 1, 2, 4)
    assert list(grey(b"P5 4 1 1023\n" + dark)[0]) == [0, 0, 0, 1]


# -- colours --------------------------------------------------------------------------------------


def matrix_profile(red: tuple[float, float], green: tuple[float, float]) -> bytes:
    """An RGB profile of version 2, of primaries x and y beside the blue and the curve of sRGB."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (red, green, (0.15, 0.06))]).T
    white = np.array([0.3127 / 0.329, 1, (1 - 0.3127 - 0.329) / 0.329])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367],
                         [0.0389, -0.0685, 1.0296]])  # fmt: skip
    to = bradford @ np.array([0.9642, 1, 0.8249])
    adapt = np.linalg.inv(bradford) @ np.diag(to / (bradford @ white)) @ bradford
    columns = (adapt @ (xyz * np.linalg.solve(xyz, white))).T
    fixed = lambda values: b"".join(struct.pack(">i", round(v * 65536)) for v in values)  # noqa: E731
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed((0.9642, 1, 0.8249))}
    for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
        tags[name + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(column)
        tags[name + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"a\0" + bytes(78)
    tags[b"cprt"] = b"text\0\0\0\0none\0\0\0\0"
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + fixed((0.9642, 1, 0.8249)) + bytes(48)
    return struct.pack(">I", at + len(body)) + header[4:] + table + body


WIDE = matrix_profile((0.68, 0.32), (0.265, 0.69))  # Display P3, as phones use it
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_wide_gamut_becomes_srgb(kind: str) -> None:
    image = Image.new("RGB", (64, 64), (200, 100, 100))
    options: dict[str, Any] = {"quality": 95, "lossless": True} if kind != "TIFF" else {}
    plain = shown(saved(image, kind, **options)).getpixel((9, 9))
    wide = shown(saved(image, kind, icc_profile=WIDE, **options)).getpixel((9, 9))
    assert close(plain, (200, 100, 100), 3)
    # (200, 100, 100) of Display P3 in sRGB, from the two matrices.
    assert close(wide, (214, 94, 97), 5)


def test_a_profile_that_is_srgb_changes_no_byte() -> None:
    image = photo(300, 200)
    for kind in ("JPEG", "PNG", "WEBP"):
        with_one = run(saved(image, kind, icc_profile=SRGB))
        assert with_one == run(saved(image, kind))
        assert with_one == run(saved(image, kind, icc_profile=b"no profile at all"))
        assert with_one == run(saved(image, kind, icc_profile=WIDE[:200]))


def test_lab_becomes_srgb() -> None:
    lab = ImageCms.profileToProfile(
        photo(96, 64), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )  # fmt: skip
    image = shown(saved(lab, "TIFF"))
    difference = np.asarray(image, np.int16) - np.asarray(photo(96, 64), np.int16)
    assert np.abs(difference).mean() < 4


def test_ink_without_a_profile_becomes_the_light_it_leaves() -> None:
    flat = Image.new("CMYK", (16, 16), (40, 80, 120, 60))
    expected = [(255 - ink) * 195 / 255 for ink in (40, 80, 120)]
    assert np.abs(np.asarray(shown(saved(flat, "TIFF"))) - np.array(expected)).max() <= 2


# -- cut short, damaged, hostile ------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_one_that_is_cut_short_anywhere_is_refused(name: str) -> None:
    data = WRITTEN[name]
    lengths = {*range(1, len(data), max(1, len(data) // 40)), *range(len(data) - 12, len(data))}
    for length in sorted(lengths):
        if name.startswith("tiff") and data[length:].strip(b"\0") == b"":
            continue  # to an even length
        with pytest.raises(ImageRefused) as caught:
            run(data[:length])
        assert caught.value.code in ("image_unreadable", "image_type")
        assert caught.value.code == "image_unreadable" or length < 32


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "TIFF"])
def test_one_of_several_that_is_cut_short_anywhere_is_refused(kind: str) -> None:
    pages = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "lime")]
    data = saved(pages[0], kind, save_all=True, append_images=pages[1:])
    for length in range(40, len(data) - 2, len(data) // 30):
        refused(data[:length], "image_unreadable")


@pytest.mark.parametrize("name", ["gif", "bmp", "ppm", "avif", "heic", "tiff"])
def test_bytes_after_the_image_are_ignored(name: str) -> None:
    assert run(WRITTEN[name] + b"\0\1film\n" * 1000) == run(WRITTEN[name])


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(list(WRITTEN.values())),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 60),
)
def test_damaged_images_are_read_or_refused_and_nothing_else(
    data: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    broken = bytearray(data)
    for at, value in edits:
        broken[at % min(len(broken), 900)] = value
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


def test_the_pixel_limit_is_exact_and_judged_before_decoding() -> None:
    for name in ("tiff", "gif", "bmp", "ppm", "avif", "heic"):
        assert run(WRITTEN[name], pixels=96 * 64).width == 96
        assert "96 x 64" in refused(WRITTEN[name], "image_too_large", pixels=96 * 64 - 1).reason


def test_a_small_file_that_holds_a_huge_image_is_refused_before_it_is_decoded() -> None:
    values = np.zeros((2, 2), np.uint8)
    refused(tiff(values, {256: (4, 60_000), 257: (4, 60_000)}), "image_too_large")
    gif = bytearray(WRITTEN["gif"])
    gif[6:10] = b"\xff\xff\xff\xff"
    refused(bytes(gif), "image_too_large")
    bmp = bytearray(WRITTEN["bmp"])
    bmp[18:26] = struct.pack("<ii", 50_000, -50_000)
    refused(bytes(bmp), "image_too_large")
    refused(b"P6 50000 50000 255\n", "image_too_large")
    for whole in (WRITTEN["heic"], WRITTEN["avif"]):
        at = whole.index(b"ispe") + 8
        huge = whole[:at] + struct.pack(">II", 60_000, 60_000) + whole[at + 8 :]
        refused(huge, "image_too_large")


def test_pages_that_go_round_in_a_circle_are_refused() -> None:
    data = tiff(np.zeros((2, 2), np.uint8))
    refused(data[:-4] + struct.pack("<I", 12), "image_unreadable")


# -- what is not taken ----------------------------------------------------------------------------


@pytest.mark.parametrize("tags", [{50706: (4, 1)}, {262: (3, 32803)}, {259: (3, 34713)}])
def test_a_cameras_raw_image_is_not_taken_for_its_thumbnail(
    tags: dict[int, tuple[int, int]],
) -> None:
    error = refused(tiff(ramp(100, np.uint8), tags), "image_type")
    assert "camera raw" in error.reason
    assert "JPEG" in error.reason


def test_a_tiff_that_pillow_does_not_read_is_refused_in_words() -> None:
    data = tiff(np.zeros((8, 10), np.uint8), {256: (4, 8), 258: (3, 10)})
    reason = refused(data, "image_unreadable").reason
    assert "Pillow does not read (10 bits a value)" in reason
    values = np.zeros((8, 10), np.float32)
    reason = refused(tiff(values, {277: (3, 5), 259: (3, 34887)}), "image_unreadable").reason
    assert "(32 bits a value, 5 values a pixel, floats, LERC inside)" in reason


def test_what_is_not_taken_says_what_to_do() -> None:
    assert "window" in refused(bytes(128) + b"DICM", "image_type").reason
    assert "render" in refused(b"<svg xmlns='x'>", "image_type").reason
    assert "develop" in refused(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "image_type").reason
