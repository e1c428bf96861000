"""Schemes that ai-edge-quantizer packs by itself."""

from __future__ import annotations

from typing import Any

from edgeloop.graph import Graph
from edgeloop_converters.aeq import Configure, pack, static
from edgeloop_converters.op_versions import set_int8_versions
from edgeloop_converters.quantization import check_no_loops, quantize_int8
from edgeloop_converters.schemes.job import Job
from edgeloop_converters.schemes.table import SCHEMES
from edgeloop_converters.schemes.verify import Made, verified


def int8(job: Job) -> Made:
    assert job.ranges is not None
    return quantize_int8(job.model, job.ranges, fully_connected_per_tensor=job.per_tensor_dense, progress=job.progress)


def int8_per_tensor(job: Job) -> Made:
    return _made("int8-per-tensor", job, static(per_tensor=True))


def a16w8(job: Job) -> Made:
    return _made("a16w8", job, static(8, 16))


def dynamic(job: Job) -> Made:
    def rules(packer: Any) -> None:
        packer.add_dynamic_config(".*", _all_ops(), num_bits=8)

    return _made("dynamic", job, rules)


def weight_only(job: Job) -> Made:
    def rules(packer: Any) -> None:
        packer.add_weight_only_config(".*", _all_ops(), num_bits=8)

    return _made("weight-only", job, rules)


def fp16(job: Job) -> Made:
    def rules(packer: Any) -> None:
        from ai_edge_quantizer import qtyping, recipe

        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        how = qtyping.OpQuantizationConfig(
            weight_tensor_config=weights,
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        packer.update_quantization_recipe(".*", _all_ops(), how, algorithm_key=recipe.AlgorithmName.FLOAT_CASTING)

    return _made("fp16", job, rules)


def _made(name: str, job: Job, rules: Configure) -> Made:
    scheme = SCHEMES[name]
    if scheme.calibrated:
        check_no_loops(Graph.read(job.model))
    with job.progress.step(f"quantizing, {name}"):
        graph = Graph.read(pack(job.model, job.ranges if scheme.calibrated else None, rules))
        set_int8_versions(graph)
        return verified(graph.write(), scheme)


def _all_ops() -> Any:
    from ai_edge_quantizer import qtyping

    return qtyping.TFLOperationName.ALL_SUPPORTED
