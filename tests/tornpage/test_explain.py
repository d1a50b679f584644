"""Explanations: the one order that is missing, by source line, and nothing else."""

import contextlib
import errno
import random

import pytest
from explorer_cases import DRAWN, NAMES
from toy_store import Toy

from tornpage.disk import Disk
from tornpage.explore import CrashPoint, Explorer
from tornpage.faults import Span
from tornpage.functions import subject_from
from tornpage.model import CrashModel
from tornpage.platter.brute import Device, Platter, TooManyImages
from tornpage.registry import spec_of
from tornpage.run import Experiment, Plan, run
from tornpage.story import explain, reason
from tornpage.story.reason import changes, strip
from tornpage.subject import Violation

START = {"/db": b"old." * 256 + b"A" * 512}


def in_two_steps(disk):
    """1,024 bytes of data in place, then the letter that makes them count."""
    file = disk.open("/db")
    file.pwritev([b"new." * 256], 0)
    file.fdatasync()
    file.pwritev([b"B" * 512], 1024)
    file.fdatasync()
    disk.mark("acked", version=2)


def in_one_write(disk):
    file = disk.open("/db")
    file.pwritev([b"new." * 256 + b"B" * 512], 0)
    file.fdatasync()


def recover(disk):
    file = disk.open("/db")
    letter = file.pread(1, 1024)
    return letter, file.pread(4, 0), file.pread(4, 512)


def judge(marks, outcome):
    letter, low, high = outcome
    wanted = {b"A": b"old.", b"B": b"new."}[letter]
    if (low, high) != (wanted, wanted):
        return [Violation("A atomicity", f"{letter!r} with {low!r} and {high!r}")]
    if marks and letter == b"A":
        return [Violation("P persistence", "lost")]
    return []


def violated(disk):
    explorer = Explorer(START, disk.trace, recover)
    for closure in explorer.sweep():
        marks = explorer.marks(closure.point)
        if any(judge(marks, one.outcome) for one in closure.outcomes):
            yield closure.point


def cause(run):
    disk = Disk(START)
    run(disk)
    point = next(violated(disk))
    return explain(START, disk.trace, recover, judge, point)


def test_data_written_in_place_comes_too_early():
    found = cause(in_two_steps)
    assert found.early
    assert found.lost_index == 0
    assert found.sentence.startswith("nothing has to be lost; it is broken as soon as")


def test_one_write_over_everything_is_not_atomic():
    found = cause(in_one_write)
    assert not found.early
    assert found.torn is not None
    assert found.violation.property == "A atomicity"


class Shadow:
    """A store that keeps the old version: data in one of two slots."""

    def __init__(self, *, sync=True, letter_sync=True):
        self.sync = sync
        self.letter_sync = letter_sync

    def run(self, disk):
        file = disk.open("/s")
        for slot, content in ((1, b"two!"), (0, b"tri!")):
            file.pwritev([content * 256], 1024 * (1 + slot))
            if self.sync:
                file.fdatasync()
            file.pwritev([b"%d%s" % (slot, content)], 0)
            if self.letter_sync:
                file.fdatasync()
            disk.mark("acked", content=content.decode())


SHADOW = {"/s": b"0one!".ljust(1024, b"\0") + b"one!" * 256 + bytes(1024)}


def shadow_recover(disk):
    file = disk.open("/s")
    head = file.pread(5, 0)
    at = 1024 * (1 + int(head[:1]))
    return head[1:], file.pread(4, at), file.pread(4, at + 512)


def shadow_judge(marks, outcome):
    named, low, high = outcome
    if not named == low == high:
        return [Violation("A atomicity", "mixed")]
    acked = marks[-1]["content"].encode() if marks else b"one!"
    order = [b"one!", b"two!", b"tri!"]
    if order.index(named) < order.index(acked):
        return [Violation("P persistence", "lost")]
    return []


def shadow_cause(**options):
    disk = Disk(SHADOW)
    Shadow(**options).run(disk)
    explorer = Explorer(SHADOW, disk.trace, shadow_recover)
    for closure in explorer.sweep():
        marks = explorer.marks(closure.point)
        if any(shadow_judge(marks, one.outcome) for one in closure.outcomes):
            return explain(
                SHADOW, disk.trace, shadow_recover, shadow_judge, closure.point,
                locate=lambda path, offset, data: f"byte {offset}",
            )  # fmt: skip
    return None


