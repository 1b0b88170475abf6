"""The encoder on volumes of more tokens than fit at once. Its settings lie outside, in
``streaming_parameters.py``: whoever plans a run reads them, and must not load torch for that."""

from spatialdino_core.encoder.streaming.encoder import StreamedOutput, StreamingEncoder

__all__ = ["StreamedOutput", "StreamingEncoder"]
