"""`calibnet convert-weights`: published checkpoints become this project's safetensors files."""

from __future__ import annotations

import argparse
from pathlib import Path

from calibnet_core.config import MODELS, ConfigError

SUMMARY = "Convert a published checkpoint to safetensors, which holds nothing but tensors."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("source", metavar="IN", type=Path, help="a .pth or .safetensors file")
    parser.add_argument("target", metavar="OUT.safetensors", type=Path, help="the file to write")
    parser.add_argument(
        "--model",
        required=True,
        choices=sorted(MODELS),
        metavar="NAME",
        help=f"the model that the weights are of: {', '.join(sorted(MODELS))}",
    )


def run(args: argparse.Namespace) -> int:
    """Load the weights into the model, all of them or none, and write them."""
    source: Path = args.source
    target: Path = args.target
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target}: the file to write must end in .safetensors")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: the folder {target.parent} does not exist; create it first")

    from calibnet_core.checkpoint import load_weights, save_weights, sha256_of
    from calibnet_core.models.build import build_model

    model = build_model(args.model)
    report = load_weights(model, source)
    save_weights(model, target, model_name=args.model)
    print(f"{source}: {report.loaded} entries in the {report.format} naming")
    print(f"{target}: {args.model}, sha256 {sha256_of(target)}")
    return 0
