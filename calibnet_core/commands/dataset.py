"""`calibnet dataset check | stats | build`: labelled sets, before anything is learned from them."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calibnet_core.commands._arguments import at_least_one, show_progress

if TYPE_CHECKING:
    from rich.console import Console

    from calibnet_core.data.datasets.building import BuildReport
    from calibnet_core.data.datasets.checking import CheckedSet
    from calibnet_core.data.datasets.faults import Fault

SUMMARY = "Check labelled data sets, draw their statistics, build one from masks."

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_check(actions.add_parser("check", help="list everything that is wrong with data sets"))
    _add_stats(actions.add_parser("stats", help="draw the paper's analyses of data sets"))
    _add_build(actions.add_parser("build", help="make a data set from folders of instance masks"))


def run(args: argparse.Namespace) -> int:
    """Run one of the subcommands."""
    return {"check": _check, "stats": _stats, "build": _build}[args.action](args)


def _add_sets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="an annotation file, its folder, or the name of a published set such as come15k_train",
    )
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="the folder that the published sets are in"
    )
    _add_workers(parser)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=at_least_one, default=2, metavar="N", help="images at once (default: 2)"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "List every fault of annotations and files. Ends with 0 without errors, else with 1."
    )
    _add_sets(parser)
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="also write the list here")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors, too")


def _add_stats(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Counts, sizes and places of instances, and how they agree with region labels and depth: "
        "pictures and statistics.json, several sets side by side."
    )
    _add_sets(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where they go")
    parser.add_argument(
        "--regions",
        action="append",
        default=[],
        metavar="DIR",
        help="region labels, named as the colour images, in .png; once for each PATH in the same "
        "order, 'none' for a set without",
    )
    parser.add_argument(
        "--near-is",
        choices=("dark", "bright"),
        default="dark",
        help="how 8-bit depth shows what is near (default: dark, as the paper reads it)",
    )


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a data set from colour images, depth images and the instance masks of one or several "
        "annotators, who vote on every pixel."
    )
    folders = parser.add_argument_group("folders")
    for name, meaning in (
        ("images", "colour images"),
        ("depth", "depth images of the same names"),
    ):
        folders.add_argument(f"--{name}", type=Path, required=True, metavar="DIR", help=meaning)
    folders.add_argument(
        "--masks",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="masks of one annotator: label images NAME.png, or folders NAME of black and white "
        "masks; give it once for each annotator",
    )
    folders.add_argument(
        "--regions", type=Path, metavar="DIR", help="region labels NAME.png of the salient objects"
    )
    folders.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="the folder to create"
    )
    folders.add_argument("--link", action="store_true", help="hard links instead of copied images")
    parser.add_argument("--name", default="", help="of the set (default: that of the folder)")
    parser.add_argument(
        "--depth-scale-m",
        type=float,
        default=0.001,
        metavar="X",
        help="metres in one step of 16-bit depth images (default: 0.001)",
    )
    parser.add_argument(
        "--scene-pattern",
        metavar="REGEX",
        help="what finds the scene in an image's name, as '^(.*)_[0-9]+$'; images of one scene "
        "stay together when a set is split",
    )
    parser.add_argument(
        "--min-iou",
        type=float,
        default=0.5,
        metavar="X",
        help="masks of two annotators that overlap less are different objects (default: 0.5)",
    )
    parser.add_argument(
        "--min-inside",
        type=float,
        default=0.5,
        metavar="X",
        help="share of an instance that must lie inside the region label (default: 0.5)",
    )
    _add_workers(parser)


def _check(args: argparse.Namespace) -> int:
    from calibnet_core.data.datasets.checking import check_datasets

    with show_progress("check") as progress:
        checked = check_datasets(
            args.paths, root=args.root, workers=args.workers, progress=progress
        )
    console = _console()
    for one in checked:
        _print_faults(console, one.faults)
    _print_checked(console, checked)
    if args.output is not None:
        _write_json(args.output, {"sets": [one.to_json() for one in checked]})
    num_counting = sum(one.num_errors + args.strict * one.num_warnings for one in checked)
    return 1 if num_counting else 0


def _stats(args: argparse.Namespace) -> int:
    from calibnet_core.data.datasets import open_dataset
    from calibnet_core.data.datasets.faults import DatasetError
    from calibnet_core.data.datasets.statistics import collect_statistics
    from calibnet_core.data.datasets.statistics_plots import draw_statistics, require_matplotlib

    require_matplotlib()
    if args.regions and len(args.regions) != len(args.paths):
        raise DatasetError(
            f"{len(args.regions)} folders of region labels for {len(args.paths)} sets; give one "
            "for each, 'none' for a set without"
        )
    regions = [None if name == "none" else Path(name) for name in args.regions]
    for folder in regions:
        if folder is not None and not folder.is_dir():
            raise DatasetError(f"{folder}: is no folder; give the folder of the region labels")
    regions = regions or [None] * len(args.paths)
    datasets = [open_dataset(path, root=args.root, skip_faulty=True) for path in args.paths]
    args.output.mkdir(parents=True, exist_ok=True)
    total, done = sum(len(dataset) for dataset in datasets), 0
    with show_progress("stats") as progress:

        def on_image() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        sets = [
            collect_statistics(
                dataset,
                regions=folder,
                near_is=args.near_is,
                workers=args.workers,
                on_image=on_image,
            )
            for dataset, folder in zip(datasets, regions, strict=True)
        ]
    console = _console()
    faults = [fault for one in sets for fault in one.faults]
    _print_faults(console, faults)
    if empty := [one.name for one in sets if not one.num_images]:
        raise DatasetError(f"{', '.join(empty)}: not one image could be read; see above")
    written = draw_statistics(sets, args.output)
    written.append(args.output / "statistics.json")
    _write_json(written[-1], {"sets": [one.to_json() for one in sets]})
    _print_written(console, written)
    if faults:
        console.print(f"{len(faults)} faults above; what they concern is left out", style="red")
    return 1 if faults else 0


def _build(args: argparse.Namespace) -> int:
    from calibnet_core.data.datasets.build_settings import BuildSettings
    from calibnet_core.data.datasets.building import build_dataset
    from calibnet_core.data.datasets.faults import errors_among

    settings = BuildSettings(
        images=args.images,
        depth=args.depth,
        masks=tuple(args.masks),
        regions=args.regions,
        name=args.name,
        depth_scale_m=args.depth_scale_m,
        min_iou=args.min_iou,
        min_inside=args.min_inside,
        scene_pattern=args.scene_pattern,
        link=args.link,
    )
    with show_progress("build") as progress:
        report = build_dataset(settings, args.output, workers=args.workers, progress=progress)
    console = _console()
    _print_faults(console, report.faults)
    _print_built(console, report, args.output)
    return 1 if errors_among(report.faults) else 0


def _print_faults(console: Console, faults: Sequence[Fault]) -> None:
    """Every fault, under the file that it is in."""
    from rich.table import Table

    by_file: dict[str, list[Fault]] = {}
    for fault in faults:
        by_file.setdefault(fault.file, []).append(fault)
    width = max((len(fault.where) for fault in faults), default=0)
    for file, own in by_file.items():
        console.print(file, style="bold", markup=False, soft_wrap=True)
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=len("  warning"), no_wrap=True)
        table.add_column(min_width=width, no_wrap=True)
        table.add_column(overflow="fold")
        for fault in own:
            color = "red" if fault.severity == "error" else "yellow"
            table.add_row(
                f"  [{color}]{fault.severity}[/]", _plain(fault.where), _plain(fault.reason)
            )
        console.print(table)


def _print_checked(console: Console, checked: Sequence[CheckedSet]) -> None:
    from rich.table import Table

    table = Table("set", "images", "instances", "errors", "warnings")
    for one in checked:
        figures = (one.num_images, one.num_instances, one.num_errors, one.num_warnings)
        table.add_row(_plain(one.name), *(str(figure) for figure in figures))
    console.print(table)


def _print_built(console: Console, report: BuildReport, output: Path) -> None:
    from rich.table import Table

    for dropped in report.dropped[:_SHOWN]:
        masks = ", ".join(dropped.masks)
        line = f"dropped from {dropped.image}: {dropped.reason} ({masks})"
        console.print(line, markup=False, soft_wrap=True)
    if len(report.dropped) > _SHOWN:
        console.print(f"... and {len(report.dropped) - _SHOWN} more in {output / 'report.json'}")
    for name in report.ambiguous:
        line = f"left out {name}: objects were marked in it, but none of them was kept"
        console.print(line, markup=False, soft_wrap=True)
    table = Table("images", "instances", "dropped instances", "images left out", "set in")
    kinds = Counter(dropped.kind for dropped in report.dropped)
    by_kind = "\n".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "0"
    num_faulty = sum(fault.severity == "error" for fault in report.faults)
    left_out = f"{num_faulty} faulty\n{len(report.ambiguous)} ambiguous"
    table.add_row(
        str(report.num_images), str(report.num_instances), by_kind, left_out, _plain(str(output))
    )
    console.print(table)


def _print_written(console: Console, paths: Sequence[Path]) -> None:
    for path in paths:
        console.print(str(path), markup=False, soft_wrap=True)


def _console() -> Console:
    """Standard output; in a file or a pipe, lines are as long as they need to be."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 2000
    return console


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _write_json(path: Path, content: object) -> None:
    from calibnet_core.files import atomic_write

    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
