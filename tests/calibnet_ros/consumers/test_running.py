from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.shared import REPOSITORY

pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")


def test_consumers_start_without_torch() -> None:
    # They run beside planners, on machines that may not even have it.
    modules = "mask_to_image", "planning_scene_bridge"
    imports = "; ".join(f"import calibnet_ros.consumers.{module}" for module in modules)
    code = f"import sys; {imports}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
