"""Something at each place in the engine where a signal handler or a finalizer can run.

CPython looks for signals where it lets other threads go on (`tornpage.threads.places`),
so that `with lock:` cannot be cut in two. The collector of cycles runs there, too (and,
before 3.12, where an object is made, which is a call in all but name).
"""

import os
import sys
import threading

import shearbolt
from tornpage.threads.places import Places

ENGINE = os.path.dirname(shearbolt.__file__)


class Interrupts:
    """Runs something at given places of the engine: KeyboardInterrupt, if nothing else.

    In the thread that enters it.

    Args:
        places: How many places come before each.
        call: What happens there; it is not traced itself.
        code: How the names of the files begin whose places count.
    """

    def __init__(self, places, call=None, code=(ENGINE,)):
        self.places = list(places)
        self.count = 0
        self._call = call
        self._thread = threading.get_ident()
        self._places = Places(code)
        self._places.call = self._place

    def __enter__(self):
        self._places.__enter__()
        self._places.follow()
        self._trace = sys.gettrace()
        if self._trace is not None:
            sys.setprofile(self._called)
        return self

    def __exit__(self, *error):
        # In this order: the other call is seen by the profile function.
        sys.setprofile(None)
        self._places.__exit__(*error)

    def _called(self, _frame, _event, _value):
        # A trace function that raises is taken away.
        if sys.gettrace() is None and self.places:
            sys.settrace(self._trace)

    def _place(self):
        if threading.get_ident() != self._thread:
            return
        self.count += 1
        if self.places and self.count > self.places[0]:
            self.places.pop(0)
            if self._call is None:
                raise KeyboardInterrupt
            self._call()
