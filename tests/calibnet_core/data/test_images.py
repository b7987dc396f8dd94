from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from calibnet_core.data.images import load_depth, load_rgb
from calibnet_core.structures import FrameError

RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
DEPTH_MM = np.array([[0, 1, 1234], [65535, 500, 70]], np.uint16)


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares a huge image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_colour_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(load_rgb(save(tmp_path / f"a{suffix}", RGB)), RGB)


def test_grey_and_transparent_images_become_colour(tmp_path: Path) -> None:
    grey = load_rgb(save(tmp_path / "grey.png", RGB[..., 0].copy()))
    np.testing.assert_array_equal(grey, RGB[..., :1].repeat(3, axis=2))
    rgba = np.dstack([RGB, np.full((4, 6), 7, np.uint8)])
    np.testing.assert_array_equal(load_rgb(save(tmp_path / "rgba.png", rgba)), RGB)


def test_a_rotated_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture needs a quarter turn clockwise
    path = save(tmp_path / "turned.png", RGB, exif=exif)
    np.testing.assert_array_equal(load_rgb(path), np.rot90(RGB, -1))


def test_a_depth_image_is_no_colour_image(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="give the 8-bit colour image"):
        load_rgb(save(tmp_path / "depth.png", DEPTH_MM))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", DEPTH_MM),
        ("a.tif", DEPTH_MM),
        ("a.tif", DEPTH_MM.astype(np.int32)),
        ("a.npy", DEPTH_MM),
        ("a.npy", DEPTH_MM.astype(np.uint32)),
    ],
    ids=["png16", "tiff16", "tiff32", "npy16", "npy32"],
)
def test_integers_are_scaled_to_metres_and_zero_is_unmeasured(
    tmp_path: Path, name: str, values: np.ndarray
) -> None:
    path = tmp_path / name
    np.save(path, values) if path.suffix == ".npy" else save(path, values)
    depth = load_depth(path, scale_m=0.001)
    expected = np.array([[np.nan, 0.001, 1.234], [65.535, 0.5, 0.07]], np.float32)
    assert depth.keys() == {"depth_m"}
    assert depth["depth_m"].dtype == np.float32
    np.testing.assert_array_equal(depth["depth_m"], expected)
    tenth = load_depth(path, scale_m=0.0001)["depth_m"]
    np.testing.assert_allclose(tenth, expected / 10, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_numbers_are_metres_whatever_the_scale(tmp_path: Path, dtype: type) -> None:
    values = np.array([[0.5, np.nan, np.inf], [-1.0, 0.0, 4.0]], dtype)
    np.save(tmp_path / "a.npy", values)
    paths = [tmp_path / "a.npy"]
    if dtype is np.float32:
        paths.append(save(tmp_path / "a.tiff", values))
    for path in paths:
        depth_m = load_depth(path, scale_m=0.001)["depth_m"]
        np.testing.assert_array_equal(
            depth_m, np.array([[0.5, np.nan, np.nan], [np.nan, np.nan, 4.0]], np.float32)
        )


def test_eight_bit_maps_stay_unchanged_in_one_or_three_channels(tmp_path: Path) -> None:
    grey = RGB[..., 0].copy()
    for name, pixels in (("one", grey), ("three", np.dstack([grey] * 3))):
        depth = load_depth(save(tmp_path / f"{name}.png", pixels))
        assert depth.keys() == {"depth_map"}
        np.testing.assert_array_equal(depth["depth_map"], grey)
    np.save(tmp_path / "grey.npy", grey)
    np.testing.assert_array_equal(load_depth(tmp_path / "grey.npy")["depth_map"], grey)


def test_a_grey_jpeg_saved_in_colour_is_still_grey(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    path = save(tmp_path / "grey.jpg", np.dstack([ramp] * 3), quality=90)
    assert np.abs(load_depth(path)["depth_map"].astype(int) - ramp).max() < 12


def test_a_coloured_picture_of_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="looks like a coloured picture of depth"):
        load_depth(save(tmp_path / "turbo.png", RGB * 3))


@pytest.mark.parametrize("load", [load_rgb, load_depth])
def test_damaged_files_are_named(tmp_path: Path, load) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3)).astype(np.uint8)
    whole = save(tmp_path / "whole.png", noise).read_bytes()
    files = {
        "truncated.png": (whole[: len(whole) // 2], "damaged or cut off"),
        "text.png": (b"just a text file\n" * 20, "is no image"),
        "empty.png": (b"", "is no image"),
        "broken.png": (whole[:60] + b"\xff" * 40 + whole[100:], "damaged or cut off|is no image"),
    }
    for name, (content, words) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FrameError, match=words) as caught:
            load(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(FrameError, match="no such file"):
        load(tmp_path / "missing.png")
    with pytest.raises(FrameError, match="give a file"):
        load(tmp_path)


@pytest.mark.parametrize("load", [load_rgb, load_depth])
# Pillow warns in its own words before this code refuses.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_before_memory_is_taken(tmp_path: Path, load) -> None:
    for side in (9_000, 11_000, 200_000):
        (tmp_path / "bomb.png").write_bytes(bomb(side, side))
        with pytest.raises(FrameError, match=r"bomb\.png: declares"):
            load(tmp_path / "bomb.png")


def test_numpy_files_that_are_no_depth_are_refused(tmp_path: Path) -> None:
    cases = {
        "three.npy": np.zeros((2, 3, 1), np.float32),
        "complex.npy": np.zeros((2, 3), complex),
        "object.npy": np.array([[{}]], dtype=object),
        "nothing.npy": np.zeros((0, 4), np.float32),
    }
    for name, values in cases.items():
        np.save(tmp_path / name, values, allow_pickle=True)
        with pytest.raises(FrameError, match=name):
            load_depth(tmp_path / name)


def test_a_numpy_header_that_lies_about_the_size_takes_no_memory(tmp_path: Path) -> None:
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (8_000, 8_000)}
    np.lib.format.write_array_header_1_0(stream, header)
    (tmp_path / "lie.npy").write_bytes(stream.getvalue() + bytes(64))
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match=r"lie\.npy"):
            load_depth(tmp_path / "lie.npy")
        assert tracemalloc.get_traced_memory()[1] < 8_000 * 8_000
    finally:
        tracemalloc.stop()
    (tmp_path / "text.npy").write_text("0.5 0.6\n")
    with pytest.raises(FrameError, match="no readable numpy array"):
        load_depth(tmp_path / "text.npy")


