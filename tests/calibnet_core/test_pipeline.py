from __future__ import annotations

import hashlib
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from calibnet_core import (
    Pipeline,
    PipelineConfig,
    RgbdFrame,
    build_model,
    save_weights,
)
from calibnet_core.config import (
    MODELS,
    ConfigError,
    InferenceConfig,
    InputConfig,
    ModelConfig,
)
from calibnet_core.models.calibnet import RawPrediction
from calibnet_core.pipeline import RANDOM_WEIGHTS_SEED
from calibnet_core.postprocess import select_instances
from calibnet_core.preprocessing import prepare
from calibnet_core.shipped_weights import SHIPPED_WEIGHTS
from calibnet_core.structures import Instances, ModelInfo, NonFiniteOutputError, WeightsError

SMALL = PipelineConfig(
    input=InputConfig(shortest_edge=64, longest_edge=96), inference=InferenceConfig.published()
)


def frame(seed: int = 0, size: tuple[int, int] = (70, 110)) -> RgbdFrame:
    generator = np.random.default_rng(seed)
    depth_m = generator.uniform(0.5, 5.0, size).astype(np.float32)
    depth_m[generator.random(size) < 0.2] = np.nan
    return RgbdFrame(rgb=generator.integers(0, 256, (*size, 3), np.uint8), depth_m=depth_m)


