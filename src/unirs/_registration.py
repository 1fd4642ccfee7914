"""Tells transformers' Auto classes and pipelines about UniRS, as soon as transformers is loaded and not before."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType


def register() -> None:
    """Registers the Auto classes for loading, and the classes' own code for saving.

    Imports from the files, not from their packages: one of those may be the one that is loading transformers.
    """
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForImageTextToText,
        AutoModelForMultimodalLM,
        AutoProcessor,
    )

    # transformers 5.17 hides this name where torchvision does not import; the class itself works without.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from .hub.tasks import PIPELINE_FILE, register_pipelines
    from .modeling_unirs.configuration_unirs import UniRSConfig
    from .modeling_unirs.modeling_unirs import UniRSForConditionalGeneration, UniRSModel, UniRSPreTrainedModel
    from .processing.image_processing_unirs import UniRSImageProcessor
    from .processing.processing_unirs import UniRSProcessor

    # Loading: these win over a folder's own code, so no trust_remote_code is needed.
    AutoConfig.register("unirs", UniRSConfig, exist_ok=True)
    AutoModel.register(UniRSConfig, UniRSModel, exist_ok=True)
    AutoModelForImageTextToText.register(UniRSConfig, UniRSForConditionalGeneration, exist_ok=True)
    AutoModelForMultimodalLM.register(UniRSConfig, UniRSForConditionalGeneration, exist_ok=True)
    backends = {"pil": UniRSImageProcessor, "torchvision": UniRSImageProcessor}  # the class picks its own backend
    AutoImageProcessor.register(UniRSConfig, image_processor_classes=backends, exist_ok=True)
    AutoProcessor.register(UniRSConfig, UniRSProcessor, exist_ok=True)
    register_pipelines()
    UniRSConfig.pipelines_registered = True

    # Saving: `save_pretrained` copies the code that defines these classes.
    UniRSConfig.register_for_auto_class("AutoConfig")
    UniRSModel.register_for_auto_class("AutoModel")
    UniRSForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    UniRSImageProcessor.register_for_auto_class("AutoImageProcessor")
    UniRSProcessor.register_for_auto_class("AutoProcessor")
    UniRSPreTrainedModel.companion_files = (str(PIPELINE_FILE),)


class _AfterTransformers(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets the first import of transformers pass, then registers. `unirs --help` must not wait for torch.

    Others only probe for transformers (`importlib.util.find_spec`), so the hook stays until it is really imported.
    """

    loader: importlib.abc.Loader

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "transformers":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        self.loader = spec.loader
        spec.loader = self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        register()


def register_when_transformers_loads() -> None:
    if "transformers" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _AfterTransformers())
