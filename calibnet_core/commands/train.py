"""`calibnet train`: train a model, or go on with a run that was interrupted."""

from __future__ import annotations

import argparse
from pathlib import Path

from calibnet_core.config import ConfigError, load_config

SUMMARY = "Train a model on labelled RGB-D images."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in YAML; see config/train"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="the folder of the run (default: runs/ and the name of the settings file)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in DIR, with its own settings"
    )
    parser.add_argument(
        "--accelerator",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="where to train (default: a GPU where there is one)",
    )
    parser.add_argument(
        "--devices",
        type=int,
        default=None,
        metavar="N",
        help="processes on this machine; start as many with torchrun (default: 1, or torchrun's)",
    )


def run(args: argparse.Namespace) -> int:
    """Train until the last iteration."""
    if args.config is None and (args.output is None or not args.resume):
        raise ConfigError("give the settings with --config FILE, or --resume a run in --output DIR")
    path = args.output or Path("runs") / args.config.stem
    if args.resume and not path.is_dir():
        raise ConfigError(f"{path} holds no run to resume; start one with --config")

    # These load torch, which takes seconds.
    from calibnet_core.training.config import TrainConfig
    from calibnet_core.training.run_folder import RunFolder

    config = None if args.config is None else load_config(args.config, TrainConfig)
    folder = RunFolder(path)
    if args.resume and not folder.has_config:
        raise ConfigError(f"{path} holds no run to resume; start one with --config")
    if not args.resume and folder.has_state:
        raise ConfigError(
            f"{path} holds a run already; go on with it by --resume, or choose another folder"
        )
    if config is None:
        config = folder.read_config()

    from calibnet_core.training.fitting import fit

    fit(config, folder, accelerator=args.accelerator, devices=args.devices)
    print(f"the model is in {folder.path / 'weights.safetensors'}")
    return 0