def assert_same(ours: Instances, theirs: Instances) -> None:
    for name in ("masks", "scores", "boxes_xyxy", "mask_quality", "kernel_indices"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


class Spy(nn.Module):
    """Answers with one instance on the left half, and notes what it was asked."""

    def __init__(self, logit: float = 50.0) -> None:
        super().__init__()
        self.logit = logit
        self.seen: list[tuple[Tensor, Tensor, bool, bool]] = []

    def forward(self, rgb: Tensor, depth: Tensor) -> RawPrediction:
        self.seen.append((rgb, depth, self.training, torch.is_grad_enabled()))
        count, _, height, width = rgb.shape
        mask_logits = torch.full((count, 1, height // 4, width // 4), -50.0)
        mask_logits[..., : mask_logits.shape[3] // 2] = 50.0
        certain = torch.full((count, 1), self.logit)
        return RawPrediction(certain, certain, torch.zeros(count, 1, 256), mask_logits)


def spying(logit: float = 50.0, config: PipelineConfig | None = None) -> tuple[Pipeline, Spy]:
    model, info = Spy(logit), ModelInfo(name="spy", weights_sha256="", device="cpu")
    pipeline = Pipeline(model, info, config or PipelineConfig())  # type: ignore[arg-type]
    return pipeline, pipeline._model  # type: ignore[return-value]  # the copy that works


def test_a_frame_passes_through_all_stages_and_comes_back_at_its_size() -> None:
    config = PipelineConfig(input=InputConfig(shortest_edge=64, longest_edge=128))
    pipeline, model = spying(config=config)
    instances = pipeline.predict(frame(size=(64, 128)))
    assert instances.masks.shape == (1, 64, 128)
    assert instances.boxes_xyxy.tolist() == [[0, 0, 64, 64]]
    assert instances.scores == pytest.approx([1.0])
    ((rgb, depth, training, grad_enabled),) = model.seen
    assert rgb.shape == depth.shape == (1, 3, 64, 128)
    assert not training
    assert not grad_enabled


def test_nothing_found_is_an_answer() -> None:
    pipeline, _ = spying(-50.0)
    instances = pipeline.predict(frame())
    assert instances.masks.shape == (0, 70, 110)


def test_a_network_that_gives_no_numbers_raises() -> None:
    pipeline, _ = spying(math.nan)
    with pytest.raises(NonFiniteOutputError, match="check the weights file"):
        pipeline.predict(frame())


def test_every_stage_is_timed() -> None:
    pipeline, _ = spying()
    instances, timings = pipeline.predict_timed(frame())
    assert_same(instances, pipeline.predict(frame()))
    for stage in ("preprocess_ms", "inference_ms", "postprocess_ms"):
        assert getattr(timings, stage) >= 0.0


def test_a_single_frame_is_prepared_inferred_and_selected(random_pipeline: Pipeline) -> None:
    given, found = frame(), random_pipeline.predict(frame())
    network_input = prepare(given, SMALL)
    with torch.inference_mode():
        raw = random_pipeline._model(
            network_input.rgb.contiguous(memory_format=torch.channels_last),
            network_input.depth.contiguous(memory_format=torch.channels_last),
        )
        expected = select_instances(
            raw, network_size=network_input.size, image_size=given.size, config=SMALL.inference
        )
    assert len(found) > 0
    assert_same(found, expected)


def test_frames_of_one_network_size_share_a_pass() -> None:
    config = PipelineConfig(input=SMALL.input)
    pipeline, model = spying(config=config)
    frames = [frame(0), frame(1, (120, 80)), frame(2), frame(3, (140, 220))]
    found, timings = pipeline.predict_batch(frames)
    assert [rgb.shape[0] for rgb, *_ in model.seen] == [3, 1]
    assert [rgb.shape[2:] for rgb, *_ in model.seen] == [(64, 96), (96, 64)]
    assert [instances.masks.shape for instances in found] == [(1, *f.size) for f in frames]
    for index, shown in enumerate(frames):
        alone = prepare(shown, config)
        rgb, depth, *_ = model.seen[index == 1]
        place = {0: 0, 1: 0, 2: 1, 3: 2}[index]
        torch.testing.assert_close(rgb[place : place + 1], alone.rgb, rtol=0, atol=0)
        torch.testing.assert_close(depth[place : place + 1], alone.depth, rtol=0, atol=0)
    assert timings.inference_ms > 0.0


def test_a_batch_finds_what_single_frames_do(random_pipeline: Pipeline) -> None:
    frames = [frame(0), frame(1, (120, 80)), frame(2)]
    found, _ = random_pipeline.predict_batch(frames)
    for instances, shown in zip(found, frames, strict=True):
        alone = random_pipeline.predict(shown)
        np.testing.assert_array_equal(instances.kernel_indices, alone.kernel_indices)
        np.testing.assert_allclose(instances.scores, alone.scores, atol=1e-6)
        assert (instances.masks != alone.masks).mean() <= 1e-4
    assert not np.array_equal(found[0].masks, found[2].masks)


def test_no_frames_have_no_instances(random_pipeline: Pipeline) -> None:
    assert random_pipeline.predict_batch([])[0] == []


def test_thresholds_may_change_for_one_call(random_pipeline: Pipeline) -> None:
    everything = random_pipeline.predict(frame())
    inference = replace(InferenceConfig.published(), max_instances=3, sort_by_score=True)
    few, _ = random_pipeline.predict_timed(frame(), inference=inference)
    assert len(few) == 3
    np.testing.assert_array_equal(few.scores, np.sort(everything.scores)[::-1][:3])
    assert random_pipeline.config.inference == InferenceConfig.published()
    assert_same(random_pipeline.predict(frame()), everything)


def test_the_network_can_be_shown_a_smaller_image() -> None:
    pipeline, model = spying()
    camera = frame(size=(480, 640))
    whole = pipeline.predict(camera)
    reduced, _ = pipeline.predict_batch([camera], scale=math.sqrt(0.5))
    assert [rgb.shape[2:] for rgb, *_ in model.seen] == [(320, 448), (224, 320)]
    assert reduced[0].masks.shape == whole.masks.shape == (1, 480, 640)
    np.testing.assert_allclose(reduced[0].boxes_xyxy, whole.boxes_xyxy, atol=8)
    for scale in (0.0, 1.1, math.nan):
        with pytest.raises(ConfigError, match=r"scale is .*; choose a value above 0, up to 1"):
            pipeline.predict(camera, scale=scale)


def test_half_precision_finds_nearly_the_same(random_pipeline: Pipeline) -> None:
    halved = replace(random_pipeline.model_info, precision="bf16")
    pipeline = Pipeline(random_pipeline._model, halved, SMALL)
    ours, theirs = pipeline.predict(frame()), random_pipeline.predict(frame())
    np.testing.assert_array_equal(ours.kernel_indices, theirs.kernel_indices)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=2e-3)
    assert not np.array_equal(ours.scores, theirs.scores)
    common, either = ours.masks & theirs.masks, ours.masks | theirs.masks
    assert common.sum() / either.sum() > 0.99
    assert (common.sum((1, 2)) / either.sum((1, 2))).min() > 0.85


def test_the_precision_asked_for_is_reported_and_used() -> None:
    small = ModelConfig(backbone="mobilenet_v2", width=64, num_transformer_layers=0)
    for precision, half_type in (("fp32", None), ("bf16", torch.bfloat16)):
        pipeline = Pipeline.from_weights(model=small, precision=precision)  # type: ignore[arg-type]
        assert pipeline.model_info.precision == precision
        assert pipeline._half_type == half_type


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("fp16", "precision is 'fp16'; choose fp32 or bf16 on the CPU"),
        ("int8", "precision is 'int8'; choose one of ['bf16', 'fp16', 'fp32']"),
    ],
)
def test_a_precision_that_is_no_use_is_refused(precision: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Pipeline.from_weights(precision=precision)  # type: ignore[arg-type]


def test_a_device_is_called_by_its_name() -> None:
    info = ModelInfo(name="x", weights_sha256="", device="cuda:1", device_name="NVIDIA H100")
    assert info.device_label == "cuda:1 NVIDIA H100"
    assert torch.device(info.device).index == 1
    assert ModelInfo(name="x", weights_sha256="", device="cpu").device_label == "cpu"


def test_random_weights_are_the_same_every_time(random_pipeline: Pipeline) -> None:
    torch.manual_seed(99)  # whatever went before
    again = Pipeline.from_weights(model="calibnet_r50", config=SMALL)
    ours, theirs = random_pipeline.predict(frame()), again.predict(frame())
    assert len(ours) > 0
    assert_same(ours, theirs)


def test_random_weights_do_not_disturb_the_generator_of_others() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Pipeline.from_weights(model=ModelConfig(num_transformer_layers=0))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_prediction_is_repeatable_and_frames_do_not_influence_each_other(
    random_pipeline: Pipeline,
) -> None:
    first = random_pipeline.predict(frame(0))
    other = random_pipeline.predict(frame(1, size=(120, 80)))
    assert other.masks.shape[1:] == (120, 80)
    assert_same(random_pipeline.predict(frame(0)), first)


def test_the_frame_is_not_changed(random_pipeline: Pipeline) -> None:
    given = frame()
    assert given.depth_m is not None
    rgb, depth_m = given.rgb.copy(), given.depth_m.copy()
    random_pipeline.predict(given)
    np.testing.assert_array_equal(given.rgb, rgb)
    np.testing.assert_array_equal(given.depth_m, depth_m)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (64, 96), (97, 33)])
