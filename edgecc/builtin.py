"""The passes, presets and importers that come with edgecc, registered like any other plugin's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.importers.base import Importer
    from edgecc.passes.base import Pass
    from edgecc.presets import Preset


@hookimpl
def edgecc_importers() -> list[type[Importer]]:
    from edgecc.importers.onnx import OnnxImporter

    return [OnnxImporter]


@hookimpl
def edgecc_passes() -> list[type[Pass]]:
    from edgecc.passes.convert_float16 import ConvertFloat16
    from edgecc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
    from edgecc.passes.eliminate_expand import EliminateExpand
    from edgecc.passes.eliminate_identity import EliminateIdentity
    from edgecc.passes.eliminate_nan_guard import EliminateNanGuard
    from edgecc.passes.eliminate_neutral_arithmetic import EliminateNeutralArithmetic
    from edgecc.passes.eliminate_quantization_pairs import EliminateQuantizationPairs
    from edgecc.passes.eliminate_sequences import EliminateSequences
    from edgecc.passes.eliminate_slice_concat import EliminateSliceConcat
    from edgecc.passes.eliminate_zero_states import EliminateZeroStates
    from edgecc.passes.expand_functions import ExpandFunctions
    from edgecc.passes.expand_qoperators import ExpandQOperators
    from edgecc.passes.fold_batchnorm import FoldBatchNorm
    from edgecc.passes.fold_distant_scale import FoldDistantScale
    from edgecc.passes.fold_leading_affine import FoldLeadingAffine
    from edgecc.passes.fuse_attention import FuseAttention
    from edgecc.passes.fuse_clip import FuseClip
    from edgecc.passes.fuse_consecutive_linear import FuseConsecutiveLinear
    from edgecc.passes.fuse_gelu import FuseGelu
    from edgecc.passes.fuse_global_average_pool import FuseGlobalAveragePool
    from edgecc.passes.fuse_group_normalization import FuseGroupNormalization
    from edgecc.passes.fuse_hard_sigmoid import FuseHardSigmoid
    from edgecc.passes.fuse_hard_swish import FuseHardSwish
    from edgecc.passes.fuse_instance_normalization import FuseInstanceNormalization
    from edgecc.passes.fuse_layer_normalization import FuseLayerNormalization
    from edgecc.passes.fuse_matmul_add import FuseMatMulAdd
    from edgecc.passes.fuse_mish import FuseMish
    from edgecc.passes.fuse_pad import FusePad
    from edgecc.passes.fuse_reshape_gemm import FuseReshapeGemm
    from edgecc.passes.fuse_rms_normalization import FuseRMSNormalization
    from edgecc.passes.fuse_sigmoid import FuseSigmoid
    from edgecc.passes.fuse_softmax import FuseSoftmax
    from edgecc.passes.fuse_softplus import FuseSoftplus
    from edgecc.passes.merge_casts import MergeCasts
    from edgecc.passes.merge_constant_arithmetic import MergeConstantArithmetic
    from edgecc.passes.merge_keepdims import MergeKeepdims
    from edgecc.passes.merge_reshapes import MergeReshapes
    from edgecc.passes.merge_slices import MergeSlices
    from edgecc.passes.merge_transposes import MergeTransposes
    from edgecc.passes.quantize_static import QuantizeStatic

    return [
        ConvertFloat16,
        EliminateCommonSubexpressions,
        EliminateExpand,
        EliminateIdentity,
        EliminateNanGuard,
        EliminateNeutralArithmetic,
        EliminateQuantizationPairs,
        EliminateSequences,
        EliminateSliceConcat,
        EliminateZeroStates,
        ExpandFunctions,
        ExpandQOperators,
        FoldBatchNorm,
        FoldDistantScale,
        FoldLeadingAffine,
        FuseAttention,
        FuseClip,
        FuseConsecutiveLinear,
        FuseGelu,
        FuseGlobalAveragePool,
        FuseGroupNormalization,
        FuseHardSigmoid,
        FuseHardSwish,
        FuseInstanceNormalization,
        FuseLayerNormalization,
        FuseMatMulAdd,
        FuseMish,
        FusePad,
        FuseRMSNormalization,
        FuseReshapeGemm,
        FuseSigmoid,
        FuseSoftmax,
        FuseSoftplus,
        MergeCasts,
        MergeConstantArithmetic,
        MergeKeepdims,
        MergeReshapes,
        MergeSlices,
        MergeTransposes,
        QuantizeStatic,
    ]


@hookimpl
def edgecc_presets() -> list[Preset]:
    from edgecc.presets import BUILTIN

    return list(BUILTIN)
