"""The examples run beside real nodes, as the tests of the node do."""

from tests.calibnet_ros.conftest import start_robot as start_robot
