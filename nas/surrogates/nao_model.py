"""NAO's encoder, predictor and decoder (Luo et al. 2018, "Neural Architecture Optimization", section 3).

Sequences of words are `int64[n, L]` with words 1 to V - 1; 0 ends a sequence and fills it up. The code of one
is its encoder's outputs, `float32[L, H]`, each of length 1, zeros behind its end. This module imports torch;
what it draws comes from a generator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.surrogates.model import Floats, Unfit

Words = NDArray[np.int64]

EMBEDDING = 48
"""Numbers a word becomes (renqianluo/NAO_pytorch, NAO_V1/train_search.py)."""

LAYERS, UNITS, DROPOUT = 3, 200, 0.1
"""Hidden layers of the predictor, their width, and the share of units dropped (likewise)."""

BATCH, WEIGHT_DECAY, CLIP = 100, 1e-4, 5.0
"""Of the training (likewise)."""


@dataclass(frozen=True, slots=True)
class Training:
    """
    Attributes:
        hidden: H, width of encoder and decoder.
        updates: of all parameters, each on at most `BATCH` sequences.
        learning_rate: of Adam.
        trade_off: lambda, the predictor's share of the loss; the decoder has the rest.
    """

    hidden: int = 96
    updates: int = 6000
    learning_rate: float = 1e-3
    trade_off: float = 0.8


class Network(nn.Module):
    """Parameters and forward passes; `vocabulary` = V, `length` = L.

    Beside its word each place has a vector of its own (our addition): with few sequences an LSTM does not
    learn to count.
    """

    def __init__(self, vocabulary: int, length: int, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, EMBEDDING)
        self.places = nn.Embedding(length, EMBEDDING)
        self.encoder = nn.LSTM(EMBEDDING, hidden, batch_first=True)
        widths = [hidden, *[UNITS] * LAYERS]
        self.predictor = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)])
        self.value = nn.Linear(UNITS, 1)
        self.decoder = nn.LSTM(EMBEDDING, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.mixed = nn.Linear(2 * hidden, hidden)
        self.word = nn.Linear(hidden, vocabulary)

    def draw(self, generator: torch.Generator) -> None:
        """First values of all parameters, uniform in +-.1 (as NAO's embeddings) or +-1 / sqrt(fan in)."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                table = name.startswith(("words", "places"))
                bound = 0.1 if table or parameter.dim() < 2 else parameter.shape[1] ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)

    def encode(self, words: Tensor) -> Tensor:
        """`int64[n, L]` -> codes `float32[n, L, H]`."""
        outputs, _ = self.encoder(self.words(words) + self.places.weight)
        codes: Tensor = F.normalize(outputs, dim=-1) * (words > 0)[..., None]
        return codes

    def predict(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Values in (0, 1), `float32[n]`; with a generator units are dropped."""
        x = summary(codes)
        for layer in self.predictor:
            x = F.relu(layer(x))
            if generator is not None:
                kept = torch.rand(x.shape, generator=generator) >= DROPOUT
                x = x * kept / (1 - DROPOUT)
        return torch.sigmoid(self.value(x)).squeeze(-1)

    def logits(self, codes: Tensor, words: Tensor) -> Tensor:
        """Of each word given those before it, `float32[n, L, V]`."""
        before = F.pad(words[:, :-1], (1, 0))
        return self.step(codes, self.words(before) + self.places.weight, start(codes))[0]

    def step(
        self, codes: Tensor, given: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The decoder over embedded words `float32[n, l, E]`: logits of the next, and its state.

        It looks at the code with dot-product attention (Luo et al. 2018, section 3.1).
        """
        outputs, state = self.decoder(given, state)
        scores = self.query(outputs) @ codes.transpose(1, 2)
        ended = (codes == 0).all(dim=-1)[:, None]
        looked_at = torch.softmax(scores.masked_fill(ended, -torch.inf), dim=-1) @ codes
        mixed = torch.tanh(self.mixed(torch.cat([looked_at, outputs], dim=-1)))
        return self.word(mixed), state


def summary(codes: Tensor) -> Tensor:
    """The mean of a code's rows, of length 1: `float32[n, H]`."""
    return F.normalize(codes.sum(dim=1), dim=-1)


def start(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The decoder's first state."""
    whole = summary(codes)[None].contiguous()
    return whole, whole


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in the same order wherever it runs; the number of threads is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Codec:
    """A trained network: from words to codes, up the predictor's gradient, and back."""

    network: Network

    def encode(self, words: Words) -> Tensor:
        """Codes of `int64[n, L]`."""
        with one_thread(), torch.no_grad():
            return self.network.encode(torch.from_numpy(words))

    def predict(self, codes: Tensor) -> Floats:
        """`float64[n]` in (0, 1), 1 for the best."""
        with one_thread(), torch.no_grad():
            return np.asarray(self.network.predict(codes).double().numpy())

    def gradient(self, codes: Tensor) -> Tensor:
        """Of the predicted value by the code, scaled so that its longest row has length 1."""
        with one_thread(), torch.enable_grad():
            codes = codes.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.network.predict(codes).sum(), codes)
        slope = slope * (codes != 0).any(dim=-1, keepdim=True)
        longest = slope.norm(dim=-1).amax(dim=-1)[:, None, None]
        unit: Tensor = (slope / longest.clamp_min(1e-12)).detach()
        return unit

    def ascended(self, codes: Tensor, slope: Tensor, step: float) -> Tensor:
        """h' = h + eta df/dh (Luo et al. 2018, eq. 4), rows of length 1 again."""
        moved: Tensor = F.normalize(codes + step * slope, dim=-1)
        return moved

    def decode(self, codes: Tensor, allowed: NDArray[np.bool_]) -> Words:
        """The likeliest word at each place in turn, of those that `allowed` (`bool[L, V]`) has there."""
        network, ended = self.network, torch.zeros(len(codes), dtype=torch.bool)
        words = torch.zeros(codes.shape[:2], dtype=torch.int64)
        forbidden = torch.from_numpy(~allowed)
        with one_thread(), torch.no_grad():
            state, word = start(codes), words[:, 0]
            for place in range(words.shape[1]):
                given = network.words(word)[:, None] + network.places.weight[place]
                logits, state = network.step(codes, given, state)
                word = logits[:, 0].masked_fill(forbidden[place], -torch.inf).argmax(dim=-1)
                ended |= word == 0
                word = word.masked_fill(ended, 0)
                words[:, place] = word
        return np.asarray(words.numpy())

    def log_likelihood(self, code: Tensor, words: Words) -> Floats:
        """Of each of `int64[n, L]` under one code (`float32[L, H]`): `float64[n]`."""
        with one_thread(), torch.no_grad():
            given = torch.from_numpy(words)
            logits = self.network.logits(code.expand(len(words), -1, -1), given)
            return np.asarray(-_surprise(logits, given).double().numpy())


def _surprise(logits: Tensor, words: Tensor) -> Tensor:
    """Negative log-likelihood of each sequence, its end included: `float32[n]`."""
    each = F.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none").view(words.shape)
    counted = F.pad(words[:, :-1], (1, 0), value=1) > 0
    return (each * counted).sum(dim=1)


def fit(words: Words, y: Floats, vocabulary: int, training: Training, seed: int) -> Codec:
    """Learns to predict `y` (`float64[n]` in [0, 1], 1 is best) and to write `words` (`int64[n, L]`) again.

    The loss is lambda MSE + (1 - lambda) cross-entropy a word (Luo et al. 2018, eq. 3).

    Raises:
        Unfit: the network came to numbers that are not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = Network(vocabulary, words.shape[1], training.hidden)
    network = network.to_empty(device="cpu")
    network.draw(generator)
    x, target = torch.from_numpy(words), torch.from_numpy(y).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=training.learning_rate, weight_decay=WEIGHT_DECAY)
    with one_thread(), torch.enable_grad():
        for batch in islice(_batches(len(x), generator), training.updates):
            codes = network.encode(x[batch])
            off = F.mse_loss(network.predict(codes, generator), target[batch])
            surprise = _surprise(network.logits(codes, x[batch]), x[batch]).sum() / (x[batch] > 0).sum()
            loss = training.trade_off * off + (1 - training.trade_off) * surprise
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise Unfit("the network diverged")
    return Codec(network.requires_grad_(False))


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of batches, in a new order for each pass over all; without end."""
    while True:
        order = torch.randperm(count, generator=generator)
        yield from (order[i : i + BATCH] for i in range(0, count, BATCH))
