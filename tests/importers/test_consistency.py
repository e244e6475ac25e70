"""Contradictions that onnx's checker lets through."""

from __future__ import annotations

import re

import onnx
import pytest

from edgecc.errors import InvalidModelError
from edgecc.importers.onnx import OnnxImporter

HEADER = '<ir_version: 8, opset_import: ["": 17]>'


def load(text: str) -> None:
    OnnxImporter().from_proto(onnx.parser.parse_model(f"{HEADER} {text}"))


@pytest.mark.parametrize(
    ("text", "op", "why"),
    [
        (
            "g (float[1,2,5,5] x, float[3,5,3,3] w) => (float[1,3,3,3] y) { [n] y = Conv(x, w) }",
            "Conv",
            "its weights take 5 channels, its input has 2",
        ),
        (
            "g (float[1,4,5,5] x, float[3,2,3,3] w) => (float[1,3,3,3] y) { [n] y = Conv<group=2>(x, w) }",
            "Conv",
            "its 3 filters cannot be parted into 2 groups",
        ),
        (
            "g (float[1,2,5,5] x, float[3,2,3,3] w) => (float[1,3,3,3] y) { [n] y = Conv<group=0>(x, w) }",
            "Conv",
            "group is 0",
        ),
        (
            "g (float[1,2,5,5] x, float[3,2,3,3] w) => (float[1,2,7,7] y) { [n] y = ConvTranspose(x, w) }",
            "ConvTranspose",
            "its weights take 3 channels, its input has 2",
        ),
        (
            "g (float[1,3,5,5] x, float[3,2,3,3] w) => (float[1,4,7,7] y) { [n] y = ConvTranspose<group=2>(x, w) }",
            "ConvTranspose",
            # onnx says so itself from 1.23.2 on.
            "(its 3 channels cannot be parted into 2 groups|Input channels C must be divisible by group.*)",
        ),
        (
            "g (float[1,3,5,5] x, float[3,2,3,3] w) => (float[1,4,7,7] y) { [n] y = ConvTranspose<group=0>(x, w) }",
            "ConvTranspose",
            "(group is 0|Attribute group must be > 0 .*)",
        ),
        (
            "g (float[1,4] x) => (float[7] y) <int64[1] s = {7}> { [n] y = Reshape(x, s) }",
            "Reshape",
            "it makes 7 elements of 4",
        ),
        (
            "g (float[4] x) => (float[2] y) <int64[2] i = {1, 77}> { [n] y = Gather(x, i) }",
            "Gather",
            "index 77 is out of range for axis 0 of size 4",
        ),
        (
            "g (float[2,4] x) => (float[2] y) <int64 i = {-5}> { [n] y = Gather<axis=1>(x, i) }",
            "Gather",
            "index -5 is out of range for axis 1 of size 4",
        ),
    ],
)
def test_contradiction(text: str, op: str, why: str) -> None:
    with pytest.raises(InvalidModelError) as caught:
        load(text)
    head = re.escape(f"the model is not valid ONNX\n  where: node 'n' ({op})\n  why: ")
    assert re.fullmatch(f"{head}{why}", str(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        "g (float[1,C,5,5] x, float[4,2,3,3] w) => (float[1,4,3,3] y) { y = Conv<group=2>(x, w) }",
        "g (float[1,4,5,5] x, float[4,2,3,3] w) => (float[1,4,7,7] y) { y = ConvTranspose<group=2>(x, w) }",
        "g (float[N,4] x) => (float[7] y) <int64[1] s = {7}> { y = Reshape(x, s) }",
        "g (float[0,4] x) => (float[0] y) <int64[1] s = {0}> { y = Reshape(x, s) }",
        "g (float[N] x) => (float[2] y) <int64[2] i = {1, 77}> { y = Gather(x, i) }",
        "g (float[4] x) => (float[2] y) <int64[2] i = {-4, 3}> { y = Gather(x, i) }",
        "g (float[2,4] x) => (float[2,0] y) <int64[0] i = {}> { y = Gather<axis=1>(x, i) }",
    ],
)
def test_what_may_fit_is_taken(text: str) -> None:
    load(text)