class _Trap:
    sprung = False

    def __reduce__(self):
        return _spring, ()


def _spring() -> None:
    _Trap.sprung = True


def test_a_pickle_under_the_name_of_a_numpy_file_is_not_executed(tmp_path: Path) -> None:
    (tmp_path / "trap.npy").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(FrameError, match="no readable numpy array"):
        load_depth(tmp_path / "trap.npy")
    assert not _Trap.sprung


@pytest.mark.parametrize("scale_m", [0.0, -0.001, float("nan"), float("inf")])
def test_impossible_scales_are_refused(tmp_path: Path, scale_m: float) -> None:
    with pytest.raises(FrameError, match=r"choose a number above 0, 0\.001 for mm"):
        load_depth(save(tmp_path / "a.png", DEPTH_MM), scale_m=scale_m)


@given(content=st.binary(max_size=300), is_npy=st.booleans())
def test_arbitrary_bytes_give_a_frame_error(tmp_path_factory, content: bytes, is_npy: bool) -> None:
    prefix = b"\x93NUMPY\x01\x00" if is_npy else b"\x89PNG\r\n\x1a\n"
    path = tmp_path_factory.mktemp("bytes") / ("a.npy" if is_npy else "a.png")
    path.write_bytes(prefix + content)
    with pytest.raises(FrameError, match=path.name):
        load_depth(path)
