"""Projects of one's own, outside of this repository: started, understood, upgraded, run whole."""
