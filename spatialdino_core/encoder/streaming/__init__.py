"""The encoder on volumes of more tokens than fit at once. Its settings are beside it, in ``streaming_parameters.py``:
whoever plans a run reads them without loading torch."""

from spatialdino_core.encoder.streaming.encoder import StreamedOutput, StreamingEncoder

__all__ = ["StreamedOutput", "StreamingEncoder"]
