"""A seeded sample of damaged guests; `make fuzz` has more."""

from __future__ import annotations

import guests


def test_no_damaged_guest_breaks_the_machine() -> None:
    for number in range(100):
        guests.case(guests.generator(1, number))
