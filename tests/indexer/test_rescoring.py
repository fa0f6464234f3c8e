"""Rescoring by unprojected gradients against its slow twin: autograd for each document, dense matrices, float64."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from headwater_indexer.build import build_index
from headwater_indexer.ekfac.factors import DAMPING
from headwater_indexer.ekfac.influence import token_influences, window_influences
from headwater_indexer.ekfac.pieces import with_pieces
from headwater_indexer.errors import ConfigurationError, UsageError
from headwater_indexer.index import Index
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.options import BuildOptions
from headwater_indexer.windows import Window
from headwater_indexer.workspace import Workspace

PROMPT, RESPONSE = "the river feeds", " the lake and crosses the stone bridge"
Layers = list[torch.Tensor]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path, corpus_file: Path) -> Index:
    out = tmp_path_factory.mktemp("rescored") / "my.index"
    build_index(str(checkpoint_folder), str(corpus_file), out, BuildOptions(rank=4, factors=True))
    return Index.open(out)


@pytest.fixture(scope="module")
def exact(checkpoint_folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(checkpoint_folder, dtype=torch.float64)


def gradient(model: PreTrainedModel, names: tuple[str, ...], windows: list[Window]) -> Layers:
    """[out_dim, in_dim] of each GPT-2 layer, of the summed loss of all windows, by autograd."""
    weights = [model.get_submodule(name).get_parameter("weight").requires_grad_(True) for name in names]
    loss = torch.zeros((), dtype=torch.float64)
    for window in windows:
        ids = torch.from_numpy(window.input_ids.astype("int64"))[None]
        logits = model(input_ids=ids).logits[0, window.first_target - 1 : -1]
        loss = loss + functional.cross_entropy(logits, ids[0, window.first_target :], reduction="sum")
    return [part.T for part in torch.autograd.grad(loss, weights)]


def slow_preconditioned(documents: list[Layers], query: Layers) -> Layers:
    """EK-FAC by its definition, one dense matrix for each layer; each of `documents` is one window's gradient."""
    found = []
    for layer, asked in enumerate(query):
        own = torch.stack([document[layer] for document in documents])
        output = torch.linalg.eigh((own @ own.mT).sum(0)).eigenvectors
        into = torch.linalg.eigh((own.mT @ own).sum(0)).eigenvectors
        basis = torch.kron(output, into)
        eigenvalues = (own.flatten(1) @ basis).square().mean(0)
        damped = eigenvalues + DAMPING * eigenvalues.mean()
        found.append((basis @ ((basis.T @ asked.flatten()) / damped)).view_as(asked))
    return found


def test_rescored_influence_is_the_slow_twins(index: Index, exact: PreTrainedModel) -> None:
    names, pair = index.manifest.layers, index.encode(PROMPT, RESPONSE)
    every = [index.windows(ordinal) for ordinal in range(len(index.documents))]
    assert any(len(windows) > 1 for windows in every)
    by_window = [gradient(exact, names, [window]) for windows in every for window in windows]
    direction = slow_preconditioned(by_window, gradient(exact, names, [pair.window]))
    expected = np.array(
        [
            sum(float((part * own).sum()) for part, own in zip(direction, gradient(exact, names, windows), strict=True))
            for windows in every
        ]
    )
    (alone,) = index.rescore([pair], None)
    several = index.rescore([pair, index.encode("", RESPONSE), pair], [[7, 3, 3], [0], range(len(every))])
    assert np.linalg.norm(alone - expected) < 1e-3 * np.linalg.norm(expected)
    np.testing.assert_allclose(several[2], alone, rtol=1e-3, atol=1e-5 * np.abs(alone).max())
    np.testing.assert_allclose(several[0], alone[[7, 3, 3]], rtol=1e-3, atol=1e-5 * np.abs(alone).max())


