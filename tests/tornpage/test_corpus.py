"""The corpus: minimal, never going back, whole after a kill."""

import dataclasses
import json
import os
import random

import pytest

from tornpage.certificate import Certificate
from tornpage.certificate.record import Scope
from tornpage.fuzz import Corpus, CorpusError
from tornpage.fuzz.corpus import BLOCK, default_folder
from tornpage.run import Plan
from tornpage.run.fingerprint import program_id

PLAN = Plan(spec="toy_store:Toy", programs=1)


def offered(draw, corpus, count):
    """Random programs with random features; returns what was offered."""
    programs = []
    for number in range(count):
        size = draw.randint(1, 6)
        features = frozenset(draw.sample("abcdefgh", draw.randint(1, 5)))
        programs.append(([number] * size, size, features))
    for program in programs:
        corpus.offer(*program)
    return programs


def test_no_feature_is_lost_and_no_program_can_be_left_out():
    for seed in range(40):
        corpus = Corpus(None, PLAN)
        programs = offered(random.Random(seed), corpus, 30)
        corpus.minimise()
        everything = {one for _, _, features in programs for one in features}
        kept = [entry.features for entry in corpus.programs()]
        assert set().union(*kept) == everything == corpus.features, seed
        for at in range(len(kept)):
            assert set().union(*kept[:at], *kept[at + 1 :]) != everything, seed


@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_does_not_depend_on_who_was_first(seed):
    draw = random.Random(seed)
    programs = offered(draw, Corpus(None, PLAN), 20)
    kept = []
    for _ in range(3):
        draw.shuffle(programs)
        corpus = Corpus(None, PLAN)
        for program in programs:
            corpus.offer(*program)
        kept.append([entry.name for entry in corpus.programs()])
    assert kept[0] == kept[1] == kept[2]


