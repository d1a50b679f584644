"""What a subject may say beyond what it must: defaults, and what means nothing."""

import pytest
from toy_store import Toy

from tornpage import Extras, SubjectError
from tornpage.command import main
from tornpage.extras import extras_of
from tornpage.registry import load

WRONG = [
    ("default_model", None),
    ("default_model", 3),
    ("default_programs", 0),
    ("default_programs", True),
    ("default_programs", "ten"),
    ("default_crashes", 0),
    ("default_crashes", 10),
    ("default_crashes", True),
    ("default_crashes", "2"),
    ("returns_within", 0),
    ("returns_within", -1.0),
    ("returns_within", float("nan")),
    ("returns_within", "60"),
    ("returns_within", True),
    ("returns_within", float("inf")),
    ("returns_within", 1e10),
    ("returns_within", 10**400),
    ("packages", "mystore"),
    ("packages", (1,)),
    ("packages", None),
    ("recovers_alike", 1),
    ("features", {"a"}),
    ("sometimes", "split"),
]


def test_a_subject_that_says_nothing_has_the_defaults():
    assert extras_of(object()) == Extras()


def test_what_it_says_is_taken():
    class Talkative(Toy):
        default_model = "tear=page"
        default_programs = 3
        default_crashes = 2
        returns_within = None
        packages = ["a", "b"]  # noqa: RUF012
        recovers_alike = True
        sometimes = frozenset({"split"})

        def features(self, history):
            return {str(history)}

    subject = Talkative()
    said = extras_of(subject)
    assert said.features is not None
    assert said.features(1) == {"1"}
    assert said == Extras(
        "tear=page", 3, None, ("a", "b"), True, subject.features, ("split",), 2
    )


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_that_means_nothing_is_refused_by_name(name, value, monkeypatch):
    monkeypatch.setattr(Toy, name, value, raising=False)
    with pytest.raises(SubjectError, match=f"the subject's {name} is .*has to be"):
        extras_of(Toy())
    with pytest.raises(SubjectError, match=rf"toy_store:Toy.*{name}"):
        load("toy_store:Toy")


def test_the_command_and_the_fixture_say_so(monkeypatch, capsys, tornpage):
    monkeypatch.setattr(Toy, "returns_within", "long", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["run", "toy_store:Toy"])
    assert ended.value.code == 2
    assert "returns_within is 'long'; it has to be a number" in capsys.readouterr().err
    with pytest.raises(SubjectError, match="returns_within"):
        tornpage.check(Toy())
