"""The passes, presets and importers that come with edgecc, registered like any other plugin's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl
from edgecc.passes.entry import PassEntry

if TYPE_CHECKING:
    from edgecc.importers.base import Importer
    from edgecc.presets import Preset


#: Every pass, by name.
_PASSES = (
    PassEntry("convert-float16", "edgecc.passes.convert_float16:ConvertFloat16"),
    PassEntry("correct-bias", "edgecc.passes.correct_bias:CorrectBias"),
    PassEntry(
        "eliminate-common-subexpressions", "edgecc.passes.eliminate_common_subexpressions:EliminateCommonSubexpressions"
    ),
    PassEntry("eliminate-expand", "edgecc.passes.eliminate_expand:EliminateExpand", needs="Expand Tile"),
    PassEntry("eliminate-identity", "edgecc.passes.eliminate_identity:EliminateIdentity"),
    PassEntry("eliminate-nan-guard", "edgecc.passes.eliminate_nan_guard:EliminateNanGuard", needs="IsNaN"),
    PassEntry(
        "eliminate-neutral-arithmetic",
        "edgecc.passes.eliminate_neutral_arithmetic:EliminateNeutralArithmetic",
        needs="Add Sub",
    ),
    PassEntry(
        "eliminate-quantization-pairs",
        "edgecc.passes.eliminate_quantization_pairs:EliminateQuantizationPairs",
        needs="QuantizeLinear",
    ),
    PassEntry(
        "eliminate-sequences",
        "edgecc.passes.eliminate_sequences:EliminateSequences",
        needs="SequenceConstruct SplitToSequence",
    ),
    PassEntry(
        "eliminate-slice-concat",
        "edgecc.passes.eliminate_slice_concat:EliminateSliceConcat",
        needs="Concat Slice Split Gather",
    ),
    PassEntry("eliminate-zero-states", "edgecc.passes.eliminate_zero_states:EliminateZeroStates", needs="GRU LSTM RNN"),
    PassEntry("equalize-layers", "edgecc.passes.equalize_layers:EqualizeLayers"),
    PassEntry("expand-functions", "edgecc.passes.expand_functions:ExpandFunctions"),
    PassEntry("expand-qoperators", "edgecc.passes.expand_qoperators:ExpandQOperators"),
    PassEntry("factorize-low-rank", "edgecc.passes.factorize_low_rank:FactorizeLowRank"),
    PassEntry(
        "fold-batchnorm", "edgecc.passes.fold_batchnorm:FoldBatchNorm", needs="BatchNormalization Mul Div Add Sub"
    ),
    PassEntry("fold-distant-scale", "edgecc.passes.fold_distant_scale:FoldDistantScale", needs="Mul Div"),
    PassEntry(
        "fold-leading-affine",
        "edgecc.passes.fold_leading_affine:FoldLeadingAffine",
        needs="BatchNormalization Mul Div Add Sub",
    ),
    PassEntry("fuse-attention", "edgecc.passes.fuse_attention:FuseAttention", needs="Softmax"),
    PassEntry("fuse-clip", "edgecc.passes.fuse_clip:FuseClip", needs="Relu Clip Max Min Where"),
    PassEntry(
        "fuse-consecutive-linear",
        "edgecc.passes.fuse_consecutive_linear:FuseConsecutiveLinear",
        needs="Conv Gemm MatMul",
    ),
    PassEntry("fuse-gelu", "edgecc.passes.fuse_gelu:FuseGelu", needs="Erf Tanh"),
    PassEntry(
        "fuse-global-average-pool", "edgecc.passes.fuse_global_average_pool:FuseGlobalAveragePool", needs="ReduceMean"
    ),
    PassEntry(
        "fuse-group-normalization",
        "edgecc.passes.fuse_group_normalization:FuseGroupNormalization",
        needs="GroupNormalization InstanceNormalization",
    ),
    PassEntry("fuse-hard-sigmoid", "edgecc.passes.fuse_hard_sigmoid:FuseHardSigmoid", needs="Clip Min Max Relu"),
    PassEntry("fuse-hard-swish", "edgecc.passes.fuse_hard_swish:FuseHardSwish", needs="Clip HardSigmoid Max Min"),
    PassEntry(
        "fuse-instance-normalization",
        "edgecc.passes.fuse_instance_normalization:FuseInstanceNormalization",
        needs="InstanceNormalization Pow Sqrt",
    ),
    PassEntry(
        "fuse-layer-normalization",
        "edgecc.passes.fuse_layer_normalization:FuseLayerNormalization",
        needs="LayerNormalization Pow Sqrt",
    ),
    PassEntry("fuse-matmul-add", "edgecc.passes.fuse_matmul_add:FuseMatMulAdd", needs="MatMul Gemm"),
    PassEntry("fuse-mish", "edgecc.passes.fuse_mish:FuseMish", needs="Tanh"),
    PassEntry("fuse-pad", "edgecc.passes.fuse_pad:FusePad", needs="Pad"),
    PassEntry("fuse-reshape-gemm", "edgecc.passes.fuse_reshape_gemm:FuseReshapeGemm", needs="Gemm MatMul"),
    PassEntry(
        "fuse-rms-normalization",
        "edgecc.passes.fuse_rms_normalization:FuseRMSNormalization",
        needs="RMSNormalization Pow Sqrt",
    ),
    PassEntry("fuse-sigmoid", "edgecc.passes.fuse_sigmoid:FuseSigmoid", needs="Exp"),
    PassEntry("fuse-softmax", "edgecc.passes.fuse_softmax:FuseSoftmax", needs="Exp Log ReduceLogSumExp"),
    PassEntry("fuse-softplus", "edgecc.passes.fuse_softplus:FuseSoftplus", needs="Log Abs Equal Where"),
    PassEntry("merge-casts", "edgecc.passes.merge_casts:MergeCasts", needs="Cast"),
    PassEntry(
        "merge-constant-arithmetic",
        "edgecc.passes.merge_constant_arithmetic:MergeConstantArithmetic",
        needs="Mul Div Add Sub Neg",
    ),
    PassEntry(
        "merge-keepdims",
        "edgecc.passes.merge_keepdims:MergeKeepdims",
        needs="ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
        "ReduceSumSquare ArgMax ArgMin",
    ),
    PassEntry(
        "merge-reshapes", "edgecc.passes.merge_reshapes:MergeReshapes", needs="Flatten Reshape Squeeze Unsqueeze"
    ),
    PassEntry("merge-slices", "edgecc.passes.merge_slices:MergeSlices", needs="Slice Gather"),
    PassEntry("merge-transposes", "edgecc.passes.merge_transposes:MergeTransposes", needs="Transpose"),
    PassEntry("mixed-precision", "edgecc.passes.mixed_precision:MixedPrecision"),
    PassEntry("prune-channels", "edgecc.passes.prune_channels:PruneChannels"),
    PassEntry("prune-heads", "edgecc.passes.prune_heads:PruneHeads"),
    PassEntry("prune-layers", "edgecc.passes.prune_layers:PruneLayers"),
    PassEntry("prune-weights", "edgecc.passes.prune_weights:PruneWeights"),
    PassEntry("quantize-dynamic", "edgecc.passes.quantize_dynamic:QuantizeDynamic"),
    PassEntry("quantize-static", "edgecc.passes.quantize_static:QuantizeStatic"),
    PassEntry("quantize-weights", "edgecc.passes.quantize_weights:QuantizeWeights"),
    PassEntry("round-weights", "edgecc.passes.round_weights:RoundWeights"),
    PassEntry("smooth-activations", "edgecc.passes.smooth_activations:SmoothActivations"),
)


@hookimpl
def edgecc_importers() -> list[type[Importer]]:
    from edgecc.importers.onnx import OnnxImporter

    return [OnnxImporter]


@hookimpl
def edgecc_passes() -> list[PassEntry]:
    return list(_PASSES)


@hookimpl
def edgecc_presets() -> list[Preset]:
    from edgecc.presets import BUILTIN

    return list(BUILTIN)
