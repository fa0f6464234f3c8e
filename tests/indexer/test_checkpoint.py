"""Models as people keep them: adapters, few bits, several devices, half precision, activations computed again."""

import json
from collections.abc import Callable
from pathlib import Path

import accelerate
import bitsandbytes
import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from headwater_indexer import adapters, placement
from headwater_indexer.batches import Batch, batches, packs
from headwater_indexer.build import build_index
from headwater_indexer.capture import capturing
from headwater_indexer.checkpoint import Checkpoint, load_checkpoint
from headwater_indexer.errors import ConfigurationError, MissingPackage, ModelError
from headwater_indexer.index import Index
from headwater_indexer.layers import Layer, select_layers
from headwater_indexer.moments import measure_moments
from headwater_indexer.options import BuildOptions
from headwater_indexer.packed_attention import can_pack
from headwater_indexer.projection import Projections, make_projections
from headwater_indexer.recomputing import recompute_blocks
from headwater_indexer.windows import Window

MakeModel = Callable[..., PreTrainedModel]


def windows(lengths: tuple[int, ...] = (64, 5, 33, 4, 17, 48)) -> list[Window]:
    draw = np.random.default_rng(0)
    return [Window(input_ids=draw.integers(0, 320, length).astype(np.int32), first_target=1) for length in lengths]


def rows_of(model: PreTrainedModel, layers: list[Layer], *, batch_tokens: int = 120) -> Tensor:
    with capturing(model, layers, projections_of(layers), batch_tokens=batch_tokens) as capture:
        return capture(windows())


def projections_of(layers: list[Layer]) -> Projections:
    return make_projections("random", layers, rank=8, seed=1)


def autograd_rows(model: PreTrainedModel, layers: list[Layer], named: dict[str, str] | None = None) -> Tensor:
    """By autograd, of linear layers' weights; `named` are the layers' names in this model where they differ."""
    weights = [
        model.get_submodule((named or {}).get(layer.name, layer.name)).get_parameter("weight") for layer in layers
    ]
    projections = projections_of(layers)
    for weight in weights:
        weight.requires_grad_(True)
    rows = []
    for window in windows():
        ids = torch.from_numpy(window.input_ids.astype("int64"))[None]
        loss = functional.cross_entropy(model(input_ids=ids).logits[0, :-1].float(), ids[0, 1:], reduction="sum")
        gradients = torch.autograd.grad(loss, weights)
        seen = [
            projections[layer.name].output @ gradient.float() @ projections[layer.name].input.T
            for layer, gradient in zip(layers, gradients, strict=True)
        ]
        rows.append(torch.cat([part.flatten() for part in seen]))
    for weight in weights:
        weight.requires_grad_(False)
    return torch.stack(rows)


