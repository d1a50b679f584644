"""What a crash may leave it may leave later, too, until a sync works.

The power may go before an operation reaches the drive. So no operation takes an image
away but a sync that works, and one that fails and takes back what it did not write.
Brute force is asked for the images before and after each operation.
"""

import dataclasses
import itertools

import pytest
from explorer_cases import random_run
from test_size_with_data import program

from tornpage.model import CrashModel
from tornpage.platter.brute import Device, Platter, TooManyImages
from tornpage.trace import Sync, SyncDir

MODELS = [
    CrashModel(order=order, size=size, extend=extend, fail=fail, unit=unit)
    for order, size, extend, fail, unit in itertools.product(
        ("any", "append", "ordered"),
        ("free", "with-data"),
        ("garbage", "zero"),
        ("clean", "late", "unwritten"),
        ("none", "4096"),
    )
    if order != "ordered" or fail != "unwritten"
]
_IMAGES = 400


def images(platter):
    """Every image, without directories: those that a path names have been there."""
    return {
        (
            tuple(one for one in sorted(image.files.items()) if one[0][-1] != "/"),
            image.links,
        )
        for image in platter.images(_IMAGES)
    }


def may_take_away(record):
    return isinstance(record, Sync | SyncDir) and record.result in {"ok", "reverted"}


@pytest.mark.seeds(1)
def test_no_operation_but_a_sync_takes_an_image_away(seed):
    compared = 0
    for number in range(seed * 150, (seed + 1) * 150):
        model = MODELS[number * 5 % len(MODELS)]
        if number % 2:
            model = dataclasses.replace(model, journal="shared")
        if number % 3:
            files, trace = program(number, model, failing=0.3)
        else:
            files, trace = random_run(number, model, 7, failing=0.4)
        platter = Platter(Device(files), model)
        try:
            before = images(platter)
            for record in trace.operations():
                platter.apply(record)
                after = images(platter)
                if not may_take_away(record):
                    assert before <= after, (number, str(model), record)
                    compared += 1
                before = after
        except TooManyImages:
            continue
    assert compared > 300
