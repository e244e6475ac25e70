# ruff: noqa: E501 - one model to a line
"""Small models of old opsets, one for each way in which an operator changed on the way to the internal one."""

from __future__ import annotations

import numpy as np
import onnx

#: Name to opset, and the body of a graph in onnx's textual format.
SAMPLES: dict[str, tuple[int, str]] = {
    "batchnorm-7": (
        7,
        "(float[2,3,4,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4,4] y) { y = BatchNormalization<epsilon=0.01>(x,s,b,m,v) }",
    ),
    "batchnorm-8": (
        8,
        "(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y) { y = BatchNormalization<spatial=1,momentum=0.5>(x,s,b,m,v) }",
    ),
    "batchnorm-9": (
        9,
        "(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y) { y = BatchNormalization(x,s,b,m,v) }",
    ),
    "batchnorm-14-training": (
        14,
        "(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y, float[3] rm, float[3] rv) { y, rm, rv = BatchNormalization<training_mode=1>(x,s,b,m,v) }",
    ),
    "clip-7-both": (7, "(float[3,4] x) => (float[3,4] y) { y = Clip<min=-0.5,max=0.5>(x) }"),
    "clip-7-max": (7, "(float[3,4] x) => (float[3,4] y) { y = Clip<max=0.25>(x) }"),
    "clip-7-none": (7, "(float[3,4] x) => (float[3,4] y) { y = Clip(x) }"),
    "clip-10-after-unknown-type": (10, "(float[3,4] x) => (float[3,4] y) { t = Relu(x) y = Clip<min=0.1>(t) }"),
    "clip-11-int": (12, "(int32[3,4] x, int32 a) => (int32[3,4] y) { y = Clip(x, a) }"),
    "dft-17": (17, "(float[1,5,6,1] x) => (float[1,5,6,2] y) { y = DFT(x) }"),
    "dft-17-axis": (17, "(float[1,5,6,1] x) => (float[1,5,4,2] y) { y = DFT<axis=2,onesided=1>(x) }"),
    "dft-17-length": (17, "(float[1,5,6,1] x) => (float[1,8,6,2] y) <int64 n = {8}> { y = DFT<axis=1>(x, n) }"),
    "dropout-7": (7, "(float[3,4] x) => (float[3,4] y) { y = Dropout<ratio=0.3>(x) }"),
    "dropout-10-mask": (10, "(float[3,4] x) => (float[3,4] y) { y, m = Dropout(x) }"),
    "dropout-12": (12, "(float[3,4] x) => (float[3,4] y) <float r = {0.4}> { y = Dropout(x, r) }"),
    "gemm-9": (9, "(float[3,4] x, float[4,2] w, float[2] b) => (float[3,2] y) { y = Gemm<alpha=0.5>(x,w,b) }"),
    "gridsample-16-bilinear": (
        16,
        '(float[1,2,4,4] x, float[1,3,3,2] g) => (float[1,2,3,3] y) { y = GridSample<mode="bilinear",align_corners=1>(x, g) }',
    ),
    "gridsample-16-bicubic": (
        16,
        '(float[1,2,4,4] x, float[1,3,3,2] g) => (float[1,2,3,3] y) { y = GridSample<mode="bicubic",padding_mode="border">(x, g) }',
    ),
    "gridsample-16-nearest": (
        16,
        '(float[1,2,4,4] x, float[1,3,3,2] g) => (float[1,2,3,3] y) { y = GridSample<mode="nearest">(x, g) }',
    ),
    "gridsample-16-default": (
        16,
        "(float[1,2,4,4] x, float[1,3,3,2] g) => (float[1,2,3,3] y) { y = GridSample(x, g) }",
    ),
    "groupnorm-18": (
        18,
        "(float[2,6,4] x, float[3] s, float[3] b) => (float[2,6,4] y) { y = GroupNormalization<num_groups=3>(x,s,b) }",
    ),
    "groupnorm-18-open": (
        18,
        "(float[N,C,4] x, float[3] s, float[3] b) => (float[N,C,4] y) { y = GroupNormalization<num_groups=3>(x,s,b) }",
    ),
    "hardmax-11": (11, "(float[2,3,4] x) => (float[2,3,4] y) { y = Hardmax(x) }"),
    "if-10-softmax": (
        10,
        "(bool c, float[2,3,4] x) => (float[2,3,4] y) { y = If(c)<then_branch = t () => (float[2,3,4] p) { p = Softmax(x) }, else_branch = e () => (float[2,3,4] q) { s = Squeeze(x) q = Clip<max=0.1>(s) }> }",
    ),
    "logsoftmax-7": (7, "(float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax(x) }"),
    "logsoftmax-12-last": (12, "(float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax<axis=-1>(x) }"),
    "loop-11-unsqueeze": (
        11,
        "(int64 n, bool c, float[2] x) => (float[2] y, float[k,1,2] z) { y, z = Loop(n, c, x)<body = l (int64 i, bool a, float[2] s) => (bool b, float[2] r, float[1,2] u) { b = Identity(a) r = Add(s, x) u = Unsqueeze<axes=[0]>(r) }> }",
    ),
    "maxpool-7": (
        7,
        "(float[1,2,8,8] x) => (float[1,2,4,4] y) { y = MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,0,0]>(x) }",
    ),
    "averagepool-7": (
        7,
        '(float[1,2,8,8] x) => (float[1,2,4,4] y) { y = AveragePool<kernel_shape=[3,3],strides=[2,2],auto_pad="SAME_UPPER",count_include_pad=1>(x) }',
    ),
    "averagepool-10-ceil": (
        10,
        "(float[1,2,8,8] x) => (float[1,2,4,4] y) { y = AveragePool<kernel_shape=[3,3],strides=[2,2],ceil_mode=1>(x) }",
    ),
    "pad-7": (7, "(float[2,3] x) => (float[5,6] y) { y = Pad<pads=[1,2,2,1],value=1.5>(x) }"),
    "pad-10-zero": (10, "(float[2,3] x) => (float[3,4] y) { y = Pad<pads=[1,0,0,1]>(x) }"),
    "pad-10-reflect": (10, '(float[4,4] x) => (float[6,7] y) { y = Pad<mode="reflect",pads=[1,2,1,1]>(x) }'),
    "pad-10-edge-crop": (10, '(float[4,4] x) => (float[4,5] y) { y = Pad<mode="edge",pads=[1,2,-1,-1]>(x) }'),
    "pad-11": (11, "(float[2,3] x, int64[4] p, float v) => (float[a,b] y) { y = Pad(x, p, v) }"),
    "reducesum-7": (7, "(float[2,3,4] x) => (float[2,1,1] y) { y = ReduceSum<axes=[1,2]>(x) }"),
    "reducesum-11-negative": (11, "(float[2,3,4] x) => (float[2,3] y) { y = ReduceSum<axes=[-1],keepdims=0>(x) }"),
    "reducesum-12-all": (12, "(float[2,3,4] x) => (float y) { y = ReduceSum<keepdims=0>(x) }"),
    "reducemean-13": (13, "(float[2,3,4] x) => (float[2,1,4] y) { y = ReduceMean<axes=[1]>(x) }"),
    "reducemax-17": (17, "(float[2,3,4] x) => (float[2,4] y) { y = ReduceMax<axes=[-2],keepdims=0>(x) }"),
    "reducel2-7": (7, "(float[2,3,4] x) => (float[1,1,1] y) { y = ReduceL2(x) }"),
    "reducelogsumexp-11": (11, "(float[2,3,4] x) => (float[2,3,1] y) { y = ReduceLogSumExp<axes=[2]>(x) }"),
    "reshape-7-copies": (7, "(float[2,3,4] x) => (float[2,12] y) <int64[2] s = {0,-1}> { y = Reshape(x, s) }"),
    "resize-10-nearest": (
        10,
        "(float[1,1,3,4] x) => (float[1,1,6,12] y) <float[4] s = {1,1,2,3}> { y = Resize(x, s) }",
    ),
    "resize-10-nearest-fraction": (
        10,
        "(float[1,1,3,4] x) => (float[1,1,4,6] y) <float[4] s = {1,1,1.5,1.6}> { y = Resize(x, s) }",
    ),
    "resize-10-nearest-shrink": (
        10,
        "(float[1,1,5,8] x) => (float[1,1,3,4] y) <float[4] s = {1,1,0.6,0.6}> { y = Resize(x, s) }",
    ),
    "resize-10-nearest-mixed": (
        10,
        "(float[1,1,5,4] x) => (float[1,1,3,6] y) <float[4] s = {1,1,0.6,1.5}> { y = Resize(x, s) }",
    ),
    "resize-10-linear": (
        10,
        '(float[1,1,3,4] x) => (float[1,1,6,8] y) <float[4] s = {1,1,2,2}> { y = Resize<mode="linear">(x, s) }',
    ),
    "resize-10-linear-shrink": (
        10,
        '(float[1,1,4,8] x) => (float[1,1,2,4] y) <float[4] s = {1,1,0.5,0.6}> { y = Resize<mode="linear">(x, s) }',
    ),
    "resize-11-half-pixel": (
        11,
        '(float[1,1,3,4] x) => (float[1,1,6,8] y) <float[0] r = {}, float[4] s = {1,1,2,2}> { y = Resize<mode="linear">(x, r, s) }',
    ),
    "resize-11-sizes": (
        11,
        '(float[1,1,3,4] x) => (float[1,1,5,9] y) <float[0] r = {}, float[0] s = {}, int64[4] z = {1,1,5,9}> { y = Resize<mode="cubic",coordinate_transformation_mode="align_corners">(x, r, s, z) }',
    ),
    "resize-11-tf-half-pixel": (
        11,
        '(float[1,1,3,4] x) => (float[1,1,7,9] y) <float[0] r = {}, float[0] s = {}, int64[4] z = {1,1,7,9}> { y = Resize<coordinate_transformation_mode="tf_half_pixel_for_nn",nearest_mode="floor">(x, r, s, z) }',
    ),
    "resize-11-tf-half-pixel-shrink": (
        11,
        '(float[1,1,7,9] x) => (float[1,1,3,4] y) <float[0] r = {}, float[0] s = {}, int64[4] z = {1,1,3,4}> { y = Resize<coordinate_transformation_mode="tf_half_pixel_for_nn",nearest_mode="floor">(x, r, s, z) }',
    ),
    "resize-11-crop": (
        11,
        '(float[1,1,4,4] x) => (float[1,1,3,3] y) <float[8] r = {0,0,0.2,0.3,1,1,0.7,0.8}, float[0] s = {}, int64[4] z = {1,1,3,3}> { y = Resize<mode="linear",coordinate_transformation_mode="tf_crop_and_resize">(x, r, s, z) }',
    ),
    "resize-13-pytorch": (
        13,
        '(float[1,1,3,4] x) => (float[1,1,5,9] y) <int64[4] z = {1,1,5,9}> { y = Resize<mode="linear",coordinate_transformation_mode="pytorch_half_pixel">(x, , , z) }',
    ),
    "roialign-10": (
        10,
        "(float[1,1,8,8] x, float[2,4] r) => (float[2,1,3,3] y) <int64[2] i = {0,0}> { y = RoiAlign<output_height=3,output_width=3,sampling_ratio=2,spatial_scale=0.9>(x, r, i) }",
    ),
    "scan-9": (
        9,
        "(float[2] h, float[3,2] x) => (float[2] y, float[3,2] z) { y, z = Scan<num_scan_inputs=1,body = b (float[2] s, float[2] e) => (float[2] t, float[2] u) { t = Add(s, e) u = Clip<max=0.5>(t) }>(h, x) }",
    ),
    "scan-8": (
        8,
        "(float[1,2] h, float[1,3,2] x) => (float[1,2] y, float[1,3,2] z) { y, z = Scan<num_scan_inputs=1,body = b (float[2] s, float[2] e) => (float[2] t, float[2] u) { t = Add(s, e) u = Clip<max=0.5>(t) }>(, h, x) }",
    ),
    "scan-8-batch-reverse": (
        8,
        "(float[2,2] h, float[2,3,2] x) => (float[2,2] y, float[2,3,2] z) { y, z = Scan<num_scan_inputs=1,directions=[1],body = b (float[2] s, float[2] e) => (float[2] t, float[2] u) { t = Add(s, e) u = Relu(t) }>(, h, x) }",
    ),
    "scatter-9": (
        9,
        "(float[3,3] x, float[1,3] u) => (float[3,3] y) <int64[1,3] i = {0,2,1}> { y = Scatter<axis=0>(x, i, u) }",
    ),
    "slice-7": (7, "(float[4,5,6] x) => (float[2,5,4] y) { y = Slice<axes=[0,2],starts=[1,-5],ends=[3,-1]>(x) }"),
    "slice-9-all-axes": (9, "(float[4,5] x) => (float[3,4] y) { y = Slice<starts=[1,0],ends=[1000,-1]>(x) }"),
    "softmax-7": (7, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax(x) }"),
    "softmax-7-axis-0": (7, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=0>(x) }"),
    "softmax-12-negative": (12, "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=-2>(x) }"),
    "softmax-9-matrix": (9, "(float[N,4] x) => (float[N,4] y) { y = Softmax(x) }"),
    "softmax-9-image": (9, "(float[2,5,1,1] x) => (float[2,5,1,1] y) { y = Softmax(x) }"),
    "softmax-9-open": (9, "(float[a,b,c] x) => (float[a,b,c] y) { y = Softmax(x) }"),
    "split-7-equal": (7, "(float[4,6] x) => (float[4,3] y, float[4,3] z) { y, z = Split<axis=1>(x) }"),
    "split-11-sizes": (11, "(float[4,6] x) => (float[1,6] y, float[3,6] z) { y, z = Split<split=[1,3]>(x) }"),
    "split-13-equal": (13, "(float[4,6] x) => (float[2,6] y, float[2,6] z) { y, z = Split(x) }"),
    "squeeze-7": (7, "(float[1,3,1,4] x) => (float[3,1,4] y) { y = Squeeze<axes=[0]>(x) }"),
    "squeeze-11-all": (11, "(float[1,3,1,4] x) => (float[3,4] y) { y = Squeeze(x) }"),
    "topk-7": (7, "(float[3,6] x) => (float[3,2] y, int64[3,2] i) { y, i = TopK<k=2>(x) }"),
    "topk-9-axis": (9, "(float[3,6] x) => (float[2,6] y, int64[2,6] i) { y, i = TopK<k=2,axis=0>(x) }"),
    "topk-10": (10, "(float[3,6] x) => (float[3,2] y, int64[3,2] i) <int64[1] k = {2}> { y, i = TopK(x, k) }"),
    "unsqueeze-7": (7, "(float[3,4] x) => (float[1,3,4,1] y) { y = Unsqueeze<axes=[0,3]>(x) }"),
    "unsqueeze-11-negative": (11, "(float[3,4] x) => (float[3,1,4] y) { y = Unsqueeze<axes=[-2]>(x) }"),
    "upsample-7-nearest": (
        7,
        '(float[1,2,3,3] x) => (float[1,2,6,9] y) { y = Upsample<mode="nearest",scales=[1.0,1.0,2.0,3.0]>(x) }',
    ),
    "upsample-7-linear": (
        7,
        '(float[1,2,3,3] x) => (float[1,2,6,6] y) { y = Upsample<mode="linear",scales=[1.0,1.0,2.0,2.0]>(x) }',
    ),
    "upsample-9-nearest": (
        9,
        "(float[1,2,3,3] x) => (float[1,2,6,6] y) <float[4] s = {1,1,2,2}> { y = Upsample(x, s) }",
    ),
    "upsample-9-linear-fraction": (
        9,
        '(float[1,2,4,4] x) => (float[1,2,6,6] y) <float[4] s = {1,1,1.5,1.5}> { y = Upsample<mode="linear">(x, s) }',
    ),
    "lstm-7": (
        7,
        "(float[4,2,3] x, float[1,20,3] w, float[1,20,5] r) => (float[4,1,2,5] y, float[1,2,5] h, float[1,2,5] c) { y, h, c = LSTM<hidden_size=5>(x, w, r) }",
    ),
    "argmax-11": (11, "(float[3,4] x) => (int64[3] y) { y = ArgMax<axis=1,keepdims=0>(x) }"),
    "cast-7": (7, "(float[3,4] x) => (int32[3,4] y) { y = Cast<to=6>(x) }"),
    "quantize-10": (
        10,
        "(float[3,4] x) => (float[3,4] y) <float s = {0.1}, uint8 z = {128}> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
    ),
    "depthtospace-7": (7, "(float[1,8,2,2] x) => (float[1,2,4,4] y) { y = DepthToSpace<blocksize=2>(x) }"),
    "pow-7": (7, "(float[3,4] x) => (float[3,4] y) { z = Abs(x) y = Pow(z, x) }"),
}


def parse(opset: int, body: str) -> onnx.ModelProto:
    """A model of a sample, its nodes named."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {body}')
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}{index}"
    return model


def feeds_for(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for the model's inputs: variances and ratios are positive, open dimensions differ."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [d.dim_value or 6 for d in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype == np.float32:
            values = np.asarray(generator.standard_normal(shape), dtype)
            feeds[value.name] = np.asarray(np.abs(values) + 0.1, dtype) if value.name in ("v", "r") else values
        elif dtype == np.bool_:
            feeds[value.name] = np.ones(shape, dtype)
        else:
            feeds[value.name] = np.asarray(generator.integers(0, 3, shape), dtype)
    return feeds
