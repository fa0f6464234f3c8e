"""Adapters that peft saved: a folder with adapter_config.json, whose base model is named in it."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedModel
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from headwater_indexer.errors import MissingPackage, ModelError

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A saved adapter, and the model that it was trained on."""

    id: str  # a folder, or a name on the hub
    revision: str | None
    base: str
    base_revision: str | None

    def add_to(self, model: PreTrainedModel) -> None:
        """Puts the adapter into its base model. Raises OSError where its weights are not there in safetensors."""
        cached_file(self.id, WEIGHTS, revision=self.revision)  # peft would take a pickle in its place
        model.load_adapter(self.id, adapter_kwargs={"revision": self.revision})


def find_adapter(model: str, revision: str | None) -> Adapter | None:
    """The adapter of this name; None for what is no adapter.

    Raises MissingPackage without peft, and ModelError for an adapter that does not say what it was trained on.
    """
    try:
        path = find_adapter_config_file(model, revision=revision)
    except (OSError, ValueError):
        return None  # no such folder or name: told when its configuration is asked for
    if path is None:
        return None
    if find_spec("peft") is None:
        raise MissingPackage(f"{model} is an adapter, which needs peft: run `pip install 'headwater[adapters]'`")
    described = json.loads(Path(path).read_text(encoding="utf-8"))
    base = described.get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"{path} names no base model: set its base_model_name_or_path to a folder or a name on the hub"
        )
    beside = Path(model) / base
    return Adapter(
        id=model,
        revision=revision,
        base=str(beside) if not Path(base).is_dir() and beside.is_dir() else base,
        base_revision=described.get("revision"),
    )
