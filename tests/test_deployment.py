"""Containers and workflow: they cannot run here, but all that they name must exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from calibnet_ros import startup
from tests.support.shared import REPOSITORY

DOCKERFILES = sorted((REPOSITORY / "docker").glob("Dockerfile.*"))
SCRIPTS = sorted((REPOSITORY / "docker").glob("*.sh"))
INSTALL = REPOSITORY / "docker/install_python.sh"
WORKSPACE = "/opt/workspace/"
# What package.xml asks rosdep for, by the names of pip.
FROM_ROSDEP = {"matplotlib", "numpy", "opencv-python-headless", "pillow", "pyyaml", "scipy"}


def read_yaml(path: str) -> Any:
    return yaml.safe_load((REPOSITORY / path).read_text())


def instructions(dockerfile: Path) -> list[list[str]]:
    """The words of each instruction, lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [line.split() for line in joined.splitlines() if line.strip()]


def packages_of_the_script() -> set[str]:
    (listed,) = re.findall(r"packages=\((.*?)\)", INSTALL.read_text(), re.DOTALL)
    return set(listed.split())


def assert_launches(words: list[str]) -> None:
    """A `ros2 launch` command names a launch file of ours and arguments that it has."""
    assert words[:3] == ["ros2", "launch", "calibnet_ros"]
    assert (REPOSITORY / "launch" / words[3]).is_file()
    names = {argument.name for argument in startup.PERCEPTION_ARGUMENTS}
    for word in words[4:]:
        assert word == "--show-args" or word.partition(":=")[0] in names


# --- the workflow -----------------------------------------------------------------------------


def test_the_workflow_builds_on_every_distribution_and_lets_only_two_fail() -> None:
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["distribution"]
    may_fail = {row["distro"]: row["may-fail"] for row in job["strategy"]["matrix"]["include"]}
    assert may_fail == {"humble": True, "jazzy": False, "lyrical": False, "rolling": True}
    assert job["container"]["image"] == "ros:${{ matrix.distro }}-ros-base"


def test_all_that_the_workflow_runs_exists() -> None:
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)
    targets = set(re.findall(r"^make (.+)$", commands, re.MULTILINE))
    assert {"lint", "types", "test", "colcon"} == targets
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    named = set(re.findall(r"docker/[\w.]+", commands))
    assert {"docker/install_python.sh", "docker/Dockerfile.cpu"} == named
    assert all((REPOSITORY / path).is_file() for path in named)
    for launch in re.findall(r"ros2 launch .*", commands):
        assert_launches(launch.split())
    assert all(re.fullmatch(r"[\w/-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


# --- containers -------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_only_what_is_there_and_not_ignored(dockerfile: Path) -> None:
    ignored = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line]
    copied = [
        words[1]
        for words in instructions(dockerfile)
        if words[0] == "COPY" and "--" not in words[1]
    ]
    assert len(copied) == 5
    for path in copied:
        assert (REPOSITORY / path).exists()
        # A dot alone is the whole folder, which no pattern means.
        assert path == "." or not any(fnmatch(path, pattern) for pattern in ignored)


def test_the_build_finds_in_an_image_all_that_it_reads() -> None:
    ignored = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line]
    read = set(
        re.findall(r"\b(msg|srv|action)/\w+\.\w+", (REPOSITORY / "CMakeLists.txt").read_text())
    )
    read |= {"calibnet_core", "calibnet_ros", "config", "launch", "package.xml", "CMakeLists.txt"}
    assert {"msg", "srv", "action"} <= read
    for name in read:
        assert not any(fnmatch(name, pattern) for pattern in ignored), name


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_the_node_without_rights_and_with_the_profile(dockerfile: Path) -> None:
    words = instructions(dockerfile)
    stages = [line[-1] for line in words if line[0] == "FROM"]
    assert stages[-3:] == ["dependencies", "build", "runtime"]
    last_stage = max(place for place, line in enumerate(words) if line[0] == "FROM")
    assert ["USER", "calibnet"] in words[last_stage:]
    text = dockerfile.read_text()
    profiles = re.findall(r"_PROFILES_FILE=(\S+)", text)
    assert len(profiles) == 2
    for profile in profiles:
        below_share = profile.removeprefix(f"{WORKSPACE}share/calibnet_ros/")
        assert (REPOSITORY / below_share).is_file()
    (command,) = (line for line in words if line[0] == "CMD")
    assert_launches(yaml.safe_load(" ".join(command[1:])))
    assert WORKSPACE + "setup.bash" in (REPOSITORY / "docker/entrypoint.sh").read_text()


def test_the_services_share_memory_with_the_host() -> None:
    services = read_yaml("docker/compose.yaml")["services"]
    assert set(services) == {"perception", "perception-cuda"}
    for service in services.values():
        assert (service["ipc"], service["network_mode"]) == ("host", "host")
        assert (REPOSITORY / service["build"]["dockerfile"]).is_file()
        assert_launches(service["command"])


# --- scripts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_executable_and_sound(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)


def test_the_script_installs_what_rosdep_does_not_and_all_of_it_pinned() -> None:
    setup = (REPOSITORY / "setup.cfg").read_text()
    (required,) = re.findall(r"install_requires =\n((?:    .+\n)+)", setup)
    names = {
        re.split(r"[<>=]", line.strip())[0]
        for line in required.splitlines()
        if not line.strip().startswith("#")
    }
    assert packages_of_the_script() == names - FROM_ROSDEP
    constraints = (REPOSITORY / "constraints.txt").read_text()
    for name in packages_of_the_script():
        assert re.search(rf"^{name}==", constraints, re.MULTILINE)


def test_the_script_keeps_the_distributions_numpy(tmp_path: Path) -> None:
    # A python3 that makes an environment whose pip and python only say what they were asked.
    environment = tmp_path / "environment"
    python = tmp_path / "python3"
    say = f'echo "$@" >>{shlex.quote(str(tmp_path / "asked"))}'
    python.write_text(
        "#!/bin/bash\n"
        'if [ "$1" = -c ]; then echo 1.26.4; exit; fi\n'
        f'test "$*" = "-m venv --system-site-packages {environment}" || exit 3\n'
        f"mkdir -p {environment}/bin\nfor name in pip python; do\n"
        f"  printf '#!/bin/bash\\n%s\\n' '{say}' >{environment}/bin/$name\n"
        f"  chmod +x {environment}/bin/$name\ndone\n"
    )
    python.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = ["bash", INSTALL, environment, "pytest==7.4.*"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path}, capture_output=True)
    constraints = (environment / "constraints.txt").read_text().splitlines()
    assert "numpy==1.26.4" in constraints
    pinned = {re.split("[=;]", line)[0] for line in constraints}
    assert pinned == packages_of_the_script() | {"numpy"}
    (pip, _) = (tmp_path / "asked").read_text().splitlines()
    assert set(pip.split()) >= packages_of_the_script() | {"pytest==7.4.*"}
    assert (environment / "COLCON_IGNORE").is_file()
