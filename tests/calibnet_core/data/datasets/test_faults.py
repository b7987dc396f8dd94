from __future__ import annotations

import pytest

from calibnet_core.data.datasets.faults import DatasetError, Fault, errors_among, raise_on_errors
from calibnet_core.structures import FrameError


def test_a_fault_reads_as_one_line() -> None:
    assert str(Fault("a.json", "image 3", "is bad")) == "a.json: image 3: is bad"
    assert str(Fault("a.json", "", "is bad")) == "a.json: is bad"


def test_warnings_stop_nobody() -> None:
    warning = Fault("a.json", "image 3", "is odd", "warning")
    assert errors_among([warning]) == []
    raise_on_errors("set", [warning])


def test_the_first_errors_are_named_and_the_rest_counted() -> None:
    faults = [Fault("a.json", f"image {number}", "is bad") for number in range(7)]
    with pytest.raises(DatasetError) as caught:
        raise_on_errors("kitchen", faults)
    message = str(caught.value)
    assert message.startswith("kitchen: 7 faults in the data set; `calibnet dataset check`")
    assert "a.json: image 4: is bad\n... and 2 more" in message
    assert "image 5" not in message
    # The command line shows these as one line instead of a traceback.
    assert isinstance(caught.value, FrameError)
