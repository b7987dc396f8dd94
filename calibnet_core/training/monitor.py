"""What a run shows while it goes: a progress bar, a log, TensorBoard and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from calibnet_core.files import atomic_write
from calibnet_core.training.run_folder import RunFolder


class Monitor:
    """Shows and keeps what happens. In a distributed run only the first process has a voice.

    Args:
        folder: where logs and pictures go.
        is_silent: say and keep nothing.
        console: where to speak; standard error if None.
    """

    def __init__(
        self, folder: RunFolder, *, is_silent: bool = False, console: Console | None = None
    ) -> None:
        self._folder, self._is_silent = folder, is_silent
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._writer: Any = None

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        if not self._is_silent:
            self._console.print(sentence, markup=False)

    @contextmanager
    def progress(self, start: int, total: int) -> Iterator[None]:
        """Show a progress bar, and have TensorBoard's file open, within the block."""
        if self._is_silent:
            yield
            return
        from torch.utils.tensorboard import SummaryWriter

        columns = (
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
        )
        # Steps that are computed again after a crash replace what they had logged before.
        self._writer = SummaryWriter(str(self._folder.path), purge_step=start + 1)
        # A progress bar in a file or a pipe is a mess.
        self._progress = Progress(
            *columns, console=self._console, disable=not self._console.is_terminal
        )
        self._task = self._progress.add_task("train", total=total, completed=start, loss=0.0)
        try:
            with self._progress:
                yield
        finally:
            self._writer.close()

    def advance(self, loss: float) -> None:
        """One iteration is done."""
        if self._progress is not None:
            self._progress.update(self._task, advance=1, loss=loss)

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Keep figures of an iteration, and print them where there is no progress bar."""
        if self._is_silent:
            return
        # JSON has no infinity, which a gradient that a scaler left out can be.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._folder.append_log({"iteration": iteration, **finite})
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)
        shown = "AP" in values or not self._console.is_terminal
        if shown:
            text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.say(f"{iteration:>7}  {text}")

    def pictures(self, iteration: int, sheet: NDArray[np.uint8] | None) -> None:
        """Keep a sheet (H, W, 3) of sample pictures."""
        if self._is_silent or sheet is None:
            return
        with atomic_write(self._folder.samples / f"{iteration:07}.png") as file:
            Image.fromarray(sheet).save(file, format="PNG")
        self._writer.add_image("samples", sheet, iteration, dataformats="HWC")
