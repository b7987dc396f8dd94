#!/usr/bin/env bash
# Makes a virtual environment on top of a ROS distribution's Python and installs what rosdep has no
# key for, at the versions of constraints.txt.
#
#   docker/install_python.sh FOLDER [MORE ARGUMENTS FOR PIP...]
#
# Activate it before colcon builds: the kernels compile against its torch, and the executables run
# under its Python.
set -euo pipefail

folder=${1:?give the folder of the environment to make}
shift
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
packages=(
	lightning-fabric pycocotools rich rosbags safetensors tensorboard threadpoolctl timm torch torchvision
)

python3 -m venv --system-site-packages "$folder"
touch "$folder/COLCON_IGNORE"

# Constraints for these packages only: what the distribution brings stays as it is. NumPy above all,
# since cv_bridge was compiled against that of the distribution and breaks with another.
names=$(IFS='|' && echo "${packages[*]}")
numpy=$(python3 -c 'import numpy; print(numpy.__version__)')
{
	grep -E "^($names)==" "$repository/constraints.txt"
	echo "numpy==$numpy"
} >"$folder/constraints.txt"

"$folder/bin/pip" install --no-cache-dir --constraint "$folder/constraints.txt" \
	"${packages[@]}" "$@"
"$folder/bin/python" -c 'import numpy, torch; print("numpy", numpy.__version__, "torch", torch.__version__)'
