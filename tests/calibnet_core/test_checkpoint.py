from __future__ import annotations

import hashlib
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from calibnet_core import build_model
from calibnet_core._version import __version__
from calibnet_core.checkpoint import (
    load_weights,
    read_model_name,
    read_state_dict,
    save_weights,
    sha256_of,
)
from calibnet_core.models.backbones import Backbone, BackboneLevels
from calibnet_core.structures import WeightsError
from tests.support.parity import published_entries

StateDict = dict[str, Tensor]


class TinyBackbone(Backbone):
    published_keys = ((r"conv1\.norm\.(\w+)", r"norm.\1"), (r"conv1\.(\w+)", r"conv.\1"))

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.register_buffer("relative_position_index", torch.arange(4))

    def forward(self, image: Tensor) -> BackboneLevels:
        raise NotImplementedError  # holds weights, computes nothing


class TinyNetwork(nn.Module):
    """A few numbers under the names of the real network."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.rgb_encoder, self.depth_encoder = nn.Module(), nn.Module()
        self.rgb_encoder.backbone = TinyBackbone()
        self.depth_encoder.backbone = TinyBackbone()
        self.kernel_branch = nn.Module()
        self.kernel_branch.score = nn.Linear(4, 1)


PUBLISHED_NAMES = {
    "backbone.conv1": "rgb_encoder.backbone.conv",
    "backbone.conv1.norm": "rgb_encoder.backbone.norm",
    "backbone.relative_position_index": None,
    "backbonedepth.conv1": "depth_encoder.backbone.conv",
    "backbonedepth.conv1.norm": "depth_encoder.backbone.norm",
    "decoder.inst_branch.score_linear": "kernel_branch.score",
}


def published_state(model: nn.Module) -> StateDict:
    """The weights of a tiny network under published names, without what a model derives."""
    return {
        f"{published}.{entry}": value.clone()
        for published, own in PUBLISHED_NAMES.items()
        if own is not None
        for entry, value in model.get_submodule(own).state_dict().items()
        if entry not in ("num_batches_tracked", "relative_position_index")
    }


def state_of(model: nn.Module) -> StateDict:
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_equal(ours: StateDict, theirs: StateDict) -> None:
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


@contextmanager
def nothing_loaded(model: nn.Module) -> Iterator[None]:
    before = state_of(model)
    yield
    assert_equal(state_of(model), before)


# --- what loads


def test_own_weights_come_back_to_the_bit(tmp_path: Path) -> None:
    model, other = TinyNetwork(0), TinyNetwork(1)
    model.kernel_branch.score.weight.data[0, 0] = -0.0
    model.kernel_branch.score.weight.data[0, 1] = 1e-42  # subnormal
    save_weights(model, tmp_path / "w.safetensors", model_name="calibnet_r50")

    report = load_weights(other, tmp_path / "w.safetensors")

    assert (report.format, report.missing, report.unexpected) == ("own", [], [])
    assert report.loaded == len(model.state_dict())
    assert_equal(state_of(other), state_of(model))
    assert torch.signbit(other.kernel_branch.score.weight[0, 0])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {
            "model": state,
            "optimizer": {
                "state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(2)}},
                "param_groups": [{"lr": 2.5e-5, "betas": (0.9, 0.999), "params": [0]}],
            },
            "scheduler": {"last_epoch": 99_999, "milestones": [70_000, 90_000]},
            "iteration": 99_999,
        },
    ],
    ids=["bare", "model", "state_dict", "training"],
)
def test_a_published_checkpoint_loads_whatever_is_around_it(
    tmp_path: Path, wrap: Callable[[StateDict], Any]
) -> None:
    model, other = TinyNetwork(0), TinyNetwork(1)
    torch.save(wrap(published_state(model)), tmp_path / "calibnet_50e.pth")

    report = load_weights(other, tmp_path / "calibnet_50e.pth")

    assert (report.format, report.loaded, report.unexpected) == ("published", 14, [])
    assert report.missing == [
        f"{modality}_encoder.backbone.{derived}"
        for modality in ("rgb", "depth")
        for derived in ("relative_position_index", "norm.num_batches_tracked")
    ]
    assert_equal(published_state(other), published_state(model))


def test_a_dictionary_loads_without_a_file() -> None:
    model, other = TinyNetwork(0), TinyNetwork(1)
    assert load_weights(other, model.state_dict()).format == "own"
    assert_equal(state_of(other), state_of(model))
    other = TinyNetwork(2)
    assert load_weights(other, published_state(model)).format == "published"
    assert_equal(published_state(other), published_state(model))


def test_what_the_model_derives_is_kept_and_not_taken_from_the_source() -> None:
    model = TinyNetwork()
    state = state_of(TinyNetwork(1))
    state["rgb_encoder.backbone.relative_position_index"] = torch.full((2, 2), 7)  # as a table
    state["rgb_encoder.backbone.norm.num_batches_tracked"] = torch.tensor(12)
    del state["depth_encoder.backbone.relative_position_index"]

    report = load_weights(model, state)

    assert report.missing == ["depth_encoder.backbone.relative_position_index"]
    assert model.rgb_encoder.backbone.relative_position_index.tolist() == [0, 1, 2, 3]
    assert model.rgb_encoder.backbone.norm.num_batches_tracked.item() == 12


def test_half_precision_weights_are_widened() -> None:
    model = TinyNetwork()
    weights = {
        key: value.half() if value.is_floating_point() else value
        for key, value in state_of(TinyNetwork(1)).items()
    }
    load_weights(model, weights)
    assert model.kernel_branch.score.weight.dtype == torch.float32
    assert_equal(
        {"w": model.kernel_branch.score.weight},
        {"w": weights["kernel_branch.score.weight"].float()},
    )


def test_loading_keeps_the_model_trainable() -> None:
    model = TinyNetwork()
    load_weights(model, state_of(TinyNetwork(1)))
    weight = model.kernel_branch.score.weight
    assert isinstance(weight, nn.Parameter)
    assert weight.requires_grad
    assert weight.grad_fn is None


# --- what does not load, and leaves the model as it was


def test_missing_unexpected_and_misshapen_entries_are_all_named() -> None:
    model = TinyNetwork()
    state = state_of(TinyNetwork(1))
    del state["kernel_branch.score.bias"]
    state["kernel_branch.surprise"] = torch.zeros(1)
    state["rgb_encoder.backbone.conv.weight"] = torch.zeros(2, 4, 1, 1)
    with nothing_loaded(model), pytest.raises(WeightsError) as caught:
        load_weights(model, state)
    message = str(caught.value)
    assert "weights: these weights are of another model, nothing was loaded" in message
    assert "1 missing: kernel_branch.score.bias" in message
    assert "1 unexpected: kernel_branch.surprise" in message
    assert (
        "1 misshapen: rgb_encoder.backbone.conv.weight is (2, 4, 1, 1), "
        "the model has (2, 3, 1, 1)" in message
    )
    assert "choose the matching one of ['calibnet_compact'" in message


@pytest.mark.parametrize("shape", [(1, 1), (4,), (2, 4), ()])
def test_an_entry_of_another_shape_is_refused_even_if_it_would_spread(
    shape: tuple[int, ...],
) -> None:
    model, key = TinyNetwork(), "kernel_branch.score.weight"
    state = state_of(TinyNetwork(1)) | {key: torch.ones(shape)}
    message = f"1 misshapen: {key} is {shape}, the model has (1, 4)"
    with nothing_loaded(model), pytest.raises(WeightsError, match=re.escape(message)):
        load_weights(model, state)


def test_a_long_list_is_cut_short() -> None:
    model = TinyNetwork()
    state = state_of(model) | {f"extra.{n}": torch.zeros(1) for n in range(9)}
    with pytest.raises(WeightsError, match=r"9 unexpected: extra\.0, .*extra\.4 and 4 more; "):
        load_weights(model, state)


def test_no_weights_at_all_are_refused() -> None:
    model = TinyNetwork()
    with (
        nothing_loaded(model),
        pytest.raises(
            WeightsError, match=r"14 missing: rgb_encoder\.backbone\.conv\.weight, .* and 9 more;"
        ),
    ):
        load_weights(model, {})


def test_names_of_both_kinds_do_not_mix() -> None:
    model = TinyNetwork()
    mixed = published_state(model) | {
        "kernel_branch.score.weight": torch.zeros(1, 4),
    }
    with nothing_loaded(model), pytest.raises(WeightsError, match="unexpected: backbone"):
        load_weights(model, mixed)


def test_weights_of_another_published_model_are_told_apart_by_name() -> None:
    model = build_model("calibnet_r50")
    weights = {
        entry["key"]: torch.zeros((), dtype=getattr(torch, entry["dtype"])).expand(entry["shape"])
        for entry in published_entries("r101")
    }
    with (
        nothing_loaded(model),
        pytest.raises(WeightsError, match="they fit calibnet_r101: build that model"),
    ):
        load_weights(model, weights)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_weights_that_are_no_numbers_are_refused(bad: float, dtype: torch.dtype) -> None:
    model = TinyNetwork()
    state = state_of(TinyNetwork(1))
    broken = state["kernel_branch.score.weight"].to(dtype)
    broken[0, 2] = bad
    with (
        nothing_loaded(model),
        pytest.raises(
            WeightsError,
            match=r"weights: kernel_branch\.score\.weight hold NaN or infinite numbers; the ",
        ),
    ):
        load_weights(model, state | {"kernel_branch.score.weight": broken})


@pytest.mark.parametrize(
    "make",
    [
        lambda w: w.to(torch.complex64),
        lambda w: w.to_sparse(),
        lambda w: w.to("meta"),
        lambda w: w.tolist(),
        lambda w: w.double() * 1e300,  # finite, but not in float32
    ],
    ids=["complex", "sparse", "meta", "list", "overflow"],
)
def test_entries_that_cannot_become_weights_are_refused(make: Callable[[Tensor], Any]) -> None:
    # The last entry, so that a copy that only fails there would leave all others changed.
    model = TinyNetwork()
    state = state_of(TinyNetwork(1))
    last = "kernel_branch.score.bias"
    assert list(state)[-1] == last
    with nothing_loaded(model), pytest.raises(WeightsError, match=re.escape(last)):
        load_weights(model, state | {last: make(state[last] + 1.0)})


# --- files that are no weights


class RunsCommand:
    """A pickle of this runs a command when it is unpickled carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ""])
