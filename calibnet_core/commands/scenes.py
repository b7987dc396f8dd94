"""`calibnet scenes render | film`: endless labelled RGB-D scenes, rendered on the CPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from calibnet_core.commands._arguments import at_least_one, show_progress

SUMMARY = "Render labelled RGB-D scenes: sets to train on, and recordings."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    render = actions.add_parser("render", help="pictures, each of another scene, as rgbd-coco")
    render.description = (
        "Render pictures of different scenes with their masks into a new rgbd-coco set."
    )
    _add_common(render)
    render.add_argument(
        "--count", type=at_least_one, default=100, metavar="N", help="pictures (default: 100)"
    )
    render.add_argument(
        "--first", type=int, default=0, metavar="N", help="number of the first in the series"
    )
    render.add_argument(
        "--workers", type=at_least_one, default=2, metavar="N", help="processes (default: 2)"
    )
    film = actions.add_parser("film", help="one scene from a moving camera, as a rosbag2")
    film.description = "Film one scene with a moving camera into a new recording with labels."
    _add_common(film)
    film.add_argument("--scene", type=int, default=0, metavar="N", help="number in the series")
    film.add_argument(
        "--frames", type=at_least_one, default=150, metavar="N", help="pictures (default: 150)"
    )
    film.add_argument(
        "--rate", type=float, default=15.0, metavar="HZ", help="pictures a second (default: 15)"
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the folder to create")
    parser.add_argument("--seed", type=int, default=0, help="of the series (default: 0)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(240, 320),
        metavar=("HEIGHT", "WIDTH"),
        help="of the pictures in pixels (default: 240 320)",
    )


def run(args: argparse.Namespace) -> int:
    """Run one of the subcommands."""
    return {"render": _render, "film": _film}[args.action](args)


def _render(args: argparse.Namespace) -> int:
    from calibnet_core.data.scenes.rendered_set import render_set
    from calibnet_core.data.scenes.sampling import SceneSettings

    settings = SceneSettings(size=tuple(args.size))
    with show_progress("render") as progress:
        render_set(
            args.output,
            args.count,
            seed=args.seed,
            settings=settings,
            first=args.first,
            workers=args.workers,
            progress=progress,
        )
    print(f"{args.count} scenes in {args.output}")
    return 0


def _film(args: argparse.Namespace) -> int:
    from calibnet_core.data.scenes.sampling import SceneSettings
    from calibnet_core.data.scenes.video import render_video, write_video

    settings = SceneSettings(size=tuple(args.size))
    captures = render_video(args.seed, args.scene, args.frames, settings, rate=args.rate)
    count = write_video(args.output, captures)
    print(f"{count} frames in {args.output}")
    return 0
