from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import attention_cuda, measure
from benchmarks.attention_cases import (
    LIMITS,
    SAMPLINGS,
    Case,
    backward_error,
    forward_error,
    locate,
    make_operands,
    stored_as,
    true_answers,
)
from benchmarks.attention_contenders import contenders, names
from benchmarks.ms_deform_attn import cases, check, parse

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SMALL = Case(64, 96, 2, SAMPLINGS[0])
HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


def run_benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "ms_deform_attn.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Path]:
    """What a short run on small images prints and writes."""
    folder = tmp_path_factory.mktemp("benchmark")
    picture = folder / "figures.png"
    finished = run_benchmark(
        *("--quick", "--device", "cpu", "--sizes", "64x96", "--rounds", "2"),
        *("--json", str(folder / "figures.json")),
        *(("--plot", str(picture)) if HAS_MATPLOTLIB else ()),
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, json.loads((folder / "figures.json").read_text()), picture


# --- a run ----------------------------------------------------------------------------------------


def test_a_run_writes_where_and_how_its_figures_came_about(
    quick_run: tuple[str, dict[str, Any], Path],
) -> None:
    _, content, _ = quick_run
    assert content["benchmark"] == "ms_deform_attn"
    assert content["device"] == "cpu"
    assert "--quick" in content["command"]
    assert content["machine"]["cores"] >= 1
    assert content["versions"]["torch"] == torch.__version__
    assert content["operators"].keys() == {"cpu", "cuda"}


def test_every_contender_has_figures_or_is_said_to_have_none(
    quick_run: tuple[str, dict[str, Any], Path],
) -> None:
    _, content, _ = quick_run
    measured = {row["contender"] for row in content["rows"]}
    missing = {row["contender"] for row in content["unmeasured"] if row["device"] == "cpu"}
    expected = {name for name, _ in names((torch.float32, torch.bfloat16), cuda=False)}
    assert {"grid_sample", "grid_sample again", "eager"} <= measured
    assert expected <= measured | missing
    assert not measured & missing


def test_every_figure_is_consistent(quick_run: tuple[str, dict[str, Any], Path]) -> None:
    _, content, _ = quick_run
    assert {row["direction"] for row in content["rows"]} == {"forward", "backward"}
    assert {row["clock"] for row in content["rows"]} == {"cpu", "wall"}
    for row in content["rows"]:
        assert row["size"] == "64x96"
        assert row["batch"] == 1
        assert row["sampling"] in SAMPLINGS
        assert row["threads"] == 1
        assert row["rounds"] == 2
        assert row["median_ms"] > 0
        assert 0 < row["ratio_lowest"] <= row["ratio"] <= row["ratio_highest"]
        assert row["error"] <= row["limit"]
        assert (row["storage_error"] is None) == (row["direction"] == "backward")
        if row["contender"] in ("grid_sample", "softmax + grid_sample"):
            assert row["ratio_lowest"] == row["ratio_highest"] == 1.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_figures_are_unmeasured(
    quick_run: tuple[str, dict[str, Any], Path],
) -> None:
    printed, content, _ = quick_run
    rows = [row for row in content["unmeasured"] if row["device"] == "cuda"]
    assert {"by channel", "compiled fp16", "fused bf16"} <= {row["contender"] for row in rows}
    for row in rows:
        assert row["forward"] == row["backward"] == "unmeasured"
        assert row["reason"] == "no CUDA device"
    assert "unmeasured" in printed
    finished = run_benchmark("--device", "cuda")
    assert finished.returncode == 2
    assert "unmeasured" in finished.stderr


@pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed")
def test_a_run_draws_a_picture(quick_run: tuple[str, dict[str, Any], Path]) -> None:
    *_, picture = quick_run
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.skipif(HAS_MATPLOTLIB, reason="matplotlib is installed")
def test_without_matplotlib_drawing_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["--plot", str(tmp_path / "figures.png")])
    assert "pip install matplotlib" in capsys.readouterr().err


def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--device", "cpu", "--sizes", "320"])
    assert "height x width" in capsys.readouterr().err


def test_the_command_line_chooses_the_cases() -> None:
    chosen = cases(parse(["--device", "cpu", "--sizes", "64x96", "32x32", "--batches", "1", "3"]))
    assert len(chosen) == 2 * 2 * len(SAMPLINGS)
    assert chosen[-1] == Case(32, 32, 3, SAMPLINGS[-1])


