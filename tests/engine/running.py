"""Threads that are waited for, and whose failures are those of the test."""

import threading
import time


def run_threads(calls):
    failures = []

    def guarded(call):
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - reported below.
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failures == []


def eventually(holds, seconds=20):
    """Whether something is so before long."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.001)
    return holds()
