from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibnet_core.ablation import cost, latency
from calibnet_core.ablation.cost import Cost
from calibnet_core.ablation.latency import Latency
from calibnet_core.cli import main
from calibnet_core.config import ModelConfig


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[ModelConfig]:
    """Networks that were measured; nothing is."""
    seen: list[ModelConfig] = []

    def measure(config: ModelConfig) -> Cost:
        seen.append(config)
        return Cost(parameters=1_000_000 * len(seen), multiply_adds=2_000_000_000)

    monkeypatch.setattr(cost, "measure_cost", measure)
    monkeypatch.setenv("COLUMNS", "250")
    return seen


def test_rows_stand_beside_the_papers_columns(
    models: list[ModelConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", "--table", "VI", "--row", "t3", "c2_t3"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "VI:" in line]
    assert [line.replace("│", " ").split() for line in lines] == [
        ["VI:t3", "1.00", "75.9", "2.0", "54.0", "39.6", "57.0/75.1/64.5", "-"],
        ["VI:c2_t3", "2.00", "78.9", "2.0", "90.2", "35.9", "58.0/75.8/65.6", "-"],
    ]


def test_rows_of_one_network_are_measured_once(models: list[ModelConfig]) -> None:
    assert main(["ablate", "--table", "IV", "VI", "X"]) == 0
    assert len(models) == len(set(models)) == 6


def test_figures_go_to_json_and_markdown(models: list[ModelConfig], tmp_path: Path) -> None:
    for name in ("a.json", "a.md"):
        path = tmp_path / name
        assert main(["ablate", "--table", "III", "--output", str(path)]) == 0
    document = json.loads((tmp_path / "a.json").read_text())
    assert [row["name"] for row in document["rows"]] == ["early", "late"]
    assert document["setting"] == "Costs of one 320x480 image."
    text = (tmp_path / "a.md").read_text()
    assert text.startswith("Costs of one 320x480 image.\n\n| row |")
    assert "| III:early | 3.00 | - | 2.0 |" in text  # the third network that was measured


def test_latency_is_measured_when_asked_for(
    models: list[ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measure(config: ModelConfig, *, device: str, rounds: int) -> Latency:
        asked.append((device, rounds))
        return Latency(median_ms=10.0, lowest_ms=9.0, highest_ms=12.0, ratio=1.5, rounds=rounds)

    monkeypatch.setattr(latency, "measure_latency", measure)
    path = tmp_path / "a.md"
    arguments = ["--row", "III:late", "--latency", "--rounds", "3", "--output", str(path)]
    assert main(["ablate", *arguments]) == 0
    assert asked == [("cpu", 3)]
    text = path.read_text()
    assert "3 rounds, fp32, cpu" in text
    assert "| 10.0 | 9.0-12.0 | 1.50 | 100.0 | - |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row", "t9"], "error: there is no row 't9' among these; use some of III:early"),
        (["--output", "a.txt"], "error: a.txt: the file to write must end in .json or .md"),
        (["--output", "no/a.md"], "error: no/a.md: the folder no does not exist; create it"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    models: list[ModelConfig],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert models == []


def test_an_unknown_table_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["ablate", "--table", "II"])
    assert "invalid choice: 'II'" in capsys.readouterr().err
