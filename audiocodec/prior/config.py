"""A prior's configuration: strict frozen dataclasses, the same as its `config.json`."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from audiocodec.errors import ModelError


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of the network (`audiocodec/prior/network.py`).

    embedding_dim: of one code. dim, n_layers, n_heads, expansion: of the transformer over frames.
    span: how many frames it attends to in each layer, the current one among them.
    depth_dim: of the network that goes through the levels of a frame. dropout: in training.
    """

    embedding_dim: int = 64
    dim: int = 256
    n_layers: int = 5
    n_heads: int = 4
    expansion: int = 4
    span: int = 256
    depth_dim: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for holds, message in _rules(self):
            if not holds:
                raise ModelError(f"prior: {message}")


def _rules(config: NetworkConfig) -> Iterator[tuple[bool, str]]:
    """What must hold of the sizes, and what to say where it does not."""
    for name in ("embedding_dim", "dim", "n_layers", "n_heads", "expansion", "span", "depth_dim"):
        yield getattr(config, name) >= 1, f"{name} {getattr(config, name)}: expected 1 or more"
    even_heads = config.n_heads >= 1 and config.dim % (2 * config.n_heads) == 0
    yield even_heads, f"dim {config.dim}: expected a multiple of twice the {config.n_heads} heads"
    yield 0 <= config.dropout < 1, f"dropout {config.dropout}: expected 0 or more, below 1"


@dataclass(frozen=True, slots=True)
class PriorConfig:
    """Everything that a `Prior` is built from, and whose codes it knows.

    code_space: id, in hex, of the codes that it was trained on; model: name of the model that made them.
    kinds: what it can be asked for.
    """

    code_space: str
    model: str
    codebook_sizes: tuple[int, ...]
    kinds: tuple[str, ...]
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        if not self.codebook_sizes or min(self.codebook_sizes) < 2:
            raise ModelError(f"prior: codebook sizes {self.codebook_sizes}: expected 2 or more each")
        if len(set(self.kinds)) < len(self.kinds):
            raise ModelError(f"prior: kinds {', '.join(self.kinds)}: one is named twice")

    @property
    def n_q(self) -> int:
        """Number of levels."""
        return len(self.codebook_sizes)

    def kind_index(self, kind: str | None) -> int:
        """Number of a kind in the network; None, "any kind", has the last one. Raises ValueError for one it lacks.

        >>> config = PriorConfig("00", "demo", (16, 16), ("speech", "music"))
        >>> config.kind_index("music"), config.kind_index(None)
        (1, 2)
        """
        if kind is None:
            return len(self.kinds)
        if kind not in self.kinds:
            known = ", ".join(self.kinds) or "none: it was trained without"
            raise ValueError(f"kind {kind!r}: this prior does not know it; it knows {known}")
        return self.kinds.index(kind)