@pytest.mark.parametrize("archive", [True, False], ids=["torch", "pickle"])
def test_a_file_with_code_is_refused_and_the_code_does_not_run(
    tmp_path: Path, suffix: str, archive: bool
) -> None:
    marker, path = tmp_path / "executed", tmp_path / f"weights{suffix}"
    content = {"model": published_state(TinyNetwork()), "hook": RunsCommand(marker)}
    if archive:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    model = TinyNetwork(1)
    with nothing_loaded(model), pytest.raises(WeightsError, match=re.escape(str(path))) as caught:
        load_weights(model, path)
    assert not marker.exists()
    # No advice to switch the protection off.
    assert "weights_only" not in str(caught.value)
    if suffix != ".safetensors":
        assert "holds objects that would run code, which are never loaded" in str(caught.value)


def test_the_code_of_that_file_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(RunsCommand(marker)))
    script = f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    model, path = TinyNetwork(), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state_of(TinyNetwork(1)), path)
    else:
        save_weights(TinyNetwork(1), path, model_name="calibnet_r50")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with nothing_loaded(model), pytest.raises(WeightsError, match=re.escape(str(path))):
        load_weights(model, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".txt"])
def test_a_text_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3\n")
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(path))}: "):
        load_weights(TinyNetwork(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_path_without_a_file_is_named(tmp_path: Path, suffix: str) -> None:
    missing = tmp_path / f"nowhere{suffix}"
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(missing))}: no such file; give"):
        load_weights(TinyNetwork(), missing)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path))):
        load_weights(TinyNetwork(), tmp_path)
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path))):
        load_weights(TinyNetwork(), str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(1)],
        torch.zeros(1),
        {},
        {"model": {}},
        {"model": 3},
        {"epoch": 3, "lr": 0.1},
        {0: torch.zeros(1)},
    ],
    ids=str,
)
def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="holds no state dictionary; expected tensors by name"):
        read_state_dict(path)


