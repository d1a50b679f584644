"""The tree of what recovery asked: nothing is lost in it, nothing is made up."""

import random

from tornpage.explore.turns import End, Straight, Turn

QUESTIONS = [
    ("size", 1),
    ("ask", 1, len),
    *(("pread", 1, at, at + 9) for at in range(9)),
]


def walked(turn: Turn | End | None, answers: list[object]) -> list[object]:
    """The questions on the way of these answers, and the outcome or None."""
    asked: list[object] = []
    for answer in answers:
        assert isinstance(turn, Turn)
        asked.append(turn.question)
        turn = turn.after(answer)
    return [*asked, turn.outcome if isinstance(turn, End) else turn]


def test_steps_are_the_same_whether_they_were_made_into_turns_or_not() -> None:
    steps = [(question, at) for at, question in enumerate(QUESTIONS)]
    for cut in range(1, len(steps)):
        last = Straight.before(steps, cut + 1, len(steps), End("outcome"))
        behind = Turn(steps[cut][0])
        behind.goes_on(cut, last)
        root = Turn(steps[0][0])
        root.goes_on(0, Straight.before(steps, 1, cut, behind))
        for _ in range(2):
            answers = list(range(len(steps)))
            assert walked(root, answers) == [*QUESTIONS, "outcome"]


def test_every_answer_leads_where_it_was_hung_and_no_other_anywhere() -> None:
    draw = random.Random(5)
    for _ in range(50):
        ways = {
            tuple(draw.randrange(3) for _ in QUESTIONS): draw.random() for _ in range(8)
        }
        root = Turn(QUESTIONS[0])
        for answers, outcome in ways.items():
            turn, at = root, 0
            while isinstance(below := turn.after(answers[at]), Turn):
                turn, at = below, at + 1
            steps = list(zip(QUESTIONS, answers, strict=True))
            turn.goes_on(
                answers[at], Straight.before(steps, at + 1, len(steps), End(outcome))
            )
        for answers, outcome in ways.items():
            assert walked(root, list(answers)) == [*QUESTIONS, outcome]
        for _ in range(50):
            answers = tuple(draw.randrange(3) for _ in QUESTIONS)
            if answers in ways:
                continue
            turn = root
            for answer in answers:
                if not isinstance(turn, Turn):
                    break
                turn = turn.after(answer)
            assert turn is None
