"""The whole network against numbers that the published implementation computed.

Weights are random but the same on both sides, so nothing here measures accuracy. Where the end
differs, the first trace tap that differs names the faulty part.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibnet_core.config import InferenceConfig, InputConfig
from calibnet_core.models.calibnet import CalibNet, RawPrediction, encoder
from calibnet_core.models.calibnet.position import published_position_vector
from calibnet_core.models.calibnet.published_keys import own_key
from calibnet_core.models.inference_form import inference_form
from calibnet_core.ops import (
    eager,
    ms_deform_attn,
    ms_deform_attn_fused,
    ms_deform_attn_reference,
)
from calibnet_core.postprocess import candidate_confidence, select_instances
from calibnet_core.preprocessing import normalise, resize, resized_size
from calibnet_core.structures import Instances
from tests.support.parity import read_arrays, read_json, recipe_value, unpack_masks

Summary = dict[str, Any]


@dataclass(frozen=True)
class Tap:
    """Where a traced tensor passes in the network: a module, one end of it, and which tensor."""

    module: str
    end: str = "output"
    """"input" or "output"."""
    index: int = 0
    """Which of several tensors."""
    derive: Callable[[Tensor], Tensor] = lambda tensor: tensor
    """The last steps to the traced tensor where no module's end has it."""


def softmax_over_all_entries(scaled_affinity: Tensor) -> Tensor:
    return scaled_affinity.relu().flatten(1).softmax(-1)


def taps_of_encoder(modality: str) -> dict[str, Tap]:
    encoder = f"{modality}_encoder"
    return {
        f"{modality}.input": Tap(encoder, "input"),
        **{
            f"{modality}.backbone.res{n}": Tap(f"{encoder}.backbone", index=n - 2)
            for n in range(2, 6)
        },
        **{f"{modality}.enc.in{n}": Tap(f"{encoder}.project.res{n}") for n in (5, 4, 3)},
        **{f"{modality}.enc.layer{n}": Tap(f"{encoder}.transformer.layers.{n}") for n in range(3)},
        **{f"{modality}.enc.T{5 - n}": Tap(f"{encoder}.transformer", index=n) for n in range(3)},
        f"{modality}.enc.C2": Tap(encoder, index=0),
    }


def taps_of_fusion(level: int) -> dict[str, Tap]:
    traced, fusion = f"mask.wsf{level}", f"mask_branch.fuse_level{level}"
    return {
        f"{traced}.sa_rgb.feat": Tap(f"{fusion}.rgb_attention", index=0),
        f"{traced}.sa_rgb.attn": Tap(f"{fusion}.rgb_attention", index=1),
        f"{traced}.sa_depth.feat": Tap(f"{fusion}.depth_attention", index=0),
        f"{traced}.sa_depth.attn": Tap(f"{fusion}.depth_attention", index=1),
        f"{traced}.dsa": Tap(f"{fusion}.similarity", derive=Tensor.flatten),
        f"{traced}.affinity_rgb": Tap(
            f"{fusion}.rgb_reweight.scale", derive=softmax_over_all_entries
        ),
        f"{traced}.affinity_depth": Tap(
            f"{fusion}.depth_reweight.scale", derive=softmax_over_all_entries
        ),
        f"{traced}.depth_reweighted": Tap(f"{fusion}.depth_conv", "input"),
        f"{traced}.sum": Tap(f"{fusion}.output_conv", "input"),
        f"{traced}.out": Tap(fusion),
    }


TAPS: dict[str, Tap] = {
    **taps_of_encoder("rgb"),
    **taps_of_encoder("depth"),
    **taps_of_fusion(3),
    **taps_of_fusion(2),
    "mask.upconv_in": Tap("mask_branch.upsample", "input"),
    "mask.upconv_out": Tap("mask_branch.upsample"),
    "mask.sum_in": Tap("mask_branch.conv", "input"),
    "mask.feature": Tap("mask_branch"),
    "kernel.dsa": Tap("kernel_branch.similarity", derive=Tensor.flatten),
    "kernel.rgb_in": Tap("kernel_branch.rgb_conv", "input"),
    "kernel.depth_in": Tap("kernel_branch.depth_conv", "input"),
    "kernel.maps_rgb_logits": Tap("kernel_branch.rgb_maps"),
    "kernel.maps_depth_logits": Tap("kernel_branch.depth_maps"),
    "kernel.squeeze_out": Tap("kernel_branch.merge_maps"),
    "kernel.fc_in": Tap("kernel_branch.embed", "input"),
    "kernel.fc_out": Tap("kernel_branch.embed"),
    "kernel.scores_out": Tap("kernel_branch.score"),
    "kernel.kernels": Tap("kernel_branch.kernel"),
    "kernel.objectness_out": Tap("kernel_branch.objectness"),
    "out.mask_logits_quarter": Tap("", index=3),
}
"""Every traced tensor, in the order of computation."""

