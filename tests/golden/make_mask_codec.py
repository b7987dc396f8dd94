"""Makes the golden vectors of the mask codec: `python -m tests.golden.make_mask_codec`.

The bytes come from the plain pixel-by-pixel coders below, not from the codec under test. The file
is for other implementations too:

- `masks`: a mask as spans `[row, first column, column after the last]`, and its bytes as hex in
  each encoding. Encoding must give these bytes and decoding must give the mask. `mono8` is null
  where it would be long.
- `readable`: bytes that an encoder would not write and a decoder must accept.
- `refused`: what a decoder must refuse; `words` are part of our decoders' messages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibnet_core.files import atomic_write

PATH = Path(__file__).with_name("mask_codec.json")
BITS, MONO8, RLE = 1, 2, 3
_SEED = 20
_MOST_MONO8_PIXELS = 1000
_MOST_PIXELS = 2**26

Mask = NDArray[np.bool_]


def build() -> dict[str, Any]:
    """All vectors."""
    return {
        "about": "calibnet_ros mask codec; encodings: 1 bits, 2 mono8, 3 rle",
        "masks": [_mask_vector(name, mask) for name, mask in _masks().items()],
        "readable": _readable(),
        "refused": _refused(),
    }


def drawn(*rows: str) -> Mask:
    """Turn rows of '#' and '.' into a mask."""
    return np.array([[character == "#" for character in row] for row in rows])


def _masks() -> dict[str, Mask]:
    generator = np.random.default_rng(_SEED)
    ring = np.zeros((12, 20), np.bool_)
    ring[1:11, 2:18] = True
    ring[4:8, 6:13] = False
    late = np.zeros((150, 130), np.bool_)
    late[140:, 100:] = True
    return {
        "one pixel, outside": drawn("."),
        "one pixel, inside": drawn("#"),
        "one row, width not a multiple of 8": drawn(".##..###."),
        "one column": drawn("#", ".", "#", "#"),
        "first pixel inside, runs cross rows": drawn("##.", "..#"),
        "exactly one byte": drawn("#......#"),
        "exactly two bytes": drawn("#......##......#", "................"),
        "a ring: a hole": ring,
        "two pieces": drawn("##.....", "##...##", ".....##"),
        "checkerboard": np.indices((5, 9)).sum(axis=0) % 2 == 1,
        "nothing inside": np.zeros((7, 11), np.bool_),
        "all inside": np.ones((7, 11), np.bool_),
        "run of 127: one byte": np.ones((1, 127), np.bool_),
        "run of 128: two bytes": np.ones((2, 64), np.bool_),
        "run of 16383: two bytes": np.ones((129, 127), np.bool_),
        "run of 16384: three bytes": np.ones((128, 128), np.bool_),
        "background of 18300, then 30 a row": late,
        "noise, half": generator.random((13, 21)) < 0.5,
        "noise, sparse": generator.random((24, 33)) < 0.03,
        "noise, dense": generator.random((17, 8)) < 0.95,
    }


def _readable() -> list[dict[str, Any]]:
    cases = [
        ("padding bits set", BITS, drawn("#.#"), "bf"),
        ("any grey but 0 is inside", MONO8, drawn(".##"), "00 01 80"),
        ("a number longer than it must be", RLE, drawn("..#"), "82 00 81 80 80 80 00"),
        ("an empty first run longer than it must be", RLE, drawn("##"), "80 00 02"),
    ]
    return [
        {
            "name": name,
            **_size(mask),
            "encoding": encoding,
            "data": _hex(data),
            "spans": _spans(mask),
        }
        for name, encoding, mask, data in cases
    ]


def _refused() -> list[dict[str, Any]]:
    size, takes, add_up = "is refused", "takes", "must add up to 6 pixels"
    cut, long, empty = "stop within a number", "more than 5", "an empty run"
    cases = [
        # name, height, width, encoding, data, words
        ("height 0", 0, 3, BITS, "", size),
        ("width 0", 3, 0, BITS, "", size),
        ("more pixels than allowed", _MOST_PIXELS, 2, RLE, "00", size),
        ("one pixel more than allowed", 1, _MOST_PIXELS + 1, RLE, "81 80 80 20", size),
        ("a product that wraps around 64 bits", 2**32, 2**32, RLE, "00", size),
        ("sides that fit no 32 bits", 2**32 + 2, 1, BITS, "80 80", size),
        ("bits: nothing", 2, 3, BITS, "", takes),
        ("bits: one byte short", 2, 9, BITS, "ff 80 ff", takes),
        ("bits: one byte more", 2, 3, BITS, "e0 e0 00", takes),
        ("mono8: one byte short", 2, 3, MONO8, "00 00 00 00 00", takes),
        ("mono8: one byte more", 2, 3, MONO8, "00 00 00 00 00 00 00", takes),
        ("mono8: the largest size, no data", 2**13, 2**13, MONO8, "", takes),
        ("rle: nothing", 2, 3, RLE, "", cut),
        ("rle: ends in a number", 2, 3, RLE, "80", cut),
        ("rle: ends in the second number", 2, 3, RLE, "03 80", cut),
        ("rle: too few pixels", 2, 3, RLE, "05", add_up),
        ("rle: too many pixels", 2, 3, RLE, "07", add_up),
        ("rle: a run of 2**32 - 1", 2, 3, RLE, "ff ff ff ff 0f", add_up),
        ("rle: the largest runs, many", 2, 3, RLE, "ff ff ff ff 7f " * 64, add_up),
        ("rle: a number of 6 bytes", 2, 3, RLE, "80 80 80 80 80 01", long),
        ("rle: a long number of 0", 2, 3, RLE, "06 80 80 80 80 80 80 80 80 80 80 00", long),
        ("rle: an empty run inside", 2, 3, RLE, "03 00 03", empty),
        ("rle: an empty run at the end", 2, 3, RLE, "06 00", empty),
        ("rle: an empty run in two bytes", 2, 3, RLE, "06 80 00", empty),
        ("rle: two empty runs", 2, 3, RLE, "00 00 06", empty),
        ("encoding none", 2, 3, 0, "", "carries no pixels"),
        ("unknown encoding", 2, 3, 4, "06", "mask_encoding 4 is unknown"),
        ("the largest encoding", 2, 3, 255, "06", "mask_encoding 255 is unknown"),
        ("a bad size comes before a bad encoding", 0, 3, 9, "", size),
    ]
    names = ("name", "height", "width", "encoding", "data", "words")
    vectors = [dict(zip(names, case, strict=True)) for case in cases]
    return [{**vector, "data": _hex(str(vector["data"]))} for vector in vectors]


def _mask_vector(name: str, mask: Mask) -> dict[str, Any]:
    is_small = mask.size <= _MOST_MONO8_PIXELS
    return {
        "name": name,
        **_size(mask),
        "spans": _spans(mask),
        "bits": _bits(mask).hex(),
        "mono8": bytes(255 * int(pixel) for pixel in mask.ravel()).hex() if is_small else None,
        "rle": plain_runs(mask).hex(),
    }


def _bits(mask: Mask) -> bytes:
    data = bytearray()
    for row in mask:
        text = "".join("1" if pixel else "0" for pixel in row)
        padded = text + "0" * (-len(text) % 8)
        data += bytes(int(padded[start : start + 8], 2) for start in range(0, len(padded), 8))
    return bytes(data)


def plain_runs(mask: Mask) -> bytes:
    """Run lengths, pixel by pixel."""
    runs, inside = [0], False
    for pixel in mask.ravel():
        if pixel != inside:
            runs.append(0)
            inside = not inside
        runs[-1] += 1
    data = bytearray()
    for run in runs:
        while run > 0x7F:
            data.append(run & 0x7F | 0x80)
            run >>= 7
        data.append(run)
    return bytes(data)


def _spans(mask: Mask) -> list[list[int]]:
    spans = []
    for index, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([False], row, [False])).astype(np.int8)))
        pairs = edges.reshape(-1, 2)
        spans += [[index, int(first), int(end)] for first, end in pairs]
    return spans


def _size(mask: Mask) -> dict[str, int]:
    return {"height": mask.shape[0], "width": mask.shape[1]}


def _hex(text: str) -> str:
    return bytes.fromhex(text).hex()


def to_json(vectors: dict[str, Any]) -> str:
    """One line a vector, so that a change is seen in a diff."""
    parts = [f'  "about": {json.dumps(vectors["about"])}']
    for group in ("masks", "readable", "refused"):
        lines = ",\n".join(f"    {json.dumps(vector)}" for vector in vectors[group])
        parts.append(f'  "{group}": [\n{lines}\n  ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    with atomic_write(PATH, "w") as file:
        file.write(to_json(build()))
