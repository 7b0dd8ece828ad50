"""The integer network of the entropy coder: from the codes around a place to the weights of all codes there.

It computes with integers alone, so every machine gets the same. Products of matrices run in float32, whose sums
are exact as long as they stay below 2**24, in whatever order; weights with which one might not are refused.
A shift to the right is a power of two in the weights, which takes no precision, and a floor.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiocodec.bitstream.ans import BITS
from audiocodec.codes import MAX_CODEBOOK_SIZE, MAX_LEVELS

Arrays = Mapping[str, NDArray[np.generic]]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

MAX_TAPS = 64  # in the past, and in the future
TOP = 127  # of activations, which start at 0, and of sums of embedded codes, which start at -127
EXACT = 1 << 24  # float32 has every integer up to here
SHIFT = 6  # bits by which a sum is shifted to become an activation
STEP_SHIFT = 8  # ... and an output to become a step in the table of powers
# Weight of a code, by how many sixteenths of a bit it falls short of the likeliest one.
POWERS = np.array([round(2 ** (BITS - step / 16)) for step in range(256)], np.int64)

INT8 = {"embedding": "KD", "context": "HTD", "hidden": "HH", "output": "KH"}
INT32 = {"context_bias": "H", "hidden_bias": "H", "output_bias": "K"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One matrix product: float32 `weights` [inputs, outputs] and `bias` [outputs]."""

    weights: Floats
    bias: Floats

    def __call__(self, inputs: Floats) -> Floats:
        """inputs [n, inputs] -> float32 [n, outputs]."""
        outputs: Floats = inputs @ self.weights
        outputs += self.bias
        return outputs


@dataclass(frozen=True, slots=True)
class Network:
    """The network of one level.

    embedding [K, D]: what a code of this level adds to the context of others.
    context: from the codes around a place, [taps * D] -> [H]; hidden: [H] -> [H]; output: [H] -> [K].
    """

    embedding: Floats
    context: Layer
    hidden: Layer
    output: Layer

    def sums(self, context: Floats) -> Ints:
        """Running sums of the weights of all codes: context [n, H], before activation -> int64 [n, K]."""
        first = np.floor(np.minimum(np.maximum(context, 0), TOP))
        second = np.minimum(first + np.floor(np.maximum(self.hidden(first), 0)), TOP)
        outputs = self.output(second)
        # A difference above 2**24 may round, but is far beyond the last step.
        steps = np.subtract(outputs.max(axis=1, keepdims=True), outputs, out=outputs)
        np.minimum(steps, len(POWERS) - 1, out=steps)
        sums: Ints = POWERS.take(steps.astype(np.intp)).cumsum(axis=1)
        return sums

    def echoes(self) -> Floats:
        """What each code adds to the contexts of the frames after it, the next one first: [K, taps, H].

        For a level whose taps all lie in the past.
        """
        (n_codes, dim), (_, n_outputs) = self.embedding.shape, self.context.weights.shape
        taps = self.context.weights.reshape(-1, dim, n_outputs)[::-1]
        echoes: Floats = np.clip(self.embedding, -TOP, TOP) @ taps.transpose(1, 0, 2).reshape(dim, -1)
        return echoes.reshape(n_codes, -1, n_outputs)


def build_networks(arrays: Arrays) -> tuple[list[Network], int, int]:
    """The networks of all levels, and how many frames they see in the past and in the future.

    arrays: as EntropyTables says. Raises ValueError where they are not so.
    """
    n_q = sum(name.startswith("embedding_") for name in arrays)
    names = {f"{name}_{level}" for name in INT8 | INT32 for level in range(n_q)} | {"past", "future"}
    if arrays.keys() != names or not 1 <= n_q <= MAX_LEVELS:
        strange = sorted(arrays.keys() ^ names)[:4]
        raise ValueError(f"arrays for {n_q} levels (1 to {MAX_LEVELS}); missing or unknown: {strange}")
    past, future = _span(arrays, "past", 1), _span(arrays, "future", 0)
    networks = [_network(arrays, 0, {"T": past})]
    sizes = {"T": past + 1 + future, "D": networks[0].embedding.shape[1]}
    networks += [_network(arrays, level, sizes) for level in range(1, n_q)]
    return networks, past, future


def _span(arrays: Arrays, name: str, least: int) -> int:
    """The number of frames under `name`."""
    value = arrays[name]
    if value.shape or value.dtype.kind not in "iu" or not least <= int(value) <= MAX_TAPS:
        raise ValueError(
            f"{name} is {value.dtype} {value.tolist()}: expected a whole number, {least} to {MAX_TAPS}"
        )
    return int(value)


def _network(arrays: Arrays, level: int, sizes: dict[str, int]) -> Network:
    """The network of `level`. sizes: of some axes; the first array to have another axis says its size."""
    sizes = dict(sizes)
    found: dict[str, NDArray[np.generic]] = {}
    for name, axes in (INT8 | INT32).items():
        array = found[name] = arrays[f"{name}_{level}"]
        shape = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=False))
        dtype = np.int8 if name in INT8 else np.int32
        if array.ndim != len(axes) or array.shape != shape or array.dtype != dtype or not array.size:
            expected = [sizes.get(axis, axis) for axis in axes]
            raise ValueError(
                f"{name}_{level} is {array.dtype} {list(array.shape)}: expected {dtype.__name__} {expected}"
            )
    if not 2 <= sizes["K"] <= MAX_CODEBOOK_SIZE:
        raise ValueError(f"{sizes['K']} codes at level {level}: expected 2 to {MAX_CODEBOOK_SIZE}")
    return Network(
        found["embedding"].astype(np.float32),
        _layer(found, "context", SHIFT),
        _layer(found, "hidden", SHIFT),
        _layer(found, "output", STEP_SHIFT),
    )


def _layer(found: Arrays, name: str, shift: int) -> Layer:
    """A layer from its weights [outputs, ...] and bias; what comes out of it is shifted right by `shift` bits."""
    weights = found[name].reshape(len(found[name]), -1).astype(np.int64)
    bias = found[f"{name}_bias"].astype(np.int64)
    largest = int((np.abs(weights).sum(axis=1) * TOP + np.abs(bias)).max())
    if largest >= EXACT:
        raise ValueError(
            f"sums of {name} can reach {largest}: only below {EXACT} are they exact on every machine"
        )
    unit = 2.0**-shift
    return Layer(np.ascontiguousarray(weights.T * unit, np.float32), (bias * unit).astype(np.float32))
