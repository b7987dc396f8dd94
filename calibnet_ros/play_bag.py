"""Play an RGB-D recording to a running perception node, and save what it answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
from rich.console import Console
from rich.markup import escape

from calibnet_core.data.bags import BagError, RgbdBag, open_rgbd_bag
from calibnet_ros.arguments import split_arguments
from calibnet_ros.bag_player import BagPlayer, PlayError, PlayReport, SentFrame
from calibnet_ros.gallery import frame_index, save_answer, save_contact_sheet, summary_table

_FIRST_ANSWER_TIMEOUT_S = 120.0
_CALIBRATION_TIMEOUT_S = 3.0


def play(
    bag: RgbdBag,
    *,
    rate: float | None,
    output: Path | None,
    node_name: str = "/calibnet",
    timeout_s: float = _FIRST_ANSWER_TIMEOUT_S,
    is_alive: Callable[[], bool] = lambda: True,
    console: Console | None = None,
) -> PlayReport:
    """Play a recording, save the pictures and print the table.

    Args:
        bag: the recording.
        rate: times the recording's own speed; None plays in step with the node's answers.
        output: folder for pictures; None collects none.
        node_name: fully qualified name of the perception node.
        timeout_s: longest wait for the node to appear, and for one answer.
        is_alive: whether the node's process runs, where that can be told.
        console: where the table goes.

    Raises:
        PlayError: the node did not appear.
        BagError: the recording is damaged.
    """
    player = BagPlayer(bag, node_name=node_name, with_pictures=output is not None)

    def save(frame: SentFrame) -> None:
        if output is not None and (answer := player.report.answers.get(frame.stamp_ns)):
            save_answer(output, frame_index(player.report, frame), answer)

    try:
        player.wait_for_node(timeout_s, is_alive)
        player.announce_calibration(_CALIBRATION_TIMEOUT_S)
        if rate is None:
            report = player.play_in_step(timeout_s, save)
        else:
            report = player.play_at_rate(rate, timeout_s)
            for frame in report.sent:
                save(frame)
    finally:
        player.close()
    if output is not None:
        save_contact_sheet(output, bag, report)
    how = "in step" if rate is None else f"at {rate:g}x"
    (console or Console()).print(summary_table(report, f"{bag.path.name}, {how}", output))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Play one recording.

    Returns:
        0 when every frame is accounted for, 1 when not, 2 for wrong arguments.
    """
    parser = argparse.ArgumentParser(prog="play_bag", description=__doc__)
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3 file")
    add_play_arguments(parser)
    parser.add_argument("--output", type=Path, help="folder for overlays and a contact sheet")
    parser.add_argument("--node", default="/calibnet", help="name of the perception node")
    parser.add_argument("--timeout", type=float, default=_FIRST_ANSWER_TIMEOUT_S, help="seconds")
    own_arguments, ros_arguments = split_arguments(argv)
    arguments = parser.parse_args(own_arguments)
    errors = Console(stderr=True)
    try:
        bag = open_rgbd_bag(
            arguments.bag,
            color_topic=arguments.color_topic,
            depth_topic=arguments.depth_topic,
            info_topic=arguments.info_topic,
        )
        if arguments.output is not None:
            arguments.output.mkdir(parents=True, exist_ok=True)
        rclpy.init(args=[sys.argv[0], *ros_arguments])
        try:
            report = play(
                bag,
                rate=arguments.rate,
                output=arguments.output,
                node_name=arguments.node,
                timeout_s=arguments.timeout,
            )
        finally:
            rclpy.try_shutdown()
    except (BagError, PlayError, OSError) as error:
        # Brackets in a path are no markup.
        errors.print(f"[red]play_bag:[/red] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if report.num_unaccounted == 0 else 1


def add_play_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that `play_bag` and `demo` share."""
    parser.add_argument(
        "--rate",
        type=positive,
        help="times the recording's own speed; without it the next pair follows the last answer",
    )
    parser.add_argument("--color-topic", help="when the recording has several")
    parser.add_argument("--depth-topic", help="depth registered to these colour images")
    parser.add_argument("--info-topic", help="CameraInfo of these colour images")


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not 0.0 < value <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1000")
    return value


if __name__ == "__main__":
    sys.exit(main())
