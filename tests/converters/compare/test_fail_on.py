"""`--fail-on`: strict, and never true by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import UsageError
from edgeloop_converters.compare.fail_on import QUANTITIES, Pair, check_terms, parse_fail_on

MEASURED = {
    "size": Pair(1000, 1200),
    "xz": Pair(900, None),
    "ops": Pair(16, 20),
    "unmapped": Pair(0, 2),
    "latency": Pair(2.0, 2.2),
    "drop": Pair(step=0.004),
    "agreement": Pair(step=0.975),
}


def failed(text: str) -> list[str]:
    return [o.reason for o in check_terms(parse_fail_on(text), MEASURED) if o.failed]


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("size>1.1x", True),
        ("size>1.2x", False),
        ("size>=1.2x", True),
        ("size > 1.1 kB", True),
        ("size>2KiB", False),
        ("ops>1.25x", False),
        ("ops>19", True),
        ("unmapped>0", True),
        ("latency>1.2x", False),
        ("latency>2.1ms", True),
        ("drop>0.5pt", False),
        ("drop>0.3pt", True),
        ("drop>0.003", True),
        ("agreement<0.98", True),
        ("agreement<97%", False),
        ("agreement<=0.975", True),
    ],
)  # fmt: skip
def test_a_term_fails_where_it_holds(text: str, fails: bool) -> None:
    assert bool(failed(text)) is fails


def test_reasons_carry_the_term_and_the_number() -> None:
    assert failed("size>1.1x, drop>0.3pt,agreement<0.98,latency>2.1ms") == [
        "size>1.1x: size is 1.2x",
        "drop>0.3pt: drop is 0.40 pt",
        "agreement<0.98: agreement is 97.50%",
        "latency>2.1ms: latency is 2.2 ms",
    ]


def test_what_could_not_be_measured_fails() -> None:
    assert failed("xz>1.1x") == ["xz>1.1x: could not be measured"]
    assert check_terms(parse_fail_on("size>2x"), {})[0].failed


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "speed>1x", "size", "size>", "size>1.1x,", ",size>1x", "size=1", "size<1x", "agreement>0.9", "drop>1",
        "drop>0.5", "drop>0.5x", "agreement<2", "size>1.1pt", "latency>3s", "size>-1", "size>1e9", "unmapped>1x",
        "size>1.1x;drop>1pt", "SIZE>1x", "size>1.1 x x", "agreement<98",
    ],
)  # fmt: skip
def test_anything_else_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fail_on(text)
    assert caught.value.hint


def test_every_quantity_parses_as_its_own_example() -> None:
    for name, quantity in QUANTITIES.items():
        (term,) = parse_fail_on(quantity.example)
        assert term.quantity == name


@given(st.text(alphabet="sizedropagreementlatency<>=.,0123456789xptmskB% ", max_size=30))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        terms = parse_fail_on(text)
    except UsageError:
        return
    assert all(t.quantity in QUANTITIES and t.value >= 0 for t in terms)
