"""Labelled RGB-D data sets: reading them whole, or saying what is wrong with them."""

from calibnet_core.data.datasets.dataset import RgbdDataset, RgbdSample
from calibnet_core.data.datasets.faults import DatasetError, Fault
from calibnet_core.data.datasets.opening import open_dataset

__all__ = ["DatasetError", "Fault", "RgbdDataset", "RgbdSample", "open_dataset"]
