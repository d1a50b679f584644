"""One history for each parameter of the crash model, and what it may leave.

`images` runs a history and gives everything that reading it back after a crash
can show. Each litmus test names an outcome that one value allows and another
forbids.
"""

import contextlib
import dataclasses
import functools
import itertools

import pytest
from explorer_cases import IMAGES

from tornpage.disk import Disk
from tornpage.explore import Explorer
from tornpage.litmus import LITMUS, Litmus, OnDisk, look, perform
from tornpage.model import PRESETS, CrashModel, ModelError
from tornpage.platter.brute import TooManyImages
from tornpage.run import Plan


def outcomes(litmus, text):
    """What the program of a line may leave under a model, closed."""
    return found_under(LITMUS.index(litmus), CrashModel.parse(text))


@functools.cache
def found_under(number, model):
    # Most texts change one value of the same model, some to what it is anyway.
    litmus = LITMUS[number]
    files = dict(litmus.files)
    disk = Disk(files, model)
    assert list(perform(litmus.program, OnDisk(disk)))

    def recover(crashed):
        return look(crashed, litmus.look)

    explorer = Explorer(files, disk.trace, recover, model)
    closure = explorer.close(max(explorer.points()))
    assert closure.closed
    found = frozenset(one.outcome for one in closure.outcomes)
    # Every line is built whole under the model that it is about. With as many images
    # for all others the 100 pairs of 3,000 that have more took nine tenths of the time;
    # the 65 of 4,600 that have more than this took two fifths of what was left.
    own = model == CrashModel.parse(litmus.model)
    with contextlib.suppress(TooManyImages):
        assert found == explorer.eager(closure.point, 20_000 if own else IMAGES // 4)
    return found


@pytest.mark.parametrize("litmus", LITMUS, ids=str)
def test_the_model_allows_what_the_line_says_and_nothing_else(litmus):
    assert outcomes(litmus, litmus.model) == litmus.allowed
    assert not litmus.allowed & litmus.forbidden


# All but the number of crashes, which says nothing of what one of them leaves.
PARAMETERS = [one for one in dataclasses.fields(CrashModel) if one.name != "crashes"]


def test_every_value_of_every_parameter_has_a_line():
    lines = {one.model for one in LITMUS}
    for one in PARAMETERS:
        for value in one.metadata["values"]:
            if value in {"lying:n", "16384", "65536"}:
                continue
            assert f"{one.name}={value}" in lines


def test_lines_tell_the_values_of_a_parameter_apart():
    for one in PARAMETERS:
        mine = [line for line in LITMUS if line.model.startswith(f"{one.name}=")]
        values = [v for v in one.metadata["values"] if v not in {"16384", "65536"}]
        values = ["lying:1" if v == "lying:n" else v for v in values]
        seen = {
            value: tuple(
                tuple(sorted(outcomes(line, f"{one.name}={value}"))) for line in mine
            )
            for value in values
        }
        assert len(set(seen.values())) == len(values), seen


WEAKER = [
    ["tear=page", "tear=sector", "tear=byte", "tear=garbage"],
    ["order=ordered", "order=append", "order=any"],
    ["size=with-data", "size=with-block", "size=free"],
    ["entries=prefix", "entries=free"],
    ["sync=honest", "sync=lying:1", "sync=lying:2"],
    ["unit=none", "unit=4096", "unit=8192", "unit=65536"],
    ["extend=zero", "extend=garbage"],
    ["rename=atomic", "rename=synced", "rename=split"],
    ["names=fsync", "names=dirsync"],
    ["calls=whole", "calls=paged"],
    ["journal=own", "journal=shared"],
    ["fail=clean", "fail=unwritten"],
]


@pytest.mark.thorough(rows=6)
@pytest.mark.parametrize("chain", WEAKER, ids=lambda chain: chain[0].split("=")[0])
def test_a_weaker_value_allows_all_that_a_stronger_one_allows_on_every_line(chain):
    for litmus in LITMUS:
        sets = [outcomes(litmus, text) for text in chain]
        for stronger, weaker in itertools.pairwise(sets):
            assert stronger <= weaker, litmus


@pytest.mark.thorough(rows=3)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_parsed_with_changes_and_says_what_it_is(preset):
    model = CrashModel.parse(preset)
    assert CrashModel.parse(str(model)) == model
    assert CrashModel.parse(f"{preset},tear=byte").tear == "byte"
    for name, value in PRESETS[preset].items():
        assert getattr(model, name) == value
    for litmus in LITMUS:
        assert outcomes(litmus, preset)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ext4-ordered", "unwritten"), ("xfs", "clean"), ("ext4-data", "late")],
)
def test_a_failing_sync_can_be_named_after_the_file_system(name, value):
    assert CrashModel.parse(f"fail={name}").fail == value


