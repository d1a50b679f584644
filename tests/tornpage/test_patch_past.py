"""What C code fails at on the machine is no outcome of the store."""

import asyncio
import os
import select
import subprocess
import sys

import pytest

from tornpage.disk import Disk
from tornpage.functions import subject_from
from tornpage.patch import UnsupportedCallError, patched
from tornpage.patch.past import asked_of_the_machine
from tornpage.registry import spec_of
from tornpage.run import Plan, run

ROOT = "/db"


class ForeignError(Exception):
    """An error of a library's own."""


def raised_in_c(error):
    """Have code in C raise it, as an extension module does."""
    loop = asyncio.new_event_loop()
    try:
        future = asyncio.Future(loop=loop)
        future.set_exception(error)
        future.result()
    finally:
        loop.close()


def raised_in_python(error):
    raise error


def _run(running):
    def running_(root, work, ack):
        with open(f"{root}/x", "wb") as file:
            file.write(b"1")
            os.fsync(file.fileno())
        running(root)

    subject = subject_from(
        "S",
        run=running_,
        recover=lambda root: os.path.exists(f"{root}/x"),
        check=lambda acked, in_flight, seen: None,
        work=["a"],
        root=ROOT,
    )
    return run(subject, Plan(spec=spec_of(subject), programs=1))


def _written_to_a_reader(root):
    with open(f"{root}/x", "rb") as file:
        file.write(b"")


def _wrapped(root):
    try:
        raised_in_c(ForeignError(f"{root}/x: not there"))
    except ForeignError as error:
        raise ValueError("cannot open") from error


@pytest.mark.parametrize(
    "running",
    [
        pytest.param(
            lambda root: pytest.importorskip("readline").write_history_file(
                f"{root}/history"
            ),
            id="a name",
        ),
        pytest.param(
            lambda root: select.epoll().register(os.open(f"{root}/x", os.O_RDONLY)),
            id="a descriptor",
        ),
        pytest.param(
            lambda root: raised_in_c(ForeignError(f"{root}/x: not there")),
            id="a type of its own",
        ),
        pytest.param(
            lambda root: raised_in_c(RuntimeError(f"cannot open {root}/x")),
            id="a binding",
        ),
        pytest.param(lambda root: raised_in_c(OSError("no FILE*")), id="no number"),
        pytest.param(_wrapped, id="another one in its place"),
    ],
)
def test_what_code_in_c_does_not_find_on_the_machine_is_no_broken_promise(running):
    certificate = _run(running)
    assert certificate.verdict == "unverifiable"
    assert "code in C has raised that" in certificate.cut[0]
    assert "test_patch_past.py:" in certificate.cut[0]


@pytest.mark.parametrize(
    "running",
    [
        pytest.param(lambda root: os.stat(f"{root}/none"), id="the disk's own answer"),
        pytest.param(lambda root: os.stat("/none/at/all"), id="the machine's own file"),
        pytest.param(lambda root: os.close(12345), id="the machine's own descriptor"),
        pytest.param(
            lambda root: raised_in_python(OSError(f"{root}/x is damaged")),
            id="an OSError of the store",
        ),
        pytest.param(
            lambda root: raised_in_python(ForeignError(f"{root}/x is damaged")),
            id="a type of the store's own",
        ),
        pytest.param(lambda root: {}[f"{root}/x"], id="a key that is a name"),
        pytest.param(lambda root: int(f"{root}/x"), id="no number"),
        pytest.param(_written_to_a_reader, id="a mode"),
    ],
)
def test_what_the_store_raises_is_a_broken_promise(running):
    certificate = _run(running)
    assert certificate.verdict == "violated"


def test_after_a_crash_a_library_may_have_found_damage():
    """On a crashed disk an error without a number is what the library says of bytes."""
    for error in (OSError("no file signature"), FileNotFoundError(2, "none")):
        with pytest.raises(type(error), match=r"none|no file signature") as caught:
            raised_in_c(error)
        for crashed in (False, True):
            found = asked_of_the_machine(caught.value, ROOT, crashed=crashed)
            assert (found is None) == crashed


@pytest.mark.parametrize("by", ["__cause__", "__context__"])
def test_an_exception_is_followed_to_what_led_to_it(by):
    with pytest.raises(ForeignError) as caught:
        raised_in_c(ForeignError(f"{ROOT}/x: not there"))
    one = ValueError("cannot open")
    setattr(one, by, caught.value)
    assert asked_of_the_machine(one, ROOT, crashed=True) is caught.value


def test_an_exception_that_leads_to_itself_has_an_end():
    one, other = ValueError(), ValueError()
    one.__context__, other.__context__ = other, one
    assert asked_of_the_machine(one, ROOT, crashed=False) is None


def test_a_root_that_comes_to_be_on_the_machine_is_refused(tmp_path):
    """A library in C may make directories; here another process stands for it."""
    root = str(tmp_path / "db")
    script = f"import os; input(); os.mkdir({root!r}); print(flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    refused = pytest.raises(UnsupportedCallError, match="has been made on this machine")
    with process, refused, patched(Disk(), root):
        process.communicate(b"\n")
    assert os.path.isdir(root)
