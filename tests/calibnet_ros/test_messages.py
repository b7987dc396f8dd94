import array
import math

import pytest

serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
msg = pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")

from geometry_msgs.msg import Point, Pose, Quaternion, Vector3  # noqa: E402
from sensor_msgs.msg import RegionOfInterest  # noqa: E402

pytestmark = pytest.mark.ros

# name -> (type, value in a fresh message). The order is part of the wire format.
FIELDS = {
    "InstanceMask": {
        "instance_id": ("uint16", 0),
        "track_id": ("uint64", 0),
        "track_age": ("uint32", 0),
        "score": ("float", 0.0),
        "raw_score": ("float", 0.0),
        "mask_quality": ("float", 0.0),
        "label": ("string", ""),
        "roi": ("sensor_msgs/RegionOfInterest", RegionOfInterest()),
        "area": ("uint32", 0),
        "mask_encoding": ("uint8", 0),
        "mask_data": ("sequence<uint8>", []),
        "truncated": ("boolean", False),
        "geometry_status": ("uint8", 0),
        "depth_valid_ratio": ("float", 0.0),
        "depth_median": ("float", 0.0),
        "depth_near": ("float", 0.0),
        "depth_far": ("float", 0.0),
        "centroid": ("geometry_msgs/Point", Point()),
        "centroid_covariance": ("double[9]", [0.0] * 9),
        "box_pose": ("geometry_msgs/Pose", Pose()),
        "box_size": ("geometry_msgs/Vector3", Vector3()),
        "surface_area": ("float", 0.0),
    },
    "InstanceMaskArray": {
        "header": ("std_msgs/Header", None),
        "height": ("uint32", 0),
        "width": ("uint32", 0),
        "sequence": ("uint64", 0),
        "status": ("uint8", 0),
        "depth_offset": ("builtin_interfaces/Duration", None),
        "skipped_since_last": ("uint32", 0),
        "age_ms": ("float", 0.0),
        "queue_ms": ("float", 0.0),
        "preprocess_ms": ("float", 0.0),
        "inference_ms": ("float", 0.0),
        "postprocess_ms": ("float", 0.0),
        "model_id": ("string", ""),
        "instances": ("sequence<calibnet_ros/InstanceMask>", []),
    },
    "ModelInfo": {
        "name": ("string", ""),
        "model_id": ("string", ""),
        "weights_sha256": ("string", ""),
        "backend": ("string", ""),
        "device": ("string", ""),
        "precision": ("string", ""),
        "input_height": ("uint32", 0),
        "input_width": ("uint32", 0),
        "max_instances": ("uint32", 0),
        "score_threshold": ("float", 0.0),
        "mask_threshold": ("float", 0.0),
        "package_version": ("string", ""),
        "calibration_set": ("string", ""),
        "calibration_date": ("string", ""),
    },
}

CONSTANTS = {
    "InstanceMask": {
        "MASK_ENCODING_NONE": 0,
        "MASK_ENCODING_BITS": 1,
        "MASK_ENCODING_MONO8": 2,
        "MASK_ENCODING_RLE": 3,
        "GEOMETRY_OK": 0,
        "GEOMETRY_NO_DEPTH": 1,
        "GEOMETRY_TOO_FEW_POINTS": 2,
        "GEOMETRY_NO_CAMERA_INFO": 3,
        "GEOMETRY_DISABLED": 4,
    },
    "InstanceMaskArray": {
        "STATUS_OK": 0,
        "STATUS_DEPTH_MISSING": 1,
        "STATUS_REDUCED_INPUT": 2,
    },
}