# --- operands and their true answers --------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_both_forms_of_the_operands_sample_the_same_places(sampling: str) -> None:
    operands = make_operands(Case(64, 96, 1, sampling), CPU)
    locations, weights = locate(operands.packed, operands.reference_points, operands.cells)
    torch.testing.assert_close(locations, operands.locations)
    torch.testing.assert_close(weights, operands.weights)


def test_samplings_are_what_they_are_called() -> None:
    def pixels(sampling: str) -> torch.Tensor:
        operands = make_operands(Case(320, 480, 1, sampling), CPU)
        return operands.locations * operands.cells - 0.5

    def outside(sampling: str) -> float:
        locations = make_operands(Case(320, 480, 1, sampling), CPU).locations
        return float(((locations < 0) | (locations > 1)).any(-1).float().mean())

    corner = pixels("one-corner")
    assert corner.min() > -1e-4
    assert corner.max() < 1 + 1e-4
    assert outside("uniform") < 0.001
    assert 0.3 <= outside("30-percent-outside") - 0.7 * outside("encoder-like") <= 0.31


def test_all_contenders_are_right_and_a_wrong_one_ends_the_benchmark() -> None:
    single = make_operands(SMALL, CPU)
    operands = {torch.float32: single, torch.bfloat16: stored_as(single, torch.bfloat16)}
    truths = {dtype: true_answers(stored) for dtype, stored in operands.items()}
    for contender in contenders(operands, by_channel=False):
        output = contender.forward()
        checked = check(contender, SMALL, "forward", output, truths)
        assert checked.error == forward_error(output, truths[contender.dtype])
        gradients = contender.prepare_backward()()
        check(contender, SMALL, "backward", gradients, truths)
        for wrong in (output * (1 + 3 * LIMITS[contender.dtype]), output * float("nan")):
            with pytest.raises(SystemExit, match=r"is wrong: forward, 64x96, batch 2"):
                check(contender, SMALL, "forward", wrong, truths)
        with pytest.raises(SystemExit, match="is wrong: backward"):
            check(contender, SMALL, "backward", [*gradients[:-1], gradients[-1] * 2], truths)


def test_gradients_at_a_kink_do_not_count_and_those_beside_it_do() -> None:
    operands = make_operands(SMALL, CPU)
    truth = true_answers(operands)
    gradients = [truth.gradients[name].clone() for name in ("value", "locations", "weights")]
    assert backward_error(gradients, truth) == 0
    truth.smooth[0, 0, 0, 0, 0] = False
    gradients[1][0, 0, 0, 0, 0] += 1e6
    assert backward_error(gradients, truth) == 0
    gradients[1][0, 0, 0, 0, 1] += 1e6
    assert backward_error(gradients, truth) > 1


# --- measuring ------------------------------------------------------------------------------------


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is three times slower in the second round; the ratio is 4 in all of them but one.
    seconds = {"slow": [0.4, 1.2, 0.4], "fast": [0.1, 0.3, 0.2]}
    fast = measure.summarise(seconds, "slow")["fast"]
    assert fast.ratio == pytest.approx(4)
    assert fast.ratio_lowest == pytest.approx(2)
    assert fast.ratio_highest == pytest.approx(4)
    assert fast.median_ms == pytest.approx(200)
    assert fast.rounds == 3


def test_contenders_take_turns_and_a_baseline_comes_twice() -> None:
    happened: list[str] = []

    def run(name: str, calls: int) -> measure.Run:
        return measure.Run(lambda: happened.append(name), calls)

    def stopwatch(execute: Callable[[], object]) -> dict[str, float]:
        execute()
        return {"clock": float(len(happened))}

    seconds = measure.alternate(
        {"a": run("a", 1), "b": run("b", 2)}, repeated=["a"], stopwatch=stopwatch, rounds=3
    )
    assert happened == [*"aba", *"baa", *"aab"]
    assert seconds == {"clock": {"a": [1, 6, 8], "b": [1, 2, 4.5], "a again": [3, 5, 7]}}


def test_short_calls_are_repeated() -> None:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1

    run = measure.repeat(call, shortest_s=1e-4)
    assert count == 1
    run.execute()
    assert count == 1 + run.calls
    assert run.calls > 1
    assert measure.repeat(call, shortest_s=0).calls == 1


# --- the reference algorithm ----------------------------------------------------------------------


@pytest.mark.slow
def test_the_reference_algorithm_compiles_for_every_architecture(tmp_path: Path) -> None:
    nvcc = attention_cuda.find_nvcc()
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    library = tmp_path / "libchannel_per_thread.so"
    attention_cuda.compile_reference_algorithm(nvcc, library, [75, 80, 86, 87, 89, 90, 100, 120])
    assert library.stat().st_size > 0