# --- saving


def test_saving_writes_who_made_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(TinyNetwork(), path, model_name="calibnet_swin_t")
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "model": "calibnet_swin_t",
            "calibnet_version": __version__,
        }
    assert read_model_name(path) == "calibnet_swin_t"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_in_another_memory_order_can_be_saved(tmp_path: Path) -> None:
    model = TinyNetwork()
    model.rgb_encoder.backbone.conv = nn.Conv2d(3, 2, 5).to(memory_format=torch.channels_last)
    assert not model.rgb_encoder.backbone.conv.weight.is_contiguous()
    save_weights(model, tmp_path / "w.safetensors", model_name="x")
    assert_equal(read_state_dict(tmp_path / "w.safetensors"), state_of(model))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(TinyNetwork(0), path, model_name="old")
    old = path.read_bytes()

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_weights(TinyNetwork(1), path, model_name="new")
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_first_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bytes:
        raise RuntimeError("cannot serialise")

    monkeypatch.setattr(safetensors.torch, "save", broken)
    with pytest.raises(RuntimeError, match="cannot serialise"):
        save_weights(TinyNetwork(), tmp_path / "w.safetensors", model_name="x")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_could_not_be_loaded_again_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(WeightsError, match=r"weights\.pth.*\.safetensors"):
        save_weights(TinyNetwork(), path, model_name="x")
    assert not path.exists()


def test_files_of_other_origin_name_no_model(tmp_path: Path) -> None:
    torch.save(published_state(TinyNetwork()), tmp_path / "w.pth")
    assert read_model_name(tmp_path / "w.pth") is None
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    assert read_model_name(tmp_path / "w.safetensors") is None


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64])
def test_the_name_in_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is not a readable weights file .* export it again"):
        read_model_name(path)


def test_the_name_in_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        read_model_name(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("size", [0, 3, 1 << 20, (1 << 20) + 1])
def test_the_hash_is_the_one_of_the_whole_file(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    assert sha256_of(path) == hashlib.sha256(content[:size]).hexdigest()


def test_the_hash_of_abc_is_the_one_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
