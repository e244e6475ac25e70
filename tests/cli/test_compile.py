"""`edgecc compile`: what it writes and prints, and what it refuses."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from edgecc.recipe import Recipe, make_recipe

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py
Save = Callable[[str], Path]


def test_writes_the_artifact_and_its_report(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", small, "-t", "onnxruntime", "-o", "out.onnx")
    assert (done.code, done.err) == (0, "")
    assert "eliminate-identity" in done.out
    assert done.out.splitlines()[-1].startswith("out.onnx  ")
    report = json.loads(Path("out.onnx.report.json").read_text())
    assert report["target"] == "onnxruntime"
    assert report["files"] == {"out.onnx": {"bytes": Path("out.onnx").stat().st_size}}


def test_target_is_read_from_the_outputs_suffix(edgecc: Run, small: Path) -> None:
    assert edgecc("compile", small, "-o", "out.tflite").out.rstrip().endswith("(tflite)")


def test_output_is_named_after_the_source(edgecc: Run, small: Path) -> None:
    assert edgecc("compile", small, "-t", "tflite").code == 0
    assert Path("m.tflite").is_file()


def test_default_output_is_never_the_source(edgecc: Run, small: Path) -> None:
    before = small.read_bytes()
    assert edgecc("compile", small.name, "-t", "onnxruntime").code == 0
    assert small.read_bytes() == before
    assert Path("m.onnxruntime.onnx").is_file()


def test_twice_gives_the_same_bytes(edgecc: Run, digits: Path) -> None:
    """The report too, once the outputs have the same name."""
    contents = []
    for _ in range(2):
        assert edgecc("compile", digits.name, "-o", "out.tflite").code == 0
        contents.append((Path("out.tflite").read_bytes(), Path("out.tflite.report.json").read_bytes()))
    assert contents[0] == contents[1]


def test_json_is_the_report_and_nothing_else(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", small, "-o", "out.tflite", "--json")
    facts = json.loads(done.out)
    assert facts["output"] == "out.tflite"
    assert facts["report"] == json.loads(Path("out.tflite.report.json").read_text())


_ASKED_FOR = ("fuse-pad", 'eliminate-identity:ignore=["Identity*"]')


def test_passes_run_in_the_written_order(edgecc: Run, small: Path) -> None:
    words = ("--pass", "fuse-pad", "--pass", "eliminate-identity:ignore=[Identity*]")
    done = edgecc("compile", small, "-o", "out.tflite", "--json", *words)
    ran = [entry["pass"] for entry in json.loads(done.out)["report"]["passes"]]
    # Those of -O1 go first, without the two that the user has taken over; the backend's own follow, but for those that
    # say that they must come before one of the user's.
    assert ran.count("fuse-pad") == 1
    assert "eliminate-identity" not in ran
    place = ran.index("fuse-pad")
    assert ran[place : place + 2] == [*_ASKED_FOR]
    assert ran.index("fold-batchnorm") < place


def test_passes_of_the_backend_go_in_front_of_the_users_where_they_must(edgecc: Run, digits: Path) -> None:
    """The user asked for float16 only, and cannot know that the backend folds, which must come first."""
    done = edgecc("compile", digits, "-t", "onnxruntime", "-o", "out.onnx", "--quantize", "float16", "--json")
    assert done.code == 0, done.err
    ran = [entry["pass"] for entry in json.loads(done.out)["report"]["passes"]]
    assert ran.index("fold-batchnorm") < ran.index("convert-float16")


def test_skipped_nodes_are_told_on_stderr(edgecc: Run, save: Save) -> None:
    source = save("g (float[1,4] x) => (float[1,4] y) { y = Identity(x) }")
    done = edgecc("compile", source, "-t", "onnxruntime", "-o", "out.onnx", "--pass", "eliminate-identity")
    assert "left alone by eliminate-identity: " in done.err
    assert "must both keep their names" in done.err
    assert "left alone" not in done.out


def test_what_o1_left_alone_is_in_the_report_only(edgecc: Run, save: Save) -> None:
    source = save("g (float[1,4] x) => (float[1,4] y) { y = Identity(x) }")
    done = edgecc("compile", source, "-t", "onnxruntime", "-o", "out.onnx", "--json")
    assert "left alone" not in done.err
    skipped = json.loads(done.out)["report"]["skipped"]
    assert [entry["pass_name"] for entry in skipped] == ["eliminate-identity"]


@pytest.mark.parametrize(("flags", "ops"), [((), ["Relu"]), (("-O1",), ["Relu"]), (("-O0",), ["Identity", "Relu"])])
def test_level_of_optimization(edgecc: Run, save: Save, flags: tuple[str, ...], ops: list[str]) -> None:
    source = save("g (float[1,4] x) => (float[1,4] y) { t = Identity(x) y = Relu(t) }")
    assert edgecc("compile", source, "-t", "onnxruntime", "-o", "out.onnx", *flags).code == 0
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ops


def test_unknown_level(edgecc: Run, save: Save) -> None:
    source = save("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    done = edgecc("compile", source, "-t", "onnxruntime", "-o", "out.onnx", "-O7")
    assert done.code == 2
    assert "preset '7'" in done.err
    assert "-O" in done.err
    assert not Path("out.onnx").exists()


def test_level_in_the_recipe(edgecc: Run) -> None:
    done = edgecc("compile", "m.onnx", "-t", "onnxruntime", "-O0", "--print-recipe")
    assert 'optimize = "0"' in done.out


def test_fixed_shape(edgecc: Run, save: Save) -> None:
    source = save("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    done = edgecc("compile", source, "-o", "out.tflite", "--shape", "x=3,4", "--json")
    assert json.loads(done.out)["report"]["signature"]["inputs"][0]["shape"] == [3, 4]


# --------------------------------------------------------------------------------------------------- recipes


def test_print_recipe_is_the_recipe_that_python_builds(edgecc: Run) -> None:
    flags = (
        "-t",
        "tflite:io_layout=nhwc",
        "-o",
        "out.tflite",
        "--pass",
        "fuse-pad",
        "--pass",
        "fold-batchnorm:ignore=[a b]",
    )
    more = ("--quantize", "float16", "--shape", "input=1,3,8,8", "--verify", "--seed", "7")
    done = edgecc("compile", "m.onnx", *flags, *more, "--print-recipe")
    assert (done.code, done.err) == (0, "")
    built = Recipe(
        source="m.onnx",
        target="tflite:io_layout=nhwc",
        output="out.tflite",
        passes=("fuse-pad", "fold-batchnorm:ignore=[a b]"),
        quantize="float16",
        shapes={"input": (1, 3, 8, 8)},
        verify=True,
        seed=7,
    )
    assert make_recipe(tomllib.loads(done.out)) == built


def test_print_recipe_writes_nothing(edgecc: Run, small: Path, tmp_path: Path) -> None:
    edgecc("compile", small, "-t", "tflite", "--print-recipe")
    assert [path.name for path in tmp_path.iterdir()] == [small.name]


def test_recipe_file_gives_the_same_artifact_as_flags(edgecc: Run, digits: Path) -> None:
    flags = (digits.name, "-t", "tflite", "-o", "out.tflite", "--pass", "fuse-pad")
    Path("r.toml").write_text(edgecc("compile", *flags, "--print-recipe").out)
    assert edgecc("compile", *flags).code == 0
    first = Path("out.tflite").read_bytes()
    assert edgecc("compile", "--recipe", "r.toml").code == 0
    assert Path("out.tflite").read_bytes() == first


def test_importer_options_reach_the_recipe_and_are_checked(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", small, "-t", "tflite", "--importer", "factory=a.b:c", "--print-recipe")
    assert tomllib.loads(done.out)["importer"] == {"factory": "a.b:c"}
    for command in (["compile", small, "-t", "tflite"], ["convert", small, "m.tflite"], ["inspect", small]):
        refused = edgecc(*command, "--importer", "factory=a.b:c")
        assert refused.code == 2
        assert "unknown option 'factory'" in refused.err
        assert "importer 'onnx' takes no options" in refused.err


def test_flags_override_the_recipe_file(edgecc: Run) -> None:
    Path("r.toml").write_text('source = "m.onnx"\ntarget = "tflite"\nseed = 1\n')
    done = edgecc("compile", "--recipe", "r.toml", "--seed", "2", "-t", "onnxruntime", "--print-recipe")
    assert make_recipe(tomllib.loads(done.out)) == Recipe(source="m.onnx", target="onnxruntime", seed=2)


# -------------------------------------------------------------------------------------------- wrong requests

WRONG_REQUESTS = {
    "nothing": ((), "no source is given", "edgecc compile MODEL.onnx --target tflite"),
    "no target": (("m.onnx",), "no target is given", "add --target NAME"),
    "target": (("m.onnx", "-t", "tflight"), "unknown target 'tflight'", "did you mean 'tflite'?"),
    "target option": (
        ("m.onnx", "-t", "tflite:io_latout=nhwc"),
        "unknown option 'io_latout'\n  where: target tflite",
        "did you mean 'io_layout' or 'io_layouts'?",
    ),
    "target value": (
        ("m.onnx", "-t", "tflite:io_layout=nwhc"),
        "option 'io_layout' of target 'tflite': Input should be 'keep' or 'nhwc'\n  where: io_layout='nwhc'",
        "edgecc targets tflite lists its options",
    ),
    "suffix": (("m.onnx", "-o", "m.tflit"), "unknown file suffix '.tflit'", "did you mean '.tflite'?"),
    "no suffix": (("m.onnx", "-o", "m"), "unknown file suffix ''", "known: .engine, .onnx, "),
    "suffix of another target": (
        ("m.onnx", "-t", "tflite", "-o", "m.engine"),
        "tflite does not write .engine",
        "-o m.tflite",
    ),
    "pass": (("m.onnx", "-t", "tflite", "--pass", "fold-batch"), "unknown pass 'fold-batch'", "'fold-batchnorm' or"),
    "pass option": (
        ("m.onnx", "-t", "tflite", "--pass", "fuse-pad:ignor=[a]"),
        "unknown option 'ignor'\n  where: pass fuse-pad",
        "did you mean 'ignore'?",
    ),
    "pass option value": (
        ("m.onnx", "-t", "tflite", "--pass", "convert-float16:keep_io=perhaps"),
        "option 'keep_io' of pass 'convert-float16': Input should be a valid boolean",
        "edgecc passes convert-float16 lists its options",
    ),
    "ignore pattern": (
        ("m.onnx", "-t", "tflite", "--pass", "fuse-pad:ignore=[conv*]"),
        "pattern 'conv*' of option 'ignore' matches no node\n  where: pass fuse-pad",
        "edgecc inspect SOURCE --nodes lists the node names",
    ),
    "pass order": (
        ("m.onnx", "-t", "tflite", "--pass", "convert-float16", "--pass", "fold-batchnorm"),
        "pass 'fold-batchnorm' must run before 'convert-float16'",
        "--pass fold-batchnorm --pass convert-float16",
    ),
    "shape text": (
        ("m.onnx", "-t", "tflite", "--shape", "x"),
        "cannot read --shape 'x'",
        "write --shape INPUT=1,3,224,224",
    ),
    "shape sizes": (("m.onnx", "-t", "tflite", "--shape", "x=1,-4"), "cannot read --shape 'x=1,-4'", "write --shape"),
    "shape input": (("m.onnx", "-t", "tflite", "--shape", "z=1,4"), "unknown input 'z'", "known: x"),
    "shape of fixed input": (
        ("m.onnx", "-t", "tflite", "--shape", "x=1,5"),
        "cannot become 5",
        "the model has x: [1,4]",
    ),
    "no such folder": (("m.onnx", "-o", "no/m.tflite"), "folder no does not exist", "mkdir -p no"),
    "recipe": (("--recipe", "no.toml"), "recipe no.toml does not exist", "check the path given to --recipe"),
    "output is the source": (("m.onnx", "-o", "m.onnx"), "m.onnx is the source itself", "choose another -o OUT"),
}


@pytest.mark.parametrize("case", WRONG_REQUESTS)
def test_wrong_request(case: str, edgecc: Run, small: Path, tmp_path: Path) -> None:
    words, what, hint = WRONG_REQUESTS[case]
    before = small.read_bytes()
    done = edgecc("compile", *words)
    assert done.code == 2
    assert done.out == ""
    assert what in done.err
    assert hint in done.err
    assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == [small.name]
    assert small.read_bytes() == before


def test_unknown_recipe_key(edgecc: Run) -> None:
    Path("r.toml").write_text('source = "m.onnx"\ntaget = "tflite"\n')
    done = edgecc("compile", "--recipe", "r.toml")
    assert done.code == 2
    assert "unknown recipe key 'taget'\n  where: r.toml\n  try: did you mean 'target'?" in done.err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('shapes = "x=1,4"', "shapes: Input should be a valid dictionary\n  where: r.toml\n  why: got 'x=1,4'"),
        ("output = 3", "output: Input should be a valid string\n  where: r.toml\n  why: got 3"),
    ],
)
def test_recipe_value_of_the_wrong_type(line: str, text: str, edgecc: Run) -> None:
    Path("r.toml").write_text(f'source = "m.onnx"\ntarget = "tflite"\n{line}\n')
    done = edgecc("compile", "--recipe", "r.toml")
    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err


def test_recipe_output_of_the_wrong_type_names_no_target(edgecc: Run) -> None:
    Path("r.toml").write_text('source = "m.onnx"\noutput = 3\n')
    done = edgecc("compile", "--recipe", "r.toml")
    assert (done.code, "no target is given" in done.err) == (2, True)


def test_seed_0_overrides_the_recipe_file(edgecc: Run) -> None:
    Path("r.toml").write_text('source = "m.onnx"\ntarget = "tflite"\nseed = 5\n')
    assert "seed" not in tomllib.loads(edgecc("compile", "--recipe", "r.toml", "--seed", "0", "--print-recipe").out)


def test_unknown_preset_of_quantize_lists_those_that_exist(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", small, "-t", "tflite", "--quantize", "int3")
    assert done.code == 2
    assert "'int3' is not" in done.err
    assert "float16" in done.err


def test_unknown_flag_gets_a_near_miss(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", small, "--taget", "tflite")
    assert done.code == 2
    assert "No such option" in done.err
    assert "--target" in done.err


def test_wrong_request_as_json(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", small, "-t", "tflight", "--json")
    assert done.code == 2
    assert json.loads(done.out)["error"] == {
        "type": "UnknownNameError",
        "what": "unknown target 'tflight'",
        "where": "",
        "why": "",
        "hint": "did you mean 'tflite'?",
        "nodes": [],
    }


def test_output_that_is_a_folder(edgecc: Run, small: Path) -> None:
    Path("out.tflite").mkdir()
    done = edgecc("compile", small, "-o", "out.tflite")
    assert done.code == 2
    assert "out.tflite is a folder" in done.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_folder_that_cannot_be_written(edgecc: Run, small: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    done = edgecc("compile", small, "-o", "locked/m.tflite")
    assert done.code == 2
    assert "cannot write locked/m.tflite\n  why: Permission denied" in done.err


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that even root cannot write is Linux's /proc")
def test_folder_that_nobody_can_write(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", small, "-o", "/proc/m.tflite")
    assert done.code == 2
    assert "cannot write /proc/m.tflite\n  why: " in done.err
    assert "choose another -o OUT" in done.err


# ---------------------------------------------------------------------------------- models that do not compile

STRANGE = "g (float[1,4] x) => (float[1,4] y) { a = my.domain.Frobnicate(x)  b = Relu(a)  y = my.domain.Twiddle(b) }"


@pytest.mark.parametrize("target", ["onnxruntime", "tflite"])
def test_every_unsupported_node_is_listed(target: str, edgecc: Run, save: Save, tmp_path: Path) -> None:
    source = save(STRANGE)
    done = edgecc("compile", source, "-t", target)
    assert done.code == 3
    assert f"nodes cannot be compiled for {target}" in done.err
    assert "Frobnicate" in done.err
    assert "Twiddle" in done.err
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_unsupported_nodes_as_json(edgecc: Run, save: Save) -> None:
    done = edgecc("compile", save(STRANGE), "-t", "onnxruntime", "--json")
    nodes = json.loads(done.out)["error"]["nodes"]
    assert done.code == 3
    assert [node["op"] for node in nodes] == ["Frobnicate", "Twiddle"]
    assert all(node["reason"] and node["node"] for node in nodes)


def test_open_dimension_says_which_flag_fixes_it(edgecc: Run, save: Save) -> None:
    source = save(
        "g (float[2,3,H,W] x) => (float[2,3,h,w] y) { y = AveragePool<kernel_shape = [2,2], pads = [1,1,1,1]>(x) }"
    )
    done = edgecc("compile", source, "-t", "tflite")
    assert done.code == 3
    assert "open dimension" in done.err
    assert "--shape x=2,3," in done.err


# --------------------------------------------------------------------------------------------- bad source files


def write_damaged(kind: str, source: Path, damaged: Path) -> None:
    contents = source.read_bytes()
    made = {"empty": b"", "truncated": contents[: len(contents) // 2], "not onnx": b"once upon a time\n" * 20}
    damaged.write_bytes(made[kind])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("empty", "is empty"),
        ("truncated", "is truncated"),
        ("not onnx", "is not an ONNX model"),
    ],
)
def test_damaged_source(kind: str, text: str, edgecc: Run, digits: Path) -> None:
    write_damaged(kind, digits, Path("bad.onnx"))
    done = edgecc("compile", "bad.onnx", "-t", "tflite")
    assert done.code == 2
    assert f"bad.onnx {text}" in done.err
    assert "try: " in done.err


def test_missing_source_lists_what_is_there(edgecc: Run, small: Path) -> None:
    done = edgecc("compile", "modle.onnx", "-t", "tflite")
    assert done.code == 2
    assert "modle.onnx does not exist\n  try: in . there is: m.onnx" in done.err


def test_source_of_a_plugin_that_is_not_installed(edgecc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecc.importers.onnx import OnnxImporter
    from edgecc.registry import Registry

    monkeypatch.setattr(Registry, "importers", {"onnx": OnnxImporter})
    Path("m.pt2").write_bytes(b"PK\x03\x04")
    Path("m.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    Path("m.bin").write_bytes(b"\x89HDF\r\n\x1a\n")
    Path("saved").mkdir()
    Path("saved/saved_model.pb").write_bytes(b"\x08\x01\x12")
    for source, hint in (
        ("m.pt2", "pip install edgecc-torch"),
        ("m.h5", "pip install edgecc-keras"),
        ("m.bin", "it is an HDF5 file, such as a Keras .h5 model: pip install edgecc-keras"),
        ("saved", "it is a SavedModel: pip install edgecc-keras"),
        ("saved/saved_model.pb", "it is the graph of a TensorFlow SavedModel: pip install edgecc-keras"),
    ):
        done = edgecc("compile", source, "-t", "tflite")
        assert done.code == 2
        assert f"try: {hint}" in done.err


def test_unknown_kind_of_source(edgecc: Run) -> None:
    Path("notes.txt").write_text("once upon a time")
    done = edgecc("compile", "notes.txt", "-t", "tflite")
    assert done.code == 2
    assert "notes.txt is not a model that an installed importer reads\n  why: installed: onnx (.onnx)" in done.err


# ------------------------------------------------------------------------------------------------ verification


def test_verification_failure_exits_with_4(edgecc: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that claims to be exact and is not."""
    from edgecc.passes.eliminate_identity import EliminateIdentity

    def break_it(self: EliminateIdentity, model: object, ctx: object) -> bool:
        for node in model.nodes("Relu"):  # type: ignore[attr-defined]
            node.op = "Neg"
        return True

    monkeypatch.setattr(EliminateIdentity, "run", break_it)
    done = edgecc("compile", small, "-t", "onnxruntime", "-o", "out.onnx", "--verify")
    assert done.code == 4
    assert "eliminate-identity" in done.err
    assert "'y'" in done.err
    assert not Path("out.onnx").exists()


def test_verify_of_honest_passes(edgecc: Run, digits: Path) -> None:
    assert edgecc("compile", digits, "-o", "out.tflite", "--verify").code == 0
