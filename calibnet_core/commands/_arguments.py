"""Arguments that commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--data` and `--root`, which name a labelled set."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="an rgbd-coco file, its folder, or the name of a published set",
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="where published sets are")
