"""Where there is no POSIX, one sentence says so."""

import subprocess
import sys

import pytest

# Before anything is imported, as on Windows.
WITHOUT = "import sys; sys.modules['posix'] = None; "


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("from tornpage.__main__ import main; sys.exit(main())", 3),
        ("import tornpage; tornpage.patched", 1),
        ("import tornpage; tornpage.Disk, tornpage.Explorer", 0),
    ],
)
def test_a_system_without_posix_is_told_in_one_sentence(code, status):
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == status
    last = ran.stderr.splitlines()[-1:]
    assert ["POSIX systems only" in line for line in last] == [True] * (status > 0)
    assert ("Traceback" in ran.stderr) == (status == 1)
