"""Layers as products of smaller ones: where to split them, at which ranks, and how both parts are fitted."""
