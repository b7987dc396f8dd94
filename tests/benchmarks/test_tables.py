from __future__ import annotations

import pytest

from benchmarks.tables import with_tables

NOTES = """Before.
<!-- costs -->
| old |
| --- |
<!-- end of costs -->
Between.
<!-- speed -->
<!-- end of speed -->
After.
"""


def test_a_table_takes_the_place_of_the_one_between_its_marks() -> None:
    written = with_tables(NOTES, {"costs": [["variant", "ms"], ["plain", "4"]]})
    assert written == NOTES.replace(
        "| old |\n| --- |\n", "| variant | ms |\n| --- | --- |\n| plain | 4 |\n"
    )


def test_written_twice_it_is_the_same() -> None:
    tables = {"speed": [["a"], ["1"]], "costs": [["b", "c"]]}
    assert with_tables(with_tables(NOTES, tables), tables) == with_tables(NOTES, tables)


@pytest.mark.parametrize("missing", ["<!-- speed -->", "<!-- end of speed -->"])
def test_without_a_mark_nothing_is_written_over(missing: str) -> None:
    with pytest.raises(ValueError, match="no '<!-- speed -->' or no '<!-- end of speed -->'"):
        with_tables(NOTES.replace(missing, ""), {"speed": [["a"]]})
