"""Every row of the paper's tables III to XII: its settings, and what the paper prints of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from calibnet_core.config import MODELS, ConfigError, ModelConfig

EASY, HARD = "COME15K-E", "COME15K-H"
"""The paper's test sets; table IX calls them COME15K-N and COME15K-D."""


@dataclass(frozen=True)
class Accuracy:
    """What the paper reports on one test set, in percent: AP, AP50 and AP70."""

    ap: float
    ap50: float
    ap70: float


@dataclass(frozen=True, kw_only=True)
class PaperColumns:
    """What the paper prints for a row; None where its table has no such column.

    Attributes:
        accuracy: by name of the test set.
        parameters_m: millions of parameters.
        multiply_adds_g: thousand millions of multiply-adds, which the paper calls FLOPs.
        frames_per_second: on an RTX 3090.
    """

    accuracy: Mapping[str, Accuracy]
    parameters_m: float | None = None
    multiply_adds_g: float | None = None
    frames_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One row of one table: all that a measurement or a training run needs to know of it.

    Attributes:
        table: its Roman number.
        name: of the row, unique within its table.
        model: settings to build the network with.
        loss_weights: factors that replace the published ones in training, by the published name of
            the term, such as `loss_objectness`. Terms that are not here keep theirs.
        paper: what the paper reports.
    """

    table: str
    name: str
    model: ModelConfig
    paper: PaperColumns
    loss_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name that is unique among all rows, such as `VI:c2_t3`."""
        return f"{self.table}:{self.name}"


Figures = tuple[float, float, float]


def _row(
    table: str,
    name: str,
    easy: Figures,
    hard: Figures | None = None,
    *,
    model: ModelConfig | None = None,
    loss_weights: Mapping[str, float] | None = None,
    cost: tuple[float | None, float | None, float | None] = (None, None, None),
) -> AblationRow:
    accuracy = {EASY: Accuracy(*easy)} | ({HARD: Accuracy(*hard)} if hard else {})
    return AblationRow(
        table=table,
        name=name,
        model=model or ModelConfig(),
        loss_weights=loss_weights or {},
        paper=PaperColumns(
            accuracy=accuracy,
            parameters_m=cost[0],
            multiply_adds_g=cost[1],
            frames_per_second=cost[2],
        ),
    )


_BEST = ((58.0, 75.8, 65.6), (50.7, 70.4, 57.3))
"""The published model on both test sets; most tables end with it."""

_PLAIN = ModelConfig(kernel_fusion="plain", mask_fusion="plain", depth_similarity="none")


def _with_parts(*, dik: bool = False, wsf: bool = False, dsa: bool = False) -> ModelConfig:
    return dataclasses.replace(
        _PLAIN,
        kernel_fusion="late" if dik else "plain",
        mask_fusion="wsf" if wsf else "plain",
        depth_similarity="separate" if dsa else "none",
    )


def _layers(rgb: int, depth: int) -> ModelConfig:
    return ModelConfig(num_transformer_layers=rgb, num_depth_transformer_layers=depth)


_NO_REGIONS = {"loss_t3": 0.0, "loss_d3": 0.0, "loss_r2": 0.0, "loss_d2": 0.0}
_T3 = ModelConfig(mask_levels="t3")
_T3_NON_LOCAL = ModelConfig(mask_levels="t3", affinity="non_local")
_T3_TO_T5 = ModelConfig(mask_levels="t3_t4_t5")
_C2_TO_T4 = ModelConfig(mask_levels="c2_t3_t4")
_C2_TO_T5 = ModelConfig(mask_levels="c2_t3_t4_t5")

