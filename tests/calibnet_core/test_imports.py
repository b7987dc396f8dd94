"""The library stands on its own, and imports inside it point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shared import REPOSITORY

WITHOUT_ROS = """
import importlib, importlib.abc, pkgutil, sys

ROS = ("rcl", "rosidl", "rosgraph", "rmw", "ament", "launch", "calibnet_ros")
MESSAGES = ("_msgs", "_interfaces", "_srvs")

class NoRos(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top.startswith(ROS) or top.endswith(MESSAGES):
            raise ModuleNotFoundError(f"No module named '{name}': no ROS here", name=name)

sys.meta_path.insert(0, NoRos())
for name in ("rclpy", "std_msgs.msg", "sensor_msgs", "rosidl_runtime_py", "builtin_interfaces"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} could be imported, so this proves nothing")
"""

PREDICT = """
import numpy as np
import calibnet_core
from calibnet_core.config import InferenceConfig, InputConfig

pipeline = calibnet_core.Pipeline.from_weights(
    config=calibnet_core.PipelineConfig(
        input=InputConfig(shortest_edge=32, longest_edge=64), inference=InferenceConfig.published()
    ),
)
rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
frame = calibnet_core.RgbdFrame(rgb=rgb, depth_m=np.ones((40, 60), np.float32))
instances = pipeline.predict(frame)
print(len(instances), instances.masks.shape[1:])
"""

IMPORT_ALL = """
modules = [m.name for m in pkgutil.walk_packages(["calibnet_core"], "calibnet_core.")]
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(modules))
"""


def run(script: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip().splitlines()[-1]


def test_the_library_predicts_without_ros() -> None:
    assert run(WITHOUT_ROS + PREDICT) == "30 (40, 60)"


def test_every_module_of_the_library_can_be_imported_without_ros() -> None:
    modules = len(
        [p for p in (REPOSITORY / "calibnet_core").rglob("*.py") if p.parent != REPOSITORY]
    )
    # walk_packages does not count the package itself.
    assert int(run(WITHOUT_ROS + IMPORT_ALL)) == modules - 1


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a source file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(str(node.module))
    return names


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        (
            "calibnet_core/models",
            (
                "training",
                "evaluation",
                "pipeline",
                "preprocessing",
                "postprocess",
                "data",
                "commands",
                "cli",
                "checkpoint",
                "perception",
            ),
        ),
        ("calibnet_core/ops", ("models", "config", "pipeline", "data", "training")),
        (
            "calibnet_core/perception",
            ("models", "ops", "training", "evaluation", "cli", "commands"),
        ),
    ],
)
def test_imports_point_one_way(folder: str, forbidden: tuple[str, ...]) -> None:
    unwanted = tuple(f"calibnet_core.{name}" for name in forbidden)
    wrong = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in (REPOSITORY / folder).rglob("*.py")
        for name in imports_of(path)
        if name.startswith(unwanted)
    }
    assert wrong == set()
