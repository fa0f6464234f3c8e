"""Small random models of real configuration classes, and a corpus of a few sentences to index with them."""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    DeepseekV3Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from headwater_indexer.codes.coder import Coder

VOCABULARY = 320
WORDS = ["river", "lake", "delta", "mouth", "bank", "flood", "stream", "source", "water", "stone", "mill", "bridge"]
VERBS = ["feeds", "crosses", "joins", "leaves", "carries", "turns", "follows", "hides"]

_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_MIXED = {**_GROUPED, "num_experts_per_tok": 2}
# Each family in its real configuration class, small, with what is particular to it: few key heads, biases, a sliding
# window, soft caps and factors on the logits, an embedding of another width, experts.
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gpt2": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "llama": lambda: LlamaConfig(**_GROUPED),
    "llama-bias": lambda: LlamaConfig(**_GROUPED, attention_bias=True, mlp_bias=True),
    "qwen2": lambda: Qwen2Config(**_GROUPED),
    "qwen3": lambda: Qwen3Config(**_GROUPED, head_dim=8),
    "gemma": lambda: GemmaConfig(**_SMALL, num_key_value_heads=1, head_dim=8),
    "gemma2": lambda: Gemma2Config(**_GROUPED, head_dim=8, sliding_window=9),
    "gemma3": lambda: Gemma3TextConfig(
        **_GROUPED, head_dim=8, sliding_window=9, layer_types=["sliding_attention", "full_attention"]
    ),
    "mistral": lambda: MistralConfig(**_GROUPED, sliding_window=9),
    "gpt-neox": lambda: GPTNeoXConfig(**_SMALL),
    "opt": lambda: OPTConfig(
        **{key: value for key, value in _SMALL.items() if key != "intermediate_size"},
        ffn_dim=48,
        word_embed_proj_dim=16,
    ),
    "phi": lambda: PhiConfig(**_GROUPED),
    "phi3": lambda: Phi3Config(**_GROUPED),
    "cohere": lambda: CohereConfig(**_GROUPED, logit_scale=0.25),
    "granite": lambda: GraniteConfig(**_GROUPED, logits_scaling=3.0),
    "mixtral": lambda: MixtralConfig(**_MIXED, num_local_experts=4),
    "qwen2-moe": lambda: Qwen2MoeConfig(
        **_MIXED, num_experts=4, moe_intermediate_size=24, shared_expert_intermediate_size=40
    ),
    "qwen3-moe": lambda: Qwen3MoeConfig(**_MIXED, num_experts=4, moe_intermediate_size=24, head_dim=8),
    "deepseek": lambda: DeepseekV3Config(
        **{**_SMALL, "num_key_value_heads": 4, "num_experts_per_tok": 2},
        n_routed_experts=4,
        moe_intermediate_size=24,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        q_lora_rank=16,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
    ),
    "falcon": lambda: FalconConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    "gpt-oss": lambda: GptOssConfig(
        **_MIXED, num_local_experts=4, head_dim=8, sliding_window=9, layer_types=["sliding_attention", "full_attention"]
    ),
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # these models are too small to share


@pytest.fixture(scope="session", autouse=True)
def _kernels() -> None:
    """Compiled before all else, and kept: every process that a test starts would compile them for itself."""
    rows = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    for code_bytes in (256, 512, 32):  # levels of four and of eight bits, and words
        coder = Coder.make(width=512, columns=512, code_bytes=code_bytes, seed=0)
        records = coder.encode(rows)
        for writable in (True, False):  # as rows are gathered, and as they lie in a mapped file
            records.flags.writeable = writable
            for queries in (rows[:1], rows):
                coder.scorer(queries)(records)


@pytest.fixture(params=CONFIGS)
def family(request: pytest.FixtureRequest) -> str:
    """The name of every family in turn, for `make_model`."""
    return str(request.param)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., PreTrainedModel]:
    """A model of a family with random weights large enough that every layer's gradient is well above rounding."""

    def make(family: str, seed: int = 0) -> PreTrainedModel:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIGS[family](), dtype=torch.float32)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "norm" not in name and "ln_" not in name and "layernorm" not in name:
                    weight.normal_(0, 0.15)
        return model.eval().requires_grad_(False)

    return make


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different sentences of 5 to 40 words."""
    draw = random.Random(seed)
    return [
        " ".join(
            f"the {draw.choice(WORDS)} {draw.choice(VERBS)} the {draw.choice(WORDS)} {number}"
            for _ in range(draw.randint(1, 8))
        )
        for number in range(count)
    ]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE, as GPT-2's, trained on the sentences."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sentences(200), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")


@pytest.fixture(scope="session")
def checkpoint_folder(
    tmp_path_factory: pytest.TempPathFactory,
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """A GPT-2 with its tokenizer, saved as a user would."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_model("gpt2").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_corpus(path: Path, count: int, seed: int) -> Path:
    with path.open("w") as file:
        for number, text in enumerate(sentences(count, seed)):
            record = {"id": f"doc-{number:03d}", "text": text, "source": f"source-{number % 5}", "number": number}
            file.write(json.dumps(record) + "\n")
    return path


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 documents in JSONL, some of them longer than the model's 64 positions."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", 120, seed=1)


@pytest.fixture(scope="session")
def large_corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 documents: several shards."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "large.jsonl", 6000, seed=2)


os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # as headwater_indexer.engines.cluster does: some tests import Ray before
_SMALL_NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
_SOON = {"health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture
def start_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Any]]:
    """`start_cluster(nodes)`: a Ray cluster of so many nodes of one CPU, each with processes of its own, and this
    process connected to its first."""
    ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python: nothing of clusters is tested")
    from ray.cluster_utils import Cluster

    for name, value in {"memory_monitor_refresh_ms": "0", "USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(f"RAY_{name}", value)
    made = []

    def start(nodes: int) -> Any:
        cluster = Cluster(initialize_head=True, head_node_args={**_SMALL_NODE, "_system_config": _SOON})
        made.append(cluster)
        for _ in range(nodes - 1):
            cluster.add_node(**_SMALL_NODE)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        return cluster

    yield start
    ray.shutdown()
    for cluster in made:
        cluster.shutdown()