def test_nothing_is_explained_where_nothing_breaks():
    assert shadow_cause() is None


def test_a_missing_data_sync_is_named_by_both_lines():
    found = shadow_cause(sync=False)
    assert (found.lost_index, found.kept_index) == (0, 1)
    assert found.lost.site != found.kept.site
    assert found.sentence == (
        f"the write at {found.lost.site} (byte 2048) must be durable before "
        f"the write at {found.kept.site} (byte 0)"
    )
    assert found.lost.site.startswith("test_explain.py:")


def test_a_missing_last_sync_is_named_with_the_promise():
    found = shadow_cause(letter_sync=False)
    assert found.kept_index == -1
    assert found.sentence.endswith(
        "must be durable before the promise acked content=two!"
    )


def test_a_write_that_is_taken_to_be_atomic_is_named():
    def run(disk):
        # Two sectors in one write; only together are they right.
        disk.open("/t").pwritev([b"2" * 1024], 0)

    disk = Disk({"/t": b"1" * 1024})
    run(disk)

    def look(crashed):
        file = crashed.open("/t")
        return file.pread(1, 0), file.pread(1, 512)

    def same(_, outcome):
        return [] if len(set(outcome)) == 1 else [Violation("A atomicity", "mixed")]

    explorer = Explorer({"/t": b"1" * 1024}, disk.trace, look)
    point = next(
        one.point for one in explorer.sweep()
        if any(same((), reached.outcome) for reached in one.outcomes)
    )  # fmt: skip
    found = explain({"/t": b"1" * 1024}, disk.trace, look, same, point)
    assert found.torn == (0, 512)
    assert "is not atomic: only bytes 0 to 512 of it may arrive" in found.sentence


def undo_cause(*, sync, name_sync, model=None):
    """Why a page of two sectors is torn though its old content is kept elsewhere."""
    old, new = b"1" * 1024, b"2" * 1024
    disk = Disk({"page": old})
    undo = disk.open("undo", create=True)
    undo.pwritev([b"u"], 0)
    if sync:
        undo.fsync()
    if name_sync:
        disk.fsync_dir("undo")
    disk.open("page").pwritev([new], 0)

    def recover(crashed):
        if crashed.exists("undo") and crashed.open("undo").pread(1, 0) == b"u":
            return old
        return crashed.open("page").pread(1024, 0)

    def whole(_, outcome):
        return [] if outcome in {old, new} else [Violation("A atomicity", "torn")]

    return explain(
        {"page": old},
        disk.trace,
        recover,
        whole,
        CrashPoint(len(disk.trace.operations())),
        model=CrashModel.parse(model) if model else None,
    )


@pytest.mark.parametrize(
    ("sync", "name_sync", "lost"), [(False, True, "write"), (True, False, "create")]
)
def test_what_is_missed_only_where_another_write_is_torn_is_named_with_it(
    sync, name_sync, lost
):
    """The rule of every undo log. Neither breaks it when it is lost or torn alone."""
    found = undo_cause(sync=sync, name_sync=name_sync)
    assert found.lost.path == "undo"
    assert found.sentence == (
        f"the {lost} at {found.lost.site} (undo) must be durable before the write at"
        f" {found.kept.site} (page), of which only bytes 0 to 512 may arrive"
    )
    assert (found.torn, found.kept_torn) == (None, (0, 512))
    assert found.violation.property == "A atomicity"


@pytest.mark.parametrize("model", ["order=ordered", "tear=page"])
def test_no_such_pair_is_named_where_the_model_has_none(model):
    assert undo_cause(sync=False, name_sync=True, model=model) is None
    assert undo_cause(sync=True, name_sync=True) is None


def flag_and_page(crashed):
    """A flag, and which bytes there are in a page: two when it is torn."""
    return crashed.open("flag").pread(1, 0), {*crashed.open("page").pread(1024, 0)}


