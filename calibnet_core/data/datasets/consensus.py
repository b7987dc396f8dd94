"""One image with its masks: what the annotators agree on, and what is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibnet_core.data.datasets.build_settings import BuildSettings
from calibnet_core.data.datasets.checking import check_image
from calibnet_core.data.datasets.dataset import ImageRecord
from calibnet_core.data.datasets.faults import Fault, errors_among
from calibnet_core.data.datasets.foreground import load_foreground
from calibnet_core.data.datasets.mask_folders import MaskFolder, NamedMask
from calibnet_core.data.datasets.voting import Mask, Proposal, part, propose
from calibnet_core.data.datasets.writing import annotation_of
from calibnet_core.data.images import load_rgb
from calibnet_core.data.sources import COLOR_SUFFIXES, DEPTH_SUFFIXES, ImagePair, files_by_stem
from calibnet_core.structures import FrameError


@dataclass(frozen=True)
class Dropped:
    """An instance that did not get into the set.

    Attributes:
        image: name of the image.
        masks: the files, with the value in label images.
        kind: a word for the summary.
        reason: in full.
    """

    image: str
    masks: tuple[str, ...]
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one image; `record` is None where it is left out."""

    record: ImageRecord | None = None
    dropped: tuple[Dropped, ...] = ()
    faults: tuple[Fault, ...] = ()
    is_ambiguous: bool = False


class Material:
    """The files by image name."""

    def __init__(self, settings: BuildSettings) -> None:
        for path in (settings.images, settings.depth, settings.regions):
            if path is not None and not path.is_dir():
                raise FrameError(f"{path}: is no folder; check the path")
        self._settings = settings
        self._colors = files_by_stem(settings.images, COLOR_SUFFIXES)
        self._depths = files_by_stem(settings.depth, DEPTH_SUFFIXES)
        self._annotators = [MaskFolder(path) for path in settings.masks]
        self.names = list(self._colors)
        self._ids = {name: number for number, name in enumerate(self.names, start=1)}
        if not self.names:
            raise FrameError(f"{settings.images}: holds no images ({', '.join(COLOR_SUFFIXES)})")

    def unused(self) -> list[Fault]:
        """Masks and depth images of no colour image: a sign of names that do not match."""
        folders: Mapping[Path, set[str]] = {
            self._settings.depth: set(self._depths),
            **{annotator.path: annotator.names for annotator in self._annotators},
        }
        reason = f"is not used, for there is no image of that name in {self._settings.images}"
        return [
            Fault(str(folder), name, reason, "warning")
            for folder, names in folders.items()
            for name in sorted(names - self._colors.keys())
        ]

    def outcome(self, name: str) -> Outcome:
        """Read one image and its masks, and let the annotators vote."""
        try:
            return self._vote(name)
        except FrameError as error:
            return Outcome(faults=(Fault(str(self._colors[name]), "", str(error)),))

    def _vote(self, name: str) -> Outcome:
        path, settings = self._colors[name], self._settings
        if name not in self._depths:
            raise FrameError(f"there is no depth image of that name in {settings.depth}")
        annotators = [annotator for annotator in self._annotators if name in annotator.names]
        if not annotators:
            raise FrameError("no annotator has masks for it; an empty folder says 'nothing there'")
        height, width = load_rgb(path).shape[:2]
        size = (height, width)
        region = None
        if settings.regions is not None:
            region = load_foreground(settings.regions / f"{name}.png", size)
        drawn = [annotator.load(name, size) for annotator in annotators]
        masks, dropped = agree(name, drawn, region, settings)
        if not masks and any(mask.mask.any() for own in drawn for mask in own):
            return Outcome(dropped=tuple(dropped), is_ambiguous=True)
        record = ImageRecord(
            pair=ImagePair(
                name=name,
                rgb_path=path,
                depth_path=self._depths[name],
                depth_scale_m=settings.depth_scale_m,
                file_name=path.name,
            ),
            image_id=self._ids[name],
            size=size,
            scene=settings.scene(name),
            annotations=tuple(annotation_of(mask, place) for place, mask in enumerate(masks)),
        )
        faults = check_image(record).faults
        usable = record if not errors_among(faults) else None
        return Outcome(record=usable, dropped=tuple(dropped), faults=faults)


def agree(
    name: str, drawn: Sequence[Sequence[NamedMask]], region: Mask | None, settings: BuildSettings
) -> tuple[list[Mask], list[Dropped]]:
    """The instances of one image.

    Args:
        name: of the image.
        drawn: the masks of each annotator.
        region: (H, W), the region label; None keeps instances wherever they lie.
        settings: the rules.

    Returns:
        Masks (H, W) without a pixel in common, none of them empty; and everything dropped.
    """
    dropped = [
        Dropped(name, (mask.name,), "empty", "the mask is empty, not one pixel")
        for masks in drawn
        for mask in masks
        if not mask.mask.any()
    ]
    drawn = [[mask for mask in masks if mask.mask.any()] for masks in drawn]
    proposals = propose([[m.mask for m in masks] for masks in drawn], min_iou=settings.min_iou)

    def drop(proposal: Proposal, kind: str, reason: str) -> None:
        files = tuple(drawn[annotator][place].name for annotator, place in proposal.members)
        dropped.append(Dropped(name, files, kind, reason))

    kept = []
    for proposal in proposals:
        num_pixels, num_members = int(proposal.mask.sum()), len(proposal.members)
        marked = f"{num_members} of {len(drawn)} annotators marked it"
        if 2 * num_members <= len(drawn):
            drop(proposal, "no majority", f"only {marked}")
        elif not num_pixels:
            drop(proposal, "no majority", f"{marked}, but no pixel has a majority")
        elif region is not None and (
            (inside := int((proposal.mask & region).sum()) / num_pixels) < settings.min_inside
        ):
            reason = f"{inside:.1%} of it lies inside the region label, less than "
            drop(proposal, "outside the region", f"{reason}{settings.min_inside:.1%}")
        else:
            kept.append(proposal)
    masks = part(kept)
    for proposal, mask in zip(kept, masks, strict=True):
        if not mask.any():
            reason = "instances with more votes, or smaller ones, cover it wholly"
            drop(proposal, "covered", reason)
    return [mask for mask in masks if mask.any()], dropped
