"""transformers' models, of a configuration file that is read offline."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import torch

from flopdispatch.cli import terminal
from flopdispatch.cli.targets.target import Target, library, unknown
from flopdispatch.cli.targets.transformers_inputs import inputs
from flopdispatch.errors import ArgumentError

# Which class a configuration that names none is taken for: the first that has one for it, of
# these and then of all others.
AUTO = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForImageTextToText",
    "AutoModelForCausalLM",
    "AutoModel",
)


def find(name: str, overrides: dict[str, Any]) -> Target:
    """The target of a configuration: a config.json, its folder, or a model in the local cache.

    Raises: ArgumentError if it can't be read or is of no model that transformers has, or if
    transformers isn't installed.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when it is imported; a configuration is all we need
    transformers = library("transformers")
    transformers.logging.set_verbosity_error()
    path = _file(name)
    config = _config(transformers, path, _read(path), overrides)
    kind = _class(transformers, config, path)
    if kind.__name__ not in (config.architectures or ()):
        terminal.tell("note", f"{path} names no class that transformers has: {kind.__name__} it is")
    config = _part_for(kind, config)
    if getattr(config, "quantization_config", None) is not None:
        left = f"{path} has a quantization_config, which is left out: bytes are of whole weights"
        terminal.tell("note", left)

    def build(dtype: torch.dtype | None) -> Any:
        return kind._from_config(config, **({} if dtype is None else {"dtype": dtype}))

    named = path.parent.name if path.name == "config.json" else path.stem
    return Target(named or kind.__name__, build, inputs, options=_options(kind, config))


def _file(name: str) -> Path:
    """The configuration file of a path, or of a repository that was downloaded before."""
    path = Path(name).expanduser()
    if path.is_dir():
        path /= "config.json"
    if path.is_file():
        return path
    if name.count("/") == 1 and not name.startswith((".", "/")):
        found = library("huggingface_hub").try_to_load_from_cache(name, "config.json")
        if isinstance(found, str):
            return Path(found)
    raise ArgumentError(
        f"there is no file {path}: hf: takes a config.json or its folder and never downloads; "
        "get one by `hf download OWNER/NAME config.json --local-dir FOLDER`"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArgumentError(f"can't read {path}: {error}; give a model's config.json") from error
    if not isinstance(data, dict) or not isinstance(data.get("model_type"), str):
        raise ArgumentError(
            f'{path} has no "model_type": give the config.json of a transformers model'
        )
    return data


def _config(transformers: Any, path: Path, data: dict[str, Any], overrides: dict[str, Any]) -> Any:
    """The configuration of a file's data, some of it replaced."""
    kinds = transformers.CONFIG_MAPPING
    if data["model_type"] not in kinds:
        own = (
            "its code is in the repository (auto_map) and isn't run; count its class by "
            "package.module:callable"
            if "auto_map" in data
            else "it may be of a later version: `pip install -U transformers`"
        )
        raise unknown(f"model_type in {path}", data["model_type"], list(kinds.keys()), own)
    kind = kinds[data["model_type"]]
    known = kind()
    for key, value in overrides.items():
        if key not in data and not hasattr(known, key) and key != "architectures":
            raise unknown(
                f"entry of {kind.__name__}",
                key,
                list(known.to_dict()),
                "--kwargs takes those of the config.json",
            )
        place = kind.attribute_map.get(key, key)
        nested = isinstance(value, dict) and isinstance(data.get(place), dict)
        data[place] = {**data[place], **value} if nested else value
    return kind.from_dict(data)


def _class(transformers: Any, config: Any, path: Path) -> Any:
    """The class that a configuration names, else the first that there is for it."""
    for name in config.architectures or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    others = sorted(name for name in dir(transformers) if name.startswith("AutoModelFor"))
    for name in (*AUTO, *others):
        found = getattr(transformers, name)._model_mapping.get(type(config), None)
        if found is not None:
            return found[0] if isinstance(found, tuple) else found
    raise ArgumentError(
        f"transformers {transformers.__version__} has no model for {path}, of model_type "
        f'{config.model_type}: name its class by --kwargs \'{{"architectures": ["CLASS"]}}\''
    )


def _part_for(kind: Any, config: Any) -> Any:
    """A configuration, or the part of it that a class is of: CLIP's text model of CLIP's."""
    parts = [getattr(config, name, None) for name in config.sub_configs]
    if not isinstance(config, kind.config_class):
        return next((part for part in parts if isinstance(part, kind.config_class)), config)
    return config


def _options(kind: Any, config: Any) -> dict[str, Any]:
    """One pass over all tokens keeps nothing of them for the next."""
    takes = "use_cache" in inspect.signature(kind.forward).parameters
    return {"use_cache": False} if takes or hasattr(config, "use_cache") else {}