def test_a_loss_that_a_torn_write_does_not_need_is_not_named_with_it():
    """What is torn breaks it by itself, as long as the last write has not come."""
    files = {"other": b"0", "page": b"1" * 1024, "flag": b"0"}
    disk = Disk(files)
    disk.open("other").pwritev([b"1"], 0)
    disk.open("page").pwritev([b"2" * 1024], 0)
    disk.open("flag").pwritev([b"1"], 0)

    def whole(_, outcome):
        flag, page = outcome
        return [Violation("A", "mixed")] if flag == b"0" and len(page) == 2 else []

    assert explain(files, disk.trace, flag_and_page, whole, CrashPoint(3)) is None


def test_a_write_that_has_to_be_whole_before_another_is_said_to_be_late():
    """A sync between the two mends it, so the story must not ask for atomic writes."""
    disk = Disk({"page": b"1" * 1024, "flag": b"0"})
    disk.open("page").pwritev([b"2" * 1024], 0)
    disk.open("flag").pwritev([b"1"], 0)

    def whole(_, outcome):
        flag, page = outcome
        return [Violation("A", "mixed")] if flag == b"1" and len(page) == 2 else []

    files = {"page": b"1" * 1024, "flag": b"0"}
    found = explain(files, disk.trace, flag_and_page, whole, CrashPoint(2))
    assert found.sentence == (
        f"the write at {found.lost.site} (page) must be durable before the write at"
        f" {found.kept.site} (flag); only bytes 0 to 512 of it may have arrived"
    )


def test_a_strip_has_one_character_for_each_crash_point():
    points = [(False, True)] * 4 + [(True, True)] * 2 + [(False, False), (True, False)]
    assert strip(points) == ["....XX?X"]
    assert strip(points, width=5) == ["....X", "X?X"]
    assert strip([]) == []


def test_changes_are_told_by_the_names_of_fields():
    spans = [Span(0, 4, "magic"), Span(4, 8, "txid"), Span(8, 40, "data")]
    good = b"BOLT" + (7).to_bytes(4, "little") + b"x" * 32
    bad = b"BOLT" + (6).to_bytes(4, "little") + b"x" * 20
    found = list(changes(good, bad, spans))
    assert [one.place for one in found] == ["txid", "data"]
    assert str(found[0]) == "txid at 4: 7 -> 6"
    assert found[1].found == b"x" * 20 + bytes(12)
    assert not list(changes(good, good, spans))


def under_a_new_name(disk, directory=""):
    file = disk.open(f"{directory}new", create=True)
    file.pwritev([b"1"], 0)
    file.fsync()
    disk.rename(f"{directory}new", f"{directory}now")


def cause_of_a_loss(disk, name, model=None):
    """What explains that after a crash at the end there is no such file."""
    disk.mark("acked")
    return explain(
        {},
        disk.trace,
        lambda crashed: crashed.exists(name),
        lambda marks, found: [Violation("P", "lost")] if marks and not found else [],
        CrashPoint(len(disk.trace.operations())),
        model=model,
    )


@pytest.mark.parametrize("entries", ["prefix", "free"])
def test_a_file_whose_first_name_is_lost_can_have_been_renamed(entries):
    """It was a KeyError: the rename did not find the name that it replaces."""
    disk = Disk()
    under_a_new_name(disk)
    found = cause_of_a_loss(disk, "now", CrashModel(entries=entries))
    # Where names keep their order, all of them are lost with the first.
    assert found.lost.op == {"prefix": "create", "free": "rename"}[entries]
    assert found.sentence.endswith("must be durable before the promise acked")


def test_a_directory_that_no_sync_covers_is_what_is_missing():
    disk = Disk()
    disk.mkdir("d")
    disk.open("d/x", create=True)
    found = cause_of_a_loss(disk, "d/x")
    assert found.lost.op == "mkdir"


@pytest.mark.parametrize("entries", ["prefix", "free"])
def test_what_is_synced_with_other_names_depends_on_the_model(entries):
    """`entries=free` orders nothing: the sync of d is none of the directory of d."""
    disk = Disk()
    disk.mkdir("d")
    under_a_new_name(disk, "d/")
    disk.fsync_dir("d/now")
    found = cause_of_a_loss(disk, "d/now", CrashModel(entries=entries))
    assert (found and found.lost.op) == {"prefix": None, "free": "mkdir"}[entries]


