"""The script that runs litmus lines on real file systems, as far as no root goes."""

import importlib.util
import os
import sys

import pytest

from tornpage.litmus import LITMUS, perform
from tornpage.model import PRESETS, CrashModel

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "..", "..", "ci", "litmus_real.py")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("litmus_real", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


LINES = [one for one in LITMUS if ("fail",) not in one.program]


@pytest.mark.parametrize("litmus", LINES, ids=str)
def test_a_real_directory_without_a_crash_shows_an_outcome_of_the_model(
    litmus, script, tmp_path
):
    machine = script.RealMachine(str(tmp_path))
    script.lay(str(tmp_path), litmus.files)
    allowed = script.expected(litmus, CrashModel())
    assert script.seen(str(tmp_path), litmus.look) in allowed[0]
    for done in perform(litmus.program, machine):
        assert script.seen(str(tmp_path), litmus.look) in allowed[done]
    for name, offset, length in machine.ranges:
        machine.push(name, offset, length)


def test_what_is_expected_gets_less_by_a_sync_and_more_by_a_write(script):
    (line,) = (
        one for one in LITMUS if str(one) == "sync=honest: write f 0 B1; fsync f"
    )
    found = script.expected(line, CrashModel())
    assert found == [{"A"}, {"A", "B"}, {"B"}]


def test_every_file_system_to_try_has_a_preset(script):
    assert script.FILE_SYSTEMS.keys() <= PRESETS.keys()


def test_a_copy_has_every_byte_of_an_image_with_holes(script, tmp_path):
    image, target = tmp_path / "image", tmp_path / "copy"
    with open(image, "wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"x" * 5000, 300_000)
    script.copy(str(image), str(target))
    assert target.read_bytes() == image.read_bytes()


def test_without_root_nothing_runs_and_that_is_said(script, monkeypatch, capsys):
    monkeypatch.setattr(script.os, "geteuid", lambda: 1000)
    assert script.main(["ext4-o"]) == 2
    assert "needs root" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        script.main(["fat"])
