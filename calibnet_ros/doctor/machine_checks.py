"""Middleware settings, GPU, compiled operator and weights."""

from __future__ import annotations

from collections.abc import Iterator

from calibnet_ros.doctor.facts import Facts
from calibnet_ros.doctor.findings import Finding, Theme, good, mend, mend_error, note

_THEME = Theme.MACHINE
_MIN_SHM_BYTES = 128 * 2**20
_HIGHEST_DOMAIN = 232  # ports of higher ones do not exist


def check_middleware(facts: Facts) -> Iterator[Finding]:
    """Have large images a way through shared memory?"""
    machine = facts.machine
    if "fastrtps" not in (machine.middleware or "fastrtps"):
        yield note(
            _THEME,
            f"the middleware is {machine.middleware}; the package's profile is for Fast DDS.",
            "give it large buffers of its own: docs of the middleware, net.core.rmem_max",
        )
        return
    largest = max((stream.image_bytes for stream in facts.inputs.streams.values()), default=0)
    remedy = (
        f"export {machine.profile_variable}={machine.shipped_profile or 'fastdds_profile.xml'} for "
        "the node and for the camera driver"
    )
    if machine.profile_path and not machine.profile_exists:
        yield mend(
            _THEME,
            f"{machine.profile_variable} names '{machine.profile_path}', which does not exist; "
            "Fast DDS then takes its defaults without a word.",
            remedy,
        )
    elif largest > machine.shared_memory_bytes:
        yield note(
            _THEME,
            f"images have {_megabytes(largest)}, shared memory segments "
            f"{_megabytes(machine.shared_memory_bytes)}: images travel as UDP fragments, and some "
            "get lost.",
            remedy,
        )
    elif machine.profile_path:
        yield good(
            _THEME, f"a middleware profile is set ({machine.profile_path}) and holds an image."
        )
    if (
        machine.shm_total_bytes is not None
        and machine.shm_total_bytes < _MIN_SHM_BYTES
        and (largest > 0 or not facts.inputs.is_live)
    ):
        yield note(
            _THEME,
            f"/dev/shm has {_megabytes(machine.shm_total_bytes)}, little for several nodes.",
            "start the container with --ipc=host or --shm-size=512m",
        )


def check_discovery(facts: Facts) -> Iterator[Finding]:
    """Will the node meet the driver?"""
    machine = facts.machine
    if machine.domain_id and not _is_domain(machine.domain_id):
        yield mend(
            _THEME,
            f"ROS_DOMAIN_ID is '{machine.domain_id}', which is no domain.",
            f"choose a number from 0 to {_HIGHEST_DOMAIN}, the same in every terminal",
        )
        return
    reach = {
        "LOCALHOST": "this machine only",
        "OFF": "nobody at all",
        "": "the local network",
        "SUBNET": "the local network",
    }.get(machine.discovery_range, machine.discovery_range)
    text = f"ROS domain {machine.domain_id or '0'}; discovery reaches {reach}."
    if machine.discovery_range == "OFF":
        yield mend(_THEME, text, "unset ROS_AUTOMATIC_DISCOVERY_RANGE, or set it to LOCALHOST")
    else:
        yield good(_THEME, text)


def check_compute(facts: Facts) -> Iterator[Finding]:
    """What will the network run on?"""
    machine = facts.machine
    if machine.gpus:
        listed = "; ".join(f"{name}, {memory:.0f} GiB" for name, memory in machine.gpus)
        yield good(_THEME, f"GPU: {listed} (PyTorch {machine.torch_version}).")
        if min(memory for _, memory in machine.gpus) < 3.0:
            yield note(_THEME, "the GPU has little memory.", "use a smaller model or input size")
    else:
        yield note(
            _THEME,
            f"PyTorch {machine.torch_version} sees no GPU: the network runs on the CPU, about a "
            "second a frame at full size; pictures between are left out, not queued.",
            "install a driver and a CUDA build of PyTorch, or use a smaller model and input size",
        )
    kernels = machine.operator_cuda if machine.gpus else machine.operator_cpu
    if not kernels:
        yield mend(
            _THEME,
            f"the attention operator does not load: {machine.operator_note}",
            "reinstall calibnet_ros in this environment",
        )
    elif kernels.startswith("eager"):
        yield note(
            _THEME,
            f"the attention operator is not compiled for this device: {machine.operator_note}.",
            "reinstall calibnet_ros where a C++ compiler, CMake and, for a GPU, nvcc are present",
        )
    else:
        device = "GPU" if machine.gpus else "CPU"
        yield good(_THEME, f"the attention operator runs on the {device}, {kernels}.")


def check_weights(facts: Facts) -> Iterator[Finding]:
    """Can the weights file be used?"""
    weights = facts.weights
    if weights is None:
        yield note(
            Theme.WEIGHTS,
            "no weights of this network were named; with random ones the masks mean nothing.",
            "give --weights FILE to have them looked at",
        )
        return
    if weights.failure:
        yield mend_error(Theme.WEIGHTS, "the weights cannot be used: ", weights.failure)
        return
    yield good(
        Theme.WEIGHTS,
        f"{weights.path} holds {weights.model}, {weights.num_loaded} entries, all of which fit; "
        f"SHA-256 {weights.sha256}.",
    )
    if weights.calibration:
        yield good(Theme.WEIGHTS, f"its scores are calibrated ({weights.calibration}).")
    else:
        yield note(
            Theme.WEIGHTS,
            "its scores are not calibrated: 0.8 does not mean right four times in five.",
            "`calibnet calibrate` fits them on a labelled set",
        )


def _is_domain(text: str) -> bool:
    return text.isdecimal() and int(text) <= _HIGHEST_DOMAIN


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
