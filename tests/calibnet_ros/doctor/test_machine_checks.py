"""What the doctor says of middleware, GPU, operator and weights."""

from __future__ import annotations

from dataclasses import replace

from calibnet_ros.doctor.findings import Verdict
from calibnet_ros.doctor.machine_checks import (
    check_compute,
    check_discovery,
    check_middleware,
    check_weights,
)
from tests.calibnet_ros.doctor.sound import WEIGHTS, facts, machine, only


def test_images_larger_than_shared_memory_are_told_with_the_profile_to_set() -> None:
    small = machine(profile_path="", profile_exists=False, shared_memory_bytes=524_288)
    only(
        check_middleware,
        facts(machine=small),
        Verdict.NOTE,
        "0.9 MB",
        "0.5 MB",
        "export FASTRTPS_DEFAULT_PROFILES_FILE=/share/fastdds_profile.xml",
    )


def test_a_profile_that_does_not_exist_is_told() -> None:
    given = facts(machine=machine(profile_exists=False))
    only(check_middleware, given, Verdict.MEND, "/profiles/images.xml", "does not exist")


def test_little_shared_memory_and_other_middleware_are_told() -> None:
    given = facts(machine=machine(shm_total_bytes=64 * 2**20))
    only(check_middleware, given, Verdict.NOTE, "/dev/shm", "--ipc=host")
    given = facts(machine=machine(middleware="rmw_cyclonedds_cpp"))
    only(check_middleware, given, Verdict.NOTE, "rmw_cyclonedds_cpp")


def test_a_domain_that_is_none_and_discovery_that_is_off_are_told() -> None:
    only(check_discovery, facts(machine=machine(domain_id="233")), Verdict.MEND, "0 to 232")
    only(check_discovery, facts(machine=machine(discovery_range="OFF")), Verdict.MEND, "nobody")


def test_no_gpu_is_plainly_told_with_what_it_means() -> None:
    only(check_compute, facts(machine=machine(gpus=())), Verdict.NOTE, "sees no GPU", "the CPU")


def test_an_operator_that_is_not_compiled_for_the_device_or_does_not_load_is_told() -> None:
    eager = machine(operator_cuda="eager", operator_note="the library was built without CUDA")
    only(check_compute, facts(machine=eager), Verdict.NOTE, "built without CUDA", "nvcc")
    absent = machine(operator_cuda="", operator_note="it does not load under torch 9.")
    only(check_compute, facts(machine=absent), Verdict.MEND, "does not load under torch 9.")


def test_weights_are_told_by_what_the_loader_says() -> None:
    only(check_weights, facts(weights=None), Verdict.NOTE, "no weights", "--weights")
    broken = replace(WEIGHTS, failure="w.pth: no such file; give the path")
    finding = only(check_weights, facts(weights=broken), Verdict.MEND, "w.pth: no such file")
    assert finding.remedy == "give the path"
    plain = replace(WEIGHTS, calibration="")
    only(check_weights, facts(weights=plain), Verdict.NOTE, "calibnet calibrate")
