# `make test` and `make demo` set up all they need, and do so again only when an input changed.

PYTHON ?= python3
VENV ?= .venv
# Passed on to the demonstration when given, as in `make demo BAG=recording.mcap RATE=0.5`.
BAG ?=
RATE ?=
# Passed on to colcon's CMake. One architecture shows that the CUDA build works; the wheel has them all.
COLCON_CMAKE_ARGS ?= -DCMAKE_CUDA_ARCHITECTURES=75
# Passed on to pytest, as in `make test ARGS="-k share"`.
ARGS ?=
# Tests that run side by side; each works in one thread, and many wait more than they work.
WORKERS ?= 3

bin := $(VENV)/bin
colcon_base := build/colcon
# All that the wheel is made of. Changed Python sources count, for the commands in $(bin) run the
# installed copy.
sources := CMakeLists.txt package.xml pyproject.toml setup.cfg setup.py \
	$(shell find action calibnet_core calibnet_ros config examples include launch msg srv -type f \
		-not -path '*/__pycache__/*' -not -name '*.so')

# A sourced ROS distribution must not mix with the wheels. The second variable tells their start-up
# hook that another environment's libraries are loaded already.
unexport PYTHONPATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
# No machine outside this one takes part.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export ROS_LOG_DIR := $(CURDIR)/build/ros_log
# The first name is read up to Jazzy, the second from Kilted on.
export FASTRTPS_DEFAULT_PROFILES_FILE = $(CURDIR)/config/$(profile)
export FASTDDS_DEFAULT_PROFILES_FILE = $(FASTRTPS_DEFAULT_PROFILES_FILE)
profile := fastdds_profile.xml

# $(call require,COMMAND,MESSAGE) stops with one line when the command fails.
require = @{ $(1); } >/dev/null 2>&1 || { echo "make: $(strip $(2))" >&2; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test demo lint types colcon clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1:\2/p' $(MAKEFILE_LIST) | awk -F: '{ printf "%-8s %s\n", $$1, $$2 }'

setup: $(VENV)/.installed ## Create the virtual environment, build the messages, install the package

test: profile := fastdds_profile_loopback.xml
# Wrong types in message fields raise instead of turning into garbage.
test: export ROS_PYTHON_CHECK_FIELDS := 1
test: $(VENV)/.installed ## Run the tests
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n $(WORKERS) --dist loadfile -m "not alone" $(ARGS) || [ $$? = 5 ]
	$(bin)/python -m pytest -m alone $(ARGS) || [ $$? = 5 ]  # 5: none of these was asked for

demo: $(VENV)/.installed ## Play a bag through the perception node (optional: BAG=path RATE=factor)
	$(bin)/calibnet_demo $(if $(BAG),--bag "$(BAG)") $(if $(RATE),--rate $(RATE)) --output demo_output

lint: $(VENV)/.installed ## Check style and spelling
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/clang-format --dry-run --Werror $(shell find calibnet_core benchmarks examples include tests \
		-name '*.cpp' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.h')
	$(bin)/codespell

types: $(VENV)/.installed ## Check the library's types
	$(bin)/mypy

# colcon's CMake takes the Python found on PATH and looks for ROS in both prefix variables.
colcon: export PATH := $(abspath $(bin)):$(PATH)
colcon: export AMENT_PREFIX_PATH := $(abspath $(VENV))
colcon: export CMAKE_PREFIX_PATH := $(abspath $(VENV))
colcon: $(VENV)/.colcon ## Build with colcon in the same environment and import the messages it built
	$(bin)/colcon --log-base $(colcon_base)/log build --base-paths . \
		--build-base $(colcon_base)/build --install-base $(colcon_base)/install \
		--cmake-args $(COLCON_CMAKE_ARGS)
	. $(colcon_base)/install/setup.sh && cd / && python -c 'from calibnet_ros import msg; \
		print("messages from", msg.__file__); assert "/$(colcon_base)/" in msg.__file__; \
		from calibnet_core import ops; print(ops.info()); \
		assert "/$(colcon_base)/" in str(ops.info().library)'

clean: ## Remove the virtual environment and everything built
	rm -rf $(VENV) build install log demo_output *.egg-info
	rm -rf .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.created:
	$(call require,$(PYTHON) -c 'import sys; assert sys.hexversion >= 0x30A0000',\
		$(PYTHON) is missing or older than 3.10; name a newer one with PYTHON=...)
	$(call require,$(PYTHON) -c 'import ensurepip; import venv',\
		$(PYTHON) lacks venv; install it (Debian and Ubuntu: python3-venv))
	$(call require,$(PYTHON) -c 'import os; from sysconfig import get_path as p; os.stat(p("include") + "/Python.h")',\
		$(PYTHON) lacks its C headers; install them (Debian and Ubuntu: python3-dev))
	$(call require,command -v c++ || command -v g++ || command -v clang++,\
		no C++ compiler found; install one (Debian and Ubuntu: g++))
	$(call require,command -v cmake,\
		no CMake found; install version 3.21 or newer (Debian and Ubuntu: cmake))
	$(PYTHON) -m venv $(VENV)
	touch $@

# What the build of the package uses: the ROS wheels, and torch, against which the kernels compile.
$(VENV)/.build_needs: $(VENV)/.created requirements-ros.txt constraints.txt
	$(bin)/pip install -c constraints.txt -r requirements-ros.txt torch
	touch $@

# Without build isolation: the build uses what was just installed.
$(VENV)/.installed: $(VENV)/.build_needs $(sources)
	$(bin)/pip install -c constraints.txt --no-build-isolation ".[dev]"
	touch $@

$(VENV)/.colcon: $(VENV)/.build_needs
	$(bin)/pip install -c constraints.txt colcon-common-extensions
	touch $@
