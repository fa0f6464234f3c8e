"""How weights are kept and where: in 8 or 4 bits, on one device or over several."""

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from headwater_indexer.errors import MissingPackage, ModelError

BALANCED = "balanced"  # the device that is all devices
QUANTISED = ("int8", "nf4")


def loading_options(config: PretrainedConfig, dtype: str, device: str, chosen: torch.device) -> dict[str, Any]:
    """What transformers is told, beside the type of the weights. Raises MissingPackage where it needs another."""
    options: dict[str, Any] = {}
    if device == BALANCED:
        _need("accelerate", f"--device {BALANCED}")
        options["device_map"] = "balanced"
    if dtype in QUANTISED:
        _need("bitsandbytes", f"--dtype {dtype}")
        options["quantization_config"] = _quantisation(dtype, chosen)
    if dtype in QUANTISED or getattr(config, "quantization_config", None) is not None:
        options.setdefault("device_map", {"": str(chosen)})  # quantised as it is loaded, and not moved afterwards
    return options


def _quantisation(dtype: str, device: torch.device) -> BitsAndBytesConfig:
    if dtype == "nf4":
        compute = torch.float32 if device.type == "cpu" else torch.bfloat16
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
    # A threshold would treat columns apart that are large anywhere in the batch: rows would depend on their neighbours.
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)


def keep_quantised(model: PreTrainedModel) -> None:
    """Stops bitsandbytes from packing 4-bit weights anew in the first forward pass on a CPU: the form of its kernels
    for inference has coarser scales, and not every width."""
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_placement(model: PreTrainedModel) -> None:
    """Raises ModelError when parts of a model that was spread over GPUs lie elsewhere, to be fetched at each use."""
    places: dict[str, Any] = getattr(model, "hf_device_map", None) or {}
    elsewhere = [name for name, place in places.items() if str(place) in ("cpu", "disk")]
    if elsewhere and len(elsewhere) < len(places):
        raise ModelError(
            f"the GPUs have no room for {len(elsewhere)} of the model's {len(places)} parts ({elsewhere[0]} first): "
            "add GPUs, or keep the weights smaller with --dtype bfloat16, int8 or nf4"
        )


def _need(package: str, purpose: str) -> None:
    if find_spec(package) is None:
        raise MissingPackage(f"{purpose} needs {package}: run `pip install 'headwater[large]'`")