def filled_instance():
    instance = msg.InstanceMask(
        instance_id=65534,
        track_id=2**64 - 1,
        track_age=2**32 - 1,
        score=0.5,
        raw_score=0.25,
        mask_quality=0.75,
        label="salient_object",
        roi=RegionOfInterest(x_offset=3, y_offset=5, width=9, height=2),
        area=11,
        mask_encoding=msg.InstanceMask.MASK_ENCODING_BITS,
        truncated=True,
        geometry_status=msg.InstanceMask.GEOMETRY_TOO_FEW_POINTS,
        depth_valid_ratio=0.125,
        depth_median=1.5,
        depth_near=1.25,
        depth_far=2.0,
        centroid=Point(x=0.1, y=-0.2, z=1.5),
        centroid_covariance=[float(i) for i in range(9)],
        box_pose=Pose(
            position=Point(x=0.3, y=0.4, z=1.6),
            orientation=Quaternion(x=0.5, y=0.5, z=0.5, w=0.5),
        ),
        box_size=Vector3(x=0.1, y=0.2, z=0.3),
        surface_area=0.0625,
    )
    instance.mask_data = array.array("B", [0xFF, 0x80, 0x12, 0x00])
    return instance


def filled_array():
    frame = msg.InstanceMaskArray(
        height=480,
        width=640,
        sequence=2**63,
        status=msg.InstanceMaskArray.STATUS_REDUCED_INPUT,
        skipped_since_last=7,
        age_ms=12.5,
        queue_ms=0.5,
        preprocess_ms=1.5,
        inference_ms=8.0,
        postprocess_ms=2.5,
        model_id="calibnet_r50-0123abcd",
        instances=[filled_instance(), msg.InstanceMask()],
    )
    frame.header.stamp.sec = 1_700_000_000
    frame.header.stamp.nanosec = 999_999_999
    frame.header.frame_id = "camera_color_optical_frame"
    frame.depth_offset.sec = -1
    frame.depth_offset.nanosec = 990_000_000
    return frame


def filled_model_info():
    return msg.ModelInfo(
        name="calibnet_r50",
        model_id="calibnet_r50-0123abcd",
        weights_sha256="0123abcd" * 8,
        backend="torch",
        device="cpu",
        precision="fp32",
        input_height=320,
        input_width=640,
        max_instances=50,
        score_threshold=0.5,
        mask_threshold=0.25,
        package_version="0.1.0",
        calibration_set="validation",
        calibration_date="2026-01-31",
    )


def round_trip(message):
    data = serialization.serialize_message(message)
    return serialization.deserialize_message(data, type(message))


@pytest.mark.parametrize("name", FIELDS)
def test_fields_have_the_documented_order_and_types(name):
    types = getattr(msg, name).get_fields_and_field_types()
    assert list(types.items()) == [(field, type_) for field, (type_, _) in FIELDS[name].items()]


@pytest.mark.parametrize("name", FIELDS)
def test_a_fresh_message_is_zero_and_empty(name):
    message = getattr(msg, name)()
    for field, (_, default) in FIELDS[name].items():
        value = getattr(message, field)
        expected = type(value)() if default is None else default
        value = list(value) if isinstance(default, list) else value
        assert value == expected, field


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_the_documented_values(name):
    message_type = getattr(msg, name)
    assert {key: getattr(message_type, key) for key in CONSTANTS[name]} == CONSTANTS[name]


@pytest.mark.parametrize("make", [filled_instance, filled_array, filled_model_info])
def test_a_filled_message_survives_the_wire(make):
    assert round_trip(make()) == make()


def test_an_empty_list_survives_the_wire():
    received = round_trip(msg.InstanceMaskArray(height=480, width=640))
    assert received.instances == []


def test_absent_values_survive_the_wire():
    nan = math.nan
    received = round_trip(
        msg.InstanceMask(
            mask_quality=nan,
            depth_median=nan,
            centroid=Point(x=nan, y=nan, z=nan),
            centroid_covariance=[nan] * 9,
        )
    )
    centroid = received.centroid
    absent = [received.mask_quality, received.depth_median, centroid.x, centroid.y, centroid.z]
    assert all(math.isnan(value) for value in [*absent, *received.centroid_covariance])