def test_any_size_of_image_is_answered(random_pipeline: Pipeline, size: tuple[int, int]) -> None:
    instances = random_pipeline.predict(frame(size=size))
    assert instances.masks.shape == (len(instances), *size)


def test_a_frame_without_any_depth_reading_is_answered(random_pipeline: Pipeline) -> None:
    blind = RgbdFrame(rgb=frame().rgb, depth_m=np.full((70, 110), np.nan, np.float32))
    assert np.isfinite(random_pipeline.predict(blind).scores).all()


def test_default_settings_work_with_random_weights(random_pipeline: Pipeline) -> None:
    # A front end is first tried without weights; then nothing may score above the threshold.
    model, info = random_pipeline._model, random_pipeline.model_info
    pipeline = Pipeline(model, info, PipelineConfig(input=SMALL.input))
    assert pipeline.predict(frame()).masks.shape[1:] == (70, 110)


def test_random_weights_are_reported_as_such(random_pipeline: Pipeline) -> None:
    info = random_pipeline.model_info
    assert info.has_random_weights
    assert info == ModelInfo(name="calibnet_r50", weights_sha256="", device="cpu", precision="fp32")
    assert info.model_id == "calibnet_r50-random"


def test_a_file_brings_its_model_its_hash_and_its_numbers(tmp_path: Path) -> None:
    model, path = build_model("calibnet_swin_t", seed=3), tmp_path / "w.safetensors"
    save_weights(model, path, model_name="calibnet_swin_t")

    pipeline = Pipeline.from_weights(path, config=SMALL)

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert pipeline.model_info == ModelInfo(
        name="calibnet_swin_t", weights_sha256=sha256, device="cpu"
    )
    assert pipeline.model_info.model_id == f"calibnet_swin_t-{sha256[:8]}"
    assert not pipeline.model_info.has_random_weights
    before = Pipeline(model, pipeline.model_info, SMALL)
    assert_same(pipeline.predict(frame()), before.predict(frame()))