def test_a_smaller_program_takes_the_place_of_a_larger_one(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        assert corpus.offer([1, 2, 3], 3, frozenset("ab"))
        assert not corpus.offer([4], 1, frozenset("ab"))
        assert [entry.program for entry in corpus.programs()] == [[4]]
    assert os.listdir(tmp_path / "programs") == [f"{program_id([4])}.json"]


def test_what_is_kept_is_there_next_time(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.offer([1], 1, frozenset("a"))
        corpus.offer([2], 1, frozenset("b"))
    with Corpus(str(tmp_path), PLAN) as corpus:
        assert sorted(entry.program for entry in corpus.kept) == [[1], [2]]


def test_a_program_that_shows_nothing_any_more_goes(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.offer([1, 1], 2, frozenset("a"))
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.offer([9], 1, frozenset("a"))
        corpus.offer([1, 1], 2, frozenset("a"))
        assert [entry.program for entry in corpus.programs()] == [[9]]


def test_seeds_are_never_given_out_twice_even_when_a_run_is_killed(tmp_path):
    seen = []
    for _ in range(3):
        corpus = Corpus(str(tmp_path), PLAN)
        seen += [corpus.next_seed() for _ in range(5)]
        # Killed: neither finish nor anything else, the lock goes with the process.
        corpus.close()
    assert len(seen) == len(set(seen)) == 15
    assert max(seen) < 3 * BLOCK


def test_no_file_of_a_corpus_can_be_executed(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.offer([1], 1, frozenset("a"))
        corpus.finish()
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert tmp_path / "lock" in files
    assert [each for each in files if each.stat().st_mode & 0o111] == []


def test_a_run_that_ends_gives_back_what_it_did_not_use(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.next_seed()
        corpus.finish()
    with Corpus(str(tmp_path), PLAN) as corpus:
        assert corpus.next_seed() == 1
        corpus.finish()
        # What is given out behind the end counts as well.
        assert corpus.next_seed() == 2
    with Corpus(str(tmp_path), PLAN) as corpus:
        assert corpus.next_seed() > 2


def test_two_runs_at_once_are_refused(tmp_path):
    with (
        Corpus(str(tmp_path), PLAN),
        pytest.raises(CorpusError, match="Another run uses"),
    ):
        Corpus(str(tmp_path), PLAN)
    Corpus(str(tmp_path), PLAN).close()


def test_a_corpus_of_something_else_is_refused(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.next_seed()
    other = Plan(spec="toy_store:Toy", programs=1, mutant="no-sync")
    with pytest.raises(CorpusError, match="with the planted bug no-sync"):
        Corpus(str(tmp_path), other)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"subject": "toy_store:Toy"}'])
def test_a_damaged_position_is_refused_and_not_started_over(tmp_path, text):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.next_seed()
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(CorpusError):
        Corpus(str(tmp_path), PLAN)


def test_a_program_under_a_wrong_name_is_refused(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.offer([1], 1, frozenset("a"))
    (path,) = (tmp_path / "programs").iterdir()
    record = json.loads(path.read_text())
    path.write_text(json.dumps(dict(record, program=[2])))
    with pytest.raises(CorpusError, match="damaged"):
        Corpus(str(tmp_path), PLAN)


def test_of_two_that_can_be_left_out_for_each_other_the_larger_one_goes():
    corpus = Corpus(None, PLAN)
    for program, features in (([2] * 2, "f"), ([3] * 3, "fg"), ([4] * 4, "gh")):
        corpus.offer(program, len(program), frozenset(features))
    corpus.minimise()
    left = sorted(entry.program for entry in corpus.programs())
    assert left == [[2] * 2, [4] * 4]


def test_one_new_feature_among_known_ones_is_news():
    corpus = Corpus(None, PLAN)
    assert corpus.offer([1], 1, frozenset("a"))
    assert corpus.offer([2, 2], 2, frozenset("ab"))
    assert not corpus.offer([3, 3, 3], 3, frozenset("ab"))


def test_what_a_killed_run_left_half_written_is_no_program(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.offer([1], 1, frozenset("a"))
    (path,) = (tmp_path / "programs").iterdir()
    path.with_name(f"{path.name}.4711.new").write_text('{"program"')
    with Corpus(str(tmp_path), PLAN) as corpus:
        assert [entry.program for entry in corpus.kept] == [[1]]


def test_a_folder_that_was_refused_can_be_used_when_it_is_mended(tmp_path):
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.next_seed()
    state = (tmp_path / "state.json").read_text()
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(CorpusError, match="damaged"):
        Corpus(str(tmp_path), PLAN)
    (tmp_path / "state.json").write_text(state)
    Corpus(str(tmp_path), PLAN).close()


def test_a_corpus_of_another_database_is_refused(tmp_path):
    one, other = (dataclasses.replace(PLAN, database_digest=2 * c) for c in "ab")
    with Corpus(str(tmp_path), one) as corpus:
        corpus.next_seed()
    for plan in (other, PLAN):
        with pytest.raises(CorpusError, match=r"is of .* on database aa, not of"):
            Corpus(str(tmp_path), plan)
    Corpus(str(tmp_path), one).close()


def test_bugs_and_databases_have_folders_of_their_own():
    folders = {
        default_folder(dataclasses.replace(PLAN, mutant=mutant, database_digest=digest))
        for mutant in (None, "no-sync")
        for digest in (None, "a" * 64, "b" * 64)
    }
    assert len(folders) == 6
    assert {os.path.dirname(one) for one in folders} == {".tornpage/corpus"}


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}'])
def test_a_damaged_certificate_is_not_resumed(tmp_path, text):
    with Corpus(str(tmp_path), PLAN) as corpus:
        (tmp_path / "certificate.json").write_text(text)
        with pytest.raises(CorpusError, match=r"certificate\.json"):
            corpus.resumable(Scope(subject="toy_store:Toy", model="m"))


def test_a_certificate_of_other_code_is_not_resumed(tmp_path):
    scope = Scope(subject="toy_store:Toy", model="m", code="a" * 64)
    with Corpus(str(tmp_path), PLAN) as corpus:
        corpus.save(Certificate(scope))
        assert corpus.resumable(scope) == Certificate(scope)
        other = Scope(subject="toy_store:Toy", model="m", code="b" * 64)
        with pytest.raises(CorpusError, match="differ in code"):
            corpus.resumable(other)