def test_no_reason_is_looked_for_where_the_files_are_very_large(monkeypatch):
    """Each disk that is tried is made in full: a database of a gigabyte is not."""

    class Large(Toy):
        def prepare(self, program):
            return {"/large": bytes(1 << 20), **super().prepare(program)}

    subject, model = Large(), CrashModel()
    with subject.mutant("no-sync"):
        experiment = Experiment(subject, subject.generate(0), model, cap=100)
        finding = next(one for one in experiment.sweep() if one.point is not None)
        assert "must be durable before" in experiment.reason(finding)
        monkeypatch.setattr("tornpage.run.experiment._REASONED_BYTES", 1 << 20)
        assert experiment.reason(finding) == ""


@pytest.mark.parametrize(
    ("model", "before"),
    [
        ("entries=free", "the create"),
        ("entries=prefix", "the promise acked"),
        ("order=ordered,entries=free", "the promise acked"),
    ],
)
def test_no_order_is_missed_that_the_model_keeps(model, before):
    """`b` without `a` breaks the promise as well, where it can be."""
    disk = Disk()
    for name in "abc":
        disk.open(name, create=True)
    disk.mark("acked")
    found = explain(
        {},
        disk.trace,
        lambda crashed: tuple(map(crashed.exists, "ab")),
        lambda marks, seen: (
            [Violation("P", "lost")]
            if seen == (False, True) or (marks and not all(seen))
            else []
        ),
        CrashPoint(3),
        model=CrashModel.parse(model),
    )
    assert found.lost_index == 0
    assert f"must be durable before {before}" in found.sentence


@pytest.mark.parametrize(
    ("model", "before"),
    [
        ("order=any", "the write"),
        ("order=append", "the promise acked"),
        ("size=with-data", "the promise acked"),
    ],
)
def test_no_order_of_appends_is_missed_that_the_model_keeps(model, before):
    """The second block without the first breaks the promise, where it can be."""
    disk = Disk({"f": b""}, CrashModel.parse(model))
    file = disk.open("f")
    for at, letter in enumerate((b"A", b"B", b"C")):
        file.pwritev([letter * 512], 512 * at)
    disk.mark("acked")

    def recover(crashed):
        content = crashed.open("f", read_only=True).pread(1024, 0)
        return content[:1] == b"A", content[512:513] == b"B"

    found = explain(
        {"f": b""},
        disk.trace,
        recover,
        lambda marks, seen: (
            [Violation("P", "lost")]
            if seen == (False, True) or (marks and not all(seen))
            else []
        ),
        CrashPoint(3),
        model=CrashModel.parse(model),
    )
    assert found.lost_index == 0
    assert f"must be durable before {before}" in found.sentence


def everything(crashed):
    return {
        name: crashed.open(name, read_only=True).pread(1 << 20, 0)
        for name in NAMES
        if crashed.exists(name)
    }


# In these a hole, a durable size, bytes behind one, and its order make a difference. In
# the last three a write may be lost and a later one torn.
TELLING = (54, 264, 806, 640, 0, 23, 127)


def close_together(seed, model):
    """(files, trace): writes, cuts and failing syncs in three sectors of one file."""
    draw = random.Random(seed)
    files = {"a": b"\x01" * draw.choice((0, 5, 520)), "d/": b""}
    disk = Disk(files, model)
    disk.fail_sync = lambda *_: errno.EIO if draw.random() < 0.4 else 0
    file, name = disk.open("a"), "a"
    for step in range(draw.choice((4, 6))):
        what = draw.random()
        with contextlib.suppress(OSError):
            if what < 0.6:
                at = draw.choice((0, 3, 500, 512, 1100))
                file.pwritev([bytes([10 + step]) * draw.choice((1, 4, 530))], at)
            elif what < 0.75:
                file.ftruncate(draw.choice((0, 2, 600)))
            elif what < 0.9:
                file.fsync()
            elif name == "a":
                name = "d/c"
                disk.rename("a", name)
                disk.fsync_dir(name)
    return files, disk.trace