TAPS_ELSEWHERE = {"out.mask_logits_half"}
"""The network ends at a quarter of its input size; the x2 is the first step of postprocessing,
which the final scores and masks cover.
"""


def summary_of(tensor: Tensor) -> Summary:
    """Shape, statistics and sample values, as the trace files hold them."""
    flat = tensor.detach().reshape(-1)
    positions = np.floor(np.linspace(0, flat.numel() - 1, 32)).astype(int)
    exact = flat.double()
    return {
        "shape": list(tensor.shape),
        "mean": exact.mean().item(),
        "std": exact.std(unbiased=False).item(),
        "min": exact.min().item(),
        "max": exact.max().item(),
        "first8": exact[:8].tolist(),
        "at32": exact[positions].tolist(),
    }


@contextmanager
def tapped(model: nn.Module) -> Iterator[dict[str, Summary]]:
    """Summaries of all taps, filled while the model computes."""
    summaries: dict[str, Summary] = {}

    def take(name: str, tap: Tap, tensors: Any) -> None:
        if isinstance(tensors, RawPrediction):
            tensors = tuple(vars(tensors).values())
        tensor = tensors if isinstance(tensors, Tensor) else tensors[tap.index]
        summaries[name] = summary_of(tap.derive(tensor))  # now: what follows may work in place

    def take_input(name: str, tap: Tap, _: nn.Module, inputs: Any) -> None:
        take(name, tap, inputs)

    def take_output(name: str, tap: Tap, _: nn.Module, __: Any, output: Any) -> None:
        take(name, tap, output)

    handles = []
    for name, tap in TAPS.items():
        module = model.get_submodule(tap.module)
        if tap.end == "input":
            handles.append(module.register_forward_pre_hook(partial(take_input, name, tap)))
        else:
            handles.append(module.register_forward_hook(partial(take_output, name, tap)))
    try:
        yield summaries
    finally:
        for handle in handles:
            handle.remove()


def differs(ours: Summary, theirs: Summary) -> bool:
    """Whether shape or any number is beyond the limit, which scales with the tensor's spread."""
    limit = 1e-3 * max(1.0, theirs["std"])
    numbers = [
        np.hstack([summary[key] for key in ("first8", "at32", "mean", "std", "min", "max")])
        for summary in (ours, theirs)
    ]
    return ours["shape"] != theirs["shape"] or not furthest(*numbers) <= limit


def differing_taps(ours: dict[str, Summary], theirs: dict[str, Summary]) -> list[str]:
    """Names of the taps that differ, in the order of computation."""
    return [name for name in TAPS if name in theirs and differs(ours[name], theirs[name])]


@dataclass(frozen=True)
class Case:
    """One published inference case with what we compute for it."""

    expected: dict[str, NDArray[Any]]
    expected_trace: dict[str, Summary]
    raw: RawPrediction
    trace: dict[str, Summary]
    instances: Instances


@pytest.fixture(scope="session", params=[1, 2], ids=["case1", "case2"])
def case(request: pytest.FixtureRequest, published_r50: CalibNet) -> Case:
    expected = read_arrays(f"calibnet_r50_case{request.param}.npz")
    with torch.inference_mode(), tapped(published_r50) as trace:
        raw = published_r50(normalise(expected["image"]), normalise(grey(expected["depth"])))
        height, width = expected["orig_size"].tolist()
        instances = select_instances(
            raw,
            network_size=expected["image"].shape[:2],
            image_size=(height, width),
            config=InferenceConfig.published(),
        )
    theirs = read_json(f"calibnet_r50_case{request.param}_trace.json")
    return Case(expected, theirs, raw, trace, instances)


