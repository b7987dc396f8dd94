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
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the run"
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
    from calibnet_core.training.run_folder import RunFolder

    folder = RunFolder(args.output)
    if args.resume:
        if args.config is not None:
            raise ConfigError("a resumed run keeps its settings; leave out --config or --resume")
        if not folder.has_config:
            raise ConfigError(f"{args.output} holds no run to resume; start one with --config")
        from calibnet_core.training.config import TrainConfig

        config = folder.read_config()
    else:
        if args.config is None:
            raise ConfigError("give the settings with --config FILE, or --resume a run")
        if folder.has_state:
            raise ConfigError(
                f"{args.output} holds a run already; go on with it by --resume, or choose another "
                "folder"
            )
        from calibnet_core.training.config import TrainConfig

        config = load_config(args.config, TrainConfig)

    from calibnet_core.training.fitting import fit

    fit(config, folder, accelerator=args.accelerator, devices=args.devices)
    print(f"the model is in {folder.path / 'weights.safetensors'}")
    return 0
