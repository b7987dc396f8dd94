"""Finding and loading the compiled kernels, and saying what runs.

The library holds no Python: it is loaded into the process and registers its kernels with torch's
dispatcher, after which the operators use them for every tensor on their device. Where it was not
built, the kernels in `eager.py` run. Where it was built but does not load, that is an error:
nothing switches to another implementation silently.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

FILE_NAME = "libcalibnet_ops.so"
REVISION = 1  # of schemas and exported functions; equals calibnet_ops_revision() in csrc/cpu.cpp
SWITCH = "CALIBNET_OPS"

_log = logging.getLogger("calibnet_core.ops")


@dataclass(frozen=True)
class OperatorInfo:
    """Which kernels run.

    Attributes:
        library: the loaded library, or None.
        cpu: `compiled (AVX-512)`, `compiled (AVX2)`, `compiled (baseline)` or `eager`.
        cuda: `compiled (sm_75 ...)`, naming the architectures inside, or `eager`.
        reason: why a device runs eager kernels; empty where none does.
    """

    library: Path | None
    cpu: str
    cuda: str
    reason: str

    def __str__(self) -> str:
        because = f"; {self.reason}" if self.reason else ""
        return f"deformable attention: CPU {self.cpu}, CUDA {self.cuda}{because}"


_loaded: tuple[Path, ctypes.CDLL] | None = None
_reason = ""


def load() -> None:
    """Load the compiled kernels where there are any; the package does it once, on import.

    The environment variable `CALIBNET_OPS=eager` leaves them out.

    Raises:
        ImportError: there are some, but they do not load here.
        ValueError: the environment variable holds something else.
    """
    global _loaded, _reason
    switch = os.environ.get(SWITCH) or "auto"
    if switch not in ("auto", "eager"):
        raise ValueError(f"{SWITCH} is '{switch}'; set it to 'eager' or leave it unset")
    path = find() if switch == "auto" else None
    if path is not None:
        _loaded = (path, _open(path))
        _reason = "" if _has_cuda_kernels() else "the library was built without CUDA"
        _log.info("%s", info())
    elif switch == "eager":
        _reason = f"{SWITCH}=eager leaves the compiled kernels out"
        _log.info("%s", info())
    else:
        _reason = (
            f"{FILE_NAME} was not built; several times slower than compiled. Reinstall where "
            "a C++ compiler, CMake and torch 2.11 or newer are present"
        )
        _log.warning("%s", info())


def find() -> Path | None:
    """The library beside this file, or in an installed copy of this package.

    The second lets edited sources run with the kernels that were built when they were installed.
    """
    here = Path(__file__).resolve().parent
    inside = Path(*__name__.split(".")[:-1])
    folders = [here, *(Path(entry, inside) for entry in sys.path)]
    return next((path for f in folders if (path := f / FILE_NAME).is_file()), None)


def info() -> OperatorInfo:
    """Report which kernels are loaded."""
    if _loaded is None:
        return OperatorInfo(library=None, cpu="eager", cuda="eager", reason=_reason)
    path, functions = _loaded
    cuda = "eager"
    if _has_cuda_kernels():
        cuda = f"compiled ({_text(functions, 'calibnet_ops_cuda_targets')})"
    return OperatorInfo(
        library=path,
        cpu=f"compiled ({_text(functions, 'calibnet_ops_cpu_isa')})",
        cuda=cuda,
        reason=_reason,
    )


def _open(path: Path) -> ctypes.CDLL:
    try:
        functions = ctypes.CDLL(str(path))
        revision = functions.calibnet_ops_revision()
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"{path} does not load under torch {torch.__version__}: {error}. Reinstall "
            f"calibnet_ros in this environment, or set {SWITCH}=eager to do without"
        ) from error
    if revision != REVISION:
        raise ImportError(
            f"{path} was built from other sources (revision {revision}, expected {REVISION}). "
            f"Reinstall calibnet_ros, or set {SWITCH}=eager to do without"
        )
    return functions


def _has_cuda_kernels() -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("calibnet::ms_deform_attn", "CUDA"))


def _text(functions: ctypes.CDLL, name: str) -> str:
    function = getattr(functions, name)
    function.restype = ctypes.c_char_p
    text: bytes = function()
    return text.decode()
