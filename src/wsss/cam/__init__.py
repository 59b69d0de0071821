"""From a classifier to class activation maps: one method per file, and what they share."""
