"""Training objectives of the classifier, one per file."""
