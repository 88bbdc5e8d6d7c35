"""Which models a trailer is made with, whether they are here, and under which licences."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import MissingDependencyError
from pipeline.settings import (
    ASSETS,
    Chooser,
    EncoderName,
    LineSettings,
    ShotDetector,
    Site,
    TrailerConfig,
    VoiceDetector,
)

BUNDLED_CHECKPOINT = ASSETS / "ssmp" / "descriptor-small.safetensors"
NON_COMMERCIAL = "non-commercial"  # as an encoder's licence says it


def choose_network(detector: ShotDetector, site: Site) -> str:
    """Name and version of the network that judges cuts; "" for none: the adaptive rule decides.

    Raises MissingDependencyError where the network is asked for by name and absent.
    """
    from models.transnet import is_installed, name_network

    if detector is ShotDetector.transnet:
        return name_network()
    if detector is ShotDetector.auto and is_installed():
        from models.device import choose_device

        if choose_device(site.device).startswith("cuda"):
            return name_network()
    return ""


def choose_encoder_device(config: TrailerConfig, site: Site) -> str:
    """cpu or cuda: where the encoder that is asked for runs. Raises InputError for a device that is not there."""
    if config.features.encoder is EncoderName.descriptor:
        return "cpu"
    from models.device import choose_device

    return choose_device(site.device)


def find_checkpoint(config: TrailerConfig) -> Path:
    """The file of the model that fills the slots."""
    return BUNDLED_CHECKPOINT if config.selection.checkpoint == "bundled" else Path(config.selection.checkpoint)


def name_detector(settings: LineSettings) -> str:
    """What finds where a word ends, with its version. Raises MissingDependencyError where the one named is absent."""
    try:
        version = importlib.metadata.version("silero-vad")
    except importlib.metadata.PackageNotFoundError:
        if settings.voice_detector is VoiceDetector.silero:
            raise MissingDependencyError(
                "the voice detector silero is not installed: pip install 'trailer-pipeline[vad]', "
                "or --set lines.voice_detector=energy"
            ) from None
        version = ""
    return "energy" if settings.voice_detector is VoiceDetector.energy or not version else f"silero@{version}"


def name_speech_model(settings: LineSettings, site: Site) -> str:
    """The model that listens to a film without subtitles, with its fingerprint where it lies here; "" for none."""
    if not settings.speech_model:
        return ""
    from pipeline.media import fingerprint_file
    from pipeline.speech import find_model

    folder = find_model(settings.speech_model, site.weights_dir)
    return f"{settings.speech_model} {fingerprint_file(folder / 'model.bin') if folder else ''}".strip()


def check_request(config: TrailerConfig, site: Site, *, encoder: bool = True, selection: bool = True) -> None:
    """Refuse, before any long work, what is absent here or does not fit together. No network is loaded.

    encoder: whether shots will be given vectors; selection: whether slots will be filled by what these say. Raises
    MissingDependencyError or InputError.
    """
    from models.encoders import identify_encoder, load_encoder

    if site.device not in ("auto", "cpu"):
        from models.device import choose_device

        choose_device(site.device)  # may bring torch: only where it may refuse
    if config.shots.detector is not ShotDetector.auto:
        choose_network(config.shots.detector, site)
    if selection:
        from models.ssmp.description import check_fit
        from pipeline.cards import find_font

        find_font(config.edit.font)
        check_fit(find_checkpoint(config), identify_encoder(config.features).name)
    if encoder:
        load_encoder(config.features, site)  # networks are read when they are first needed
    if selection and config.narration.enabled:
        from pipeline.captions import check_captioner

        check_captioner(config, site)
        name_detector(config.lines)
        if config.lines.speech_model and importlib.util.find_spec("faster_whisper") is None:
            raise MissingDependencyError(
                "listening to a film needs faster-whisper: pip install 'trailer-pipeline[asr]'"
            )
        if config.lines.speech_model:
            from pipeline.speech import check_model

            check_model(config.lines.speech_model, site.weights_dir)
        if config.narration.chooser is Chooser.llm:
            from pipeline.screenwriter import open_chat

            if importlib.util.find_spec("openai") is None:
                raise MissingDependencyError("openai is not installed: pip install 'trailer-pipeline[llm]'")
            open_chat(config.llm)


def name_models(config: TrailerConfig, site: Site) -> dict[str, str]:
    """What describes the shots and what finds them, for the edit list.

    encoder; encoder_licence where it restricts what is made; encoder_weights, a SHA-256, where there are any; detector.
    """
    from models.encoders import load_encoder

    encoder = load_encoder(config.features, site)
    named = {
        "encoder": encoder.identity.name,
        "encoder_licence": encoder.identity.licence,
        "encoder_weights": encoder.weights,
        "detector": choose_network(config.shots.detector, site) or "adaptive",
    }
    return {name: value for name, value in named.items() if value}


def warn_of_licences(models: Mapping[str, str]) -> list[str]:
    """What whoever uses the trailer must know. models: from name_models."""
    licence = models.get("encoder_licence", "")
    if NON_COMMERCIAL not in licence:
        return []
    return [
        f"the shots were chosen with {models['encoder']}, whose weights are licensed {licence}: that may rule out a "
        "commercial use of this trailer"
    ]
