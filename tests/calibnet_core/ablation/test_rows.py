from __future__ import annotations

import dataclasses

import pytest

from calibnet_core.ablation.rows import EASY, HARD, ROWS, TABLES, select_rows
from calibnet_core.config import MODELS, ConfigError, ModelConfig
from calibnet_core.models.calibnet.criterion import LossWeights

BY_KEY = {row.key: row for row in ROWS}


def test_the_tables_have_the_papers_numbers_of_rows() -> None:
    counts = {table: sum(row.table == table for row in ROWS) for table in TABLES}
    assert counts == {
        "III": 2,
        "IV": 2,
        "V": 2,
        "VI": 5,
        "VII": 4,
        "VIII": 6,
        "IX": 3,
        "X": 3,
        "XI": 9,
        "XII": 5,
    }
    assert len(BY_KEY) == len(ROWS) == 41


def test_a_row_differs_from_the_published_network_in_what_its_table_is_about() -> None:
    subject = {
        "III": {"kernel_fusion"},
        "IV": {"mask_levels", "affinity"},
        "V": {"depth_similarity"},
        "VI": {"mask_levels"},
        "VII": {"num_kernels"},
        "VIII": {"num_transformer_layers"},
        "IX": {"mask_fusion"},
        "X": set(),
        "XII": {"backbone"},
        "XI": {"kernel_fusion", "mask_fusion", "depth_similarity", "modalities"},
    }
    subject["VIII"].add("num_depth_transformer_layers")
    published = dataclasses.asdict(ModelConfig())
    for row in ROWS:
        settings = dataclasses.asdict(row.model)
        different = {name for name, value in settings.items() if value != published[name]}
        assert different <= subject[row.table]


def test_every_table_but_the_fourth_has_the_published_network_in_it() -> None:
    found = {row.table for row in ROWS if row.model == ModelConfig() and not row.loss_weights}
    assert found == set(TABLES) - {"IV"}


def test_equal_networks_with_equal_losses_have_equal_figures_in_the_paper() -> None:
    for one in ROWS:
        for two in ROWS:
            if one.model == two.model and one.loss_weights == two.loss_weights:
                assert one.paper.accuracy[EASY] == two.paper.accuracy[EASY]
                if HARD in one.paper.accuracy and HARD in two.paper.accuracy:
                    assert one.paper.accuracy[HARD] == two.paper.accuracy[HARD]


def test_accuracies_are_percentages_in_the_order_that_thresholds_enforce() -> None:
    for row in ROWS:
        for accuracy in row.paper.accuracy.values():
            assert 40.0 < accuracy.ap < accuracy.ap70 < accuracy.ap50 < 100.0


def test_components_are_switched_on_one_by_one() -> None:
    def parts(name: str) -> tuple[bool, bool, bool]:
        model = BY_KEY[f"XI:{name}"].model
        return (
            model.kernel_fusion == "late",
            model.mask_fusion == "wsf",
            model.depth_similarity == "separate",
        )

    names = ("rgb", "rgbd", "dik", "wsf", "dsa", "dik+dsa", "wsf+dsa", "dik+wsf", "all")
    marks = ["000", "000", "100", "010", "001", "101", "011", "110", "111"]
    assert [parts(name) for name in names] == [
        tuple(mark == "1" for mark in three) for three in marks
    ]
    assert [BY_KEY[f"XI:{name}"].model.modalities for name in names] == ["rgb"] + ["rgbd"] * 8


def test_a_loss_that_a_row_leaves_out_has_a_published_name_and_weight_0() -> None:
    terms = {f"loss_{term.name}" for term in dataclasses.fields(LossWeights)}
    with_overrides = {row.key: row.loss_weights for row in ROWS if row.loss_weights}
    assert set(with_overrides) == {"X:no_objectness", "X:no_auxiliary"}
    for weights in with_overrides.values():
        assert weights.keys() <= terms
        assert set(weights.values()) == {0.0}


def test_backbones_are_those_of_the_published_models() -> None:
    published = [model for name, model in MODELS.items() if name != "calibnet_compact"]
    assert [row.model for row in ROWS if row.table == "XII"] == published


def test_rows_are_chosen_by_table_and_name_in_the_papers_order() -> None:
    assert select_rows() == list(ROWS)
    assert [row.key for row in select_rows(["VI"])] == [r.key for r in ROWS if r.table == "VI"]
    assert [row.key for row in select_rows(["VIII", "VI"], ["3-0", "t3"])] == ["VI:t3", "VIII:3-0"]
    assert [row.key for row in select_rows(None, ["VII:10", "all"])] == [
        "VII:10",
        "X:all",
        "XI:all",
    ]


@pytest.mark.parametrize(
    ("tables", "names", "message"),
    [
        (["I"], None, "there is no table 'I'; use some of III, IV, V"),
        (["III"], ["t3"], "there is no row 't3' among these; use some of III:early, III:late"),
        (None, ["VI:t9"], "there is no row 'VI:t9' among these; use some of III:early"),
    ],
)
def test_an_unknown_table_or_row_is_named_with_the_known_ones(
    tables: list[str] | None, names: list[str] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        select_rows(tables, names)
