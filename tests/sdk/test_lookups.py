"""Which indices an input may hold: from the graph and from the interpreter alike."""

from __future__ import annotations

import numpy as np

from edgeloop.graph.litert import make_options
from edgeloop.lookups import index_ranges
from edgeloop.runtime import open_session
from edgeloop.runtime.plan import Node
from edgeloop_converters.calibration import input_infos
from support.tiny_models import TinyBuilder


def test_the_table_behind_casts_and_reshapes_says_what_an_input_takes() -> None:
    build = TinyBuilder(0)
    ids = build.input("ids", (1, 6), "int32")
    flat = build.op("RESHAPE", [ids, build.constant("to", np.array([6], np.int32))], (6,))
    build.sub.tensors[flat].dtype = "int32"
    rows = build.op("GATHER", [build.weights("table", (20, 4)), flat], (6, 4), make_options("GatherOptions", axis=0))
    model = build.finish(build.op("RELU", [rows], (6, 4))).write()
    assert [info.index_range for info in input_infos(model)] == [(0, 19)]
    with open_session(model) as session:
        assert [info.index_range for info in session.inputs] == [(0, 19)]


def test_the_smallest_of_several_tables_counts_and_computed_indices_do_not() -> None:
    shapes = {0: (1, 3), 1: (9, 4), 2: (5, 4), 3: (1, 3, 4), 4: (1, 3, 4), 5: (1, 3), 6: (2, 4), 7: (1, 3, 4)}
    steps = [
        Node("GATHER", (1, 0), (3,)),
        Node("EMBEDDING_LOOKUP", (0, 2), (4,)),
        Node("MINIMUM", (0, 0), (5,)),
        Node("GATHER", (6, 5), (7,)),
    ]
    assert index_ranges([0], steps, shapes.__getitem__) == {0: (0, 4)}
    assert index_ranges([0], steps[2:], shapes.__getitem__) == {}


def test_negative_indices_count_from_the_end_where_the_model_wraps_them() -> None:
    shapes = {0: (1, 3), 1: (20, 4), 2: (), 3: (), 4: (1, 3), 5: (1, 3), 6: (1, 3), 7: (1, 3, 4)}
    steps = [
        Node("LESS", (0, 2), (4,)),
        Node("ADD", (0, 3), (5,)),
        Node("SELECT", (4, 5, 0), (6,)),
        Node("GATHER", (1, 6), (7,)),
    ]
    assert index_ranges([0], steps, shapes.__getitem__) == {0: (-20, 19)}
