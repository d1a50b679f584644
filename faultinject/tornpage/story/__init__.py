"""A broken promise, told so that it can be understood without the tool at hand.

    chapter   the story: program, disk, crash, what was promised and what was found
    timeline  the disk's operations around the crash
    wording   one dishonest choice of the disk in words
    reason    the one order that the code fails to enforce
    rebuilt   a platter that has everything but one operation, to find that
    cause     the same failure in few words, to tell failures apart by
    deeds     operations by their numbers, with names for people

`tornpage.run.report` has it told when a promise is broken.
"""

from tornpage.story.chapter import Chapter, tell
from tornpage.story.reason import Cause, explain

__all__ = ["Cause", "Chapter", "explain", "tell"]
