"""Archives are untrusted: what could run code, fill the memory or lead elsewhere is refused before PyTorch sees it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import edgecc
from edgecc.errors import InvalidModelError
from edgecc_torch.testing.modules import edited


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """An edit of a record that is JSON."""

    def edit(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return edit


PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def nodes(program: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = program["graph_module"]["graph"]["nodes"]
    return found


def weight(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["config"]["conv.weight"]
    return found


def call(target: str) -> Callable[[bytes], bytes]:
    return changed(lambda program: nodes(program)[0].update(target=target))


def size(text: str) -> Callable[[bytes], bytes]:
    """Every open dimension becomes an expression that PyTorch would evaluate."""
    return lambda data: json.dumps(replaced(json.loads(data), text)).encode()


def replaced(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: text if key == "expr_str" else replaced(item, text) for key, item in value.items()}
    return [replaced(item, text) for item in value] if isinstance(value, list) else value


HOSTILE = {
    "calls os.system": (
        PROGRAM,
        call("torch.os.system"),
        "it calls torch.os.system, which may do more than compute",
    ),
    "maps a file": (PROGRAM, call("torch.ops.aten.from_file.default"), "it calls torch.ops.aten.from_file.default"),
    "loads a library": (PROGRAM, call("torch.ops.load_library"), "it calls torch.ops.load_library"),
    "calls through a class": (PROGRAM, call("torch.ops.aten.__class__.default"), "it calls torch.ops.aten.__class__"),
    "calls operator.call": (PROGRAM, call("_operator.call"), "it calls _operator.call"),
    "calls an extension": (PROGRAM, call("#shell:run"), "it calls #shell:run"),
    "an argument is a function": (
        PROGRAM,
        changed(
            lambda p: nodes(p)[0]["inputs"].append({"name": "f", "arg": {"as_operator": "torch.os.system"}, "kind": 1})
        ),
        "it calls torch.os.system",
    ),
    "a size is a call": (PROGRAM, size("__import__('os').system('true')"), "it calls an unknown function"),
    "a size is an attribute": (PROGRAM, size("s0.__class__"), "Attribute"),
    "a size is a lambda": (PROGRAM, size("(lambda: 0)()"), "it calls an unknown function"),
    "a size takes forever": (PROGRAM, size("9**9**9**9"), "a large power"),
    "a symbol is code": (PROGRAM, size("Symbol('__import__')"), "a text"),
    "a custom object": (
        PROGRAM,
        changed(lambda p: p["graph_module"]["graph"].update(custom_obj_values={"obj": {}})),
        "it uses custom objects",
    ),
    "a pickled weight": (WEIGHTS, changed(lambda c: weight(c).update(use_pickle=True)), "could run any code"),
    "a custom object as a weight": (
        WEIGHTS,
        changed(lambda c: weight(c).update(path_name="custom_obj_0")),
        "could run any code",
    ),
    "a weight elsewhere": (
        WEIGHTS,
        changed(lambda c: weight(c).update(path_name="../../x")),
        "no record is named for it",
    ),
    "a weight past its bytes": (
        WEIGHTS,
        changed(lambda c: weight(c)["tensor_meta"].update(storage_offset={"as_int": 10})),
        "does not fit its 432 bytes",
    ),
    "a huge weight without bytes": (
        WEIGHTS,
        changed(lambda c: weight(c)["tensor_meta"].update(sizes=[{"as_int": 10**12}], strides=[{"as_int": 0}])),
        "does not fit its 432 bytes",
    ),
    "another version of PyTorch": (
        PROGRAM,
        changed(lambda p: p.update(schema_version={"major": 99, "minor": 0})),
        "cannot be read by PyTorch",
    ),
    "no JSON": (PROGRAM, lambda data: b"\x80\x04.", "no JSON"),
    "no program": (PROGRAM, lambda data: b"{}", "its program lacks a part"),
    "deeply nested": (PROGRAM, lambda data: b"[" * 100_000, "no JSON"),
    "a newer version": ("archive_version", lambda data: b"1", "only version 0 is known"),
    "another archive": ("archive_format", lambda data: b"pt3", "is not an exported program"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused(name: str, program_bytes: bytes, tmp_path: Path) -> None:
    record, edit, reason = HOSTILE[name]
    path = tmp_path / "m.pt2"
    path.write_bytes(edited(program_bytes, {record: edit}))
    with pytest.raises(InvalidModelError) as caught:
        edgecc.load(path)
    assert reason in str(caught.value)


def test_pickles_beside_the_program_are_never_read(program_bytes: bytes, tmp_path: Path) -> None:
    """PyTorch unpickles the sample inputs; here they would leave a file behind."""
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    trap = pickle.dumps(Trap())
    pickle.loads(trap)
    (tmp_path / "sprung").unlink()  # the trap works
    path = tmp_path / "m.pt2"
    edits = {"data/sample_inputs/model.pt": lambda data: trap}
    path.write_bytes(edited(program_bytes, edits, {"data/constants/opaque_obj_0": trap, "data/weights/model.pt": trap}))
    assert edgecc.load(path).nodes()
    assert not (tmp_path / "sprung").exists()


def test_pickled_weights_of_an_older_version(program_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(edited(program_bytes, {WEIGHTS: None}, {"data/weights/model.pt": b"\x80\x02"}))
    with pytest.raises(InvalidModelError, match="older PyTorch, whose weights are pickled"):
        edgecc.load(path)


def test_guards_are_never_compiled(program_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    code = f"__import__('pathlib').Path({str(tmp_path / 'sprung')!r}).touch()"
    path.write_bytes(edited(program_bytes, {PROGRAM: changed(lambda p: p.update(guards_code=[code]))}))
    assert edgecc.load(path).nodes()
    assert not (tmp_path / "sprung").exists()


def written(records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return contents.getvalue()


WRONG_ZIPS = {
    "path traversal": (written({"m/archive_format": b"pt2", "m/../../etc/x": b""}), "leads out of its folder"),
    "absolute path": (written({"m/archive_format": b"pt2", "/etc/x": b""}), "leads out of its folder"),
    "two folders": (written({"m/archive_format": b"pt2", "n/x": b""}), "not in one folder"),
    "zip bomb": (
        written({"m/archive_format": b"pt2", "m/models/model.json": bytes(1 << 27)}, zipfile.ZIP_DEFLATED),
        "compressed records have",
    ),
    "compiled code": (
        written({"m/archive_format": b"pt2", "m/archive_version": b"0", "m/data/aotinductor/model/x.so": b""}),
        "holds compiled machine code",
    ),
    "several programs": (
        written(
            {"m/archive_format": b"pt2", "m/archive_version": b"0", "m/models/a.json": b"", "m/models/b.json": b""}
        ),
        "holds several programs",
    ),
    "an old one": (written({"serialized_exported_program.json": b"", "version": b"5.1"}), "PyTorch 2.7 or older"),
}


@pytest.mark.parametrize("name", WRONG_ZIPS)
def test_wrong_zip_is_refused(name: str, tmp_path: Path) -> None:
    contents, reason = WRONG_ZIPS[name]
    path = tmp_path / "m.pt2"
    path.write_bytes(contents)
    with pytest.raises(InvalidModelError) as caught:
        edgecc.load(path)
    assert reason in str(caught.value)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_archive(fraction: float, program_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(program_bytes[: int(len(program_bytes) * fraction)])
    with pytest.raises(InvalidModelError, match="is truncated or damaged" if fraction else "is empty"):
        edgecc.load(path)


def test_flipped_bits_are_noticed(program_bytes: bytes, tmp_path: Path) -> None:
    """In the weights, where nothing but the checksum tells."""
    with zipfile.ZipFile(io.BytesIO(program_bytes)) as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith("weight_0"))
        place = program_bytes.index(archive.read(info)[:64])
    damaged = bytearray(program_bytes)
    damaged[place + 10] ^= 1
    path = tmp_path / "m.pt2"
    path.write_bytes(damaged)
    with pytest.raises(InvalidModelError, match="damaged"):
        edgecc.load(path)


def test_content_decides_and_not_the_suffix(program_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mislabelled.onnx"
    path.write_bytes(program_bytes)
    assert [spec.name for spec in edgecc.load(path).signature.inputs] == ["image", "gain"]
