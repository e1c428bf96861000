"""What is tried for which model, target and goals, and how trials are run: pure rules."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from edgeloop.bundle import Metrics
from edgeloop.errors import UsageError
from edgeloop.targets import load_target
from edgeloop_converters.goals import Goals
from edgeloop_converters.search import Look, Search, Trial, best, front, how_close
from edgeloop_converters.strategy import DEFAULT_AGREEMENT, DEFAULT_DROP, Facts, Strategy, decide
from edgeloop_converters.trials import is_clear_miss

FACTS = Facts(macs=12_500_000, layers=10, samples=40_000, has_labels=True, can_train=True, counts_arm=True)
RPI4, CORAL = load_target("rpi4"), load_target("coral-usb")
DROP = Goals(max_drop=0.01)


def decided(mode: str = "latency", goals: Goals = DROP, effort: str = "default", **facts: object) -> Strategy:
    return decide(mode, replace(FACTS, **facts), RPI4, goals, effort)  # type: ignore[arg-type]


def test_latency_goes_by_the_targets_instructions_and_its_tile() -> None:
    strategy = decided()
    assert strategy.prune.options == {"cost": "arm"}
    assert any("cortex-a72" in reason and "steps of 8" in reason for reason in strategy.reasons)
    assert [step.name for step in strategy.steps(0.7, True)] == ["prune", "distill"]
    assert strategy.steps(0.7, False)[0].options["goal"] == 0.7


def test_what_cannot_be_counted_is_not_claimed() -> None:
    assert decided(counts_arm=False).prune.options["cost"] == "macs"
    coral = decide("latency", FACTS, CORAL, DROP, "default")
    assert coral.prune.options["cost"] == "macs"
    assert any("Edge TPU" in reason for reason in coral.reasons)


def test_size_counts_bytes_and_takes_any_width() -> None:
    assert decided("size").prune.options == {"cost": "bytes", "tile": 1}


def test_shares_fall_and_stay_shares() -> None:
    for mode in ("balanced", "size", "latency"):
        shares = decided(mode).shares
        assert all(0 < b < a < 1 for a, b in pairwise(shares))


@pytest.mark.parametrize(
    ("facts", "effort", "says"),
    [
        ({"can_train": False}, "default", "TensorFlow is not here"),
        ({"samples": 120}, "default", "120 samples are few"),
        ({}, "fast", "--effort fast"),
    ],
)
def test_without_training_it_says_why(facts: dict[str, object], effort: str, says: str) -> None:
    strategy = decided(effort=effort, **facts)
    assert [step.name for step in strategy.steps(0.5, True)] == ["prune"]
    assert any(says in reason for reason in strategy.reasons)


@pytest.mark.parametrize(
    ("facts", "says"),
    [({"samples": 10}, "10 samples are too few"), ({"macs": 50_000}, "50,000"), ({"layers": 1}, "no inner channels")],
)
def test_a_model_that_is_left_as_it_is_says_why(facts: dict[str, object], says: str) -> None:
    strategy = decided(**facts)
    assert strategy.shares == ()
    assert any("left as it is" in reason and says in reason for reason in strategy.reasons)


def test_accuracy_keeps_the_size_and_trains_int8_where_it_can() -> None:
    strategy = decided("accuracy")
    assert (strategy.shares, [step.name for step in strategy.plain]) == ((), ["qat"])
    assert decided("accuracy", can_train=False).plain == ()


def test_a_graph_that_can_be_simplified_is_in_every_variant() -> None:
    strategy = decided(simplified="12 -> 9 ops (chains merged)")
    assert [step.name for step in strategy.plain] == ["optimize"]
    assert [step.name for step in strategy.steps(0.7, True)] == ["optimize", "prune", "distill"]
    assert any("12 -> 9 ops" in reason for reason in strategy.reasons)
    assert [step.name for step in decided("accuracy", simplified="x").plain] == ["optimize", "qat"]
    assert decided().plain == ()


def test_fast_looks_less_and_says_so() -> None:
    strategy = decided(effort="fast")
    assert strategy.prune.options == {"cost": "arm", "samples": 256, "pairs": False}
    assert any("256 samples" in reason for reason in strategy.reasons)


def seen(n: int, whole: float, this: float, agreement: float) -> Metrics:
    return Metrics("accuracy", whole, this, agreement, n)


def test_a_first_look_ends_only_with_a_clear_miss() -> None:
    assert is_clear_miss(DROP, seen(400, 0.9, 0.7, 0.75))
    assert not is_clear_miss(DROP, seen(400, 0.9, 0.875, 0.95)), "2.5 pt, and 2 standard errors are 2.2"
    assert not is_clear_miss(DROP, seen(400, 0.9, 0.89, 0.99))
    assert is_clear_miss(Goals(min_agreement=0.95), seen(400, 0.9, 0.9, 0.9))
    assert not is_clear_miss(Goals(min_agreement=0.95), seen(400, 0.9, 0.9, 0.94))
    assert not is_clear_miss(DROP, Metrics("accuracy", 0.9, 0.1, None, 400)), "nothing is known of how they differ"


def test_a_budget_that_was_not_set_is_said() -> None:
    with_labels, without = decided(goals=Goals()), decided(goals=Goals(), has_labels=False)
    assert with_labels.budget == Goals(max_drop=DEFAULT_DROP)
    assert without.budget == Goals(min_agreement=DEFAULT_AGREEMENT)
    assert all("none was set" in strategy.reasons[1] for strategy in (with_labels, without))


def test_an_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        decided("speed")
    assert "latency" in str(caught.value.hint)


def test_few_samples_are_learnt_from_more_often() -> None:
    assert decided(samples=240).after[0].options["epochs"] == 40
    assert decided().after[0].options["epochs"] == 3


def test_few_steps_are_small_ones() -> None:
    assert decided(samples=900).after[0].options["rate"] < decided(effort="best").after[0].options["rate"]
    assert "samples" not in decided(samples=900).after[0].options


def test_the_first_reason_is_what_it_stands_on() -> None:
    assert decided(minutes=5.0).reasons[0] == (
        "classification; 12.5 million multiply-accumulates and 0 weights in 10 layers; 40,000 samples with labels to "
        "learn from, 5 minutes"
    )


def test_a_goal_on_bytes_is_searched_for_and_part_of_the_budget() -> None:
    strategy = decided("balanced", Goals(max_drop=0.01, max_bytes=30_000))
    assert strategy.budget.max_bytes == 30_000
    assert strategy.shares[-1] < decided("balanced").shares[-1]


def test_an_emulated_device_counts_and_a_board_decides() -> None:
    assert any("cortex-a76, emulated" in reason for reason in decided(device="emulated:cortex-a76").reasons)
    assert any("their latency on ssh://pi" in reason for reason in decided(device="ssh://pi").reasons)


Seen = dict[tuple[float, bool], float]


def trials_where(
    accuracy: Seen, shares: tuple[float, ...] = (0.8, 0.6, 0.4), budget: Goals = DROP, **how: object
) -> tuple[Trial[tuple[float, bool]], ...]:
    """accuracy: by share and whether it was trained; others cannot be made."""
    said: list[str] = []

    def look(made: tuple[float, bool]) -> Look:
        return Look(Metrics("accuracy", 0.9, accuracy[made], accuracy[made], 100), int(1000 * made[0]), made[0])

    def make(share: float, trained: bool) -> tuple[float, bool] | None:
        return (share, trained) if (share, trained) in accuracy else None

    trains = any(trained for _, trained in accuracy)
    return Search(budget, make, look, said.append, **how).run(shares, trains=trains)  # type: ignore[arg-type]


def test_trials_end_at_the_first_that_misses_and_look_halfway() -> None:
    trials = trials_where({(0.8, False): 0.9, (0.6, False): 0.85, (0.7, False): 0.895})
    assert [t.share for t in trials] == [0.8, 0.6, 0.7]
    found = best(trials)
    assert found is not None and found.share == 0.7


def test_all_within_the_budget_ends_with_the_smallest() -> None:
    found = best(trials_where({(0.8, False): 0.9, (0.6, False): 0.9, (0.4, False): 0.9}))
    assert found is not None and found.share == 0.4


def test_training_begins_where_refitting_alone_misses() -> None:
    trials = trials_where({(0.8, False): 0.9, (0.6, False): 0.8, (0.6, True): 0.9, (0.4, True): 0.89})
    assert [t.made for t in trials] == [(0.8, False), (0.6, False), (0.6, True), (0.4, True)]


def test_what_is_chosen_is_trained_and_the_better_one_stays() -> None:
    trials = trials_where({(0.8, False): 0.895, (0.8, True): 0.899}, shares=(0.8,))
    found = best(trials)
    assert found is not None and found.made == (0.8, True)
    found = best(trials_where({(0.8, False): 0.899, (0.8, True): 0.895}, shares=(0.8,)))
    assert found is not None and found.made == (0.8, False)


def test_none_within_the_budget_says_how_close_it_came() -> None:
    trials = trials_where({(0.8, False): 0.86, (0.9, False): 0.88})
    assert best(trials) is None
    assert "2.00 pt" in how_close(trials)
    assert "no smaller model could be made" in how_close(())
    assert "more --minutes" in how_close((), out_of_time=True)


def test_too_large_is_no_reason_to_stop_and_is_said() -> None:
    seen: Seen = {(0.8, False): 0.9, (0.6, False): 0.9, (0.4, False): 0.9}
    trials = trials_where(seen, budget=Goals(max_drop=0.01, max_bytes=500))
    assert [bool(t.too_large) for t in trials] == [True, True, False]
    trials = trials_where(seen, budget=Goals(max_drop=0.01, max_bytes=100))
    assert best(trials) is None
    assert "400 bytes, more than 100" in how_close(trials)


def test_a_share_that_cannot_be_reached_ends_the_search() -> None:
    assert [t.share for t in trials_where({(0.8, False): 0.9, (0.7, False): 0.9})] == [0.8, 0.7]


def test_no_trial_is_begun_when_the_time_is_up() -> None:
    left = iter([10.0, -1.0])
    trials = trials_where({(0.8, False): 0.9, (0.6, False): 0.9}, time_left=lambda: next(left))
    assert [t.share for t in trials] == [0.8]


def test_the_front_has_what_no_other_beats() -> None:
    trials = trials_where({(0.8, False): 0.895, (0.6, False): 0.9, (0.4, False): 0.8, (0.5, False): 0.9})
    assert [t.share for t in front(trials)] == [0.5, 0.4]
