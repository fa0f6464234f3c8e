"""Mean-pooled hidden states of the middle layer, compared by cosine: the baseline that knows the model's features.

The middle layer is the customary one: the first layers still hold the tokens, the last ones the guess at the next.
All texts have a large part of their states in common; the documents' mean is taken out before the cosine.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float32, Float64

from headwater_indexer.batches import batches
from headwater_indexer.checkpoint import Checkpoint
from headwater_indexer.windows import Window

DOCUMENTS_AT_ONCE = 1024
Vectors = Float32[np.ndarray, "texts width"]


class HiddenStates:
    """Gives the mean state of each text, over the tokens of all its windows alike."""

    def __init__(self, checkpoint: Checkpoint, *, batch_tokens: int = 8192) -> None:
        self._model = checkpoint.model
        self._batch_tokens = batch_tokens
        config = checkpoint.model.config.get_text_config()
        self.layer = (config.num_hidden_layers + 1) // 2  # 0 is the embedding
        self.width = int(config.hidden_size)

    def __call__(self, texts: Sequence[Sequence[Window]]) -> Vectors:
        """A text without a window has no state: NaN."""
        windows = [window for text in texts for window in text]
        owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        sums, tokens = np.zeros((len(texts), self.width)), np.zeros((len(texts), 1))
        np.add.at(sums, owners, self._window_sums(windows))
        np.add.at(tokens, owners, np.array([[len(window.input_ids)] for window in windows]).reshape(-1, 1))
        return (sums / np.where(tokens > 0, tokens, np.nan)).astype(np.float32)

    def blocks(self, texts: Iterable[Sequence[Window]]) -> Iterator[Vectors]:
        """The states of a stream of texts, some at a time."""
        stream = iter(texts)
        while block := list(islice(stream, DOCUMENTS_AT_ONCE)):
            yield self(block)

    def _window_sums(self, windows: Sequence[Window]) -> Float64[np.ndarray, "windows width"]:
        sums = np.zeros((len(windows), self.width))
        with torch.no_grad():
            for batch in batches(windows, self._batch_tokens):
                there = batch.to(self._model.device)
                states = self._model.base_model(
                    input_ids=there.input_ids,
                    attention_mask=there.attention_mask,
                    output_hidden_states=True,
                    use_cache=False,
                ).hidden_states[self.layer]
                summed = (states.float() * there.attention_mask[:, :, None]).sum(dim=1)
                sums[batch.order] = summed.double().cpu().numpy()
        return sums


def cosines(asked: Vectors, documents: Vectors) -> Float32[np.ndarray, "asked documents"]:
    """Of every question with every document, both seen from the documents' mean; 0 for a document without states."""
    there = np.isfinite(documents).all(axis=1)
    if not there.any():
        return np.zeros((len(asked), len(documents)), dtype=np.float32)
    centre = documents[there].mean(axis=0, dtype=np.float64)
    return np.asarray(_unit_rows(asked - centre) @ _unit_rows(np.where(there[:, None], documents - centre, 0)).T)


def _unit_rows(rows: Float64[np.ndarray, "rows width"]) -> Float32[np.ndarray, "rows width"]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
