"""Other people's residual codecs behind the protocol of `model/protocol.py`: EnCodec, DAC, Mimi, SNAC, Lyra V2."""