# Accuracy is AP, AP50, AP70 on COME15K-E and, where the table has it, on COME15K-H; cost is
# parameters (M), multiply-adds (G) and frames per second.
# fmt: off
ROWS: tuple[AblationRow, ...] = (
    _row("III", "early", (57.2, 75.7, 65.0), (48.7, 69.6, 54.9),
         model=ModelConfig(kernel_fusion="early")),
    _row("III", "late", *_BEST),

    _row("IV", "non_local", (57.4, 75.4, 65.0), model=_T3_NON_LOCAL, cost=(75.9, 64.6, 29.4)),
    _row("IV", "rows", (57.0, 75.1, 64.5), model=_T3, cost=(75.9, 54.0, 39.6)),

    _row("V", "shared", (57.0, 75.6, 64.2), (50.3, 70.4, 56.7),
         model=ModelConfig(depth_similarity="shared")),
    _row("V", "separate", *_BEST),

    _row("VI", "t3", (57.0, 75.1, 64.5), model=_T3, cost=(75.9, 54.0, 39.6)),
    _row("VI", "c2_t3", _BEST[0], cost=(78.9, 90.2, 35.9)),
    _row("VI", "c2_t3_t4", (57.3, 75.6, 65.0), model=_C2_TO_T4, cost=(81.9, 91.8, 35.2)),
    _row("VI", "t3_t4_t5", (57.1, 75.4, 64.7), model=_T3_TO_T5, cost=(81.9, 56.0, 35.8)),
    _row("VI", "c2_t3_t4_t5", (57.5, 75.8, 64.8), model=_C2_TO_T5, cost=(84.8, 92.2, 34.3)),

    _row("VII", "10", (56.5, 75.0, 64.0), (48.5, 69.2, 54.3),
         model=ModelConfig(num_kernels=10), cost=(78.7, 89.5, None)),
    _row("VII", "20", (57.2, 75.2, 64.6), (50.0, 70.3, 56.1),
         model=ModelConfig(num_kernels=20), cost=(78.8, 89.7, None)),
    _row("VII", "50", *_BEST, cost=(78.9, 90.2, None)),
    _row("VII", "100", (58.1, 76.3, 65.6), (50.3, 70.9, 57.2),
         model=ModelConfig(num_kernels=100), cost=(79.2, 91.2, None)),

    _row("VIII", "3-0", (57.2, 75.4, 64.9), (49.6, 70.5, 56.4),
         model=_layers(3, 0), cost=(76.7, None, None)),
    _row("VIII", "3-1", (57.1, 75.7, 65.0), (49.0, 69.9, 55.3),
         model=_layers(3, 1), cost=(77.4, None, None)),
    _row("VIII", "3-3", *_BEST, cost=(78.9, None, None)),
    _row("VIII", "6-1", (55.4, 74.6, 63.2), (47.2, 69.0, 52.9),
         model=_layers(6, 1), cost=(79.6, None, None)),
    _row("VIII", "6-3", (58.2, 76.3, 65.8), (50.6, 70.9, 57.0),
         model=_layers(6, 3), cost=(81.1, None, None)),
    _row("VIII", "6-6", (58.0, 76.1, 65.3), (50.4, 70.9, 56.8),
         model=_layers(6, 6), cost=(83.3, None, None)),

    _row("IX", "cascade", (57.1, 75.4, 64.7), (49.8, 69.9, 56.1),
         model=ModelConfig(mask_fusion="cascade")),
    _row("IX", "rmff", (57.6, 75.6, 65.1), (49.9, 70.1, 55.9),
         model=ModelConfig(mask_fusion="rmff")),
    _row("IX", "wsf", *_BEST),

    _row("X", "no_objectness", (56.7, 75.4, 64.7), (49.7, 70.5, 56.4),
         loss_weights={"loss_objectness": 0.0}),
    _row("X", "no_auxiliary", (57.8, 76.1, 65.4), (50.2, 70.9, 57.1), loss_weights=_NO_REGIONS),
    _row("X", "all", *_BEST),

    _row("XI", "rgb", (52.9, 72.8, 60.5), model=dataclasses.replace(_PLAIN, modalities="rgb")),
    _row("XI", "rgbd", (55.2, 74.1, 62.9), model=_PLAIN),
    _row("XI", "dik", (56.5, 75.3, 64.0), model=_with_parts(dik=True)),
    _row("XI", "wsf", (56.7, 75.1, 64.1), model=_with_parts(wsf=True)),
    _row("XI", "dsa", (55.8, 75.4, 64.3), model=_with_parts(dsa=True)),
    _row("XI", "dik+dsa", (56.9, 75.3, 64.9), model=_with_parts(dik=True, dsa=True)),
    _row("XI", "wsf+dsa", (57.3, 75.6, 64.7), model=_with_parts(wsf=True, dsa=True)),
    _row("XI", "dik+wsf", (57.5, 75.6, 65.1), model=_with_parts(dik=True, wsf=True)),
    _row("XI", "all", _BEST[0]),

    _row("XII", "resnet50", *_BEST),
    _row("XII", "resnet101", (58.5, 76.4, 66.0), (51.5, 71.8, 58.0),
         model=MODELS["calibnet_r101"]),
    _row("XII", "swin_t", (60.0, 77.9, 67.5), (52.6, 72.9, 58.6),
         model=MODELS["calibnet_swin_t"]),
    _row("XII", "pvtv2_b2_li", (60.7, 78.1, 67.8), (53.7, 72.9, 59.6),
         model=MODELS["calibnet_pvtv2_b2_li"]),
    _row("XII", "p2t_large", (61.8, 78.8, 68.6), (54.4, 73.5, 60.3),
         model=MODELS["calibnet_p2t_large"]),
)
# fmt: on

TABLES: tuple[str, ...] = tuple(dict.fromkeys(row.table for row in ROWS))
"""Roman numbers of the tables, in the paper's order."""


def select_rows(
    tables: Sequence[str] | None = None, names: Sequence[str] | None = None
) -> list[AblationRow]:
    """Rows by table and name, in the paper's order.

    Args:
        tables: Roman numbers; None means all tables.
        names: of rows, such as `c2_t3`, or keys such as `VI:c2_t3`; None means all rows of the
            tables.

    Raises:
        ConfigError: a table or a row is unknown.
    """
    for table in tables or ():
        if table not in TABLES:
            raise ConfigError(f"there is no table '{table}'; use some of {', '.join(TABLES)}")
    rows = [row for row in ROWS if tables is None or row.table in tables]
    for name in names or ():
        if not any(name in (row.name, row.key) for row in rows):
            known = ", ".join(row.key for row in rows)
            raise ConfigError(f"there is no row '{name}' among these; use some of {known}")
    return [row for row in rows if names is None or row.name in names or row.key in names]
