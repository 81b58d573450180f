"""edgeprune: from a dense image classifier to a sparse one, measured on the board. Start reading at `pipeline.py`."""

__version__ = "0.1.0"