def test_influence_of_windows_and_tokens_in_every_family(
    family: str, make_model: Callable[..., PreTrainedModel]
) -> None:
    """The influence of a window on M is the derivative of its loss along M."""
    model = make_model(family)
    layers = [layer for layer in select_layers(model, "all") if f"{layer.name}.weight" in model.state_dict()]
    draw = np.random.default_rng(0)
    windows = [
        Window(input_ids=draw.integers(3, 320, n).astype(np.int32), first_target=1 + n // 4) for n in (9, 40, 21)
    ]
    torch.manual_seed(0)
    directions = {layer.name: torch.randn(3, layer.out_dim, layer.in_dim) for layer in layers}
    several = window_influences(model, layers, directions, windows, batch_tokens=64)
    first = {name: part[:1] for name, part in directions.items()}
    by_token = token_influences(model, layers, first, windows, batch_tokens=64)
    one = window_influences(model, layers, first, windows, batch_tokens=64)[0]
    gradients = [autograd(model, layers, window) for window in windows]
    expected = torch.tensor(
        [
            [sum(float((own[n] * part[q]).sum()) for n, part in directions.items()) for own in gradients]
            for q in range(3)
        ]
    )
    tolerance = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(several, expected, rtol=1e-4, atol=tolerance)
    torch.testing.assert_close(one, expected[0], rtol=1e-4, atol=tolerance)
    for values, window, total in zip(by_token, windows, expected[0], strict=True):
        assert values.shape == window.input_ids.shape
        assert values.sum() == pytest.approx(float(total), rel=1e-4, abs=tolerance)
        assert values[-1] == 0  # the last position predicts nothing


def autograd(model: PreTrainedModel, layers: list[Layer], window: Window) -> dict[str, torch.Tensor]:
    weights = [model.get_submodule(layer.name).get_parameter("weight").requires_grad_(True) for layer in layers]
    ids = torch.from_numpy(window.input_ids.astype("int64"))[None]
    logits = model(input_ids=ids, use_cache=False).logits[0, window.first_target - 1 : -1]
    loss = functional.cross_entropy(logits, ids[0, window.first_target :], reduction="sum")
    gradients = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    shapes = [(layer.out_dim, layer.in_dim) for layer in layers]
    conv = [isinstance(model.get_submodule(layer.name), Conv1D) for layer in layers]
    found = [part.T if turned else part for part, turned in zip(gradients, conv, strict=True)]
    assert [tuple(part.shape) for part in found] == shapes
    return {layer.name: part for layer, part in zip(layers, found, strict=True)}


@pytest.mark.parametrize("refine", [0, 2])
def test_the_tokens_of_either_side_sum_to_the_score(index: Index, refine: int) -> None:
    pair = index.encode(PROMPT, RESPONSE)
    many_windows = next(n for n in range(len(index.documents)) if len(index.windows(n)) > 1)
    ordinals = [2, many_windows]
    (scores,) = index.rescore([pair], [ordinals], refine=refine)
    for explanation, score in zip(index.explain(pair, ordinals, refine=refine), scores, strict=True):
        text = index.documents.by_ordinal([explanation.ordinal])[0].text
        assert explanation.score == pytest.approx(score, rel=1e-3)
        assert sum(token.influence for token in explanation.document) == pytest.approx(score, rel=1e-3)
        assert sum(token.influence for token in explanation.response) == pytest.approx(score, rel=1e-3)
        assert "".join(token.text for token in explanation.document) == text
        assert "".join(token.text for token in explanation.response) == RESPONSE
        assert all(token.text == text[token.start : token.end] for token in explanation.document)


def test_a_text_is_found_behind_a_prompt_that_says_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    text = " the river"
    ids = [*tokenizer("the river")["input_ids"], *tokenizer(text)["input_ids"], *tokenizer(text)["input_ids"]]
    begin = len(tokenizer("the river")["input_ids"])
    tokens = with_pieces(tokenizer, text, ids, np.arange(len(ids), dtype=np.float32), begin=begin)
    assert [token.start for token in tokens[:begin]] == [None] * begin
    assert "".join(token.text for token in tokens[:begin]) == "the river"
    assert "".join(token.text for token in tokens if token.start is not None) == text
    assert tokens[begin].start == 0
    assert tokens[-1].start is None
    assert [token.influence for token in tokens] == list(range(len(ids)))
    cut = with_pieces(tokenizer, text, ids[: begin + 1], np.zeros(begin + 1), begin=begin)
    assert (cut[-1].start, cut[-1].text) == (0, text[: cut[-1].end])


def test_without_factors_nothing_is_rescored(
    tmp_path: Path, checkpoint_folder: Path, corpus_file: Path, index: Index
) -> None:
    assert index.can_rescore
    assert "factors.safetensors" in {file.path for file in index.manifest.files}
    build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "plain", BuildOptions(rank=4))
    plain = Index.open(tmp_path / "plain")
    assert not plain.can_rescore
    with pytest.raises(ConfigurationError, match="built without --factors"):
        plain.rescore([plain.encode(PROMPT, RESPONSE)], [[1]])
    with pytest.raises(UsageError, match="2 lists of candidates for 1 pairs"):
        index.rescore([index.encode(PROMPT, RESPONSE)], [[1], [2]])


def test_factors_are_the_same_each_time_and_hold_no_more_than_is_said(
    tmp_path: Path, index: Index, checkpoint_folder: Path, corpus_file: Path
) -> None:
    build_index(str(checkpoint_folder), str(corpus_file), tmp_path / "again", BuildOptions(rank=4, factors=True))
    first, second = (load_file(Workspace(folder).factors) for folder in (index.folder, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)