def test_a_line_with_a_column_missing_is_refused():
    with pytest.raises(ValueError, match="unpack"):
        Litmus.parse("tear=page|f=A1|write f 0 B1|f@0|A B")


def images(text, files, history, look):
    """The outcomes of `look` after a crash at the end of `history`."""
    model = CrashModel.parse(text)
    disk = Disk(files, model)
    history(disk)
    explorer = Explorer(files, disk.trace, look, model)
    end = max(explorer.points())
    outcomes = frozenset(one.outcome for one in explorer.close(end).outcomes)
    assert outcomes == explorer.eager(end)
    return outcomes


def bytes_at(*places):
    def look(disk):
        file = disk.open("f", read_only=True)
        return b"".join(file.pread(1, at) for at in places)

    return look


def overwrite(length):
    return lambda disk: disk.open("f").pwritev([b"B" * length], 0)


def ends(length):
    """One write whose first and last byte are new: few images to build."""
    data = b"B" + b"A" * (length - 2) + b"B"
    return lambda disk: disk.open("f").pwritev([data], 0)


@pytest.mark.parametrize(
    ("tear", "in_page", "in_sector"),
    [("page", False, False), ("sector", True, False), ("byte", True, True)],
)
def test_tear_says_within_what_old_and_new_can_mix(tear, in_page, in_sector):
    files = {"f": b"A" * 4096}
    page = images(f"tear={tear}", files, ends(4096), bytes_at(0, 4095))
    sector = images(f"tear={tear}", files, ends(512), bytes_at(0, 511))
    assert {b"AA", b"BB"} <= page & sector
    assert ({b"AB", b"BA"} <= page) == in_page
    assert ({b"AB", b"BA"} <= sector) == in_sector
    assert len(page) == (4 if in_page else 2)


def test_tear_byte_mixes_a_prefix_or_a_suffix_and_no_middle():
    found = images("tear=byte", {"f": b"A" * 512}, overwrite(512), bytes_at(0, 9, 99))
    assert found == {b"AAA", b"BBB", b"BAA", b"BBA", b"AAB", b"ABB"}


def test_tear_mixes_any_two_versions_since_the_sync():
    def history(disk):
        file = disk.open("f")
        file.pwritev([b"B" * 512], 0)
        file.pwritev([b"C" * 512], 0)

    found = images("tear=byte", {"f": b"A" * 512}, history, bytes_at(0, 511))
    assert found == {x + y for x in (b"A", b"B", b"C") for y in (b"A", b"B", b"C")}


@pytest.mark.parametrize(("order", "reordered"), [("any", True), ("ordered", False)])
def test_order_says_whether_a_later_write_can_arrive_first(order, reordered):
    def history(disk):
        file = disk.open("f")
        file.pwritev([b"B"], 0)
        file.pwritev([b"B"], 512)

    found = images(f"order={order}", {"f": b"A" * 1024}, history, bytes_at(0, 512))
    assert {b"AA", b"BA", b"BB"} <= found
    assert (b"AB" in found) == reordered


def test_order_tears_the_write_in_flight_into_any_of_its_sectors():
    found = images(
        "order=ordered", {"f": b"A" * 1024}, overwrite(1024), bytes_at(0, 512)
    )
    assert found == {b"AA", b"AB", b"BA", b"BB"}


def test_order_speaks_of_all_files_and_of_names():
    def history(disk):
        disk.open("f").pwritev([b"B"], 0)
        disk.open("g", create=True)

    def look(disk):
        return bytes_at(0)(disk), disk.exists("g")

    found = images("order=ordered,entries=free", {"f": b"A"}, history, look)
    assert found == {(b"A", False), (b"B", False), (b"B", True)}


@pytest.mark.parametrize(("size", "hole"), [("free", True), ("with-data", False)])
def test_size_says_whether_it_can_arrive_before_the_data(size, hole):
    def history(disk):
        disk.open("f").pwritev([b"B"], 600)

    found = images(f"size={size}", {"f": b"A" * 512}, history, bytes_at(0, 600))
    assert {b"A", b"AB"} <= found
    assert (b"A\0" in found) == hole
    assert len(found) == 2 + hole


@pytest.mark.parametrize(("entries", "alone"), [("prefix", False), ("free", True)])
def test_entries_says_whether_a_later_name_can_come_alone(entries, alone):
    def history(disk):
        disk.open("x", create=True)
        disk.open("y", create=True)

    def look(disk):
        return disk.exists("x"), disk.exists("y")

    found = images(f"entries={entries}", {}, history, look)
    assert {(False, False), (True, False), (True, True)} <= found
    assert ((False, True) in found) == alone


