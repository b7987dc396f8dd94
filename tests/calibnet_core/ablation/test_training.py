from __future__ import annotations

from pathlib import Path

import pytest

from calibnet_core.ablation.rows import ROWS, select_rows
from calibnet_core.ablation.training import row_config, train_row
from calibnet_core.cli import main
from calibnet_core.config import ConfigError
from calibnet_core.training.config import TrainConfig, to_yaml
from tests.support.datasets import write_rendered_set
from tests.support.training import TINY_MODEL, tiny_config


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_on_the_published_settings_a_row_is_exactly_its_network(row: object) -> None:
    config = row_config(row, TrainConfig())  # type: ignore[arg-type]
    assert config.model == row.model  # type: ignore[attr-defined]
    weights = {f"loss_{name}": value for name, value in vars(config.loss.weights).items()}
    assert row.loss_weights.items() <= weights.items()  # type: ignore[attr-defined]


def test_a_compact_base_stays_compact() -> None:
    (row,) = select_rows(["III"], ["early"])
    model = row_config(row, tiny_config(Path("set"))).model
    assert model.kernel_fusion == "early"
    assert (model.width, model.backbone, model.position) == (64, "mobilenet_v2", "sine")
    assert model.num_kernels == TINY_MODEL.num_kernels


@pytest.mark.parametrize(
    ("key", "setting", "value"),
    [
        ("VII:50", "num_kernels", 50),
        ("VIII:3-3", "num_transformer_layers", 3),
        ("XII:resnet50", "backbone", "resnet50"),
        ("VI:c2_t3", "mask_levels", "c2_t3"),
    ],
)
def test_the_row_that_is_the_published_network_says_so_to_any_base(
    key: str, setting: str, value: object
) -> None:
    (row,) = select_rows(None, [key])
    base = tiny_config(Path("set"), model={"mask_levels": "t3"})
    assert getattr(row_config(row, base).model, setting) == value


def test_one_file_of_backbone_weights_does_not_fit_five_backbones() -> None:
    (row,) = select_rows(["XII"], ["swin_t"])
    with pytest.raises(ConfigError, match=r"table XII varies the backbone"):
        row_config(row, tiny_config(Path("set"), run={"backbone_weights": "resnet50.pth"}))


def test_without_a_validation_set_there_is_nothing_to_compare(tmp_path: Path) -> None:
    (row,) = select_rows(["III"], ["early"])
    with pytest.raises(ConfigError, match=r"data\.validation"):
        train_row(row, tiny_config(tmp_path), tmp_path)


@pytest.mark.slow
def test_rows_are_trained_side_by_side_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rendered_set(tmp_path / "tables", 4)
    config = tmp_path / "train.yaml"
    base = tiny_config(
        data, data={"hold_out": 0.25}, run={"iterations": 2, "num_sample_pictures": 0}
    )
    config.write_text(to_yaml(base))
    arguments = ["ablate", "--table", "III", "--train", str(config)]
    arguments += ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "a.md")]
    arguments += ["--accelerator", "cpu"]
    assert main(arguments) == 0
    text = (tmp_path / "a.md").read_text()
    assert "| trained AP/50/70 |" in text
    assert "| III:early |" in text
    for name in ("III_early", "III_late"):
        assert (tmp_path / "runs" / name / "weights.safetensors").is_file()
    assert main(arguments) == 0  # both are finished
    assert (tmp_path / "a.md").read_text() == text


def test_training_needs_settings_and_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", "--table", "III", "--runs", str(tmp_path)]) == 2
    assert "--train" in capsys.readouterr().err
