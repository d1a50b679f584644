"""The report of docs/other-stores.md, as Markdown: `python -m ci.other_stores`.

A table of every question under every model, and one story of each row that is violated,
told under the kindest of the models in which there is one.

Exit status: 0 when every question was answered, whatever the answer; 1 otherwise.
"""

from __future__ import annotations

import logging
import sys

from ci.other_stores import made_with, questions
from ci.other_stores.question import MODELS, answer


def main() -> int:
    """Print the report."""
    # Stores tell of every damaged file that they meet, and what could not be made of
    # one complains again when it goes.
    logging.disable()
    sys.unraisablehook = lambda _: None
    rows, stories, answered = [], [], True
    for question in questions():
        cells, story = [], ""
        for model in MODELS:
            certificate = answer(question, model)
            answered = answered and certificate.verdict != "unverifiable"
            cells.append(certificate.verdict)
            for violation in certificate.violations:
                # Told under the kindest model: it needs the least of a disk.
                head, _, _ = violation.story.partition("\nReplay")
                story = f"Under `{model}`:\n\n```\n{head.rstrip()}\n```"
        if story:
            stories.append(f"### {question.store}: {question.text}\n\n{story}")
        rows.append(f"| {question.store} | {question.text} | {' | '.join(cells)} |")
    print(made_with())
    print()
    print(f"| store | question | {' | '.join(f'`{one}`' for one in MODELS)} |")
    print("|---|---" + "|---" * len(MODELS) + "|")
    print("\n".join(rows))
    for one in stories:
        print(f"\n{one}")
    return 0 if answered else 1


if __name__ == "__main__":
    sys.exit(main())
