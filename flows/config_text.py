"""Write settings as TOML that explains itself."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.settings import TrailerConfig


def config_to_toml(config: TrailerConfig) -> str:
    """Every setting with its value, its bounds and what it does; `--config` reads it back to the same settings."""
    head = ["# Settings of a trailer. Use them with `trailer make FILM --config THIS_FILE`.", *_lines(config)]
    parts = ["\n".join(head)]
    for name in type(config).model_fields:
        section = getattr(config, name)
        if isinstance(section, BaseModel):
            about = (type(section).__doc__ or "").strip()
            parts.append("\n".join([f"# {about}", f"[{name}]", *_lines(section)]))
    return "\n\n".join(parts) + "\n"


def _lines(section: BaseModel) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            continue
        lines += ["", f"# {' '.join((field.description or name).split())}{_bounds(field)}"]
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")  # TOML has no none
    return lines


def _bounds(field: FieldInfo) -> str:
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f" One of: {', '.join(str(choice.value) for choice in kind)}."
    least = next((m.ge for m in field.metadata if isinstance(m, Ge)), None)
    most = next((m.le for m in field.metadata if isinstance(m, Le)), None)
    return f" From {least} to {most}." if least is not None and most is not None else ""


def _toml(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
