"""Find the files installed beside the code: configuration and launch files."""

import sys
from pathlib import Path

PACKAGE = "calibnet_ros"


def share_path(relative: str | Path) -> Path:
    """Find a file or folder of this package's share folder.

    Looks in the ament index first, which knows colcon workspaces and distributions. The index is
    silent unless AMENT_PREFIX_PATH is set, and a virtual environment does not set it; so next comes
    the share folder of the running environment, and last the source tree.

    Args:
        relative: path below the share folder, for instance ``config/fastdds_profile.xml``.

    Returns:
        The first match.

    Raises:
        FileNotFoundError: no place has it; the message names the file and the places.
    """
    folders = [*_ament_share(), Path(sys.prefix, "share", PACKAGE), *_source_tree()]
    for folder in folders:
        if (path := folder / relative).exists():
            return path
    places = ", ".join(str(folder) for folder in folders)
    raise FileNotFoundError(
        f"'{relative}' is not in the share folder of {PACKAGE}; looked in {places}. "
        "Install the package again, or source the setup file of its workspace."
    )


def _ament_share() -> list[Path]:
    try:
        from ament_index_python.packages import get_package_prefix
    except ImportError:
        return []
    try:
        return [Path(get_package_prefix(PACKAGE), "share", PACKAGE)]
    except (LookupError, OSError):  # not in the index, or AMENT_PREFIX_PATH is not set
        return []


def _source_tree() -> list[Path]:
    """The repository root, unless this file is an installed copy."""
    root = Path(__file__).resolve().parents[1]
    return [root] if (root / "package.xml").is_file() else []