def grey(depth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(depth[..., None], 3, axis=2)


def furthest(ours: Tensor | NDArray[Any], theirs: NDArray[Any]) -> float:
    """Largest absolute difference; infinite when shapes differ, NaN counts as different."""
    ours = np.asarray(ours)
    return float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else np.inf


def test_the_weight_recipe_gives_the_published_values() -> None:
    checks = read_json("calibnet_recipe_check.json")
    shapes = {entry["key"]: entry["shape"] for entry in read_json("calibnet_r50_keys.json")}
    assert len(checks) == 16
    for key, check in checks.items():
        value = recipe_value(key, tuple(shapes[key]))
        assert zlib.crc32(key.encode()) == check["crc32"]
        assert value.ravel()[:4].tolist() == pytest.approx(check["first4"], rel=1e-7)
        assert value.sum(dtype=np.float64) == pytest.approx(check["sum"], rel=1e-9)


def test_scores_and_objectness_are_the_published_ones(case: Case) -> None:
    assert furthest(case.raw.score_logits[0], case.expected["score_logits"]) <= 1e-3
    assert furthest(case.raw.objectness_logits[0], case.expected["objectness_logits"]) <= 1e-3


def test_kernels_and_mask_logits_are_the_published_ones(case: Case) -> None:
    assert furthest(case.raw.kernels[0], case.expected["kernels"]) <= 2e-3
    assert furthest(case.raw.mask_logits[0], case.expected["mask_logits_quarter"]) <= 2e-3


def test_the_position_vector_is_the_published_one_to_the_bit(case: Case) -> None:
    np.testing.assert_array_equal(published_position_vector().numpy(), case.expected["pe_const"])


def test_every_traced_tensor_has_its_counterpart(case: Case) -> None:
    assert TAPS.keys() | TAPS_ELSEWHERE == case.expected_trace.keys()
    assert case.trace.keys() == TAPS.keys()


def test_every_traced_tensor_is_the_published_one(case: Case) -> None:
    assert differing_taps(case.trace, case.expected_trace) == []


def test_a_tap_that_is_off_by_little_would_be_noticed(case: Case) -> None:
    name = "mask.wsf3.dsa"
    nudged = case.trace[name] | {"first8": [x + 2e-3 for x in case.trace[name]["first8"]]}
    assert differing_taps(case.trace | {name: nudged}, case.expected_trace) == [name]


@pytest.mark.parametrize("one_batch", [False, True], ids=["two_calls", "one_batch"])
def test_the_form_that_infers_stays_within_the_limits(
    case: Case, published_r50: CalibNet, one_batch: bool
) -> None:
    inputs = normalise(case.expected["image"]), normalise(grey(case.expected["depth"]))
    with torch.inference_mode():
        raw = inference_form(published_r50, one_batch=one_batch)(*inputs)
    assert_within_limits(raw, case.expected)


def assert_within_limits(raw: RawPrediction, expected: dict[str, NDArray[Any]]) -> None:
    assert furthest(raw.score_logits[0].cpu(), expected["score_logits"]) <= 1e-3
    assert furthest(raw.objectness_logits[0].cpu(), expected["objectness_logits"]) <= 1e-3
    assert furthest(raw.kernels[0].cpu(), expected["kernels"]) <= 2e-3
    assert furthest(raw.mask_logits[0].cpu(), expected["mask_logits_quarter"]) <= 2e-3


Attention = Callable[[Tensor, list[tuple[int, int]], Tensor], Tensor]


def drop_in(attend: Callable[[Tensor, Any, Tensor, Tensor], Tensor]) -> Attention:
    """The fused operator's job with an implementation that takes locations and weights."""

    def fused(value: Tensor, shapes: list[tuple[int, int]], packed: Tensor) -> Tensor:
        flat = [side for shape in shapes for side in shape]
        return attend(value, shapes, *eager.unpack(value, flat, None, packed))

    return fused


def eager_fused(value: Tensor, shapes: list[tuple[int, int]], packed: Tensor) -> Tensor:
    return eager.fused_forward(value, [side for shape in shapes for side in shape], None, packed)


IMPLEMENTATIONS: dict[str, Attention] = {
    "fused": ms_deform_attn_fused,
    "drop_in": drop_in(ms_deform_attn),
    "eager_fused": eager_fused,
    "grid_sample": drop_in(ms_deform_attn_reference),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_implementation_of_attention_gives_the_published_answer(
    case: Case,
    published_r50: CalibNet,
    implementation: str,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    calls = []

    def counted(*operands: Any) -> Tensor:
        calls.append(operands[0].device.type)
        return IMPLEMENTATIONS[implementation](*operands)

    monkeypatch.setattr(encoder, "ms_deform_attn_fused", counted)
    model = copy.deepcopy(published_r50).to(device) if device == "cuda" else published_r50
    images = (normalise(case.expected["image"]), normalise(grey(case.expected["depth"])))
    with torch.inference_mode(), tapped(model) as trace:
        raw = model(*(image.to(device) for image in images))

    assert calls == [device] * 6  # three layers in each encoder
    assert differing_taps(trace, case.expected_trace) == []
    assert_within_limits(raw, case.expected)
    height, width = case.expected["orig_size"].tolist()
    instances = select_instances(
        raw,
        network_size=case.expected["image"].shape[:2],
        image_size=(height, width),
        config=InferenceConfig.published(),
    )
    np.testing.assert_array_equal(instances.kernel_indices, case.instances.kernel_indices)
    assert (instances.masks != case.instances.masks).sum() <= instances.masks.size // 100_000


def test_the_same_candidates_are_kept(case: Case) -> None:
    confidence = candidate_confidence(case.raw)[0]
    assert furthest(confidence, case.expected["score_before_threshold"]) <= 1e-4
    np.testing.assert_array_equal(
        case.instances.kernel_indices, np.flatnonzero(case.expected["keep"])
    )


def test_final_scores_are_the_published_ones(case: Case) -> None:
    assert furthest(case.instances.scores, case.expected["inst_scores"]) <= 1e-4


def test_final_masks_are_the_published_ones_but_for_a_pixel_in_100_000(case: Case) -> None:
    shape = case.expected["inst_masks_shape"]
    masks = unpack_masks(case.expected["inst_masks_packed"], shape)
    assert case.instances.masks.shape == tuple(shape)
    assert (case.instances.masks != masks).sum() <= masks.size // 100_000
    areas = case.instances.masks.sum((1, 2))
    assert furthest(areas, case.expected["inst_mask_area"]) <= masks.size // 100_000


def test_padding_goes_to_the_published_size(case: Case) -> None:
    padded = tuple(4 * side for side in case.raw.mask_logits.shape[2:])
    assert padded == tuple(case.expected["padded_size"])


def test_a_batch_gives_what_its_images_give_one_by_one(published_r50: CalibNet) -> None:
    generator = torch.Generator().manual_seed(0)
    rgb, depth = (torch.randn(2, 3, 64, 96, generator=generator) for _ in "ab")
    with torch.inference_mode():
        together = published_r50(rgb, depth)
        for image in range(2):
            alone = published_r50(rgb[image : image + 1], depth[image : image + 1])
            for name, limit in (("score", 1e-3), ("objectness", 1e-3), ("mask", 2e-3)):
                both, one = (getattr(raw, f"{name}_logits") for raw in (together, alone))
                torch.testing.assert_close(both[image], one[0], rtol=0, atol=limit)


def test_training_computes_and_counts_as_published(published_r50: CalibNet) -> None:
    arrays, expected = read_arrays("calibnet_r50_train1.npz"), read_json("calibnet_r50_train1.json")
    height, width = expected["padded_size"]
    images = []
    for kind in ("image", "depth"):
        canvas = torch.zeros(2, 3, height, width)
        for index in range(2):
            pixels = arrays[f"{kind}{index}"]
            pixels = normalise(pixels if kind == "image" else grey(pixels))
            canvas[index, :, : pixels.shape[2], : pixels.shape[3]] = pixels[0]
        images.append(canvas)
    model = copy.deepcopy(published_r50).train()

    with torch.no_grad(), tapped(model) as trace:
        raw = model(*images)

    assert furthest(raw.score_logits, arrays["score_logits"]) <= 1e-3
    assert furthest(raw.objectness_logits, arrays["objectness_logits"]) <= 1e-3
    assert differing_taps(trace, expected["trace"]) == []
    rules, state = model.rgb_encoder.backbone.published_keys, model.state_dict()
    norms = expected["bn_after_step"]
    assert len(norms) == 10
    assert [
        key for key in norms if differs(summary_of(state[str(own_key(key, rules))]), norms[key])
    ] == []


def test_resizing_is_the_published_one() -> None:
    expected = read_arrays("calibnet_preprocess_case1.npz")
    size = resized_size(expected["image"].shape[:2], InputConfig())
    assert size == (320, 427)
    np.testing.assert_array_equal(resize(expected["image"], size), expected["image_resized"])
    np.testing.assert_array_equal(resize(expected["depth"], size), expected["depth_resized"])


def test_sizes_follow_the_published_table() -> None:
    table = read_arrays("calibnet_preprocess_case1.npz")["size_table"].tolist()
    assert len(table) == 20
    for height, width, *resized in table:
        assert resized_size((height, width), InputConfig()) == tuple(resized)
