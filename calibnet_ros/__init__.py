"""ROS 2 adapter for `calibnet_core`; its messages are generated as `calibnet_ros.msg`."""

from pkgutil import extend_path

# The messages exist only where the package is installed. With the source tree first on sys.path,
# this file would hide them; so the search goes on in every other `calibnet_ros` folder, and edited
# sources work with installed messages.
__path__ = extend_path(__path__, __name__)
