"""The pip route: build the CMake project of this folder and pack what it installs into the wheel.

Metadata stands in setup.cfg. The messages are built where the ROS wheels of requirements-ros.txt
are installed in the same environment; elsewhere the wheel holds pure Python, enough for
`calibnet_core` and its command line.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).resolve().parent

# Looking into the environment itself, instead of importing the generator, leaves out a ROS
# distribution whose setup file was sourced: built against that, the libraries would land where
# nothing looks for them. It also finds the wheels from within pip's build isolation.
HAS_ROS_WHEELS = Path(sysconfig.get_path("purelib"), "rosidl_cmake").is_dir()


class RosDistribution(Distribution):
    """A distribution that is bound to its platform exactly when it holds compiled messages."""

    def has_ext_modules(self) -> bool:
        return HAS_ROS_WHEELS


class BuildWithMessages(build_py):
    """Collect the Python packages, then add the messages and the rest of the ROS package."""

    def run(self) -> None:
        # pip builds in the source tree, where modules deleted since the last build would live on.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if not HAS_ROS_WHEELS:
            print("calibnet_ros: no ROS wheels found, packing without messages", file=sys.stderr)
            config = Path("share", "calibnet_ros", "config")
            self.distribution.data_files = data_files(SOURCE / "config", config)
            return
        prefix = run_cmake(Path(self.get_finalized_command("build").build_temp).resolve())
        (generated,) = prefix.glob("lib/**/calibnet_ros/msg")
        package = Path(self.build_lib, "calibnet_ros")
        shutil.copytree(generated, package / "msg")
        for extension in generated.parent.glob("*.so"):
            shutil.copy2(extension, package)
        python_folder = generated.parent.parent  # packed above
        self.distribution.data_files = data_files(prefix, Path(), without=python_folder)


def run_cmake(build: Path) -> Path:
    """Configure, build and install the CMake project below `build`; return the install prefix."""
    prefix = build / "prefix"
    shutil.rmtree(prefix, ignore_errors=True)
    # The cache remembers the environment it was made in; the compiled objects may stay.
    (build / "CMakeCache.txt").unlink(missing_ok=True)
    # The search for packages reads one of the prefix variables, the search for type support the
    # other. PYTHONPATH would lead the generators to pip's isolated environment or to a sourced
    # distribution.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"AMENT_PREFIX_PATH": sys.prefix, "CMAKE_PREFIX_PATH": sys.prefix}
    options = {
        "BUILD_TESTING": "OFF",
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": prefix,
        "Python3_EXECUTABLE": sys.executable,
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    for step in (
        ["-S", SOURCE, "-B", build, *definitions],
        ["--build", build, "--parallel", str(os.cpu_count() or 1)],
        ["--install", build],
    ):
        subprocess.run(["cmake", *step], check=True, env=environment)
    return prefix


def data_files(
    folder: Path, destination: Path, without: Path | None = None
) -> list[tuple[str, list[str]]]:
    """List the files of a folder as setuptools wants it; `destination` is below sys.prefix."""
    targets: dict[str, list[str]] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if without not in file.parents:
            target = destination / file.parent.relative_to(folder)
            targets.setdefault(str(target), []).append(str(file))
    return list(targets.items())


setup(distclass=RosDistribution, cmdclass={"build_py": BuildWithMessages})
