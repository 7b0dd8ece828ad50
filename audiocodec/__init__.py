"""A neural audio codec: `encode_file`, `decode_file`, `info`, and `load` for arrays, batches and streams.

`import audiocodec` loads no torch: names are fetched from their modules when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from audiocodec.errors import AudioError, CodecError, FormatError, ModelError

if TYPE_CHECKING:
    from audiocodec.codec import Codec, load
    from audiocodec.codes import Codes, CodeSpace, Source
    from audiocodec.decoding import decode_file
    from audiocodec.encoding import encode_file
    from audiocodec.tools import drop_file, info, recode_file, verify_file

__version__ = "0.1.0"

_HOMES = {
    "Codec": "audiocodec.codec",
    "load": "audiocodec.codec",
    "Codes": "audiocodec.codes",
    "CodeSpace": "audiocodec.codes",
    "Source": "audiocodec.codes",
    "decode_file": "audiocodec.decoding",
    "encode_file": "audiocodec.encoding",
    "drop_file": "audiocodec.tools",
    "info": "audiocodec.tools",
    "recode_file": "audiocodec.tools",
    "verify_file": "audiocodec.tools",
}

__all__ = [
    "AudioError",
    "CodeSpace",
    "Codec",
    "CodecError",
    "Codes",
    "FormatError",
    "ModelError",
    "Source",
    "decode_file",
    "drop_file",
    "encode_file",
    "info",
    "load",
    "recode_file",
    "verify_file",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'audiocodec' has no attribute {name!r}")
