"""Places of captions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from calibnet_core.caption_layout import free_corner

CANVAS = (120, 160, 3)
WANTED = st.tuples(st.integers(-50, 200), st.integers(-50, 200))


@given(wanted=st.lists(WANTED, min_size=1, max_size=6))
def test_plates_stay_in_the_picture_and_off_one_another_while_there_is_room(wanted):
    width, height = 40, 15
    taken = []
    for place in wanted:
        left, top = free_corner(place, (width, height), CANVAS, taken)
        assert 0 <= left <= 160 - width
        assert 0 <= top <= 120 - height
        for x0, y0, x1, y1 in taken:
            assert left >= x1 or left + width <= x0 or top >= y1 or top + height <= y0
        taken.append((left, top, left + width, top + height))


def test_a_free_place_is_kept_and_a_taken_one_is_left_upwards_or_downwards():
    assert free_corner((20, 30), (40, 14), CANVAS, []) == (20, 30)
    assert free_corner((20, 30), (40, 14), CANVAS, [(90, 30, 130, 44)]) == (20, 30)
    assert free_corner((20, 30), (40, 14), CANVAS, [(22, 34, 62, 48)]) == (20, 20)


def test_without_any_room_the_plate_goes_where_it_was_wanted():
    assert free_corner((20, 30), (40, 14), CANVAS, [(0, 0, 160, 120)]) == (20, 30)
    assert free_corner((5, 5), (400, 300), CANVAS, [(0, 0, 1, 1)]) == (0, 0)
