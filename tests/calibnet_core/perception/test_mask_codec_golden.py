"""The golden vectors of the mask codec, read by both implementations, which must agree."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calibnet_core.perception.mask_codec import (
    MaskEncoding,
    MaskFormatError,
    decode_mask,
    encode_mask,
)
from tests.golden.make_mask_codec import PATH, build
from tests.support.shared import REPOSITORY

VECTORS: dict[str, Any] = json.loads(PATH.read_text())
ENCODINGS = (MaskEncoding.BITS, MaskEncoding.MONO8, MaskEncoding.RLE)
COMPILE = ["c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZERS = ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FUZZ_ROUNDS = 20_000


def mask_of(vector: dict[str, Any]) -> NDArray[np.bool_]:
    mask = np.zeros((vector["height"], vector["width"]), np.bool_)
    for row, first, end in vector["spans"]:
        mask[row, first:end] = True
    return mask


def by_name(group: str) -> Any:
    return pytest.mark.parametrize("vector", VECTORS[group], ids=lambda vector: vector["name"])


def test_the_file_is_what_the_plain_coders_make() -> None:
    assert build() == VECTORS


@by_name("masks")
def test_python_encodes_to_the_golden_bytes_and_back(vector: dict[str, Any]) -> None:
    mask = mask_of(vector)
    for encoding in ENCODINGS:
        if (golden := vector[encoding.name.lower()]) is not None:
            assert encode_mask(mask, encoding).hex() == golden
            decoded = decode_mask(bytes.fromhex(golden), *mask.shape, encoding)
            np.testing.assert_array_equal(decoded, mask)


@by_name("readable")
def test_python_accepts_what_another_encoder_may_write(vector: dict[str, Any]) -> None:
    size = vector["height"], vector["width"]
    decoded = decode_mask(bytes.fromhex(vector["data"]), *size, vector["encoding"])
    np.testing.assert_array_equal(decoded, mask_of(vector))


@by_name("refused")
def test_python_refuses_what_makes_no_sense(vector: dict[str, Any]) -> None:
    size = vector["height"], vector["width"]
    with pytest.raises(MaskFormatError, match=vector["words"]):
        decode_mask(bytes.fromhex(vector["data"]), *size, vector["encoding"])


# --- C++ ----------------------------------------------------------------------------------------


def line(name: str, height: int, width: int, encoding: int, data: bytes, *verdict: str) -> str:
    """One vector in the form that tests/cpp/mask_codec_test.cpp reads."""
    fields = (name, height, width, int(encoding), data.hex() or "-", *verdict)
    return "\t".join(map(str, fields)) + "\n"


def digits(mask: NDArray[np.bool_]) -> str:
    return "".join("1" if pixel else "0" for pixel in mask.ravel())


def golden_lines() -> Iterator[str]:
    for vector in VECTORS["masks"]:
        mask = mask_of(vector)
        for encoding in ENCODINGS:
            name = f"{vector['name']} ({encoding.name})"
            data = encode_mask(mask, encoding)  # golden by the tests above, also where left out
            yield line(name, *mask.shape, encoding, data, "both", digits(mask))
    for vector in VECTORS["readable"]:
        mask, data = mask_of(vector), bytes.fromhex(vector["data"])
        yield line(vector["name"], *mask.shape, vector["encoding"], data, "decode", digits(mask))
    for vector in VECTORS["refused"]:
        size, data = (vector["height"], vector["width"]), bytes.fromhex(vector["data"])
        yield line(vector["name"], *size, vector["encoding"], data, "refuse", vector["words"])


def lines_that_only_python_has_judged(count: int) -> Iterator[str]:
    """Random and damaged data with what Python made of them, messages included."""
    generator = np.random.default_rng(8)
    for index in range(count):
        height, width = (int(side) for side in generator.integers(1, 7, 2))
        encoding = MaskEncoding(int(generator.integers(0, 4)))
        mask = generator.random((height, width)) < generator.choice([0.1, 0.5, 0.9])
        data = bytearray(encode_mask(mask, encoding))
        for place in generator.integers(0, len(data) + 1, generator.integers(0, 4)):
            # Bytes next to what counts in run lengths: nothing, one, the largest, to be continued.
            data[place : place + int(generator.integers(0, 2))] = generator.choice(
                [b"", b"\x00", b"\x01", b"\x80", b"\xff", b"\x7f"]
            )
        try:
            decoded = decode_mask(data, height, width, encoding)
            verdict = ("decode", digits(decoded))
        except MaskFormatError as error:
            verdict = ("refuse", str(error))
        yield line(f"random {index}", height, width, encoding, bytes(data), *verdict)


def build_program(folder: Path, *flags: str) -> Path:
    if shutil.which("c++") is None:
        pytest.skip("needs a C++ compiler")
    program = folder / "mask_codec_test"
    source = REPOSITORY / "tests" / "cpp" / "mask_codec_test.cpp"
    command = [*COMPILE, *flags, f"-I{REPOSITORY / 'include'}", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -lasan" in built.stderr or "cannot find libasan" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    return program


@pytest.mark.parametrize("flags", [(), tuple(SANITIZERS)], ids=["plain", "sanitized"])
def test_cpp_passes_the_vectors_agrees_with_python_and_survives_noise(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    program = build_program(tmp_path, *flags)
    lines = [*golden_lines(), *lines_that_only_python_has_judged(3000)]
    assert {text.split("\t")[5] for text in lines} == {"both", "decode", "refuse"}
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(lines))
    command = [program, vectors, "3", str(FUZZ_ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout == f"{len(lines)} vectors, 0 failures\n"
