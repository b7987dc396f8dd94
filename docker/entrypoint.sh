#!/usr/bin/env bash
# Runs a command with the workspace and its Python at hand.
set -e

source /opt/calibnet/bin/activate
source /opt/workspace/setup.bash
exec "$@"
