"""The command line: `calibnet COMMAND ...`. The commands themselves are in `commands`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from calibnet_core import __version__, commands

_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130
_EXPECTED_ERRORS = (
    ("calibnet_core.config", "ConfigError"),
    ("calibnet_core.checkpoint", "WeightsError"),
    ("calibnet_core.structures", "FrameError"),
    ("calibnet_core.training.trainer", "NonFiniteLossError"),
    ("calibnet_core.evaluation.errors", "EvaluationError"),
    ("calibnet_core.data.bags", "BagError"),
    ("calibnet_core.data.scenes.parts", "SceneError"),
    ("calibnet_core.perception.image_codec", "ImageFormatError"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; None takes those of the process.

    Returns:
        0 when all went well, 1 when some inputs failed and were reported, 2 when the command could
        not start, 130 after Ctrl-C.
    """
    args = _build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except Exception as error:
        message = _expected_message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return _EXIT_USAGE


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calibnet", description="Salient instance segmentation of RGB-D images."
    )
    parser.add_argument("--version", action="version", version=f"calibnet {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for module_info in pkgutil.iter_modules(commands.__path__):
        if module_info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{commands.__name__}.{module_info.name}")
        subparser = subparsers.add_parser(
            module_info.name.replace("_", "-"), help=module.SUMMARY, description=module.SUMMARY
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def _expected_message(error: Exception) -> str | None:
    """What to tell the user, or None for a fault of the program, which deserves its traceback."""
    for module_name, class_name in _EXPECTED_ERRORS:
        # Who raised the error has loaded its module; loading the others would take seconds.
        module = sys.modules.get(module_name)
        if module is not None and isinstance(error, getattr(module, class_name)):
            return str(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}; check the path, permissions and free space"
    return None


if __name__ == "__main__":
    sys.exit(main())