def test_a_model_of_ones_own_comes_back_with_its_configuration(tmp_path: Path) -> None:
    own, path = ModelConfig(num_kernels=7, num_transformer_layers=1), tmp_path / "own.safetensors"
    config = PipelineConfig(model=own, input=SMALL.input, inference=SMALL.inference)
    pipeline = Pipeline.from_weights(model=own, config=config)
    assert pipeline.model_info.name == "calibnet_resnet50"
    save_weights(build_model(own, seed=RANDOM_WEIGHTS_SEED), path, model_name="calibnet_resnet50")

    again = Pipeline.from_weights(path, config=config)

    assert again.model_info.name == "calibnet_resnet50"
    assert_same(again.predict(frame()), pipeline.predict(frame()))


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(build_model("calibnet_swin_t"), path, model_name="calibnet_swin_t")
    with pytest.raises(WeightsError, match="they fit calibnet_swin_t: build that model"):
        Pipeline.from_weights(path, model="calibnet_r50")


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        Pipeline.from_weights(path, model=ModelConfig(num_transformer_layers=0))


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown model 'yolo'; use one of \\['calibnet_compact'"):
        Pipeline.from_weights(model="yolo")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device 'gpu' is unknown; use cpu, cuda or cuda:N"),
        ("", "device '' is unknown; use cpu, cuda or cuda:N"),
        ("cuda:x", "device 'cuda:x' is unknown"),
        ("mps", "device 'mps' is not supported; use cpu, cuda or cuda:N"),
        ("meta", "device 'meta' is not supported"),
    ],
)
def test_an_impossible_device_is_refused(device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Pipeline.from_weights(device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_without_a_gpu_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = f"device '{device}' was asked for but no CUDA GPU can be used here; use cpu"
    with pytest.raises(ConfigError, match=message):
        Pipeline.from_weights(device=device)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        ConfigError, match="device 'cuda:2' does not exist; this machine has 2 GPUs"
    ):
        Pipeline.from_weights(device="cuda:2")


@pytest.mark.gpu
def test_a_gpu_answers_as_the_processor_does(random_pipeline: Pipeline) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    pipeline = Pipeline.from_weights(model="calibnet_r50", device="cuda", config=SMALL)
    assert pipeline.model_info.device == "cuda:0"
    ours, theirs = pipeline.predict(frame()), random_pipeline.predict(frame())
    np.testing.assert_array_equal(ours.kernel_indices, theirs.kernel_indices)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    assert (ours.masks != theirs.masks).mean() <= 1e-4
    assert pipeline.model_info.device_label == f"cuda:0 {torch.cuda.get_device_name(0)}"
    halved = Pipeline.from_weights(
        model="calibnet_r50", device="cuda", config=SMALL, precision="bf16"
    )
    ours = halved.predict(frame())
    np.testing.assert_array_equal(ours.kernel_indices, theirs.kernel_indices)
    assert (ours.masks & theirs.masks).sum() / (ours.masks | theirs.masks).sum() > 0.99


def test_without_a_word_the_weights_of_this_package_are_used() -> None:
    for asked in (None, "calibnet_compact", MODELS["calibnet_compact"]):
        pipeline = Pipeline.from_weights(model=asked)
        info = pipeline.model_info
        assert info.name == "calibnet_compact"
        assert info.weights_sha256 == hashlib.sha256(SHIPPED_WEIGHTS.read_bytes()).hexdigest()
        assert info.calibration_set
        assert pipeline.config.model == MODELS["calibnet_compact"]


def test_a_file_of_some_settings_leaves_the_others_as_the_weights_say(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("depth: {max_m: 3.0}\n")
    ours, default = Pipeline.from_weights(config=path).config, Pipeline.from_weights().config
    assert ours == replace(default, depth=replace(default.depth, max_m=3.0))


def test_another_network_does_not_get_the_weights_of_this_package() -> None:
    other = replace(MODELS["calibnet_compact"], num_kernels=31)
    assert Pipeline.from_weights(model=other).model_info.has_random_weights


def test_weights_bring_their_settings_along(tmp_path: Path) -> None:
    own = ModelConfig(backbone="mobilenet_v2", width=64, num_transformer_layers=1)
    settings = PipelineConfig(
        model=own,
        input=InputConfig(shortest_edge=64, longest_edge=96),
        inference=InferenceConfig(score_threshold=0.9),
    )
    path = tmp_path / "weights.safetensors"
    save_weights(build_model(own, seed=0), path, model_name="mine", settings=settings)
    pipeline = Pipeline.from_weights(path)
    assert pipeline.config.model == own
    assert pipeline.config.input == settings.input
    assert pipeline.config.inference == InferenceConfig()  # thresholds are the user's
    published = InferenceConfig.published()
    assert Pipeline.from_weights(path, inference=published).config.inference == published
    # A user's own settings win, but for the model, which the weights decide.
    chosen = Pipeline.from_weights(path, config=PipelineConfig())
    assert chosen.config.input == InputConfig()
    assert chosen.config.model == own


@pytest.mark.parametrize("content", ["not json", "[]", '{"model": {"colour": 1}}'])
def test_settings_of_another_version_are_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(1)}, path, {"settings": content})
    with pytest.raises(WeightsError, match="does not know"):
        Pipeline.from_weights(path)
