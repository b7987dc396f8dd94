"""The images of a run, opened and checked before anything slow begins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from calibnet_core.config import ConfigError
from calibnet_core.data.datasets import Fault, RgbdDataset, open_dataset
from calibnet_core.data.datasets.dataset import ImageRecord
from calibnet_core.training.config import DataConfig


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """Images to learn from and to validate on, and a sentence on each thing left out."""

    train: RgbdDataset
    validation: RgbdDataset | None
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, sizes, scenes and masks of all images, in order."""
        content = hashlib.sha256()
        for dataset in (self.train, self.validation):
            for record in dataset.records if dataset is not None else ():
                masks = [annotation.mask["counts"] for annotation in record.annotations]
                entry = (record.pair.file_name, record.size, record.scene, masks)
                content.update(repr(entry).encode())
            content.update(b"end")
        return content.hexdigest()


def open_training_sets(config: DataConfig) -> TrainingSets:
    """Open the sets that the configuration names.

    Raises:
        ConfigError: no set is named.
        DatasetError: a set is missing or faulty.
    """
    if not config.train:
        raise ConfigError("data.train names no set; give a published name, a file or a folder")
    parts = [
        open_dataset(name, root=config.root, skip_faulty=config.skip_faulty)
        for name in config.train
    ]
    notes = [f"left out, or used with a fault: {fault}" for part in parts for fault in part.faults]
    train, validation = _joined(parts), None
    if config.validation is not None:
        validation = open_dataset(
            config.validation, root=config.root, skip_faulty=config.skip_faulty
        )
        notes += [f"validation: {fault}" for fault in validation.faults]
    elif config.hold_out > 0.0:
        train, validation = train.split_by_scene(config.hold_out, config.hold_out_seed)
    if config.skip_empty:
        kept = train.where(_has_instances)
        if len(kept) < len(train):
            notes.append(f"{len(train) - len(kept)} images without instances are left out")
        if not len(kept):
            raise ConfigError(f"{train.name}: no image has an instance to learn from")
        train = kept
    return TrainingSets(train, validation, tuple(notes))


def _has_instances(record: ImageRecord) -> bool:
    return any(not annotation.is_crowd for annotation in record.annotations)


def _joined(parts: list[RgbdDataset]) -> RgbdDataset:
    if len(parts) == 1:
        return parts[0]
    faults: list[Fault] = [fault for part in parts for fault in part.faults]
    # Scenes of different sets are different scenes, whatever they are called; image numbers may
    # repeat, which only evaluation would mind.
    records = [
        ImageRecord(
            pair=record.pair,
            image_id=record.image_id,
            size=record.size,
            scene=f"{part.name}/{record.scene}",
            annotations=record.annotations,
        )
        for part in parts
        for record in part.records
    ]
    return RgbdDataset(" + ".join(part.name for part in parts), records, [], faults)
