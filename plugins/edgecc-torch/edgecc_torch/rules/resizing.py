"""Resizing and sampling of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError, Rule

if TYPE_CHECKING:
    from torch.fx import Proxy

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _resize(n: NodeView) -> Proxy:
    """Of ONNX's many ways to count coordinates, those that PyTorch has."""
    mode, coordinates = (
        str(n.attribute("mode", "nearest")),
        str(n.attribute("coordinate_transformation_mode", "half_pixel")),
    )
    if n.attribute("antialias", 0) or n.attribute("exclude_outside", 0):
        raise RefusalError("it filters beforehand or leaves weights out, which PyTorch's resizing does not")
    if str(n.attribute("keep_aspect_ratio_policy", "stretch")) != "stretch":
        raise RefusalError("its sizes are limits, within which it keeps the ratio of the sides")
    name, aligned = _method(n, mode, coordinates)
    rank = n.rank() - 2
    if n.has(3):
        sizes, factors = n.sizes(3)[-rank:], None
    else:
        scales = [float(value) for value in n.value(2).reshape(-1)][-rank:]
        sizes, factors = None, scales
    _check_axes(n, rank)
    options: dict[str, Any] = {"size": sizes} if sizes is not None else {"scale_factor": factors}
    return functional.interpolate(n[0], **options, mode=name, align_corners=aligned)


def _method(n: NodeView, mode: str, coordinates: str) -> tuple[str, bool | None]:
    rank = n.rank() - 2
    if mode == "nearest":
        rounding = str(n.attribute("nearest_mode", "round_prefer_floor"))
        if (coordinates, rounding) == ("asymmetric", "floor"):
            return "nearest", None
        if coordinates in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer") and _is_whole(n):
            return "nearest-exact", None
        raise RefusalError(f"PyTorch's nearest neighbour is not {coordinates} with {rounding}")
    if coordinates not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise RefusalError(f"PyTorch counts no coordinates {coordinates}")
    if coordinates == "pytorch_half_pixel" and not all(
        isinstance(size, int) and size > 1 for size in (n.output_shape() or [""])[2:]
    ):
        raise RefusalError("a size of 1 is taken from the corner, and the sizes are not known", "fix them with --shape")
    aligned = coordinates == "align_corners"
    if aligned and not n.has(3) and not _has_exact_sizes(n):
        raise RefusalError("its corners are those of a size that is no whole number")
    if mode == "linear" and rank in _LINEAR:
        return _LINEAR[rank], aligned
    if mode == "cubic" and rank == 2 and abs(n.attribute("cubic_coeff_a", -0.75) + 0.75) < 1e-6:
        return "bicubic", aligned
    raise RefusalError(f"PyTorch has no such {mode} interpolation over {rank} axes")


def _is_whole(n: NodeView) -> bool:
    """Whether sizes grow by whole numbers, so that no coordinate is halfway between two."""
    shape, output = n.shape(), n.output_shape()
    if n.has(2) and n.is_constant(2) and n.value(2).size:
        return all(float(scale) >= 1 and float(scale).is_integer() for scale in n.value(2).reshape(-1))
    pairs = zip(shape, output or [], strict=True) if output else []
    return all(isinstance(a, int) and isinstance(b, int) and b % a == 0 for a, b in list(pairs)[2:])


def _has_exact_sizes(n: NodeView) -> bool:
    """Whether sizes times scales are whole numbers."""
    rank = n.rank() - 2
    scales = [float(scale) for scale in n.value(2).reshape(-1)[-rank:]]
    sizes = (size if isinstance(size, int) else 1 for size in n.shape()[-rank:])
    return all((size * scale).is_integer() for size, scale in zip(sizes, scales, strict=True))


def _check_axes(n: NodeView, rank: int) -> None:
    axes = n.attribute("axes")
    chosen = None if axes is None else [axis % n.rank() for axis in axes]
    if chosen not in (None, list(range(2, n.rank())), list(range(n.rank()))):
        raise RefusalError("it resizes other axes than the spatial ones")
    if n.has(2) and n.is_constant(2) and n.value(2).size > rank and any(n.value(2).reshape(-1)[:2] != 1):
        raise RefusalError("it resizes batch or channels")
    shape, output = n.shape(), n.output_shape()
    if output is not None and any(a != b for a, b in zip(shape[:2], output[:2], strict=True) if isinstance(b, int)):
        raise RefusalError("it resizes batch or channels")


def _grid_sample(n: NodeView) -> Proxy:
    mode = {
        "linear": "bilinear",
        "bilinear": "bilinear",
        "nearest": "nearest",
        "cubic": "bicubic",
        "bicubic": "bicubic",
    }[str(n.attribute("mode", "linear"))]
    padding, aligned = str(n.attribute("padding_mode", "zeros")), bool(n.attribute("align_corners", 0))
    return functional.grid_sample(n[0], n[1], mode, padding, aligned)


RULES: dict[str, Rule] = {
    "GridSample": _grid_sample,
    "Resize": _resize,
}
