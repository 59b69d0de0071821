"""params.yaml as frozen, validated models; recipes that overlay it; its JSON schema."""

from wsss.config.settings import ConfigError, Settings

__all__ = ["ConfigError", "Settings"]
