from __future__ import annotations

from pathlib import Path

import pytest

from calibnet_core import cli


def convert(*arguments: object) -> int:
    return cli.main(["convert-weights", *(str(argument) for argument in arguments)])


def test_converted_weights_are_the_same_weights(tmp_path: Path, capsys) -> None:
    torch = pytest.importorskip("torch")
    from calibnet_core.checkpoint import read_model_name, read_state_dict
    from calibnet_core.models.build import build_model

    state = build_model("calibnet_r50", seed=3).state_dict()
    torch.save({"model": state}, tmp_path / "in.pth")
    assert (
        convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "--model", "calibnet_r50") == 0
    )
    converted = read_state_dict(tmp_path / "out.safetensors")
    assert converted.keys() == state.keys()
    assert all(torch.equal(converted[key], state[key]) for key in state)
    assert read_model_name(tmp_path / "out.safetensors") == "calibnet_r50"
    assert "sha256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("text.pth", "out.safetensors", "text.pth"),
        ("missing.pth", "out.safetensors", "missing.pth: no such file"),
        ("text.pth", "out.pth", "must end in .safetensors"),
        ("text.pth", "nowhere/out.safetensors", "create it first"),
    ],
)
def test_what_cannot_be_converted_leaves_nothing(
    tmp_path: Path, capsys, source: str, target: str, words: str
) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    assert convert(tmp_path / source, tmp_path / target, "--model", "calibnet_r50") == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert words in printed
    assert [path.name for path in tmp_path.iterdir()] == ["text.pth"]


def test_an_unknown_model_is_wrong_usage(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        convert("a.pth", "b.safetensors", "--model", "calibnet_r999")
    assert caught.value.code == 2
    assert "calibnet_r101" in capsys.readouterr().err
