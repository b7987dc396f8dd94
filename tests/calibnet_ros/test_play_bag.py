"""Recordings played over the wire to a node in another process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

import rclpy
from PIL import Image as PilImage

from calibnet_core.data.bags import open_rgbd_bag, write_rgbd_bag
from calibnet_core.structures import RgbdFrame
from calibnet_core.visualization import instance_color
from calibnet_ros import play_bag
from calibnet_ros.bag_player import BagPlayer
from tests.support.ros import FIRST_STAMP_NS, FRAME_ID, SIZE, scene_depth_m, scene_rgb
from tests.support.shared import shared_file
from tests.support.stub_perception_node import FAIL, sleep_order

pytestmark = pytest.mark.ros

COLOR, DEPTH = "/camera/color/image_raw", "/camera/aligned_depth_to_color/image_raw"
FRAME_NS = 33_333_333
TIMEOUT = ["--timeout", "20"]


def make_bag(path, orders=(None,) * 3, first_ns=FIRST_STAMP_NS, **options):
    """A recording of the scene, one frame for each order to the stub."""
    frame = RgbdFrame(rgb=scene_rgb(), depth_m=scene_depth_m(), frame_id=FRAME_ID, stamp_ns=1)
    frames = [
        replace(frame, rgb=scene_rgb(order), stamp_ns=first_ns + index * FRAME_NS)
        for index, order in enumerate(orders)
    ]
    write_rgbd_bag(path, frames, **options)
    return path


@pytest.fixture(scope="module")
def robot(start_robot):
    """A node on the topics of recordings; nothing but recordings speaks to it."""
    robot = start_robot(
        remaps={
            "color/image": COLOR,
            "depth/image": DEPTH,
            "color/camera_info": "/camera/color/camera_info",
        },
        parameters={"output.overlay_rate": 0.0},
        loses_nothing=(COLOR, DEPTH),
    )
    robot.wait_for_state("active")
    return robot


@pytest.fixture
def play(robot, capsys):
    """Runs `play_bag` and returns its exit code and what it printed."""

    def run(*arguments):
        code = play_bag.main([*map(str, arguments), "--node", robot.node_name, *TIMEOUT])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def rclpy_context():
    rclpy.init()
    yield
    rclpy.try_shutdown()


def played(robot, bag, *, rate=None, node_name=None, timeout_s=20):
    """Play through `BagPlayer` itself, for a look at its report."""
    player = BagPlayer(open_rgbd_bag(bag), node_name=node_name or robot.node_name)
    try:
        player.wait_for_node(timeout_s)
        if rate is not None:
            return player.play_at_rate(rate, timeout_s)
        return player.play_in_step(timeout_s)
    finally:
        player.close()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("offset_ns", [0, 4_000_000, -4_000_000])
def test_in_step_every_frame_is_answered_once_with_its_own_header(
    robot, rclpy_context, tmp_path, storage, offset_ns
):
    bag = make_bag(tmp_path / "bag", storage=storage, depth_offset_ns=offset_ns)
    report = played(robot, bag)
    stamps = [FIRST_STAMP_NS + index * FRAME_NS for index in range(3)]
    assert [frame.stamp_ns for frame in report.sent] == stamps
    assert sorted(report.answers) == stamps
    for stamp_ns, answer in report.answers.items():
        header = answer.result.header
        assert header.stamp.sec * 1_000_000_000 + header.stamp.nanosec == stamp_ns
        assert header.frame_id == FRAME_ID
        assert len(answer.result.instances) == 2
        assert answer.num_results == 1
        assert answer.latency_ms > 0
    assert (report.num_answered, report.num_unaccounted, report.drops) == (3, 0, {})


def test_at_a_rate_what_is_sent_is_answered_or_counted_as_dropped(robot, rclpy_context, tmp_path):
    slow = sleep_order(0.25)
    bag = make_bag(tmp_path / "bag", [slow] * 12, FIRST_STAMP_NS + 10**12)
    report = played(robot, bag, rate=4.0)
    assert len(report.sent) == 12
    assert 0 < report.num_answered < 12
    assert report.num_answered + sum(report.drops.values()) == 12
    assert report.num_unaccounted == 0
    assert set(report.drops) == {"dropped_pairs.superseded"}


def test_a_second_recording_is_not_charged_with_the_drops_of_the_first(play, tmp_path):
    orders = [sleep_order(0.25)] * 8
    first = make_bag(tmp_path / "first", orders, FIRST_STAMP_NS + 2 * 10**12)
    second = make_bag(tmp_path / "second", first_ns=FIRST_STAMP_NS + 3 * 10**12)
    assert play(first, "--rate", "4")[0] == 0
    code, said = play(second)
    assert code == 0, said
    assert "superseded" not in said


def test_the_same_recording_can_be_played_again(play, tmp_path):
    bag = make_bag(tmp_path / "bag", first_ns=FIRST_STAMP_NS + 4 * 10**12)
    for _ in range(2):
        code, said = play(bag)
        assert code == 0, said
        assert "answered" in said


def test_a_frame_that_fails_is_told_by_its_reason(play, tmp_path):
    bag = make_bag(tmp_path / "bag", [None, FAIL, None], FIRST_STAMP_NS + 5 * 10**12)
    code, said = play(bag, "--rate", "0.2")
    assert code == 0, said
    assert "dropped_pairs: inference_error" in said


def test_pictures_of_every_frame_and_a_contact_sheet_are_saved(play, tmp_path):
    bag = make_bag(tmp_path / "bag", first_ns=FIRST_STAMP_NS + 6 * 10**12)
    output = tmp_path / "pictures"
    code, said = play(bag, "--output", output)
    assert code == 0, said
    names = sorted(path.name for path in output.iterdir())
    expected = [
        f"{kind}_{index:04d}.png" for kind in ("label_image", "overlay") for index in (0, 1, 2)
    ]
    assert names == sorted([*expected, "contact_sheet.png"])
    with PilImage.open(output / "label_image_0001.png") as picture:
        labels = np.array(picture)
        shown = np.array(picture.convert("RGB"))
    assert labels.shape == SIZE
    # The numbers are ids, and what a viewer shows are the instances' colours.
    colors = [(0, 0, 0), instance_color(0), instance_color(1)]
    np.testing.assert_array_equal(shown, np.array(colors)[labels])
    assert labels.max() == 2
    with PilImage.open(output / "overlay_0002.png") as picture:
        assert picture.size == (SIZE[1], SIZE[0])


@pytest.mark.parametrize("name", ["ycbv_0000_16uc1_mcap", "ycbv_0000_32fc1_sqlite3"])
def test_the_recordings_of_real_images_are_answered_in_step(robot, rclpy_context, name):
    path = shared_file(f"data/bags/{name}/metadata.yaml").parent
    bag = open_rgbd_bag(path)
    report = played(robot, path)
    assert len(report.sent) == bag.num_color_images
    assert report.num_answered == len(report.sent)
    assert report.num_unaccounted == 0
    offsets = {
        (a.result.depth_offset.sec, a.result.depth_offset.nanosec) for a in report.answers.values()
    }
    assert offsets == {(0, 4_000_000 if "16uc1" in name else 0)}
    sizes = {(a.result.height, a.result.width) for a in report.answers.values()}
    assert sizes == {(480, 640)}


# --- what goes wrong ----------------------------------------------------------------------------


def run_alone(*arguments, capsys):
    code = play_bag.main([str(argument) for argument in arguments])
    return code, " ".join(capsys.readouterr().err.split())


def test_a_missing_recording_is_a_clear_error(tmp_path, capsys):
    code, said = run_alone(tmp_path / "gone", capsys=capsys)
    assert code == 1
    assert "play_bag:" in said
    assert "there is no such file or folder" in said


def test_a_recording_without_depth_is_a_clear_error(tmp_path, capsys):
    bag = make_bag(tmp_path / "bag")
    code, said = run_alone(bag, "--depth-topic", "/no/such/topic", capsys=capsys)
    assert code == 1
    assert "'/no/such/topic' is not in the recording" in said
    assert DEPTH in said


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recording_that_is_no_recording_is_a_clear_error(tmp_path, capsys, storage):
    bag = make_bag(tmp_path / "bag", storage=storage)
    file = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    file.write_bytes(b"\x89garbage" * 100)
    code, said = run_alone(bag, capsys=capsys)
    assert code == 1
    assert "damaged" in said


def test_a_recording_that_breaks_off_in_the_middle_is_a_clear_error(play, tmp_path):
    bag = make_bag(tmp_path / "bag", first_ns=FIRST_STAMP_NS + 7 * 10**12, storage="sqlite3")
    file = next(path for path in bag.iterdir() if path.suffix == ".db3")
    data = file.read_bytes()
    place = 3 * len(data) // 4  # pages of messages; the schema lies in front
    file.write_bytes(data[:place] + b"\xff" * (len(data) - place))
    code, said = play(bag)
    assert code == 1
    assert "damaged" in " ".join(said.split())


def test_a_node_that_never_appears_is_a_clear_error(tmp_path, capsys):
    bag = make_bag(tmp_path / "bag")
    arguments = (bag, "--node", "/nobody", "--timeout", "1")
    code, said = run_alone(*arguments, capsys=capsys)
    assert code == 1
    assert "no active perception node /nobody within 1 s" in said
    assert "ROS_DOMAIN_ID" in said


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "fast", "1e9"])
def test_a_rate_that_makes_no_sense_is_refused(tmp_path, capsys, rate):
    with pytest.raises(SystemExit) as ending:
        play_bag.main([str(tmp_path), "--rate", rate])
    assert ending.value.code == 2
    assert "--rate" in capsys.readouterr().err


def test_a_misspelt_argument_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        play_bag.main([str(tmp_path / "gone"), "--ouput", "here"])
    assert ending.value.code == 2
    assert "--ouput" in capsys.readouterr().err


def test_the_name_of_the_node_may_lack_its_slash(robot, rclpy_context, tmp_path):
    bag = make_bag(tmp_path / "bag", first_ns=FIRST_STAMP_NS + 8 * 10**12)
    report = played(robot, bag, node_name=robot.node_name.removeprefix("/"))
    assert report.num_answered == 3
    assert report.counters["in_flight"] == 0  # its diagnostics were recognised
