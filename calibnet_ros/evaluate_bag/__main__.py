"""`python -m calibnet_ros.evaluate_bag`."""

import sys

from calibnet_ros.evaluate_bag.main import main

sys.exit(main())
