"""Several annotators' masks become one set of instances by majority.

The published set DSIS was made by majority voting of five annotators (CalibNet paper, III-A), which
says no more than that; matching and rules here are this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from calibnet_core.data.datasets import rle

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposal:
    """One object as the annotators see it.

    Attributes:
        members: (annotator, place among the annotator's masks), at most one of each annotator.
        votes: (H, W) uint16, how many annotators say that a pixel belongs to it.
        mask: (H, W) bool, where a strict majority of all annotators says so; may be empty.
    """

    members: tuple[tuple[int, int], ...]
    votes: NDArray[np.uint16]
    mask: Mask


def propose(by_annotator: Sequence[Sequence[Mask]], *, min_iou: float = 0.5) -> list[Proposal]:
    """Find which masks mean the same object, and what a majority says of each object.

    Args:
        by_annotator: for each annotator the masks of one image, (H, W) bool, none of them empty; an
            annotator who saw nothing has none. All of them vote.
        min_iou: masks of two annotators that overlap less are different objects; above 0, at
            most 1.

    Returns:
        The objects in the order of the first annotator who marked them. Objects without a majority
        are among them, with an empty mask.
    """
    groups = _grouped([[rle.encode(mask) for mask in masks] for masks in by_annotator], min_iou)
    proposals = []
    for members in groups:
        votes = np.zeros(by_annotator[members[0][0]][members[0][1]].shape, np.uint16)
        for annotator, place in members:
            votes += by_annotator[annotator][place]
        mask = np.asarray(2 * votes > len(by_annotator), np.bool_)
        proposals.append(Proposal(members=tuple(members), votes=votes, mask=mask))
    return proposals


def part(proposals: Sequence[Proposal]) -> list[Mask]:
    """Give every pixel to one object.

    Where the masks of an annotator overlap, objects may claim the same pixel. It goes to the one
    with more votes there; if they have as many to the smaller one, which mostly lies in front; if
    they are as large to the first.

    Returns:
        A mask for each proposal, (H, W) bool, without a pixel in common; may be empty.
    """
    if not proposals:
        return []
    owner = np.full(proposals[0].mask.shape, -1, np.int32)
    most = np.zeros(owner.shape, np.uint16)
    by_size = sorted(range(len(proposals)), key=lambda place: int(proposals[place].mask.sum()))
    for place in by_size:
        proposal = proposals[place]
        takes = proposal.mask & (proposal.votes > most)
        owner[takes], most[takes] = place, proposal.votes[takes]
    return [owner == place for place in range(len(proposals))]


def _grouped(
    by_annotator: Sequence[Sequence[rle.Rle]], min_iou: float
) -> list[list[tuple[int, int]]]:
    """Masks of the same object: (annotator, place) each.

    One annotator after the other is assigned to the groups so far so that the sum of IoUs is
    largest; the IoU with a group is the mean over its members.
    """
    groups: list[list[tuple[int, int]]] = []
    for annotator, masks in enumerate(by_annotator):
        members = [(group, by_annotator[a][i]) for group, own in enumerate(groups) for a, i in own]
        taken: dict[int, int] = {}
        if masks and members:
            ious = coco_mask.iou(list(masks), [mask for _, mask in members], [0] * len(members))
            means = np.zeros((len(masks), len(groups)))
            for column, (group, _) in enumerate(members):
                means[:, group] += ious[:, column] / len(groups[group])
            # Pairs below the limit count nothing, so that they cannot outweigh a good one.
            means[means < min_iou] = 0.0
            pairs = zip(*linear_sum_assignment(means, maximize=True), strict=True)
            taken = {int(row): int(column) for row, column in pairs if means[row, column] > 0}
        for place in range(len(masks)):
            if place in taken:
                groups[taken[place]].append((annotator, place))
            else:
                groups.append([(annotator, place)])
    return groups