def furthest(found: Tensor, expected: Tensor) -> float:
    """The largest relative difference among rows."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, make_model: MakeModel, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_model("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, config: PeftConfig) -> Path:
    torch.manual_seed(3)
    model = get_peft_model(load_checkpoint(str(base), device="cpu").model, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.3)  # as after training: peft begins with B at zero
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    config = LoraConfig(r=4, target_modules=["q_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM")
    return load_checkpoint(str(save_adapter(base, tmp_path_factory.mktemp("adapter"), config)), device="cpu")


@pytest.mark.parametrize(("selection", "count"), [("mlp", 8), ("attention", 4), ("all", 12), ("base:mlp", 6)])
def test_an_adapter_is_watched_or_the_model_under_it(adapter: Checkpoint, selection: str, count: int) -> None:
    layers = select_layers(adapter.model, selection)
    assert len(layers) == count
    assert all((".lora_" in layer.name) == (not selection.startswith("base:")) for layer in layers)
    assert can_pack(adapter.model)
    assert furthest(rows_of(adapter.model, layers), autograd_rows(adapter.model, layers)) < 1e-5
    assert furthest(rows_of(adapter.model, layers, batch_tokens=1), rows_of(adapter.model, layers)) < 1e-5


def test_an_adapter_is_no_stand_in_for_its_base(base: Path, adapter: Checkpoint) -> None:
    plain = load_checkpoint(str(base), device="cpu")
    assert adapter.weights_sha256 != plain.weights_sha256
    assert adapter.tokenizer_sha256 == plain.tokenizer_sha256  # its base's, as it brings none
    under = select_layers(adapter.model, "base:mlp")
    named = {layer.name: layer.name.removesuffix(".base_layer") for layer in under}
    assert furthest(rows_of(adapter.model, under), autograd_rows(plain.model, under, named)) > 0.1


def test_adapters_that_cannot_be_watched_are_refused(base: Path, tmp_path: Path) -> None:
    dora = LoraConfig(r=4, target_modules=["up_proj"], task_type="CAUSAL_LM", use_dora=True)
    model = load_checkpoint(str(save_adapter(base, tmp_path / "dora", dora)), device="cpu").model
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj.*its adapter is a variant of LoRA .Dora"):
        select_layers(model, "mlp")
    scales = IA3Config(target_modules=["up_proj"], feedforward_modules=["up_proj"], task_type="CAUSAL_LM")
    model = load_checkpoint(str(save_adapter(base, tmp_path / "ia3", scales)), device="cpu").model
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj.*cannot be watched"):
        select_layers(model, "mlp")


def test_an_adapters_folder_says_what_it_lacks(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = LoraConfig(r=4, target_modules=["up_proj"], task_type="CAUSAL_LM")
    folder = save_adapter(base, tmp_path / "adapter", config)
    described = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(described | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="names no base model: set its base_model_name_or_path"):
        load_checkpoint(str(folder), device="cpu")
    (folder / "adapter_config.json").write_text(json.dumps(described))
    torch.save({}, folder / "adapter_model.bin")  # a pickle, which is not read
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights of model .*adapter cannot be loaded.*adapter_model\.safetensors"):
        load_checkpoint(str(folder), device="cpu")
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(
        MissingPackage, match=r"is an adapter, which needs peft: run `pip install 'headwater\[adapters\]'"
    ):
        load_checkpoint(str(folder), device="cpu")


def dequantised(model: PreTrainedModel, plain: PreTrainedModel) -> PreTrainedModel:
    """`plain` with the weights that the quantised model stands for."""
    for name, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        elif isinstance(module, bitsandbytes.nn.Linear8bitLt):
            weight = module.weight.data.float() * module.weight.SCB[:, None] / 127
        else:
            continue
        plain.get_submodule(name).weight = nn.Parameter(weight.float(), requires_grad=False)
    return plain


# int8 rounds what goes into a layer as well, to one part in 127 of its largest number.
@pytest.mark.parametrize(("dtype", "tolerance"), [("nf4", 1e-4), ("int8", 0.05)])
def test_rows_of_quantised_layers(base: Path, dtype: str, tolerance: float) -> None:
    checkpoint = load_checkpoint(str(base), device="cpu", dtype=dtype)
    assert checkpoint.dtype == dtype
    layers = select_layers(checkpoint.model, "all")
    float_layers = select_layers(load_checkpoint(str(base), device="cpu").model, "all")
    assert layers == float_layers  # with the dimensions that the packed weights stand for
    twin = dequantised(checkpoint.model, load_checkpoint(str(base), device="cpu").model)
    rows = rows_of(checkpoint.model, layers)
    assert furthest(rows, autograd_rows(twin, layers)) < tolerance
    assert furthest(rows_of(checkpoint.model, layers, batch_tokens=1), rows) < 1e-4
    again = load_checkpoint(str(base), device="cpu", dtype=dtype)
    assert again.weights_sha256 == checkpoint.weights_sha256  # so that an index recognises its model


def test_a_checkpoint_that_was_saved_quantised(base: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    made = load_checkpoint(str(base), device="cpu", dtype="nf4").model
    layers = select_layers(made, "mlp")
    made.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = load_checkpoint(str(tmp_path), device="cpu").model
    assert any(isinstance(module, bitsandbytes.nn.Linear4bit) for module in again.modules())
    assert furthest(rows_of(again, layers), rows_of(made, layers)) < 1e-5


def test_an_adapter_on_quantised_weights(base: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["up_proj"], task_type="CAUSAL_LM")
    checkpoint = load_checkpoint(str(save_adapter(base, tmp_path, config)), device="cpu", dtype="nf4")
    layers = select_layers(checkpoint.model, "mlp")
    assert len(layers) == 4
    assert furthest(rows_of(checkpoint.model, layers), autograd_rows(checkpoint.model, layers)) < 1e-4


def test_an_index_of_an_adapter_on_quantised_weights_is_opened_again(
    base: Path, tmp_path: Path, corpus_file: Path
) -> None:
    config = LoraConfig(r=4, target_modules=["up_proj"], task_type="CAUSAL_LM")
    folder = save_adapter(base, tmp_path / "adapter", config)
    options = BuildOptions(rank=4, dtype="nf4", gradient_checkpointing=True, projection="random")
    manifest = build_index(str(folder), str(corpus_file), tmp_path / "index", options, device="cpu")
    assert manifest.layers[0] == "model.layers.0.mlp.up_proj.lora_A.default"
    index = Index.open(tmp_path / "index", device="cpu")
    [hits] = index.search(index.rows([index.encode("the river", " feeds the lake")]), top_k=3)
    index.close()
    assert len({hit.ordinal for hit in hits}) == 3


@pytest.mark.parametrize(
    ("package", "options", "message"),
    [
        ("bitsandbytes", {"dtype": "nf4"}, r"--dtype nf4 needs bitsandbytes: run `pip install 'headwater\[large\]'"),
        ("accelerate", {"device": "balanced"}, "--device balanced needs accelerate: run"),
    ],
)
def test_packages_that_are_missing_are_named(
    base: Path, package: str, options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingPackage, match=message):
        load_checkpoint(str(base), **{"device": "cpu", **options})


def test_a_type_that_does_not_exist_is_refused(base: Path) -> None:
    with pytest.raises(ConfigurationError, match="--dtype int3: choose auto, float32, bfloat16, float16, int8, nf4"):
        load_checkpoint(str(base), device="cpu", dtype="int3")


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "mixtral"])
def test_rows_of_a_model_that_is_dispatched_over_devices(family: str, make_model: MakeModel) -> None:
    """Each block is a device of its own to accelerate, whose hooks move what goes in and out."""
    model = make_model(family)
    layers = select_layers(model, "all")
    expected = rows_of(model, layers)
    blocks = next(m for m in model.modules() if isinstance(m, nn.ModuleList))
    path = next(name for name, module in model.named_modules() if module is blocks)
    names = [name for name, module in model.named_modules() if name and not any(module.children())]
    places = {f"{path}.{n}": "cpu" for n in range(len(blocks))}
    places |= {name: "cpu" for name in names if not name.startswith(f"{path}.")}
    dispatched = accelerate.dispatch_model(make_model(family), places, main_device="cpu", force_hooks=True)
    assert hasattr(dispatched.get_submodule(f"{path}.0"), "_hf_hook")
    assert torch.equal(rows_of(dispatched, layers), expected)


def test_a_balanced_model_is_loaded_by_accelerate(base: Path) -> None:
    checkpoint = load_checkpoint(str(base), device="balanced")
    layers = select_layers(checkpoint.model, "mlp")
    assert furthest(rows_of(checkpoint.model, layers), autograd_rows(checkpoint.model, layers)) < 1e-4


def test_a_model_that_spills_over_is_refused(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.hf_device_map = {"model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": "cpu", "lm_head": "disk"}
    with pytest.raises(ModelError, match=r"no room for 2 of the model's 4 parts \(model.layers.1 first\)"):
        placement.check_placement(model)


def test_half_precision_is_summed_in_float32(base: Path) -> None:
    """Weights of 16 bits: the rows are those of the same weights in float32, but for the rounding of activations."""
    half = load_checkpoint(str(base), device="cpu", dtype="bfloat16").model
    layers = select_layers(half, "all")
    rows = rows_of(half, layers)
    twin = load_checkpoint(str(base), device="cpu", dtype="bfloat16").model.float()
    assert rows.dtype == torch.float32
    assert furthest(rows, autograd_rows(twin, layers)) < 0.05
    # A sum over 64 tokens in bfloat16 would have 8 bits; the same tokens in float32, layer by layer, have 24.
    moments = measure_moments(half, layers, packs(windows(), 120))
    assert all(moment.input.dtype == torch.float32 for moment in moments.values())
    assert not any(torch.equal(m.input, m.input.bfloat16().float()) for m in moments.values())
    with capturing(half, layers, projections_of(layers), batch_tokens=1) as capture:
        assert furthest(capture(windows()), rows) < 0.05


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma2", "mixtral"])
@pytest.mark.parametrize("selection", ["all", r"layers?\.1|h\.1"])
def test_rows_are_the_same_when_activations_are_computed_again(
    family: str, selection: str, make_model: MakeModel
) -> None:
    model = make_model(family)
    layers = select_layers(model, selection)
    expected, moments = rows_of(model, layers), measure_moments(model, layers, batches_of(model))
    recompute_blocks(model)
    assert torch.equal(rows_of(model, layers), expected)
    again = measure_moments(model, layers, batches_of(model))
    for name, moment in moments.items():
        assert torch.equal(again[name].input, moment.input)  # nothing is counted twice
        assert torch.equal(again[name].output, moment.output)


def batches_of(model: PreTrainedModel) -> list[Batch]:
    return list((packs if can_pack(model) else batches)(windows(), 120))


def test_memory_of_activations_is_not_kept(make_model: MakeModel) -> None:
    """What autograd saves in the forward pass: a block's input alone, when it is computed again."""

    def saved(model: PreTrainedModel) -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        layers = select_layers(model, "all")
        with (
            capturing(model, layers, projections_of(layers), batch_tokens=120) as capture,
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            capture(windows((64,)))
        return sum(sizes)

    plain, recomputed = make_model("llama"), make_model("llama")
    recompute_blocks(recomputed)
    assert can_pack(plain)
    assert can_pack(recomputed)
    assert saved(recomputed) < 0.5 * saved(plain)


def test_a_model_without_blocks_cannot_compute_again(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.model.layers = nn.ModuleList()
    with pytest.raises(ModelError, match="LlamaForCausalLM has no blocks that can be computed again"):
        recompute_blocks(model)
