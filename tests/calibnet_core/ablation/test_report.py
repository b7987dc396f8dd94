from __future__ import annotations

import io
import json

from rich.console import Console

from calibnet_core.ablation.cost import Cost
from calibnet_core.ablation.latency import Latency
from calibnet_core.ablation.report import MeasuredRow, as_document, as_markdown, as_table
from calibnet_core.ablation.rows import select_rows

COST = Cost(parameters=75_943_264, multiply_adds=60_086_419_200)
LATENCY = Latency(median_ms=250.0, lowest_ms=240.5, highest_ms=301.0, ratio=0.615, rounds=7)
T3, EARLY = select_rows(["VI"], ["t3"])[0], select_rows(["III"], ["early"])[0]
TWO = [MeasuredRow(EARLY, COST), MeasuredRow(T3, COST)]


def shown(rows: list[MeasuredRow]) -> str:
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(as_table(rows))
    return console.export_text()


def test_markdown_has_a_line_a_row_and_a_dash_where_the_paper_is_silent() -> None:
    lines = as_markdown(TWO, "How.").splitlines()
    assert lines[:2] == ["How.", ""]
    assert lines[2].startswith("| row | params M | paper | mult-adds G | paper | paper FPS |")
    assert lines[3] == "| --- |" + " ---: |" * 7
    assert lines[4:] == [
        "| III:early | 75.94 | - | 60.1 | - | - | 57.2/75.7/65.0 | 48.7/69.6/54.9 |",
        "| VI:t3 | 75.94 | 75.9 | 60.1 | 54.0 | 39.6 | 57.0/75.1/64.5 | - |",
    ]


def test_latency_has_columns_where_it_was_measured() -> None:
    timed = as_markdown([MeasuredRow(T3, COST, LATENCY), TWO[0]], "How.").splitlines()
    assert "| ms | ms lowest-highest | times published | FPS | paper FPS |" in timed[2]
    assert "| 54.0 | 250.0 | 240.5-301.0 | 0.61 | 4.0 | 39.6 |" in timed[4]
    assert "| - | - | - | - | - | - |" in timed[5]


def test_the_terminal_shows_what_markdown_holds() -> None:
    text = shown(TWO)
    for cell in ("III:early", "VI:t3", "75.94", "60.1", "57.0/75.1/64.5"):
        assert cell in text
    assert text.count("├") == 1  # a line between the tables


def test_json_holds_settings_paper_and_measurement() -> None:
    document = json.loads(json.dumps(as_document([MeasuredRow(T3, COST, LATENCY)], "How.")))
    (row,) = document["rows"]
    assert (document["setting"], row["table"], row["name"]) == ("How.", "VI", "t3")
    assert row["model"]["mask_levels"] == "t3"
    assert row["loss_weights"] == {}
    assert row["paper"]["accuracy"]["COME15K-E"] == {"ap": 57.0, "ap50": 75.1, "ap70": 64.5}
    assert row["paper"]["multiply_adds_g"] == 54.0
    assert row["measured"]["parameters"] == COST.parameters
    assert row["measured"]["multiply_adds"] == COST.multiply_adds
    assert row["measured"]["latency"]["median_ms"] == 250.0
    assert as_document(TWO, "")["rows"][0]["measured"]["latency"] is None
