"""Runs consumers for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.calibnet_ros.consumers.bench import Bench


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Starts consumers by module and node name, with parameters; they end with the test."""
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("calibnet_ros.msg", reason="the messages are not built")
    from tests.calibnet_ros.consumers.bench import Bench

    benches: list[Bench] = []

    def begin(module: str, name: str, **parameters: Any) -> Bench:
        benches.append(Bench(tmp_path / f"{len(benches)}.log", module, name, parameters))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()
