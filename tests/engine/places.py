"""Where, in the engine, a signal handler or a finalizer can run.

Behind a call, a jump backwards, the beginning of a function: CPython looks for signals
nowhere else, so that `with lock:` cannot be cut in two. The collector of cycles runs
there, too (and, before 3.12, where an object is made, which is a call in all but name).
"""

import dis
import os
import sys

import shearbolt

ENGINE = os.path.dirname(shearbolt.__file__)
SEEN_BEHIND = {
    "CALL",
    "CALL_FUNCTION_EX",
    "CALL_KW",
    "JUMP_BACKWARD",
    "POP_JUMP_BACKWARD_IF_FALSE",
    "POP_JUMP_BACKWARD_IF_TRUE",
    "POP_JUMP_BACKWARD_IF_NONE",
    "POP_JUMP_BACKWARD_IF_NOT_NONE",
    "RESUME",
}


class Interrupts:
    """Runs something at given places of the engine: KeyboardInterrupt, if nothing else.

    Args:
        places: How many places come before each.
        call: What happens there; it is not traced itself.
    """

    def __init__(self, places, call=None):
        self.places = list(places)
        self.count = 0
        self._call = call

    def __enter__(self):
        sys.setprofile(self._called)
        sys.settrace(self._entered)
        return self

    def __exit__(self, *_):
        # In this order: the other call is seen by the profile function.
        sys.setprofile(None)
        sys.settrace(None)

    def _called(self, _frame, _event, _value):
        # A trace function that raises is taken away.
        if sys.gettrace() is None and self.places:
            sys.settrace(self._entered)

    def _entered(self, frame, _event, _value):
        if not frame.f_code.co_filename.startswith(ENGINE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._follower()

    def _follower(self):
        """Traces one frame, without keeping it."""
        before = None

        def follow(frame, event, _value):
            nonlocal before
            if event == "opcode":
                seen = before in SEEN_BEHIND
                before = dis.opname[frame.f_code.co_code[frame.f_lasti]]
                self.count += seen
                if seen and self.places and self.count > self.places[0]:
                    self.places.pop(0)
                    if self._call is None:
                        raise KeyboardInterrupt
                    self._call()
            elif event == "exception":
                before = None
            return follow

        return follow
