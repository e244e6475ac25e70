from __future__ import annotations

from edgecc_remove_dropout.plugin import RemoveDropout

from edgecc.testing import assert_skipped, check_pass


def test_it_removes_dropout() -> None:
    check_pass(
        RemoveDropout(),
        before="g (float[1,4] x) => (float[1,4] y) { d = Dropout(x) y = Relu(d) }",
        after="g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }",
    )


def test_ignored_nodes_stay() -> None:
    check_pass(
        RemoveDropout(ignore=("Dropout_1",)),
        before="g (float[4] x) => (float[4] y) { a = Dropout(x) b = Dropout(a) y = Relu(b) }",
        after="g (float[4] x) => (float[4] y) { b = Dropout(x) y = Relu(b) }",
    )


def test_a_mask_that_is_read_keeps_it() -> None:
    text = "g (float[4] x) => (float[4] y, bool[4] m) { d, m = Dropout(x) y = Relu(d) }"
    assert_skipped(RemoveDropout(), text, "its mask is read")


def test_training_keeps_it() -> None:
    text = "g (float[4] x, bool t) => (float[4] y) <float r = {0.5}> { d = Dropout(x, r, t) y = Relu(d) }"
    assert_skipped(RemoveDropout(), text, "it may be training")


def test_names_of_the_signature_stay() -> None:
    text = "g (float[4] x) => (float[4] y) { y = Dropout(x) }"
    assert_skipped(RemoveDropout(), text, "both keep their names")
