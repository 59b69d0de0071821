"""params.yaml as frozen, validated models; recipes that overlay it; its JSON schema."""

from wsss.settings import ConfigError, Settings

__all__ = ["ConfigError", "Settings"]
