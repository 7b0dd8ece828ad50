"""The errors a user can meet. Each message says what was found, what was expected, and what to do."""


class CodecError(Exception):
    """Base of all errors that a user's input, files or choices can cause."""


class AudioError(CodecError):
    """Audio that cannot be read, written, or coded as it is."""


class FormatError(CodecError):
    """Bytes that are not a whole, undamaged `.rq` stream."""


class ModelError(CodecError):
    """A model that is missing, unreadable, or not the one a file needs."""
