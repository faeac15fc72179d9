"""What every stage of one run shares: specification, plugins, store, model and the engine, loaded when first needed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, cast

from dasd_bench.config.resolve import plugin_folders
from dasd_bench.config.spec import ArmSpec, RunSpec
from dasd_bench.console import Console
from dasd_bench.engine.allocator import return_free_memory
from dasd_bench.errors import DasdError, ModelError
from dasd_bench.models.files import config_number, read_model_config, safetensors_parameters, stop_token_ids
from dasd_bench.registry import Registry
from dasd_bench.resources.shapes import ModelShape, shape_of_config
from dasd_bench.results.directory import RunDirectory
from dasd_bench.run.engines import EngineRecipe, devices, load_weights
from dasd_bench.run.given_adapter import GivenAdapter
from dasd_bench.run.recorder import Recorder
from dasd_bench.store.atomic import digest
from dasd_bench.store.store import Entry, Finished, Row, Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dasd_bench.engine.engine import Engine
    from dasd_bench.engine.interface import InferenceEngine
    from dasd_bench.engine.pool import EngineProcess
    from dasd_bench.engine.requests import EngineSettings
    from dasd_bench.engine.vllm import VllmEngine
    from dasd_bench.models.chat import ChatTemplate
    from dasd_bench.models.resolve import ResolvedModel
    from dasd_bench.run.stages.warmup import WarmUp


@dataclass
class RunContext:
    """One run's shared state. The engine holds one model at a time: the base, or the base with one adapter.

    With a warm-up, ``model`` has the folder of the model as it was (configuration and tokenizer) and the warm-up's key.
    ``processes`` train together, by ``parallel`` = data or fsdp, and generate and score side by side; how many is no
    part of any key. ``overwritten`` is
    True once a file of the run directory holds something newly computed; ``failed`` holds, by ``<kind>/<key>``, the
    errors of stages that ran on a cluster. ``chat`` is the student's template; ``teacher_chat`` and ``evaluation_chat``
    differ from it where thinking is on for one and not for another. ``assumed_gpu`` names the GPU of a plan.
    """

    spec: RunSpec
    registry: Registry
    arms: list[ArmSpec]
    adapters: list[GivenAdapter]
    console: Console
    store: Store
    recorder: Recorder
    run_dir: Path
    model: ResolvedModel
    tokenizer: Any
    chat: ChatTemplate
    teacher_chat: ChatTemplate
    evaluation_chat: ChatTemplate
    dtype: str
    device: str
    processes: int = 1
    parallel: str = "data"
    warmup: WarmUp | None = None
    accept_licences: tuple[str, ...] = ()
    assumed_gpu: str = ""
    failed: dict[str, DasdError] = field(default_factory=dict)
    _engine: InferenceEngine | None = field(default=None, repr=False)
    _merged: TemporaryDirectory[str] | None = field(default=None, repr=False)
    _held: tuple[str, Path | None] | None = field(default=None, repr=False)
    _pool: list[EngineProcess] = field(default_factory=list, repr=False)
    _loading: threading.RLock = field(default_factory=threading.RLock, repr=False)
    engine_path: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    overwritten: bool = False

    @property
    def directory(self) -> RunDirectory:
        """The paths of the run's folder."""
        return RunDirectory(self.run_dir)

    @property
    def weights(self) -> Path:
        """The model folder whose weights the run starts from: the model's own, or what the warm-up made of it."""
        return self.model.path if self.warmup is None else self.warmup.value.folder

    @property
    def model_key(self) -> dict[str, Any]:
        """What a result of the engine depends on beyond its requests."""
        return {
            "model": self.model.sha256,
            "template": self.chat.hash,
            "dtype": self.dtype,
            "device": self.device.split(":")[0],
            "engine": digest(self.spec.engine),
            **({} if self.merges_adapters else {"adapters": "not merged"}),
        }

    def get_or_make(self, stage: str, key: str, make: Callable[[Entry], Row]) -> tuple[Finished, bool]:
        """The stored result of a stage, made where it is not there yet, and whether it was there."""
        return self.store.get_or_make(stage, key, make, self.console.notice)

    @property
    def merges_adapters(self) -> bool:
        """Whether an adapter is merged into the weights for evaluation: in bfloat16 that would lose small updates.

        vLLM gives no prompt log-probabilities with an adapter beside the weights, so there it always is.
        """
        return self.dtype == "fp32" or self.spec.engine.backend == "vllm"

    @property
    def thinking(self) -> dict[str, str]:
        """Whether student, teacher and evaluation think: ``on``, ``off``, or ``no switch``."""
        chats = {"student": self.chat, "teacher": self.teacher_chat, "evaluation": self.evaluation_chat}
        return {
            role: ("on" if chat.thinking else "off") if chat.has_switch else "no switch" for role, chat in chats.items()
        }

    @property
    def adapter_at_evaluation(self) -> str:
        """How adapters are applied, for the manifest."""
        if self.merges_adapters:
            return f"merged into the weights ({self.dtype})"
        return "kept separate; base and adapter added in one rounding"

    def engine(self, adapter: Path | None = None) -> InferenceEngine:
        """The engine on the base (``adapter`` None) or on the base with that adapter; loaded once in a row."""
        return self._hold(self._backend, adapter)

    def distributions(self, adapter: Path | None = None) -> Engine:
        """An engine in this process that sees whole distributions; vLLM's lists the likeliest tokens."""
        return cast("Engine", self._hold("hf", adapter))

    def beside(self, adapter: Path) -> Engine:
        """Another engine of our own, on the base with an adapter; the caller closes it."""
        return self._own(adapter)

    @property
    def calls_at_once(self) -> int:
        """How many calls of :meth:`engine` several threads may make side by side."""
        return self.processes if self._backend == "pool" else 1

    @property
    def _backend(self) -> str:
        """``vllm``, ``hf`` (our engine in this process), or ``pool`` (our engine in several processes)."""
        if self.spec.engine.backend == "vllm":
            return "vllm"
        return "pool" if self.processes > 1 else "hf"

    def _hold(self, backend: str, adapter: Path | None) -> InferenceEngine:
        make = {"vllm": self._vllm, "hf": self._own, "pool": self._pooled}[backend]
        with self._loading:
            if self._engine is None or self._held != (backend, adapter):
                if self._engine is not None and self._held is not None and self._held[0] == backend == "vllm":
                    cast("VllmEngine", self._engine).load(self._folder_of(adapter))
                else:
                    self.release()
                    self._engine = make(adapter)
                self._held = (backend, adapter)
                self.engine_path = self._engine.describe()
            return self._engine

    @property
    def _settings(self) -> EngineSettings:
        from dasd_bench.engine.requests import EngineSettings

        accelerate: Literal["auto", "off"] = "off" if self.spec.engine.accelerate == "off" else "auto"
        return EngineSettings(max_num_seqs=self.spec.engine.max_num_seqs, accelerate=accelerate)

    def _own(self, adapter: Path | None) -> Engine:
        from dasd_bench.engine.engine import Engine

        return Engine(self.load(adapter), self.tokenizer, self._settings)

    def _pooled(self, adapter: Path | None) -> InferenceEngine:
        from dasd_bench.engine.pool import EnginePool, EngineProcess

        if not self._pool:
            self._pool = [EngineProcess(self.processes) for _ in range(self.processes)]
        recipes = [
            EngineRecipe(
                weights=self.weights,
                adapter=adapter,
                dtype=self.dtype,
                device=device,
                merge=self.merges_adapters,
                tokenizer=self.tokenizer,
                settings=self._settings,
                plugins=tuple(plugin_folders(self.spec)),
            )
            for device in devices(self.device, self.processes)
        ]
        return EnginePool(self._pool, recipes)

    def _vllm(self, adapter: Path | None) -> InferenceEngine:
        from dasd_bench.engine.vllm import VllmEngine

        return VllmEngine(
            self._folder_of(adapter),
            self.tokenizer,
            dtype=self.dtype,
            max_num_seqs=self.spec.engine.max_num_seqs,
            tensor_parallel=self.processes,
        )

    def _folder_of(self, adapter: Path | None) -> Path:
        """A model folder that holds the weights with the adapter merged; merged on the CPU: vLLM holds the GPU."""
        from dasd_bench.engine.vllm import merged_folder

        if self._merged is not None:
            self._merged.cleanup()
            self._merged = None
        if adapter is None:
            return self.weights
        model = load_weights(self.weights, adapter, dtype=self.dtype, device="cpu", merge=True)
        self._merged = merged_folder(model, self.tokenizer)
        return Path(self._merged.name)

    def load(self, adapter: Path | None = None) -> PreTrainedModel:
        """A freshly loaded model in the run's dtype on its device; a fully fine-tuned one is its own folder."""
        merge = self.merges_adapters
        return load_weights(self.weights, adapter, dtype=self.dtype, device=self.device, merge=merge)

    def build_kernels(self) -> None:
        """Has the engine's kernels compiled in the background where this machine has not got them yet."""
        if self._backend == "vllm" or self.shape is None:
            return
        import torch

        from dasd_bench.engine.kernels.build import build_ahead

        build_ahead(torch.device(self.device), self.shape.head_dim)

    @property
    def itemsize(self) -> int:
        """Bytes of a weight in the run's dtype."""
        return 2 if self.dtype == "bf16" else 4

    @property
    def holds_model(self) -> bool:
        """True while a model is in memory."""
        return self._engine is not None

    @cached_property
    def shape(self) -> ModelShape | None:
        """The model's sizes, from its configuration and the headers of its weights; None where they do not tell."""
        try:
            return shape_of_config(read_model_config(self.model.path), safetensors_parameters(self.model.path))
        except ModelError:
            return None

    @cached_property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer that the model takes; None where its configuration does not say."""
        return config_number(read_model_config(self.model.path), "max_position_embeddings")

    def fits(self, prompt_ids: Sequence[int]) -> bool:
        """True where at least one token of an answer has room behind the prompt."""
        return self.context_length is None or len(prompt_ids) < self.context_length

    def release(self) -> None:
        """Frees the engine's model, before training needs the memory."""
        if self._engine is not None:
            self._engine.close()
        if self._merged is not None:
            self._merged.cleanup()
        self._engine = self._merged = self._held = None
        gc.collect()
        return_free_memory()

    @cached_property
    def vocabulary_size(self) -> int:
        """Rows of the model's embedding: token ids are below it."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.model.path)
        return int(config.get_text_config().vocab_size)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a completion: the end-of-turn token, and what transformers' ``generate`` would stop at."""
        ids = {self.chat.end_token_id, *stop_token_ids(self.model.path)}
        if self.tokenizer.eos_token_id is not None:
            ids.add(int(self.tokenizer.eos_token_id))
        return frozenset(ids)

    def encode_reply(self, text: str) -> list[int]:
        """Token ids of an answer as it follows the prompt, without the end token.

        Without a chat template the prompt ends in a word (``Answer:``), so a space comes between, as lm-eval's
        target delimiter puts it.
        """
        return self.chat.encode_answer(f" {text}" if self.spec.chat_template == "off" else text)

    @property
    def shard_size(self) -> int:
        """Requests per shard, at most: four full batches, since a shard ends with part of the batch empty."""
        return 4 * self.spec.engine.max_num_seqs
