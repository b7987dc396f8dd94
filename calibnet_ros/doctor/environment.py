"""Facts about this machine, the settings of this terminal, and a weights file."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

from calibnet_core.checkpoint import (
    load_weights,
    read_model_name,
    read_score_map,
    read_settings,
    sha256_of,
)
from calibnet_core.models.build import build_model
from calibnet_core.structures import WeightsError
from calibnet_ros.doctor.facts import MachineFacts, WeightsFacts
from calibnet_ros.share import share_path

# Read up to Jazzy, and from Kilted on.
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
# What Fast DDS takes where no profile says otherwise.
DEFAULT_SHARED_MEMORY_BYTES = 512 * 1024


def gather_machine() -> MachineFacts:
    """Look at this machine."""
    profile_variable, profile_path = _profile()
    operator_cpu, operator_cuda, operator_note = _operator()
    torch_version, gpus = _gpus()
    return MachineFacts(
        middleware=_middleware(),
        profile_variable=profile_variable,
        profile_path=profile_path,
        profile_exists=bool(profile_path) and Path(profile_path).is_file(),
        shared_memory_bytes=_shared_memory_bytes(profile_path),
        shipped_profile=_shipped_profile(),
        shm_total_bytes=_shm_total_bytes(),
        domain_id=os.environ.get("ROS_DOMAIN_ID", ""),
        discovery_range=_discovery_range(),
        torch_version=torch_version,
        gpus=gpus,
        operator_cpu=operator_cpu,
        operator_cuda=operator_cuda,
        operator_note=operator_note,
        cv_bridge=importlib.util.find_spec("cv_bridge") is not None,
    )


def gather_weights(path: str, model: str) -> WeightsFacts:
    """Read a weights file and try it on its model.

    Args:
        path: of the file.
        model: to try it on where the file does not say which it is of; empty means the published
            one.
    """
    model = model or "calibnet_r50"
    sha256 = name = ""
    try:
        sha256 = sha256_of(path)
        name = read_model_name(path) or ""
        settings = read_settings(path)
        network = build_model(settings.model if settings is not None else name or model)
        loaded = load_weights(network, path).loaded
        score_map = read_score_map(path)
    except (WeightsError, OSError, ValueError) as error:
        return WeightsFacts(path=path, sha256=sha256, model=name, failure=str(error))
    return WeightsFacts(
        path=path,
        sha256=sha256,
        model=name or model,
        num_loaded=loaded,
        calibration=f"{score_map.dataset}, {score_map.date}" if score_map else "",
    )


def _profile() -> tuple[str, str]:
    for variable in _PROFILE_VARIABLES:
        if path := os.environ.get(variable, ""):
            return variable, path
    is_old = os.environ.get("ROS_DISTRO", "jazzy") in ("humble", "iron", "jazzy")
    return _PROFILE_VARIABLES[0 if is_old else 1], ""


def _shared_memory_bytes(path: str) -> int:
    try:
        text = Path(path).read_text(errors="replace") if path else ""
    except OSError:
        text = ""
    sizes = [int(size) for size in re.findall(r"<segment_size>\s*(\d{1,15})\s*<", text)]
    return max(sizes, default=DEFAULT_SHARED_MEMORY_BYTES)


def _shipped_profile() -> str:
    try:
        return str(share_path("config/fastdds_profile.xml"))
    except FileNotFoundError:
        return ""


def _shm_total_bytes() -> int | None:
    try:
        return shutil.disk_usage("/dev/shm").total
    except OSError:
        return None


def _middleware() -> str:
    try:
        import rclpy

        return str(rclpy.get_rmw_implementation_identifier())
    except Exception:  # rclpy is absent, or finds no middleware, which it says in its own way
        return os.environ.get("RMW_IMPLEMENTATION", "")


def _discovery_range() -> str:
    if value := os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", ""):
        return value.upper()
    return "LOCALHOST" if os.environ.get("ROS_LOCALHOST_ONLY", "") == "1" else ""


def _operator() -> tuple[str, str, str]:
    try:
        from calibnet_core import ops

        info = ops.info()
    except (ImportError, ValueError) as error:
        return "", "", str(error)
    return info.cpu, info.cuda, info.reason


def _gpus() -> tuple[str, tuple[tuple[str, float], ...]]:
    import torch

    try:
        devices = [
            torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())
        ]
    except (RuntimeError, AssertionError):  # a driver that does not fit
        devices = []
    return str(torch.__version__), tuple(
        (str(device.name), device.total_memory / 2**30) for device in devices
    )
