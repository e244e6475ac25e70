"""Keras and TensorFlow for edgecc: the importer of `.keras`, `.h5` and SavedModel folders."""
