"""Threads that are waited for, and whose failures are those of the test."""

import threading


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
