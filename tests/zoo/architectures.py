"""Well-known architectures, true in structure, narrow and small so that tests are fast.

Width, image size and depth are parameters: `mobilenet_v2(width=1.0, size=224, classes=1000)` is the real 14 MB model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from .builder import GraphBuilder


def scaled(channels: int, width: float) -> int:
    """A multiple of eight near `channels * width`, at least eight, as the MobileNet papers do it."""
    return max(8, int(channels * width + 4) // 8 * 8)


def mobilenet_v1(width: float = 0.25, size: int = 32, classes: int = 10) -> onnx.ModelProto:
    g = GraphBuilder(1, 3, size, size)
    x = g.conv_bn(g.input, scaled(32, width), stride=2)
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for channels, stride in blocks:
        x = g.conv_bn(g.depthwise(x, stride=stride), scaled(channels, width), 1)
    return g.classify(x, classes)


def mobilenet_v2(width: float = 0.25, size: int = 32, classes: int = 10) -> onnx.ModelProto:
    g = GraphBuilder(1, 3, size, size)
    x = g.conv_bn(g.input, scaled(32, width), stride=2, act="Relu6")
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, channels, repeats, stride in stages:
        for index in range(repeats):
            shortcut, inner = x, g.channels[x] * expansion
            if expansion > 1:
                x = g.conv_bn(x, inner, 1, act="Relu6")
            x = g.depthwise(x, stride=stride if index == 0 else 1, act="Relu6")
            x = g.conv_bn(x, scaled(channels, width), 1, act="")
            if index > 0:
                x = g.op("Add", shortcut, x)
    return g.classify(g.conv_bn(x, 1280 if width >= 1 else scaled(1280, width), 1, act="Relu6"), classes)


def mobilenet_v3_small(width: float = 0.5, size: int = 32, classes: int = 10) -> onnx.ModelProto:
    """Squeeze-and-excitation with hard sigmoid, hard swish, 5x5 depthwise kernels."""
    g = GraphBuilder(1, 3, size, size)
    x = g.conv_bn(g.input, scaled(16, width), stride=2, act="HardSwish")
    # kernel, expanded channels, channels, squeeze-excite, activation, stride
    relu, swish = "Relu", "HardSwish"
    blocks = [(3, 16, 16, True, relu, 2), (3, 72, 24, False, relu, 2), (3, 88, 24, False, relu, 1)]
    blocks += [(5, 96, 40, True, swish, 2), *[(5, 240, 40, True, swish, 1)] * 2, (5, 120, 48, True, swish, 1)]
    blocks += [(5, 144, 48, True, swish, 1), (5, 288, 96, True, swish, 2), *[(5, 576, 96, True, swish, 1)] * 2]
    for kernel, expanded, channels, excite, act, stride in blocks:
        shortcut, inner = x, scaled(expanded, width)
        if inner != g.channels[x]:
            x = g.conv_bn(x, inner, 1, act=act)
        x = g.depthwise(x, kernel, stride=stride, act=act)
        if excite:
            x = g.squeeze_excite(x, scaled(inner // 4, 1), gate="HardSigmoid")
        x = g.conv_bn(x, scaled(channels, width), 1, act="")
        if stride == 1 and g.channels[x] == g.channels[shortcut]:
            x = g.op("Add", shortcut, x)
    x = g.op("Flatten", g.op("GlobalAveragePool", g.conv_bn(x, scaled(576, width), 1, act=swish)), axis=1)
    return g.model(g.linear(g.linear(x, scaled(1024, width), act=swish), classes))


def resnet18(width: float = 0.25, size: int = 32, classes: int = 10) -> onnx.ModelProto:
    g = GraphBuilder(1, 3, size, size)
    x = g.max_pool(g.conv_bn(g.input, scaled(64, width), 7, stride=2))
    for stage, channels in enumerate((64, 128, 256, 512)):
        for index in range(2):
            stride = 2 if stage > 0 and index == 0 else 1
            shortcut = x if stride == 1 else g.conv_bn(x, scaled(channels, width), 1, stride=stride, act="")
            x = g.conv_bn(x, scaled(channels, width), stride=stride)
            x = g.op("Relu", g.op("Add", g.conv_bn(x, scaled(channels, width), act=""), shortcut))
    return g.classify(x, classes)


def resnet50(
    width: float = 0.125, size: int = 32, classes: int = 10, depths: Sequence[int] = (3, 4, 6, 3), groups: int = 1
) -> onnx.ModelProto:
    """Bottleneck blocks; `groups` makes a ResNeXt."""
    g = GraphBuilder(1, 3, size, size)
    x = g.max_pool(g.conv_bn(g.input, scaled(64, width), 7, stride=2))
    for stage, depth in enumerate(depths):
        inner = scaled(64 * 2**stage, width)
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            shortcut = x if index > 0 else g.conv_bn(x, 4 * inner, 1, stride=stride, act="")
            x = g.conv_bn(g.conv_bn(x, inner, 1), inner, stride=stride, groups=groups)
            x = g.op("Relu", g.op("Add", g.conv_bn(x, 4 * inner, 1, act=""), shortcut))
    return g.classify(x, classes)


def regnet_y(width: float = 0.25, size: int = 32, classes: int = 10, group_width: int = 4) -> onnx.ModelProto:
    """Grouped 3x3 convolutions with squeeze-and-excitation."""
    g = GraphBuilder(1, 3, size, size)
    x = g.conv_bn(g.input, scaled(32, width), stride=2)
    for channels, depth in ((48, 1), (104, 3), (208, 6), (440, 3)):
        inner = scaled(channels, width)
        for index in range(depth):
            stride = 2 if index == 0 else 1
            shortcut = x if index > 0 else g.conv_bn(x, inner, 1, stride=stride, act="")
            squeezed = scaled(g.channels[x] // 4, 1)
            x = g.conv_bn(g.conv_bn(x, inner, 1), inner, stride=stride, groups=inner // group_width)
            x = g.conv_bn(g.squeeze_excite(x, squeezed), inner, 1, act="")
            x = g.op("Relu", g.op("Add", shortcut, x))
    return g.classify(x, classes)


def efficientnet_b0(width: float = 0.25, size: int = 32, classes: int = 10) -> onnx.ModelProto:
    g = GraphBuilder(1, 3, size, size)
    x = g.conv_bn(g.input, scaled(32, width), stride=2, act="Silu")
    # expansion, channels, repeats, stride, kernel
    stages = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)]
    stages += [(6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]
    for expansion, channels, repeats, stride, kernel in stages:
        for index in range(repeats):
            shortcut, entering = x, g.channels[x]
            if expansion > 1:
                x = g.conv_bn(x, entering * expansion, 1, act="Silu")
            x = g.depthwise(x, kernel, stride=stride if index == 0 else 1, act="Silu")
            x = g.squeeze_excite(x, max(1, entering // 4), act="Silu")
            x = g.conv_bn(x, scaled(channels, width), 1, act="")
            if index > 0:
                x = g.op("Add", x, shortcut)
    return g.classify(g.conv_bn(x, scaled(1280, width), 1, act="Silu"), classes, mean=True)


def shufflenet_v1(width: float = 0.25, size: int = 32, classes: int = 10, groups: int = 4) -> onnx.ModelProto:
    """Grouped 1x1 convolutions with a channel shuffle between them."""
    g = GraphBuilder(1, 3, size, size)
    x, size = g.max_pool(g.conv_bn(g.input, 24, stride=2)), size // 4
    for stage, (channels, depth) in enumerate(((272, 4), (544, 8), (1088, 4))):
        channels = scaled(channels, width) // (4 * groups) * (4 * groups)
        for index in range(depth):
            shortcut, stride = x, 2 if index == 0 else 1
            x = g.conv_bn(x, channels // 4, 1, groups=1 if (stage, index) == (0, 0) else groups)
            x = g.depthwise(g.shuffle(x, groups, size), stride=stride, act="")
            if stride == 1:
                x = g.op("Add", shortcut, g.conv_bn(x, channels, 1, groups=groups, act=""))
            else:
                size //= 2
                x = g.conv_bn(x, channels - g.channels[shortcut], 1, groups=groups, act="")
                x = g.concat(g.average_pool(shortcut, 3, pads=[1] * 4, count_include_pad=1), x)
            x = g.op("Relu", x)
    return g.classify(x, classes)


def shufflenet_v2(width: float = 0.25, size: int = 32, classes: int = 10) -> onnx.ModelProto:
    """Channel split, one half left alone, concatenation, channel shuffle."""
    g = GraphBuilder(1, 3, size, size)
    x, size = g.max_pool(g.conv_bn(g.input, 24, stride=2)), size // 4
    for channels, depth in ((116, 4), (232, 8), (464, 4)):
        half = scaled(channels, width) // 2
        for index in range(depth):
            if index == 0:
                size //= 2
                left = g.conv_bn(g.depthwise(x, stride=2, act=""), half, 1)
                right = g.depthwise(g.conv_bn(x, half, 1), stride=2, act="")
            else:
                left, right = g.split_op("Split", x, g.constant([half, half]), channels=[half, half], axis=1)
                right = g.depthwise(g.conv_bn(right, half, 1), act="")
            x = g.shuffle(g.concat(left, g.conv_bn(right, half, 1)), 2, size)
    return g.classify(g.conv_bn(x, scaled(1024, width), 1), classes, mean=True)


def densenet(
    growth: int = 8, size: int = 32, classes: int = 10, depths: Sequence[int] = (3, 4, 6, 4)
) -> onnx.ModelProto:
    """Normalization before convolution, everything concatenated; `densenet(32, 224, 1000, (6, 12, 24, 16))` is 121."""
    g = GraphBuilder(1, 3, size, size)
    x = g.max_pool(g.conv_bn(g.input, 2 * growth, 7, stride=2))
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            inner = g.conv_bn(g.op("Relu", g.norm(x)), 4 * growth, 1)
            x = g.concat(x, g.conv(inner, growth, bias=False))
        x = g.op("Relu", g.norm(x))
        if stage < len(depths) - 1:
            x = g.average_pool(g.conv(x, g.channels[x] // 2, 1, bias=False))
    return g.classify(x, classes)


def squeezenet(width: float = 0.25, size: int = 64, classes: int = 10) -> onnx.ModelProto:
    g = GraphBuilder(1, 3, size, size)
    x = g.op("Relu", g.conv(g.input, scaled(64, width), stride=2, pads=[0] * 4))
    for index, channels in enumerate((64, 64, 128, 128, 192, 192, 256, 256)):
        if index in (0, 2, 4):
            x = g.max_pool(x, pad=0, ceil=True)
        x = g.op("Relu", g.conv(x, scaled(channels // 4, width), 1))
        one, three = (g.op("Relu", g.conv(x, scaled(channels, width), kernel)) for kernel in (1, 3))
        x = g.concat(one, three)
    x = g.op("Relu", g.conv(g.op("Dropout", x), classes, 1))
    return g.model(g.op("Softmax", g.op("Flatten", g.op("GlobalAveragePool", x), axis=1), axis=1))


def googlenet(width: float = 0.125, size: int = 64, classes: int = 10) -> onnx.ModelProto:
    """Inception branches, local response normalization, pooling that rounds up."""
    g = GraphBuilder(1, 3, size, size)

    def conv(x: str, channels: int, kernel: int, stride: int = 1) -> str:
        return g.op("Relu", g.conv(x, scaled(channels, width), kernel, stride=stride))

    def lrn(x: str) -> str:
        return g.op("LRN", x, size=5, alpha=1e-4, beta=0.75, bias=1.0)

    x = lrn(g.max_pool(conv(g.input, 64, 7, stride=2), pad=0, ceil=True))
    x = g.max_pool(lrn(conv(conv(x, 64, 1), 192, 3)), pad=0, ceil=True)
    a = [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)]
    b = [(192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (256, 160, 320, 32, 128, 128)]
    c = [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)]
    for index, (one, three_in, three, five_in, five, pool) in enumerate([*a, *b, *c]):
        if index in (len(a), len(a) + len(b)):
            x = g.max_pool(x, pad=0, ceil=True)
        branches = [conv(x, one, 1), conv(conv(x, three_in, 1), three, 3), conv(conv(x, five_in, 1), five, 5)]
        x = g.concat(*branches, conv(g.max_pool(x, 3, 1), pool, 1))
    return g.classify(x, classes)


def audio_net(width: float = 1.0, samples: int = 1024, classes: int = 12) -> onnx.ModelProto:
    """One-dimensional: a learned filter bank, then dilated depthwise blocks as in Conv-TasNet."""
    g = GraphBuilder(1, 1, samples)
    x = g.conv_bn(g.input, scaled(32, width), 16, stride=8, pads=[4, 4], act="PRelu")
    for dilation in (1, 2, 4, 8):
        inner = g.conv_bn(x, scaled(64, width), 1, act="PRelu")
        inner = g.depthwise(inner, dilation=dilation, act="PRelu")
        x = g.op("Add", x, g.conv(inner, g.channels[x], 1))
    x = g.op("MaxPool", x, kernel_shape=[4], strides=[4])
    return g.model(g.linear(g.op("ReduceMean", x, axes=[2], keepdims=0), classes))


def autoencoder(width: float = 1.0, size: int = 32) -> onnx.ModelProto:
    """Strided convolutions down, transposed convolutions up: all of their padding styles."""
    g = GraphBuilder(1, 3, size, size)
    x = g.input
    for channels in (16, 32, 64):
        x = g.conv_bn(x, scaled(channels, width), stride=2, act="LeakyRelu")
    pads = [1, 1, 1, 1]
    x = g.conv_transpose(x, scaled(32, width), 3, strides=[2, 2], pads=pads, output_padding=[1, 1])
    x = g.conv_transpose(g.act(g.norm(x), "Relu"), scaled(16, width), 4, strides=[2, 2], pads=pads)
    x = g.conv_transpose(g.act(x, "Elu"), 3, 2, strides=[2, 2])
    return g.model(g.op("Sigmoid", x))


def unet(width: float = 0.25, size: int = 32, classes: int = 4) -> onnx.ModelProto:
    """Skips concatenated after bilinear upsampling."""
    g = GraphBuilder(1, 3, size, size)

    def double(x: str, channels: int) -> str:
        return g.conv_bn(g.conv_bn(x, scaled(channels, width)), scaled(channels, width))

    x, skips = double(g.input, 32), []
    for channels in (64, 128, 256):
        skips.append(x)
        x = double(g.max_pool(x, 2, pad=0), channels)
    for channels, mode in ((128, "half_pixel"), (64, "align_corners"), (32, "pytorch_half_pixel")):
        up = g.upsample(x, mode="linear", coordinate_transformation_mode=mode)
        x = double(g.concat(skips.pop(), up), channels)
    return g.model(g.op("Softmax", g.conv(x, classes, 1), axis=1))


def feature_pyramid(width: float = 0.25, size: int = 64) -> onnx.ModelProto:
    """A detector's backbone: top-down additions after nearest upsampling, four feature maps out."""
    g = GraphBuilder(1, 3, size, size)
    x, levels = g.conv_bn(g.input, scaled(32, width), stride=2, act="Silu"), []
    for channels in (64, 128, 256):
        x = g.conv_bn(x, scaled(channels, width), stride=2, act="Silu")
        inner = g.conv_bn(g.conv_bn(x, scaled(channels // 2, width), 1, act="Silu"), g.channels[x], act="Silu")
        x = g.op("Add", x, inner)
        levels.append(x)
    merged = g.conv(levels.pop(), scaled(128, width), 1)
    outputs = [g.max_pool(g.conv(merged, g.channels[merged]), 1, 2), g.conv(merged, g.channels[merged])]
    for level in reversed(levels):
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        merged = g.op("Add", g.conv(level, g.channels[merged], 1), g.upsample(merged, **mode))
        outputs.append(g.conv(merged, g.channels[merged]))
    return g.model(*outputs)


def mlp(features: int = 64, hidden: int = 32, classes: int = 10) -> onnx.ModelProto:
    """Linear layers; one of them as MatMul and Add, as they are exported for inputs of other ranks."""
    g = GraphBuilder(1, features)
    x = g.linear(g.linear(g.input, hidden, act="Relu"), hidden, act="Tanh")
    product = g.op("MatMul", x, g.constant(g.normal(hidden, hidden, deviation=hidden**-0.5), "weight"))
    x = g.op("Relu", g.op("Add", g.constant(g.normal(hidden, deviation=0.1), "bias"), product))
    return g.model(g.op("Softmax", g.linear(x, classes), axis=-1))


def depthwise_multiplier(size: int = 16) -> onnx.ModelProto:
    """Depthwise convolutions with two and three filters per channel."""
    g = GraphBuilder(1, 3, size, size)
    x = g.conv_bn(g.input, 6, groups=3, act="Relu6")
    x = g.conv_bn(g.conv_bn(x, 18, 5, stride=2, groups=6), 12, 1)
    return g.classify(g.conv(x, 24, 3, groups=12, dilation=2))


def irregular_convolutions(size: int = 24) -> onnx.ModelProto:
    """Dilated, asymmetric, strided by axis, even, separated, padded apart and grouped convolutions; odd pooling."""
    g = GraphBuilder(1, 4, size, size + 6)
    x = g.conv_bn(g.input, 8, 3, dilation=2)
    x = g.conv_bn(x, 8, 3, pads=[0, 1, 2, 3])
    x = g.conv_bn(x, 12, (5, 3), stride=(2, 1))
    x = g.conv_bn(g.conv_bn(x, 12, (1, 7)), 12, (7, 1))
    x = g.op("Pad", x, g.constant([0, 0, 1, 0, 0, 0, 2, 1]), g.constant(0.0), mode="constant")
    x = g.op("Pad", g.conv_bn(x, 8, 2, pads=[0] * 4, act="Elu"), g.constant([0, 0, 2, 1, 0, 0, 1, 2]), mode="reflect")
    x = g.conv_bn(x, 12, 3, groups=4, pads=[1, 0, 0, 1], stride=2)
    x = g.average_pool(x, 3, 1, pads=[1, 1, 1, 1], count_include_pad=0)
    x = g.op("MaxPool", x, kernel_shape=[2, 3], strides=[1, 2], pads=[0, 1, 1, 0])
    return g.classify(g.conv_bn(x, 16, 3, dilation=3, groups=2, pads=[3] * 4))


def input_in_channels_last(size: int = 16) -> onnx.ModelProto:
    """An image in NHWC, transposed by the model itself as exporters of other frameworks do."""
    g = GraphBuilder(1, size, size, 3)
    x = g.op("Transpose", g.input, channels=3, perm=[0, 3, 1, 2])
    x = g.conv_bn(g.conv_bn(x, 8, stride=2), 16)
    x = g.op("Transpose", g.op("Add", x, g.conv_bn(x, 16)), perm=[0, 2, 3, 1])
    return g.model(g.op("Sigmoid", x))


ARCHITECTURES: dict[str, Callable[[], onnx.ModelProto]] = {
    function.__name__: function
    for function in (
        mobilenet_v1,
        mobilenet_v2,
        mobilenet_v3_small,
        resnet18,
        resnet50,
        regnet_y,
        efficientnet_b0,
        shufflenet_v1,
        shufflenet_v2,
        densenet,
        squeezenet,
        googlenet,
        audio_net,
        autoencoder,
        unet,
        feature_pyramid,
        mlp,
        depthwise_multiplier,
        irregular_convolutions,
        input_in_channels_last,
    )
}
