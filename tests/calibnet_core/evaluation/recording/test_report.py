"""The page and the text of a recording's report: nothing foreign, nothing unescaped."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import numpy as np

from calibnet_core.evaluation.recording import RecordingEvaluator, RecordingSettings
from calibnet_core.evaluation.recording.document import RecordingFacts, recording_document
from calibnet_core.evaluation.recording.html import recording_html
from calibnet_core.evaluation.recording.markdown import recording_markdown
from calibnet_core.perception.accounting import DropReason, FrameLedger
from calibnet_core.perception.geometry import GeometryStatus, ObjectGeometry
from calibnet_core.perception.mask_codec import tight_roi
from calibnet_core.perception.perceiver import Perception
from calibnet_core.perception.tracking import TrackAssignment
from calibnet_core.structures import Instances, RgbdFrame

SIZE = (24, 32)
EVIL = "<script>alert(1)</script> | *x*"


def perception(stamp_ns: int, shift: int, *, has_depth: bool = True) -> Perception:
    mask = np.zeros(SIZE, bool)
    mask[4:12, 4 + shift : 14 + shift] = True
    depth_m = np.full(SIZE, np.nan if not has_depth else 1.5, np.float32)
    depth_m[:6] = np.nan
    roi = tight_roi(mask)
    assert roi is not None
    status = GeometryStatus.TOO_FEW_POINTS if has_depth else GeometryStatus.NO_DEPTH
    return Perception(
        frame=RgbdFrame(rgb=np.zeros((*SIZE, 3), np.uint8), depth_m=depth_m, stamp_ns=stamp_ns),
        has_depth=has_depth,
        instances=Instances.from_masks(mask[np.newaxis], np.array([0.75], np.float32)),
        rois=(roi,),
        geometry=(ObjectGeometry(status=status, depth_valid_ratio=0.75 * has_depth),),
        tracks=(TrackAssignment(track_id=5, age=1, is_shown=True),),
    )


def evaluated():
    evaluator = RecordingEvaluator(RecordingSettings(num_expected=2, num_pictures=2))
    evaluator.update(perception(2_000_000_001, 0), offset_ns=-4_000_000)
    evaluator.update(perception(2_033_000_000, 2, has_depth=False))
    ledger = FrameLedger()
    for with_depth in (True, False):
        ledger.color_received()
        ledger.paired(with_depth=with_depth)
        ledger.published()
    ledger.color_received()
    ledger.color_dropped(DropReason.BAD_STAMP)
    facts = RecordingFacts(
        name=EVIL,
        duration_s=1 / 3,
        topics={"color": "/rgb", "depth": "/depth", "info": None},
        num_infos=0,
        counts=ledger.snapshot(waiting_color=0, in_flight=0, waiting_depth=0),
        notes=[EVIL],
        damage=EVIL,
        model={"model_id": EVIL},
        parameters={"x": math.inf},
    )
    evaluation = evaluator.compute()
    return evaluation, recording_document(evaluation, facts)


def test_the_document_tells_what_was_given() -> None:
    _, document = evaluated()
    assert document["drops"]["bad_stamp"] == 1
    assert sum(document["drops"].values()) == 1
    assert document["offset_ms"] == {"median": -4.0, "max": 4.0}
    assert document["depth"] == {"valid_mean": 0.75, "valid_min": 0.75, "object_valid_mean": 0.75}
    assert document["geometry"] == {
        "ok": 0,
        "no_depth": 1,
        "too_few_points": 1,
        "no_camera_info": 0,
        "disabled": 0,
    }
    first, second = document["rows"]
    assert first["stamp"] == "2.000000001"
    assert (first["offset_ms"], second["offset_ms"]) == (-4.0, None)
    assert second["mask_iou"] == round(8 / 12, 6)  # shifted by two of ten columns
    assert document["recording"]["duration_s"] == 0.333333
    assert document["parameters"] == {"x": None}
    assert document["ap50"] is None


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset")]


def test_the_page_needs_nothing_else_and_escapes_what_it_is_given() -> None:
    page = recording_html(*evaluated())
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert tags.tags.count("img") == 3  # the second frame came without depth
    assert all(link.startswith(("data:", "#")) for link in tags.links)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_the_text_escapes_what_it_is_given() -> None:
    text = recording_markdown(evaluated()[1])
    assert "<script>" not in text
    assert text.startswith("# \\<script\\>")
    assert "| no stamp | 1 | 0 |" in text