def legal(files, model, operations):
    """What a crash may leave behind these; None when it is too much."""
    platter = Platter(Device(dict(files)), model)
    for one in operations:
        platter.apply(one)
    try:
        images = [*platter.images(2_000)]
    except TooManyImages:
        return None
    return [
        {name: each[name] for name in NAMES if name in each}
        for one in images
        for each in [one.files | {a: one.files[b] for a, b in one.links}]
    ]


@pytest.mark.seeds(1)
def test_no_disk_is_given_as_a_reason_that_the_model_does_not_have(seed, monkeypatch):
    """Torn inside a sector, or as long as no write made it: such were told once."""
    right = reason._Search._disk
    made = []

    def noted(self, done, lost, torn):
        disk = right(self, done, lost, torn)
        made.append((len(done), lost, torn, everything(disk)))
        return disk

    monkeypatch.setattr(reason._Search, "_disk", noted)
    # A lie makes more operations pending than one sync leaves, see `rebuilt`.
    models = [one for one in DRAWN if not one.lies]
    losses, cuts, sizes, both = 0, 0, 0, 0
    for at in (*TELLING, *range(seed * 30, (seed + 1) * 30)):
        model = models[at % len(models)]
        files, trace = close_together(at, model)
        operations = trace.operations()
        made.clear()
        point = CrashPoint(len(operations))
        explain(files, trace, lambda _: None, lambda *_: [], point, model=model)
        # The same for all disks that are told of so many operations.
        all_legal = {done: legal(files, model, operations[:done]) for done, *_ in made}
        for done, lost, torn, found in made:
            if all_legal[done] is None:
                continue
            assert found in all_legal[done], (at, str(model), lost, torn)
            losses += lost is not None and torn is None
            cuts += torn is not None
            sizes += torn is not None and not torn[1].behind
            both += lost is not None and torn is not None
    assert min(losses, cuts, sizes, both) > 3


def test_a_file_that_has_its_size_and_not_its_bytes_is_told_so():
    """It was: only bytes 0 to 1 of it may arrive. No disk in question has that."""
    disk = Disk({"now": b"old"})
    file = disk.open("new", create=True)
    file.pwritev([b"new"], 0)
    disk.rename("new", "now")

    def look(crashed):
        return crashed.open("now", read_only=True).pread(9, 0)

    def whole(_, seen):
        # Nothing at all is taken for a store that is new.
        return [] if seen in {b"old", b"new", b""} else [Violation("A", "damaged")]

    found = explain({"now": b"old"}, disk.trace, look, whole, CrashPoint(3))
    assert found.torn == (0, 0)
    assert (found.lost_index, found.kept_index) == (1, 2)
    assert found.sentence == (
        f"the write at {found.lost.site} (new) must be durable before "
        f"the rename at {found.kept.site} (now); "
        "the file may have its new size without these bytes"
    )


def test_a_head_of_which_only_a_field_arrives_is_told_so():
    """Its name is there, its number is not: the cuts that were tried left that out."""
    model = CrashModel(tear="byte")
    disk = Disk({"f": b""}, model)
    disk.open("f").pwritev([b"HEAD\1\1\1\1" + b"x" * 600], 0)

    def torn(_, seen):
        return [Violation("A", "no number")] if seen == b"HEAD\0\0\0\0" else []

    def look(crashed):
        return crashed.open("f", read_only=True).pread(8, 0)

    found = explain({"f": b""}, disk.trace, look, torn, CrashPoint(1), model=model)
    assert found.torn == (0, 4)


@pytest.mark.parametrize("promising", [False, True])
def test_what_recovery_breaks_before_the_program_began_takes_no_crash(promising):
    """Nothing was said in short; of a promise made too early nothing is said still."""

    def running(disk, work, ack):
        if promising:
            ack("a")
        disk.open("/x", create=True)

    def recovering(disk):
        if not promising:
            raise ValueError("never")

    subject = subject_from(
        "S",
        run=running,
        recover=recovering,
        check=lambda acked, in_flight, seen: "lost" if acked else None,
        work=["a"],
    )
    [found] = run(subject, Plan(spec=spec_of(subject), programs=1)).violations
    assert ("In short: it takes no crash" in found.story) == (not promising)
