"""The codecs that take part in a benchmark, by name."""

from collections.abc import Callable, Mapping, Sequence

from audiocodec.bench.competitors import decoded, lyra, ours, pyav, speech, tools
from audiocodec.bench.results import Competitor, Unavailable
from audiocodec.errors import CodecError
from audiocodec.model.catalogue import DEFAULT_MODEL


def opus() -> Competitor:
    """Opus by PyAV, whose libopus is the newer one; by opus-tools where it is missing."""
    try:
        return pyav.opus()
    except Unavailable as without_av:
        try:
            return tools.opus()
        except Unavailable as without_tools:
            raise Unavailable(f"{without_av}; or: {without_tools}") from without_tools


BY_NAME: Mapping[str, Callable[[], Competitor]] = {
    "opus": opus,
    "lc3": tools.lc3,
    "codec2": speech.codec2,
    "mp3": pyav.mp3,
    "vorbis": tools.vorbis,
    "aac": pyav.aac,
    "speex": tools.speex,
    "amrwb": speech.amrwb,
}
BY_ARGUMENT: Mapping[str, Callable[[str], Competitor]] = {
    "ours": ours.build,
    "vbr": ours.build_variable,
    "hf": lambda name: ours.build(f"hf:{name}"),
    "lyra": lyra.build,
    "decoded": decoded.build,
}
KNOWN = f"vbr, {', '.join(BY_NAME)}, ours:MODEL, vbr:MODEL, hf:OWNER/NAME, lyra:DIR, decoded:DIR@KBPS[@MS]"


def build(names: Sequence[str], model: str = DEFAULT_MODEL) -> tuple[list[Competitor], list[str]]:
    """The competitors of these names, after a model of ours ("ours"), which always takes part.

    names: as KNOWN lists them; "vbr" is the same model with variable bitrate. Also returns a line for each codec
    that is left out because something is not installed: which one, and what to install. Raises CodecError for an
    unknown name and for one that appears twice.
    """
    competitors: list[Competitor] = [ours.build(model, "ours")]
    missing = []
    for name in names:
        try:
            competitors.append(ours.build_variable(model, "ours") if name == "vbr" else build_one(name))
        except Unavailable as error:
            missing.append(str(error))
    shown = [competitor.name for competitor in competitors]
    twice = sorted({name for name in shown if shown.count(name) > 1})
    if twice:
        raise CodecError(f"{', '.join(twice)}: named twice; each codec takes part once. Known are {KNOWN}")
    return competitors, missing


def build_one(name: str) -> Competitor:
    """The competitor of a name. Raises Unavailable where it cannot run here, CodecError if there is none such."""
    kind, colon, argument = name.partition(":")
    if colon and argument and kind in BY_ARGUMENT:
        return BY_ARGUMENT[kind](argument)
    if name not in BY_NAME:
        raise CodecError(f"no codec {name!r}: known are {KNOWN}")
    return BY_NAME[name]()
