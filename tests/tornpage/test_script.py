"""Fault scripts: text and data are the same thing, and nonsense is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tornpage.faults import Fault, Letters, Script, ScriptError
from tornpage.faults.script import CALLS

ERRORS = ("EIO", "ENOSPC", "EINTR", "EDQUOT", "EROFS", "ENOLCK", "EMFILE")

faults = st.one_of(
    st.builds(
        Fault,
        st.sampled_from((*CALLS, "sync", "any")),
        st.integers(1, 10**6),
        st.sampled_from(ERRORS),
        persistent=st.booleans(),
    ),
    st.builds(
        Fault,
        st.sampled_from(("pread", "pwrite")),
        st.integers(1, 99),
        st.sampled_from(("short", "flip", "at")),
        st.integers(0, 10**9),
        st.booleans(),
    ),
    st.just(Fault("lock", 1, "busy")),
    st.just(Fault("pwrite", 2, "lost")),
    st.builds(
        Fault,
        st.sampled_from((*CALLS, "sync", "any", "change")),
        st.integers(1, 99),
        st.just("kill"),
    ),
    st.just(Fault("pread", 2, "stale", persistent=True)),
)
letters = st.builds(
    Letters,
    st.sampled_from(("/db", "/data/bolt.db", "wal")),
    st.sampled_from((None, 0)) | st.integers(1, 10**6),
    st.from_regex(r"[wx]*[WX]", fullmatch=True),
)
scripts = st.builds(Script, st.lists(faults | letters, max_size=5).map(tuple))
# An example takes 12 ms. Of four faults planted in the texts all are found in so many.
few = settings(max_examples=settings.default.max_examples * 2 // 5)


@few
@given(scripts)
def test_a_script_is_its_text(script):
    assert Script.parse(str(script)) == script


@few
@given(scripts)
def test_simplifying_ends_with_nothing(script):
    steps = 0
    while script:
        smaller = list(script.simpler())
        assert script not in smaller
        script = smaller[-1]
        steps += 1
        assert steps < 200


@pytest.mark.parametrize(
    "text",
    [
        "fdatasync#3=EIO",
        "pwrite#2=ENOSPC!",
        "pwrite#4=short:100",
        "lock#1=busy",
        "any#17=EINTR",
        "fdatasync#5=kill",
        "/db@0=wxxwX",
        "/data/bolt.db=xW; sync#2=EIO",
    ],
)
def test_the_documented_forms_are_read(text):
    assert str(Script.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pwrite=EIO", "is no fault"),
        ("pwrite#0=EIO", "is no fault"),
        ("pwrite#1=EWHAT", "no effect"),
        ("write#1=EIO", "is no call"),
        ("pwrite#1=EIO:3", "takes no number"),
        ("pwrite#1=short", "short:0"),
        ("open#1=short:3", "pread and pwrite"),
        ("pread#1=lost", "for pwrite"),
        ("any#3=kill!", "no process would ever"),
        ("any#3=kill:2", "means nothing"),
        ("pwrite#01=EIO", "is no fault"),
        ("/db@0=wxw", "is no fault"),
        ("/db@0=", "is no fault"),
        ("EIO", "is no fault"),
        (f"pwrite#1{'0' * 5000}=EIO", "is no fault"),
        (f"pwrite#1=short:{'9' * 5000}", "is no fault"),
        (f"/db@{'9' * 5000}=X", "is no fault"),
        (None, "None: give a text"),
        (b"fsync#1=EIO", "give a text"),
    ],
)
def test_nonsense_is_refused_and_the_message_says_why(text, says):
    with pytest.raises(ScriptError, match=says):
        Script.parse(text)


def test_letters_hold_for_ever_at_the_end():
    wavering = Letters("/db", None, "wxxwX")
    assert [wavering.fails(n) for n in range(1, 9)] == [
        False, True, True, False, True, True, True, True,
    ]  # fmt: skip
    assert not Letters("/db", None, "xW").fails(7)


def test_persistent_means_this_one_and_all_later_ones():
    once, ever = Fault("pwrite", 2, "EIO"), Fault("pwrite", 2, "EIO", persistent=True)
    assert [once.hits(n) for n in (1, 2, 3)] == [False, True, False]
    assert [ever.hits(n) for n in (1, 2, 3)] == [False, True, True]


def test_a_silent_script_says_so():
    assert Script.parse("pwrite#1=EIO; pread#1=flip:3").silent
    assert not Script.parse("pwrite#1=EIO; /db=X").silent
