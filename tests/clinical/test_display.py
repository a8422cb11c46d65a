"""Numbers for people: percent, times, prices."""

from __future__ import annotations

import pytest

from epidural_dx.clinical.display import dollars, duration, percent, rounded_percent


@pytest.mark.parametrize(
    ("hours", "words"),
    [(1 / 12, "5 min"), (0.5, "30 min"), (0.98, "1 h"), (1.41, "1.4 h"), (38.2, "38 h")],
)
def test_times_below_an_hour_are_minutes(hours: float, words: str) -> None:
    """Nobody has to work out what 0.0833 hours are."""
    assert duration(hours) == words


@pytest.mark.parametrize(
    ("price", "words"), [(3.6, "3.6 USD"), (4.0, "4 USD"), (76.2, "76 USD"), (32000, "32,000 USD")]
)
def test_prices_have_one_form(price: float, words: str) -> None:
    """One decimal below ten dollars, none above."""
    assert dollars(price) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "<0.1 %"), (0.0012, "0.1 %"), (0.088, "8.8 %"), (0.7, "70 %"), (0.9999, ">99.9 %")],
)
def test_nothing_possible_is_shown_as_certain(share: float, words: str) -> None:
    """Probabilities end at <0.1 % and >99.9 %; the sign stands apart from its number."""
    assert percent(share) == words


def test_whole_percent_do_not_round_a_chance_to_nothing() -> None:
    """A small share is under 1 %, none is 0 %."""
    assert [rounded_percent(p) for p in (0.0, 0.004, 0.36)] == ["0 %", "under 1 %", "36 %"]
