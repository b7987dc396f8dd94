from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn

from calibnet_core.training.sync_batch_norm import SyncedBatchNorm2d, synchronise_batch_norms


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Features of three images, far from zero, and what arrives at the output."""
    generator = torch.Generator().manual_seed(0)
    features = 3.0 + torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=generator)
    upstream = torch.randn(3, 4, 5, 6, dtype=torch.float64, generator=generator)
    return features, upstream


def layer(kind: type[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    norm = kind(4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, 4))
        norm.bias.copy_(torch.linspace(-1.0, 1.0, 4))
    return norm


def answers(norm: nn.BatchNorm2d, images: slice) -> dict[str, torch.Tensor]:
    features, upstream = inputs()
    part = features[images].clone().requires_grad_()
    output = norm(part)
    (output * upstream[images]).sum().backward()
    assert part.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    return {
        "output": output.detach(),
        "input gradient": part.grad,
        "weight gradient": norm.weight.grad,
        "bias gradient": norm.bias.grad,
        **{name: value.clone() for name, value in norm.named_buffers()},
    }


def in_a_process(rank: int, port: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    # Shares of different size: two images, and one.
    images = slice(0, 2) if rank == 0 else slice(2, 3)
    torch.save(answers(layer(SyncedBatchNorm2d), images), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_normalise_and_learn_as_one_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(in_a_process, (port, str(tmp_path)), nprocs=2)
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    whole = answers(layer(nn.BatchNorm2d), slice(0, 3))
    for name in ("output", "input gradient"):
        torch.testing.assert_close(torch.cat([share[name] for share in shares]), whole[name])
    for name in ("weight gradient", "bias gradient"):
        torch.testing.assert_close(shares[0][name] + shares[1][name], whole[name])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for share in shares:
            torch.testing.assert_close(share[name], whole[name])


def test_alone_it_is_an_ordinary_batch_norm() -> None:
    one, other = (answers(layer(k), slice(0, 3)) for k in (SyncedBatchNorm2d, nn.BatchNorm2d))
    for name, value in other.items():
        assert torch.equal(one[name], value)


def test_norms_are_replaced_in_place_with_their_names_and_numbers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    names, weight = list(model.state_dict()), model[1].weight
    synchronise_batch_norms(model)
    assert isinstance(model[1], SyncedBatchNorm2d)
    assert model[1].weight is weight
    assert type(model[2]) is nn.GroupNorm
    assert list(model.state_dict()) == names
