"""The design notes of the compact network say what was measured."""

from __future__ import annotations

import json

from benchmarks.compact_design import NOTES, RECORD, SECOND_SEED, VARIANTS, model_of, with_record
from calibnet_core.ablation.cost import measure_cost
from calibnet_core.config import MODELS


def test_the_table_in_the_notes_is_that_of_the_record() -> None:
    record = json.loads(RECORD.read_text())
    assert list(record["variants"]) == [*VARIANTS, SECOND_SEED]
    assert with_record(NOTES.read_text(), record) == NOTES.read_text()


def test_every_variant_is_a_network_of_its_own_that_can_be_built() -> None:
    models = [model_of(changes) for changes in VARIANTS.values()]
    assert models[0] == MODELS["calibnet_compact"]
    assert len(set(models)) == len(models)
    for model in models:
        assert measure_cost(model, (64, 96)).multiply_adds > 0
