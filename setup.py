"""The pip route: build the CMake project of this folder and pack what it installs into the wheel.

Metadata stands in setup.cfg. The messages are built where the ROS wheels of requirements-ros.txt
are installed in the same environment; elsewhere the wheel holds `calibnet_core` and its command
line. The compiled operator kernels are built where torch is installed in the same environment and
CMake and a C++ compiler are there; elsewhere the operators run in plain torch. A build that was
begun and fails is an error. The environment variable `CALIBNET_BUILD_OPS` may be `off`, which
leaves the kernels out, or `cpu`, which leaves out those for CUDA.
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
INSTALLED = Path(sysconfig.get_path("purelib"))
HAS_ROS_WHEELS = (INSTALLED / "rosidl_cmake").is_dir()


def find_torch() -> Path:
    """Folder of the torch that this environment imports; it may lie in another one that it shows.

    Asked of a fresh interpreter, since pip's build isolation hides what is installed from this one.
    """
    question = (
        "from importlib.util import find_spec as f; s = f('torch'); print(s.origin if s else '')"
    )
    hiding = ("PYTHONPATH", "PYTHONNOUSERSITE")
    environment = {name: value for name, value in os.environ.items() if name not in hiding}
    command = [sys.executable, "-c", question]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, cwd=sys.prefix
    )
    return Path(answer.stdout.strip() or "no torch").parent


TORCH = find_torch()
OPERATORS = os.environ.get("CALIBNET_BUILD_OPS") or "auto"  # CMake refuses what it does not know
COMPILERS = (os.environ.get("CXX", "c++"), "g++", "clang++")
MISSING_FOR_OPERATORS = [
    name
    for name, found in (
        ("an installed torch", (TORCH / "version.py").is_file()),
        ("CMake", shutil.which("cmake")),
        ("a C++ compiler", any(map(shutil.which, COMPILERS))),
    )
    if not found
]
BUILDS_OPERATORS = OPERATORS != "off" and not MISSING_FOR_OPERATORS


class CompiledDistribution(Distribution):
    """A distribution that is bound to its platform exactly when it holds something compiled."""

    def has_ext_modules(self) -> bool:
        return HAS_ROS_WHEELS or BUILDS_OPERATORS


class BuildWithCMake(build_py):
    """Collect the Python packages, then add messages, kernels and the rest of the ROS package."""

    def run(self) -> None:
        # pip builds in the source tree, where modules deleted since the last build would live on.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        # An editable installation runs the sources; what is built goes where git ignores it.
        self.packages_folder = SOURCE if self.editable_mode else Path(self.build_lib)
        if not BUILDS_OPERATORS:
            why = "no " + " and no ".join(MISSING_FOR_OPERATORS) if MISSING_FOR_OPERATORS else "off"
            print(f"calibnet_ros: packing without compiled operators: {why}", file=sys.stderr)
        build = Path(self.get_finalized_command("build").build_temp).resolve()
        if HAS_ROS_WHEELS:
            self.add_ros_package(run_cmake(SOURCE, build))
            return
        print("calibnet_ros: no ROS wheels found, packing without messages", file=sys.stderr)
        config = Path("share", "calibnet_ros", "config")
        self.distribution.data_files = data_files(SOURCE / "config", config)
        if BUILDS_OPERATORS:
            self.add_operators(run_cmake(SOURCE / "calibnet_core" / "ops", build))

    def add_operators(self, prefix: Path) -> None:
        """Copy the kernels beside the Python that loads them; none where torch is too old."""
        for library in prefix.rglob("libcalibnet_ops.so"):
            shutil.copy2(library, self.packages_folder / "calibnet_core" / "ops")

    def add_ros_package(self, prefix: Path) -> None:
        """Copy messages and kernels into the Python packages; the rest goes to share and lib."""
        self.add_operators(prefix)
        (generated,) = (found.parent for found in prefix.glob("lib/**/calibnet_ros/msg"))
        package = self.packages_folder / "calibnet_ros"
        for interfaces in ("msg", "srv", "action"):
            shutil.copytree(generated / interfaces, package / interfaces, dirs_exist_ok=True)
        for extension in generated.glob("*.so"):
            shutil.copy2(extension, package)
        python_folder = generated.parent  # packed above
        self.distribution.data_files = data_files(prefix, Path(), without=python_folder)


def run_cmake(source: Path, build: Path) -> Path:
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
        "CALIBNET_BUILD_OPS": OPERATORS if BUILDS_OPERATORS else "off",
        "CALIBNET_TORCH": TORCH,
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": prefix,
        "Python3_EXECUTABLE": sys.executable,
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    for step in (
        ["-S", source, "-B", build, *definitions],
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


setup(distclass=CompiledDistribution, cmdclass={"build_py": BuildWithCMake})
