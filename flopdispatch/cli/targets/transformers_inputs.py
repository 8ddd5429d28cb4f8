"""What transformers' models are called with, worked out from their configurations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

from flopdispatch.assumptions import Assume
from flopdispatch.cli.targets.target import Call, Sizes
from flopdispatch.counter import FlopCounter
from flopdispatch.spec import TensorSpec, spec

SEQ = 128  # tokens of a text
SIDE = 224  # of an image, where the configuration says nothing
FRAMES = 1000  # of a spectrogram: ten seconds
VIDEO = 16
SECONDS, RATE = 10, 16_000  # of a sound wave

# Configurations within a configuration, of which a model's parts are made.
PARTS = (
    "text_config", "vision_config", "audio_config", "encoder", "decoder", "encoder_config",
    "thinker_config", "llm_config", "backbone_config", "generator", "question_encoder",
)  # fmt: skip


def inputs(model: Any, sizes: Sizes) -> Call | None:
    """What a model of transformers' is called with; None of another model."""
    config, main = getattr(model, "config", None), getattr(model, "main_input_name", None)
    if main is None or not hasattr(config, "model_type"):
        return None
    places = inspect.signature(model.forward).parameters
    wanted = list(_needed(main, places))
    if not wanted or not set(wanted) <= MAKERS.keys():
        return None
    wanted += [name for name in _taken(config, main) if name in places]
    made = {name: MAKERS[name](config, sizes) for name in wanted}
    if None in made.values():
        return None
    return Call(kwargs=_with_image_tokens(model, config, made))


def _needed(main: str, places: Any) -> Iterator[str]:
    """The names of the inputs that a model's forward can't do without."""
    if main in places:  # parts of models have the name of a whole one's
        yield main
    for name, place in places.items():
        if place.default is place.empty and place.kind is place.POSITIONAL_OR_KEYWORD:
            yield name


def _taken(config: Any, main: str) -> Iterator[str]:
    """The names of the inputs that a model takes beside, if its forward has them."""
    if config.is_encoder_decoder:
        yield "decoder_input_ids"
    elif _first(config, "audio_token_id", "audio_token_index") is None and main == "input_ids":
        yield "input_features"
    if main == "input_ids":
        yield from ("pixel_values", "bbox")
    if main == "pixel_values":
        yield "input_ids"


def _with_image_tokens(model: Any, config: Any, made: dict[str, Any]) -> dict[str, Any]:
    """Inputs whose text has a place for each of its image's features; or the text alone."""
    token = _first(config, "image_token_id", "image_token_index")
    if token is None or not {"input_ids", "pixel_values"} <= made.keys():
        return made
    text: TensorSpec = made["input_ids"]
    batch, length = text.shape
    try:
        places = _features(model, made["pixel_values"]) // batch
    except Exception:  # its images need more than their pixels
        return {name: value for name, value in made.items() if name != "pixel_values"}
    other = 1 if token == 0 else 0
    ids = torch.tensor([[token] * places + [other] * length]).repeat(batch, 1)
    return {**made, "input_ids": ids}


def _features(model: Any, shape: tuple[int, ...]) -> int:
    """How many features a model makes of images."""
    some = next(model.parameters())
    with torch.no_grad(), FlopCounter(display=False, assume=Assume()):
        found = model.get_image_features(torch.zeros(shape, dtype=some.dtype, device=some.device))
    if not isinstance(found, torch.Tensor | list | tuple):
        found = found.last_hidden_state if found.pooler_output is None else found.pooler_output
    rows = found if isinstance(found, list | tuple) else [found]
    return sum(row.numel() // row.shape[-1] for row in rows)


def _first(config: Any, *names: str) -> Any:
    """The first of these entries that a configuration has, or a part of it."""
    for name in names:
        value = getattr(config, name, None)
        if value is not None and not callable(value):
            return value
    parts = [getattr(config, part, None) for part in PARTS]
    found = (_first(part, *names) for part in parts if part is not None)
    return next((value for value in found if value is not None), None)


def _text(config: Any, sizes: Sizes) -> TensorSpec:
    longest = _first(config, "max_position_embeddings", "n_positions", "max_seq_len")
    return _ids(sizes, longest)


def _written(config: Any, sizes: Sizes) -> TensorSpec:
    longest = _first(config, "max_target_positions", "max_position_embeddings", "n_positions")
    return _ids(sizes, longest)


def _ids(sizes: Sizes, longest: Any, *more: int) -> TensorSpec:
    length = sizes.seq(min(SEQ, longest) if isinstance(longest, int) and longest > 0 else SEQ)
    return spec(sizes.batch(), length, *more, dtype=torch.long)


def _boxes(config: Any, sizes: Sizes) -> TensorSpec:
    return _ids(sizes, None, 4)


def _images(config: Any, sizes: Sizes) -> tuple[int, ...]:
    side = _first(config, "image_size", "crop_size") or SIDE
    if isinstance(side, dict):
        side = (side["height"], side["width"])
    high, wide = sizes.image(*(side if isinstance(side, list | tuple) else (side,)))
    channels = _first(config, "num_channels", "in_channels") or 3
    frames = _first(config, "num_frames", "frames_per_clip")
    film = () if frames is None else (frames,)
    return (sizes.batch(), *film, channels, high, wide)


def _videos(config: Any, sizes: Sizes) -> tuple[int, ...]:
    batch, *frames, channels, high, wide = _images(config, sizes)
    return (batch, *(frames or [VIDEO]), channels, high, wide)


def _spectrogram(config: Any, sizes: Sizes) -> tuple[int, ...]:
    """Features of sound: each library's models have their own order of time and frequency."""
    batch = sizes.batch()
    width = _first(config, "input_feat_per_channel", "feature_projection_input_dim")
    mels = _first(config, "num_mel_bins") or 80
    positions = _first(config, "max_source_positions")
    if width is not None:
        return (batch, FRAMES, width)
    if positions is not None:  # Whisper: two frames a position
        return (batch, mels, 2 * positions)
    if _first(config, "spec_size") is not None:  # CLAP: an image of a spectrogram
        return (batch, 1, FRAMES + 1, mels)
    return (batch, FRAMES, mels)


def _wave(config: Any, sizes: Sizes) -> tuple[int, ...]:
    """A sound wave; of a codec with its channel; for models of spectrograms, one of these."""
    batch = sizes.batch()
    mels, length = _first(config, "num_mel_bins"), getattr(config, "max_length", None)
    if mels is not None and length is not None:
        return (batch, length, mels)
    rate = _first(config, "sampling_rate") or RATE
    if _first(config, "codebook_size") is not None:
        return (batch, 1, rate)
    return (batch, SECONDS * rate)


def _series(config: Any, sizes: Sizes) -> tuple[int, ...] | None:
    if not hasattr(config, "num_input_channels"):
        return None
    return (sizes.batch(), config.context_length, config.num_input_channels)


MAKERS: dict[str, Callable[[Any, Sizes], Any]] = {
    "input_ids": _text,
    "decoder_input_ids": _written,
    "bbox": _boxes,
    "pixel_values": _images,
    "pixel_values_videos": _videos,
    "input_features": _spectrogram,
    "input_values": _wave,
    "past_values": _series,
}