@pytest.mark.parametrize("entries", ["prefix", "free"])
def test_a_rename_is_there_or_not_and_never_half(entries):
    def look(disk):
        return tuple(
            disk.open(name).pread(1, 0) if disk.exists(name) else None
            for name in ("x", "y")
        )

    files = {"x": b"X", "y": b"Y"}
    found = images(
        f"entries={entries}", files, lambda disk: disk.rename("x", "y"), look
    )
    assert found == {(b"X", b"Y"), (None, b"X")}


def test_a_directory_sync_makes_its_own_names_durable():
    def history(disk):
        disk.open("d/x", create=True)
        disk.open("e/x", create=True)
        disk.fsync_dir("e/x")

    def look(disk):
        return disk.exists("d/x"), disk.exists("e/x")

    assert images("entries=free", {}, history, look) == {(False, True), (True, True)}
    assert images("entries=prefix", {}, history, look) == {(True, True)}


def test_a_file_sync_makes_no_name_durable():
    def history(disk):
        file = disk.open("x", create=True)
        file.pwritev([b"X"], 0)
        file.fsync()

    def look(disk):
        return disk.open("x").pread(9, 0) if disk.exists("x") else None

    assert images("", {}, history, look) == {None, b"X"}


def test_a_weaker_disk_has_every_image_of_the_stronger_one():
    def history(disk):
        file = disk.open("f")
        file.pwritev([b"B" * 8], 4092)
        file.pwritev([b"C"], 0)
        disk.rename("f", "g")
        disk.open("h", create=True)

    def look(disk):
        names = tuple(name for name in "fgh" if disk.exists(name))
        name = names[0] if names[0] != "h" else names[-1]
        file = disk.open(name)
        return names, file.size(), file.pread(1, 0), file.pread(2, 4095)

    files = {"f": b"A" * 4050}
    for stronger, weaker in (
        ("tear=page", "tear=sector"),
        ("tear=sector", "tear=byte"),
        ("order=ordered", "order=any"),
        ("size=with-data", "size=free"),
        ("entries=prefix", "entries=free"),
    ):
        few, many = (images(one, files, history, look) for one in (stronger, weaker))
        assert few <= many


def test_a_number_of_crashes_that_is_none_is_refused():
    for crashes in ("2", 1.5, None, 0, 10):
        with pytest.raises(ModelError, match="crashes is a number from 1 to 9"):
            CrashModel(crashes=crashes)


def test_a_model_and_its_text_are_the_same():
    model = CrashModel.parse(" tear=byte, entries=free ")
    assert (model.tear, model.order, model.size, model.entries) == (
        "byte",
        "any",
        "free",
        "free",
    )
    assert CrashModel.parse(str(model)) == model
    assert CrashModel.parse("") == CrashModel()
    assert str(CrashModel()) == "tear=sector,order=any,size=free,entries=prefix"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tear=word", "tear is one of sector, page, byte"),
        ("colour=red", "the names are tear, order, size, entries"),
        ("tear", "write name=value"),
        ("tear=byte,ext4-o", "write name=value"),
        ("ext9", "begin with one of ext3-w"),
        ("sync=lying:0", "honest, lying:n"),
        ("order=ordered,sync=lying:1", "say order=any"),
        ("order=ordered,fail=revert", "say order=any"),
        ("order=ordered,fail=unwritten", "say fail=clean"),
        ("sync=lying:1,fail=unwritten", "say fail=clean"),
        ("journal=shared,fail=revert", "say journal=own"),
        ("tear=byte,tear=page", "given twice"),
        (None, "None: give a text"),
        (b"tear=byte", "give a text"),
    ],
)
def test_a_model_that_is_none_is_refused_with_the_way_out(text, says):
    with pytest.raises(ModelError, match=says):
        CrashModel.parse(text)


@pytest.mark.parametrize("value", [1, None, b"lying:1", ["lying:1"], "lying:x"])
def test_a_promise_about_syncs_that_is_no_text_is_refused_like_any_other(value):
    with pytest.raises(ModelError, match=r"sync is one of honest, lying:n$"):
        CrashModel(sync=value)


@pytest.mark.parametrize("model", ["ext4-o", 3, CrashModel])
def test_what_is_no_model_is_refused_where_it_is_given(model):
    """The text of one, as a subject or the plugin takes it, had no attribute `fail`."""
    calls = [
        lambda: Disk({}, model),
        lambda: Explorer({}, Disk().trace, bool, model),
        lambda: Plan(spec="x", programs=1, model=model),
    ]
    for call in calls:
        with pytest.raises(ModelError, match=r"^model is a CrashModel, not ") as caught:
            call()
        way_out = "CrashModel.parse('ext4-o') makes one"
        assert str(caught.value).endswith(way_out) == (model == "ext4-o")
