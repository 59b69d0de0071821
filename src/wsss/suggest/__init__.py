"""What a person should do next: tags to check, boxes, masks, by expected gain per minute."""
