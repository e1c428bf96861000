from __future__ import annotations

from edgeloop.runtime.plan import Node, claimed_ops, describe_run

CHAIN = (Node("A", (0, 10), (1,)), Node("B", (1,), (2,)), Node("C", (2, -1), (3,)), Node("D", (3,), (4,)))


def test_a_kernel_stands_for_the_ops_between_its_inputs_and_outputs() -> None:
    assert claimed_ops(CHAIN, [Node("DELEGATE", (1,), (3,))]) == {1, 2}


def test_constants_among_a_kernels_inputs_end_nothing_early() -> None:
    assert claimed_ops(CHAIN, [Node("DELEGATE", (10, 0), (2,))]) == {0, 1}


def test_an_op_between_two_kernels_is_not_counted() -> None:
    assert claimed_ops(CHAIN, [Node("DELEGATE", (0, 10), (1,)), Node("DELEGATE", (2,), (4,))]) == {0, 2, 3}


def test_both_branches_of_a_diamond_are_counted_once() -> None:
    diamond = (Node("A", (0,), (1,)), Node("B", (1,), (2,)), Node("C", (1,), (3,)), Node("ADD", (2, 3), (4,)))
    assert claimed_ops(diamond, [Node("DELEGATE", (0,), (4,))]) == {0, 1, 2, 3}


def test_an_output_that_several_branches_leave_by_is_traced_from_each() -> None:
    split = (Node("A", (0,), (1,)), Node("B", (1,), (2,)), Node("C", (1,), (3,)))
    assert claimed_ops(split, [Node("DELEGATE", (0,), (2, 3))]) == {0, 1, 2}


def test_what_ran_is_the_asked_delegate_only_when_it_took_ops() -> None:
    took = describe_run("edgetpu", "edgetpu", CHAIN, [Node("E", (1,), (3,))], [Node("X", (3,), (4,))], "rt")
    assert (took.ran, took.delegated_ops, took.total_ops, took.delegated_share) == ("edgetpu", 2, 4, 0.5)
    assert "xnnpack took 1 more" in took.note
    left = describe_run("edgetpu", "edgetpu", CHAIN, [], [Node("X", (0, 10), (4,))], "rt")
    assert (left.ran, left.delegated_ops) == ("xnnpack", 4)
    assert "edgetpu took none" in left.note
    none = describe_run("xnnpack", "xnnpack", CHAIN, [], [], "rt", ": no /sys")
    assert (none.ran, none.delegated_ops, none.delegated_share) == ("cpu", 0, 0.0)
    assert none.note == "xnnpack took none of the 4 ops: no /sys"
    plain = describe_run("cpu", "cpu", CHAIN, [], [], "rt")
    assert (plain.ran, plain.note) == ("cpu", "")
