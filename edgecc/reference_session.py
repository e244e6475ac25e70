"""ONNX Runtime as the reference: a session that computes what the graph says, node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort


def reference_session(
    proto: onnx.ModelProto, *, prepacking: bool = True, deterministic: bool = False, threads: int = 0
) -> ort.InferenceSession:
    """Load a model without graph optimizations and without log lines.

    Args:
        proto: the model; raises whatever ONNX Runtime raises, whose errors share no base class beside Exception.
        prepacking: whether kernels may pack weights, which may sum them in another order.
        deterministic: whether only kernels may be taken that give the same bits every time.
        threads: that one operator may use; all that there are if 0.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.use_deterministic_compute = deterministic
    options.intra_op_num_threads = threads
    # Threads would wait busily after a run too, and take time from whoever looks at what it gave.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not prepacking:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
