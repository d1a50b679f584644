"""What a policy asks for is what is done; what means nothing is refused by name."""

from __future__ import annotations

import pytest
from gating import policy as policies
from gating.lanes import Gate, read_corpus
from gating.policy import PolicyError, read_policy
from tests.ci.small_gates import ROOT, a_policy


def written(folder, text):
    path = folder / "pyproject.toml"
    path.write_text(text)
    return str(path)


def test_a_tier_overrides_the_table_and_the_command_line_both(tmp_path):
    path = written(
        tmp_path,
        "[tool.tornpage.gate]\nsubject='s'\nprograms=5\nseed=3\n"
        "[tool.tornpage.gate.pr]\nprograms=7\n",
    )
    policy = read_policy(path, "pr", changes={"seed": 9})
    assert (policy.subject, policy.programs, policy.seed) == ("s", 7, 9)
    assert read_policy(path, "nightly").programs == 5
    assert read_policy(path, "nightly").fill


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("kill_rat = 1.0", "no key 'kill_rat'"),
        ("kill_rate = 2.0", "share"),
        ("programs = '5'", "of type int"),
        ("fill = 1", "of type bool"),
        ("models = 'ext4-o'", "list of texts"),
        ("models = ['ext5']", "ext5"),
        ("seconds = 0", "more than 0"),
        ("workers = 99999", "at most"),
        ("programs = -1", "programs is negative"),
        ("model_programs = -1", "model_programs is negative"),
        ("database_programs = -1", "database_programs is negative"),
        ("planted_programs = -1", "planted_programs is negative"),
        ("failures = -1", "failures is negative"),
        ("unit_seconds = 0", "unit_seconds is 0.0; give more than 0"),
        ("planted_seconds = 0", "planted_seconds is 0.0; give more than 0"),
        ("cap = 0", "cap is 0; give more than 0"),
        ("kill_rate = nan", "share"),
        ("seed = ", r"pyproject\.toml: Invalid"),
        ("root = '/'", "no key 'root'"),
    ],
)
def test_a_wrong_key_is_refused_by_name(tmp_path, line, said):
    path = written(tmp_path, f"[tool.tornpage.gate]\nsubject='s'\n{line}\n")
    with pytest.raises(PolicyError, match=said):
        read_policy(path, "pr")


def test_a_gate_that_is_no_table_is_refused(tmp_path):
    path = written(tmp_path, "[tool.tornpage]\ngate = 'mystore:Subject'\n")
    with pytest.raises(PolicyError, match="is not a table"):
        read_policy(path, "pr", subject="s")


def test_no_subject_and_no_such_tier_say_what_to_do(tmp_path):
    path = written(tmp_path, "[tool.other]\n")
    with pytest.raises(PolicyError, match="--subject"):
        read_policy(path, "pr")
    with pytest.raises(PolicyError, match="nightly, pr"):
        read_policy(path, "hourly", subject="s")


def test_every_key_of_a_policy_is_documented():
    text = (ROOT / "docs" / "gate.md").read_text()
    names = set(policies.Policy.__slots__) - {"tier", "root"}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_a_corpus_runs_first_and_a_damaged_one_is_refused(here, tmp_path):
    (tmp_path / "one.json").write_text('{"program": [["put", "a", "v"], ["commit"]]}')
    result = Gate(a_policy(corpus=(str(tmp_path),))).run()
    assert [lane.name for lane in result.lanes] == ["corpus", "programs"]
    assert result.lanes[0].certificate.coverage.programs == 1
    (tmp_path / "two.json").write_text("[]")
    with pytest.raises(PolicyError, match=r"two\.json"):
        read_corpus([str(tmp_path)])
