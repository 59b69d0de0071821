"""A page on which maps, refined maps and masks of an image follow their settings."""
