"""Tables of a recording's report as rows of text, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibnet_core.evaluation.report.tables import UNDEFINED, Table

Document = Mapping[str, Any]
Tile = tuple[str, str, str]

_REASONS = {
    "no_partner": "no partner within the tolerance",
    "superseded": "replaced by a newer one",
    "duplicate": "stamp came twice",
    "too_old": "too old",
    "bad_encoding": "encoding not understood",
    "bad_size": "size and buffer do not fit",
    "bad_stamp": "no stamp",
    "decode_error": "damaged",
    "size_mismatch": "colour and depth differ in size",
    "not_finite": "the network answered NaN",
    "over_rate": "above input.max_rate",
    "inference_error": "inference failed",
    "reset": "time jumped back",
}
_STATUSES = {
    "ok": "measured",
    "no_depth": "no depth image",
    "too_few_points": "too few points",
    "no_camera_info": "no camera calibration",
    "disabled": "switched off",
}


def number(value: float | None, pattern: str = "{:.3f}", *, scale: float = 1.0) -> str:
    """A figure as text; a dash where it is not known."""
    return UNDEFINED if value is None else pattern.format(scale * value)


def percent(value: float | None) -> str:
    """A share in per cent with one decimal; a dash where it is not known."""
    return number(value, "{:.1f} %", scale=100.0)


def headline(document: Document) -> list[Tile]:
    """(figure, value, what it says) of what can be told without truth."""
    instances, tracks = document["instances"], document["tracks"]
    lost = sum(document["drops"].values())
    located = document["geometry"]["ok"]
    share = located / instances["total"] if instances["total"] else None
    return [
        (
            "Frames answered",
            str(document["frames"]),
            f"of {document['messages']['color']} colour images",
        ),
        ("Lost", str(lost), "colour images and pairs that got no answer"),
        ("Instances", number(instances["mean"], "{:.2f}"), "mean of the frames"),
        ("Located", percent(share), "objects with position and box"),
        ("Depth", percent(document["depth"]["valid_mean"]), "pixels with a usable depth"),
        (
            "Offset",
            number(document["offset_ms"]["median"], "{:.1f} ms"),
            f"median; at most {number(document['offset_ms']['max'], '{:.1f} ms')}",
        ),
        ("Tracks", number(tracks["count"], "{:.0f}"), "different track ids"),
        (
            "Flicker",
            number(tracks["flicker_rate"], "{:.3f}"),
            "tracks that come back, a frame; lower is better",
        ),
        (
            "Steadiness",
            number(tracks["mask_iou_mean"], "{:.3f}"),
            "overlap with the frame before; 1 is best where nothing moves",
        ),
    ]


def truth_headline(document: Document) -> list[Tile]:
    """The same of what the truth decides."""
    truth, tracks = document["truth"], document["tracks"]
    return [
        ("AP", percent(document["ap"]), "mean over overlaps of 0.50 to 0.95"),
        ("AP50", percent(document["ap50"]), "at an overlap of 0.50"),
        ("AP75", percent(document["ap75"]), "at an overlap of 0.75"),
        ("Overlap F", percent(truth["overlap_f"]), "mean of the images"),
        ("Found", percent(truth["found"]), "objects with F above 75 %"),
        ("MAE", number(document["mae"], "{:.4f}"), "of the saliency map; lower is better"),
        ("Max F", number(document["max_f"]), "of the saliency map"),
        (
            "Calibration error",
            percent(document["calibration_error"]),
            "scores against what is right; lower is better",
        ),
        (
            "Id switches",
            number(tracks["id_switches"], "{:.0f}"),
            "objects that changed their track",
        ),
    ]


def fates(document: Document) -> Table:
    """What became of every colour image and every depth image."""
    messages, waiting = document["messages"], document["waiting"]
    alone = document["pairs_without_depth"]
    rows = [
        ("answered", str(document["frames"]), str(document["frames"] - alone)),
        *(
            (
                meaning,
                str(document["drops"][reason]),
                str(document["drops_of_depth"][reason]),
            )
            for reason, meaning in _reasons(document)
        ),
        ("waiting at the end", str(waiting["color"]), number(waiting["depth"], "{:.0f}")),
        ("received", str(messages["color"]), str(messages["depth"])),
    ]
    return Table(columns=("What became of it", "Colour, pairs", "Depth"), rows=tuple(rows))


def _reasons(document: Document) -> list[tuple[str, str]]:
    met = [
        reason
        for reason in document["drops"]
        if document["drops"][reason] or document["drops_of_depth"][reason]
    ]
    return [(reason, _REASONS.get(reason, reason.replace("_", " "))) for reason in met]


def geometry(document: Document) -> Table:
    """Objects by geometry status."""
    counts = document["geometry"]
    rows = tuple((_STATUSES[name], str(counts[name])) for name in _STATUSES)
    return Table(columns=("Position and box", "Objects"), rows=rows)


def tracks(document: Document) -> Table:
    """How steady the answers are."""
    figures = document["tracks"]
    rows = (
        ("different tracks", number(figures["count"], "{:.0f}")),
        ("vanished and came back", number(figures["returns"], "{:.0f}")),
        ("the same, a frame (flicker rate)", number(figures["flicker_rate"])),
        ("mask overlap with the frame before, mean", number(figures["mask_iou_mean"])),
        ("the same, 5th percentile", number(figures["mask_iou_low"])),
        ("id switches", number(figures["id_switches"], "{:.0f}")),
    )
    return Table(columns=("Tracks", "Value"), rows=rows)


def by_area(document: Document) -> Table:
    """Average precision by range of area."""
    names = {"small": "small, below 32²", "medium": "medium, 32² to 96²", "large": "large"}
    rows = [("all", percent(document["ap"]))]
    rows += [(told, percent(document[f"ap_{name}"])) for name, told in names.items()]
    return Table(columns=("Mask area in pixels", "AP"), rows=tuple(rows))
